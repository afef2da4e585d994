//! A test's own namespace: made, filled and deleted.
//!
//! Waits for nothing that a test puts into it; that is in `cluster::watching`.

use std::{collections::BTreeMap, sync::Arc};

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
use parking_lot::Mutex;

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
    /// Names of all that the test has.
    all: Arc<Mutex<Vec<String>>>,
}

impl Namespace {
    /// Creates the first one of a test, ready to take pods.
    pub(super) async fn create(cluster: Cluster, test: &str) -> anyhow::Result<Self> {
        let namespace = Self {
            cluster,
            name: format!("e2e-{}-{:08x}", slug(test), rand::random::<u32>()),
            all: Arc::default(),
        };
        namespace.make(&[], &[]).await?;
        Ok(namespace)
    }

    /// Creates one more for the same test, with labels and annotations, ready to take pods. It is deleted or written down
    /// together with the first.
    ///
    /// # Errors
    ///
    /// When the API server refuses it.
    pub async fn another(
        &self,
        what: &str,
        labels: &[(&str, &str)],
        annotations: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let namespace = Self {
            name: format!("e2e-{}-{:08x}", slug(what), rand::random::<u32>()),
            ..self.clone()
        };
        namespace.make(labels, annotations).await?;
        Ok(namespace)
    }

    /// Returns one that is not the test's: nothing of it is deleted or written down.
    #[must_use]
    pub fn elsewhere(&self, name: &str) -> Self {
        Self {
            cluster: self.cluster.clone(),
            name: name.to_owned(),
            all: Arc::default(),
        }
    }

    /// Adds labels to it.
    ///
    /// # Errors
    ///
    /// When the API server refuses them.
    pub async fn label(&self, labels: &[(&str, &str)]) -> anyhow::Result<()> {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let patch = Patch::Merge(serde_json::json!({"metadata": {"labels": labels}}));
        let all = Api::<v1::Namespace>::all(self.cluster.client());
        let parameters = PatchParams::default();
        let labelled = all.patch(&self.name, &parameters, &patch).await;
        labelled.with_context(|| format!("cannot label the namespace {}", self.name))?;
        Ok(())
    }

    async fn make(
        &self,
        labels: &[(&str, &str)],
        annotations: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let managed = [("app.kubernetes.io/managed-by", MANAGER)];
        let labels: BTreeMap<_, _> = managed.iter().chain(labels).copied().collect();
        let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
        let object: v1::Namespace = serde_json::from_value(serde_json::json!({
            "metadata": {"name": self.name, "labels": labels, "annotations": annotations},
        }))?;
        let all = Api::<v1::Namespace>::all(self.cluster.client());
        let made = all.create(&PostParams::default(), &object).await;
        made.with_context(|| format!("cannot create the namespace {}", self.name))?;
        self.all.lock().push(self.name.clone());
        // Pods that come before it are refused, and their ReplicaSet waits for longer each time.
        let account = |account: Option<&ServiceAccount>| account.map(drop).ok_or("there is none");
        watching::until(&self.api(), "default", "a service account", account).await
    }

    /// Returns all namespaces of the same test, the first one first.
    pub(super) fn all(&self) -> Vec<Self> {
        let names = self.all.lock().clone();
        let named = |name| Self {
            name,
            ..self.clone()
        };
        names.into_iter().map(named).collect()
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
        for object in manifest::read(text, &[&known, values].concat())? {
            self.apply_object(object).await?;
        }
        Ok(())
    }

    /// Applies one object.
    ///
    /// # Errors
    ///
    /// As [`Self::apply`].
    pub async fn apply_object(&self, mut object: DynamicObject) -> anyhow::Result<()> {
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
        Ok(())
    }

    /// Deletes this one before the test has ended. Does not wait for the end.
    ///
    /// # Errors
    ///
    /// When the API server refuses it.
    pub async fn discard(self) -> anyhow::Result<()> {
        self.delete_this().await?;
        self.all.lock().retain(|name| *name != self.name);
        Ok(())
    }

    /// Deletes all of the test's and everything in them. Does not wait for the end, which no other test depends on.
    pub(super) async fn delete(&self) -> anyhow::Result<()> {
        for namespace in self.all() {
            namespace.delete_this().await?;
        }
        Ok(())
    }

    async fn delete_this(&self) -> anyhow::Result<()> {
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
