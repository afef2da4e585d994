//! Links of the chain from a pod up to what is scaled.

use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet, StatefulSet},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::core::PartialObjectMeta;

use crate::watch::Watched;

/// Names an object in a pod's namespace.
///
/// By name and not by UID: pods that an earlier object of the same name left behind serve the same Services. Without the
/// version of its API, which is how one looks at an object and not which one it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Link {
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) name: String,
}

impl Link {
    pub(crate) fn new(api_version: &str, kind: &str, name: &str) -> Self {
        // The core group has no name: its version stands alone.
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        Self {
            group: group.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Returns what controls the object with these metadata.
    pub(crate) fn controller(metadata: &ObjectMeta) -> Option<Self> {
        let mut owners = metadata.owner_references.iter().flatten();
        let controller = owners.find(|owner| owner.controller == Some(true));
        controller.map(
            |OwnerReference {
                 api_version,
                 kind,
                 name,
                 ..
             }| Self::new(api_version, kind, name),
        )
    }

    /// Returns its API group, kind and name.
    pub(crate) fn parts(&self) -> (&str, &str, &str) {
        (&self.group, &self.kind, &self.name)
    }
}

/// What is kept of an owner.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OwnerFacts {
    pub(super) controller: Option<Link>,
}

/// Of owners only the metadata are asked for.
macro_rules! owner {
    ($($kind:ty),*) => {$(
        impl Watched for PartialObjectMeta<$kind> {
            type Kept = OwnerFacts;

            fn keep(self) -> Result<Self::Kept, String> {
                let controller = Link::controller(&self.metadata);
                Ok(OwnerFacts { controller })
            }
        }
    )*};
}
owner!(ReplicaSet, Deployment, StatefulSet);
