//! Which namespaces are looked at.

use std::{collections::BTreeSet, fmt};

use kube::{Api, Client, Resource, core::NamespaceResourceScope, runtime::watcher};

/// All namespaces, or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All, also those that do not exist yet.
    #[default]
    All,
    /// These, whether they exist or not.
    Namespaces(BTreeSet<String>),
}

impl Scope {
    /// Returns the scope of a list of names, where none means all.
    pub fn of(namespaces: impl IntoIterator<Item = String>) -> Self {
        let namespaces: BTreeSet<_> = namespaces.into_iter().collect();
        if namespaces.is_empty() {
            Self::All
        } else {
            Self::Namespaces(namespaces)
        }
    }

    /// Whether a namespace is looked at.
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespaces(listed) => listed.contains(namespace),
        }
    }

    /// Returns where a kind that lives in namespaces has to be watched.
    pub(crate) fn namespaced<K>(&self, client: &Client) -> Vec<(Api<K>, Place)>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self {
            Self::All => vec![(Api::all(client.clone()), Place::Everywhere)],
            Self::Namespaces(listed) => {
                let apis = listed.iter().map(|namespace| {
                    let api = Api::namespaced(client.clone(), namespace);
                    (api, Place::Namespace(namespace.clone()))
                });
                apis.collect()
            }
        }
    }

    /// Returns how Namespace objects have to be watched: all, or each by its name, which is what a permission for named
    /// objects allows.
    pub(crate) fn namespaces(&self) -> Vec<(watcher::Config, Place)> {
        match self {
            Self::All => vec![(watcher::Config::default(), Place::Everywhere)],
            Self::Namespaces(listed) => {
                let configs = listed.iter().map(|name| {
                    let config =
                        watcher::Config::default().fields(&format!("metadata.name={name}"));
                    (config, Place::Named(name.clone()))
                });
                configs.collect()
            }
        }
    }
}

/// Where one watch looks, for people.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Everywhere,
    Namespace(String),
    Named(String),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere => formatter.write_str("in the whole cluster"),
            Self::Namespace(namespace) => write!(formatter, "in namespace {namespace}"),
            Self::Named(name) => write!(formatter, "named {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_means_all_namespaces() {
        assert_eq!(Scope::of([]), Scope::All);
        let listed = Scope::of(["shop".to_owned(), "shop".to_owned()]);
        assert!(listed.contains("shop"));
        assert!(!listed.contains("bank"));
        assert!(Scope::All.contains("bank"));
    }
}
