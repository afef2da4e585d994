//! Waits for what the API server says, through watches.
//!
//! As in [`crate::wait`], the deadline is for what hangs, not for what is slow.

use std::{
    collections::BTreeMap,
    fmt::{Debug, Display},
    pin::pin,
    time::Duration,
};

use anyhow::{anyhow, bail};
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

/// Enough for anything that happens in a cluster on two busy cores.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// What can be watched.
pub trait Watchable: Resource + Clone + DeserializeOwned + Debug + Send + 'static {}

impl<K: Resource + Clone + DeserializeOwned + Debug + Send + 'static> Watchable for K {}

/// The objects of a watch by name, as of its last event.
#[derive(Debug)]
struct View<K> {
    objects: BTreeMap<String, K>,
    listed: BTreeMap<String, K>,
}

impl<K: Resource> View<K> {
    fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            listed: BTreeMap::new(),
        }
    }

    /// Takes in an event. Returns false in the middle of a list, when not everything is known.
    fn take(&mut self, event: Event<K>) -> bool {
        match event {
            Event::Init => {
                self.listed = BTreeMap::new();
                return false;
            }
            Event::InitApply(object) => {
                self.listed.insert(object.name_any(), object);
                return false;
            }
            Event::InitDone => self.objects = std::mem::take(&mut self.listed),
            Event::Apply(object) => drop(self.objects.insert(object.name_any(), object)),
            Event::Delete(object) => drop(self.objects.remove(&object.name_any())),
        }
        true
    }
}

/// Returns all objects that `config` selects, by name, now and whenever one of them has changed.
///
/// A watch that breaks is taken up again; its error is an item in between.
pub fn follow<K: Watchable>(
    api: &Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<BTreeMap<String, K>>> + Send + use<K> {
    let events = watcher(api.clone(), config).default_backoff();
    let views = events.scan(View::new(), |view, event| {
        let known = event.map(|event| view.take(event).then(|| view.objects.clone()));
        std::future::ready(Some(known.transpose()))
    });
    views.filter_map(std::future::ready)
}

/// Returns what selects the one object of a name.
pub fn named(name: &str) -> watcher::Config {
    watcher::Config::default().fields(&format!("metadata.name={name}"))
}

/// Waits until `look` returns `Ok` for the object `name`, which it is given whenever it changes, or `None` while there is
/// none.
///
/// # Errors
///
/// After [`PATIENCE`], with what was waited for and what `look` saw last.
pub async fn until<K: Watchable, T, E: Display>(
    api: &Api<K>,
    name: &str,
    what: &str,
    mut look: impl FnMut(Option<&K>) -> Result<T, E>,
) -> anyhow::Result<T> {
    let what = format!("{what} of {name}");
    until_all(api, named(name), &what, |objects| look(objects.get(name))).await
}

/// As [`until`], for all objects that `config` selects.
///
/// # Errors
///
/// As [`until`].
pub async fn until_all<K: Watchable, T, E: Display>(
    api: &Api<K>,
    config: watcher::Config,
    what: &str,
    mut look: impl FnMut(&BTreeMap<String, K>) -> Result<T, E>,
) -> anyhow::Result<T> {
    let mut views = pin!(follow(api, config));
    let deadline = Instant::now() + PATIENCE;
    let mut seen = anyhow!("nothing, as the API server did not answer");
    loop {
        match timeout_at(deadline, views.next()).await {
            Ok(Some(Ok(objects))) => match look(&objects) {
                Ok(value) => return Ok(value),
                Err(last) => seen = anyhow!("{last}"),
            },
            Ok(Some(Err(error))) => seen = anyhow!(error).context("the watch broke"),
            Ok(None) => bail!("the watch for {what} ended; last seen: {seen:#}"),
            Err(_) => bail!("waited {PATIENCE:?} for {what}; last seen: {seen:#}"),
        }
    }
}

/// Returns whether a pod takes traffic.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Returns what to say of pods that are not as they should be.
pub fn phases(pods: &BTreeMap<String, Pod>) -> String {
    let phase = |pod: &Pod| pod.status.as_ref()?.phase.clone();
    let said = pods.iter().map(|(name, pod)| {
        let phase = phase(pod).unwrap_or_default();
        let ready = if is_ready(pod) { "ready" } else { "not ready" };
        format!("{name} {phase}, {ready}")
    });
    let said: Vec<_> = said.collect();
    if said.is_empty() {
        "no pod".to_owned()
    } else {
        said.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.to_owned());
        object
    }

    #[test]
    fn a_list_counts_once_it_is_complete_and_replaces_what_was_known() {
        let mut view = View::new();
        assert!(!view.take(Event::Init));
        assert!(!view.take(Event::InitApply(object("first"))));
        assert!(view.take(Event::InitDone));
        assert!(view.take(Event::Apply(object("second"))));
        assert_eq!(view.objects.keys().collect::<Vec<_>>(), ["first", "second"]);
        assert!(view.take(Event::Delete(object("second"))));
        assert!(!view.take(Event::Init));
        assert!(view.take(Event::InitDone));
        assert!(view.objects.is_empty());
    }
}
