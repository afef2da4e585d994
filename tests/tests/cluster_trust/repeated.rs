//! What is done over and over while something changes, and must not fail once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use stillwake_e2e::cluster::{IMAGE, Namespace, creation, pods::INJECT, stillwake::Stillwake};
use stillwake_runtime::tls::Trust;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::ports;

/// Between two pods of one who creates them, and between two looks at all ports.
const PAUSE: Duration = Duration::from_millis(200);

/// Pods that are created at a time.
const CREATORS: usize = 2;

/// Returns a pod that asks for the sidecar.
pub(crate) fn asking() -> serde_json::Value {
    json!({
        "metadata": {"generateName": "asking-", "labels": {INJECT: "enabled"}},
        "spec": {"containers": [{
            "name": "app",
            "image": IMAGE,
            "ports": [{"name": "http", "containerPort": 8080}],
        }]},
    })
}

/// Something that is done over and over, and must not fail once.
pub(crate) struct Repeated {
    what: &'static str,
    done: Arc<AtomicU64>,
    tasks: Vec<AbortOnDropHandle<anyhow::Error>>,
}

impl Repeated {
    fn start<F>(
        what: &'static str,
        count: usize,
        once: impl Fn() -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send,
    {
        let done = Arc::<AtomicU64>::default();
        let task = |_| {
            let (once, done) = (once.clone(), Arc::clone(&done));
            AbortOnDropHandle::new(tokio::spawn(async move {
                loop {
                    if let Err(error) = once().await {
                        return error;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    sleep(PAUSE).await;
                }
            }))
        };
        let tasks = (0..count).map(task).collect();
        Self { what, done, tasks }
    }

    /// Has pods admitted, each of which has to get the sidecar.
    pub(crate) fn admissions(namespace: &Namespace, stillwake: &Stillwake) -> Self {
        let both = (namespace.clone(), stillwake.clone());
        Self::start("admissions", CREATORS, move || {
            let (namespace, stillwake) = both.clone();
            async move {
                let created = creation::try_out(&namespace, &asking()).await?;
                let pod: Pod = serde_json::from_value(created.object)?;
                let is_injected = stillwake.has_injected(&pod);
                ensure!(
                    is_injected,
                    "a pod without a sidecar: {:?}",
                    created.warnings
                );
                Ok(())
            }
        })
    }

    /// Connects to every port of every replica as one that knows this bundle alone.
    pub(crate) fn handshakes(stillwake: &Stillwake, bundle: &str) -> anyhow::Result<Self> {
        let both = (stillwake.clone(), Trust::from_pem(bundle)?);
        Ok(Self::start("rounds of handshakes", 1, move || {
            let (stillwake, trust) = both.clone();
            async move {
                for (address, host) in ports::certified(&stillwake).await? {
                    let connected = ports::connect(&trust, &host, address).await;
                    // One that goes away in between may refuse.
                    let ready = ports::certified(&stillwake).await?;
                    if ready.iter().any(|(ready, _)| *ready == address) {
                        connected?;
                    }
                }
                Ok(())
            }
        }))
    }

    /// Ends it, and fails if it has failed once or not been done so often.
    pub(crate) async fn finish(self, least: u64) -> anyhow::Result<()> {
        let Self { what, done, tasks } = self;
        for task in tasks {
            if task.is_finished() {
                let error = task.await?;
                return Err(error.context(format!("{what} failed")));
            }
        }
        let done = done.load(Ordering::Relaxed);
        eprintln!("{done} {what}");
        ensure!(done >= least, "only {done} {what}");
        Ok(())
    }
}
