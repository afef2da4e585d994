//! How a field of an object changes over time, and who writes it.
//!
//! A change that a watch does not tell cannot be in it: a watch that had to begin anew tells the state then.

use std::{fmt::Debug, pin::pin};

use anyhow::{Context, bail};
use futures_util::StreamExt;
use k8s_openapi::{
    api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp,
};
use kube::Api;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Namespace,
    watching::{PATIENCE, Watchable, follow, named},
};

/// A field's values, in order. Dropped, it stops watching.
#[derive(Debug)]
pub struct History<V> {
    what: String,
    changes: watch::Receiver<Vec<Change<V>>>,
    _watching: AbortOnDropHandle<()>,
}

/// A value that the field took on.
#[derive(Clone, Debug)]
pub struct Change<V> {
    /// When the watch told it.
    pub at: Instant,
    /// The value.
    pub value: V,
    /// Who last wrote the field, as far as `managedFields` tells. A replica count of 0 that came through `scale` has no
    /// writer: a `Scale` leaves out a 0, and with it whose it is.
    pub writer: Option<Writer>,
}

/// An entry of `managedFields`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The name the writer gave itself.
    pub manager: String,
    /// The subresource it wrote through, such as `scale`; empty if none.
    pub subresource: String,
    /// When, in whole seconds of the API server's clock.
    pub time: Option<Timestamp>,
}

impl History<i32> {
    /// Follows how many replicas a Deployment is to have.
    ///
    /// # Errors
    ///
    /// As [`Self::of`].
    pub async fn of_replicas(namespace: &Namespace, deployment: &str) -> anyhow::Result<Self> {
        let read = |deployment: &Deployment| {
            let spec = deployment.spec.as_ref();
            spec.and_then(|spec| spec.replicas).unwrap_or(1)
        };
        Self::of(&namespace.api(), deployment, &["spec", "replicas"], read).await
    }
}

impl<V: Clone + Debug + PartialEq + Send + Sync + 'static> History<V> {
    /// Begins to watch the field at `path`, such as `["spec", "replicas"]`, whose value `read` takes out of the object.
    ///
    /// # Errors
    ///
    /// When there is no such object.
    pub async fn of<K: Watchable>(
        api: &Api<K>,
        name: &str,
        path: &'static [&'static str],
        read: impl Fn(&K) -> V + Send + 'static,
    ) -> anyhow::Result<Self> {
        let what = format!("{} of {name}", path.join("."));
        let (sender, mut changes) = watch::channel(Vec::<Change<V>>::new());
        let views = follow(api, named(name));
        let own_name = name.to_owned();
        let watching = tokio::spawn(async move {
            let mut views = pin!(views);
            while let Some(view) = views.next().await {
                // A watch that breaks is taken up again.
                let Ok(objects) = view else { continue };
                let Some(object) = objects.get(&own_name) else {
                    continue;
                };
                let value = read(object);
                sender.send_if_modified(|changes| {
                    if changes.last().is_some_and(|last| last.value == value) {
                        return false;
                    }
                    let (at, writer) = (Instant::now(), writer(object.meta(), path));
                    changes.push(Change { at, value, writer });
                    true
                });
            }
        });
        let watching = AbortOnDropHandle::new(watching);
        let begun = timeout(PATIENCE, changes.wait_for(|changes| !changes.is_empty())).await;
        begun
            .with_context(|| format!("waited {PATIENCE:?} for {what}: there is no such object"))?
            .with_context(|| format!("the watch of {what} ended"))?;
        Ok(Self {
            what,
            changes,
            _watching: watching,
        })
    }

    /// Returns all changes so far; the first is the value at the beginning.
    pub fn changes(&self) -> Vec<Change<V>> {
        self.changes.borrow().clone()
    }

    /// Returns all values so far.
    pub fn values(&self) -> Vec<V> {
        self.changes
            .borrow()
            .iter()
            .map(|change| change.value.clone())
            .collect()
    }

    /// Waits until the field has a value and returns how it came to it.
    ///
    /// # Errors
    ///
    /// After [`PATIENCE`], with all values so far.
    pub async fn until(&self, value: &V) -> anyhow::Result<Change<V>> {
        self.until_that(&format!("{value:?}"), |last| last == value)
            .await
    }

    /// Waits until a value of the field is as `is_right` says, which is `what` in words, and returns how it came to it.
    ///
    /// # Errors
    ///
    /// After [`PATIENCE`], with all values so far.
    pub async fn until_that(
        &self,
        what: &str,
        is_right: impl Fn(&V) -> bool,
    ) -> anyhow::Result<Change<V>> {
        let mut changes = self.changes.clone();
        let is_there =
            |changes: &Vec<Change<V>>| changes.last().is_some_and(|last| is_right(&last.value));
        match timeout(PATIENCE, changes.wait_for(is_there)).await {
            Ok(Ok(changes)) => changes
                .last()
                .cloned()
                .context("a history has a first value"),
            Ok(Err(_)) => bail!("the watch of {} ended before it was {what}", self.what),
            Err(_) => bail!(
                "waited {PATIENCE:?} for {} to be {what}; it was {:?}",
                self.what,
                self.values()
            ),
        }
    }
}

/// Returns who wrote the field last.
fn writer(meta: &ObjectMeta, path: &[&str]) -> Option<Writer> {
    let entries = meta.managed_fields.iter().flatten();
    let owners = entries.filter(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        let mut keys = path.iter().map(|key| format!("f:{key}"));
        keys.try_fold(fields, |fields, key| Some(fields?.get(key)))
            .flatten()
            .is_some()
    });
    owners
        .max_by_key(|entry| entry.time.as_ref().map(|time| time.0))
        .map(|entry| Writer {
            manager: entry.manager.clone().unwrap_or_default(),
            subresource: entry.subresource.clone().unwrap_or_default(),
            time: entry.time.as_ref().map(|time| time.0),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writer_is_the_one_who_wrote_this_field_last() {
        let meta: ObjectMeta = serde_json::from_value(serde_json::json!({"managedFields": [
            {"manager": "test", "time": "2026-11-24T01:00:00Z",
             "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {}}}},
            {"manager": "keda", "subresource": "scale", "time": "2026-11-24T01:00:05Z",
             "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            {"manager": "kubelet", "subresource": "status", "time": "2026-11-24T01:00:09Z",
             "fieldsV1": {"f:status": {"f:replicas": {}}}},
        ]}))
        .unwrap();
        let found = writer(&meta, &["spec", "replicas"]).unwrap();
        assert_eq!(
            (found.manager.as_str(), found.subresource.as_str()),
            ("keda", "scale")
        );
        assert_eq!(
            writer(&meta, &["spec", "template"]).unwrap().manager,
            "test"
        );
        assert_eq!(writer(&meta, &["spec", "paused"]), None);
    }
}
