//! The sidecars of a Deployment's pods, all played by the suite, and the aggregator's knowledge of those pods.
//!
//! Pods come and go as Kubernetes decides; this follows them.

use std::{collections::BTreeMap, pin::pin, sync::Arc};

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher;
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::{Namespace, aggregator::Aggregator, reporters::Played, watching};
use crate::{aggregator::Event, wait};

/// All sidecars of one Deployment, whose pods have the label `app` with its name, as has its `ScaledObject`.
#[derive(Debug)]
pub struct Sidecars {
    scaled_object: String,
    played: Arc<Mutex<BTreeMap<String, Played>>>,
    _following: AbortOnDropHandle<()>,
}

impl Sidecars {
    /// Follows the pods of a Deployment from now on. Each has a sidecar from its first readiness to its end, with nothing
    /// in flight at first.
    pub fn follow(namespace: &Namespace, aggregator: &Aggregator, deployment: &str) -> Self {
        let played = Arc::<Mutex<BTreeMap<String, Played>>>::default();
        let selected = watcher::Config::default().labels(&format!("app={deployment}"));
        let views = watching::follow(&namespace.api::<Pod>(), selected);
        let mut cast = Cast {
            namespace: namespace.name().to_owned(),
            deployment: deployment.to_owned(),
            aggregator: aggregator.clone(),
            played: Arc::clone(&played),
            told: BTreeMap::new(),
        };
        let following = tokio::spawn(async move {
            let mut views = pin!(views);
            while let Some(view) = views.next().await {
                let Ok(pods) = view else { continue };
                // An aggregator that a suite has killed hears nothing more.
                if let Err(error) = cast.become_those_of(&pods).await {
                    eprintln!("the aggregator was not told of pods: {error:#}");
                }
            }
        });
        Self {
            scaled_object: deployment.to_owned(),
            played,
            _following: AbortOnDropHandle::new(following),
        }
    }

    /// Spreads so many requests in flight over the pods there are, and returns when the aggregator answers with them.
    ///
    /// Pods that come later begin with none, so that the sum stays as it is.
    ///
    /// # Errors
    ///
    /// When there is no pod, or the aggregator does not get to know.
    pub async fn carry(&self, aggregator: &Aggregator, total: usize) -> anyhow::Result<()> {
        {
            let played = self.played.lock();
            ensure!(
                !played.is_empty(),
                "there is no pod to carry {total} requests"
            );
            for (index, sidecar) in played.values().enumerate() {
                let share = total / played.len();
                sidecar.set(share + usize::from(index < total % played.len()));
            }
        }
        let what = format!("a concurrency of {total} at the aggregator");
        wait::until(&what, watching::PATIENCE, async || {
            let seen = aggregator.concurrency(&self.scaled_object).await;
            match seen {
                // The HPA is told thousandths.
                Ok(seen) if (seen - total as f64).abs() < 0.001 => Ok(()),
                Ok(seen) => Err(format!("{seen}")),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await
    }

    /// Waits until so many pods have been ready and are still there.
    ///
    /// # Errors
    ///
    /// After [`watching::PATIENCE`], with how many there are.
    pub async fn until(&self, count: usize) -> anyhow::Result<()> {
        wait::until(
            &format!("{count} sidecars"),
            watching::PATIENCE,
            async || {
                let played = self.played.lock().len();
                if played == count { Ok(()) } else { Err(played) }
            },
        )
        .await
    }
}

/// Who plays whom, and what the aggregator has been told of it.
struct Cast {
    namespace: String,
    deployment: String,
    aggregator: Aggregator,
    played: Arc<Mutex<BTreeMap<String, Played>>>,
    told: BTreeMap<String, Event>,
}

impl Cast {
    async fn become_those_of(&mut self, pods: &BTreeMap<String, Pod>) -> anyhow::Result<()> {
        let mut events = BTreeMap::new();
        for (name, pod) in pods {
            let uid = pod.metadata.uid.clone().context("a pod without a UID")?;
            let ready = watching::is_ready(pod);
            let status = pod.status.as_ref();
            let address = status.and_then(|status| status.pod_ip.as_deref());
            // A pod whose containers do not run has no sidecar that says anything.
            if let Some(address) = address.filter(|_| ready) {
                self.played.lock().entry(uid.clone()).or_insert_with(|| {
                    let ingest = self.aggregator.ingest();
                    Played::sidecar(ingest, &self.namespace, name, &uid, address)
                });
            }
            let event = Event::Pod {
                namespace: self.namespace.clone(),
                deployment: self.deployment.clone(),
                name: name.clone(),
                uid: uid.clone(),
                ready,
            };
            events.insert(uid, event);
        }
        self.played.lock().retain(|uid, _| events.contains_key(uid));
        let gone = self.told.keys().filter(|uid| !events.contains_key(*uid));
        let gone = gone.map(|uid| Event::PodGone { uid: uid.clone() });
        let changed = events
            .iter()
            .filter(|(uid, event)| self.told.get(*uid) != Some(event));
        let news: Vec<_> = gone
            .chain(changed.map(|(_, event)| event.clone()))
            .collect();
        if !news.is_empty() {
            self.aggregator.tell(&news).await?;
        }
        self.told = events;
        Ok(())
    }
}
