//! A test's own namespace: made, filled and deleted.
//!
//! Waits for nothing that a test puts into it; that is in `cluster::watching`.

use anyhow::{Context, ensure};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{self, ServiceAccount},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::{Scope, pinned_kind},
};

use super::{Cluster, IMAGE, keda, manifest, watching};

/// Who the fixture is in `managedFields`, and what marks its namespaces.
const MANAGER: &str = "stillwake-e2e";

/// Longest part of a test's name in its namespace's, which has 63 characters at most.
const SLUG_LENGTH: usize = 40;

/// A namespace that nobody else uses.
#[derive(Clone, Debug)]
pub struct Namespace {
    cluster: Cluster,
    name: String,
}

impl Namespace {
    /// Creates one for a test, ready to take pods.
    pub(super) async fn create(cluster: Cluster, test: &str) -> anyhow::Result<Self> {
        let name = format!("e2e-{}-{:08x}", slug(test), rand::random::<u32>());
        let object: v1::Namespace = serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": MANAGER}},
        }))?;
        let all = Api::<v1::Namespace>::all(cluster.client());
        let made = all.create(&PostParams::default(), &object).await;
        made.with_context(|| format!("cannot create the namespace {name}"))?;
        let namespace = Self { cluster, name };
        // Pods that come before it are refused, and their ReplicaSet waits for longer each time.
        let account = |account: Option<&ServiceAccount>| account.map(drop).ok_or("there is none");
        watching::until(&namespace.api(), "default", "a service account", account).await?;
        Ok(namespace)
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the cluster it is in.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Returns the objects of one kind in it.
    pub fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.cluster.client(), &self.name)
    }

    /// Returns the `ScaledObject`s in it.
    pub fn scaled_objects(&self) -> Api<DynamicObject> {
        self.dynamic(&keda::scaled_object())
    }

    pub(super) fn dynamic(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.cluster.client(), &self.name, resource)
    }

    /// Applies every document of a manifest. `${namespace}` and `${image}` are known, `values` adds others.
    ///
    /// # Errors
    ///
    /// Names the object that was refused. Kinds without a namespace are, as they would outlive the test.
    pub async fn apply(&self, text: &str, values: &[(&str, &str)]) -> anyhow::Result<()> {
        let known = [("namespace", self.name.as_str()), ("image", IMAGE)];
        for mut object in manifest::read(text, &[&known, values].concat())? {
            let types = object.types.clone().unwrap_or_default();
            let what = format!("{} {}", types.kind, object.name_any());
            let kind = GroupVersionKind::try_from(&types)?;
            let (resource, capabilities) = pinned_kind(&self.cluster.client(), &kind)
                .await
                .with_context(|| format!("the cluster does not know the kind of {what}"))?;
            ensure!(
                capabilities.scope == Scope::Namespaced,
                "{what} belongs to no namespace, so it would outlive the test"
            );
            object.metadata.namespace = Some(self.name.clone());
            let (name, parameters) = (object.name_any(), PatchParams::apply(MANAGER).force());
            let applied = self.dynamic(&resource);
            let applied = applied
                .patch(&name, &parameters, &Patch::Apply(&object))
                .await;
            applied.with_context(|| format!("cannot apply {what}"))?;
        }
        Ok(())
    }

    /// Deletes it and everything in it. Does not wait for the end, which no other test depends on.
    pub(super) async fn delete(&self) -> anyhow::Result<()> {
        let all = Api::<v1::Namespace>::all(self.cluster.client());
        let deleted = all.delete(&self.name, &DeleteParams::background()).await;
        deleted.with_context(|| format!("cannot delete the namespace {}", self.name))?;
        Ok(())
    }
}

/// Returns a name as a part of a DNS label.
pub(super) fn slug(name: &str) -> String {
    let plain = name
        .to_lowercase()
        .replace(|character: char| !character.is_ascii_alphanumeric(), "-");
    let words: Vec<_> = plain.split('-').filter(|word| !word.is_empty()).collect();
    let mut slug = words.join("-");
    slug.truncate(SLUG_LENGTH);
    slug.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_a_part_of_a_label_whatever_the_test_is_called() {
        assert_eq!(
            slug("a Deployment at 0 -> woken"),
            "a-deployment-at-0-woken"
        );
        let long = slug(&"wörter und ".repeat(10));
        assert!(
            long.len() <= SLUG_LENGTH && long.ends_with(char::is_alphanumeric),
            "{long}"
        );
    }
}
