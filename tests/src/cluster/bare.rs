//! A Deployment that is scaled by hand and dialled by its pod's address: the least that a cold start takes.

use std::{net::SocketAddr, pin::pin, time::Duration};

use anyhow::{Context, bail};
use futures_util::StreamExt;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    api::{DeleteParams, ListParams, Patch, PatchParams},
    runtime::watcher,
};
use serde_json::json;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{
    Namespace,
    pods::{self, COUNTED},
    watching,
    web::{self, Web},
    zero,
};

const NAME: &str = "bare";

/// How soon one who was refused dials again.
const APART: Duration = Duration::from_millis(2);

/// A SYN to a pod whose network is not there yet is lost, and the kernel sends the next a second later.
const DIAL: Duration = Duration::from_millis(100);

/// It, at zero between two starts.
#[derive(Debug)]
pub struct Bare {
    namespace: Namespace,
}

impl Bare {
    /// Sets it up, once in a namespace.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub async fn start(namespace: &Namespace) -> anyhow::Result<Self> {
        let web = Web {
            replicas: 0,
            ..zero::app(NAME)
        };
        web.apply(namespace).await?;
        Ok(Self {
            namespace: namespace.clone(),
        })
    }

    /// Asks for a replica, and returns how long it takes until its sidecar accepts, and until its app does.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub async fn wake(&self) -> anyhow::Result<(Duration, Duration)> {
        let selected = watcher::Config::default().labels(&format!("app={NAME}"));
        let mut views = pin!(watching::follow(&self.namespace.api::<Pod>(), selected));
        // Before the clock runs: the watch is there, and tells of no pod.
        let view = timeout(watching::PATIENCE, views.next()).await;
        view.context("the watch says nothing")?
            .context("the watch ended")??;
        let begun = Instant::now();
        self.scale(1).await?;
        let pod = loop {
            let view = timeout(watching::PATIENCE, views.next()).await;
            let view = view.with_context(|| format!("{NAME} gets no address"))?;
            // One that breaks is taken up again.
            let Ok(pods) = view.context("the watch ended")? else {
                continue;
            };
            let mut pods = pods.into_values();
            if let Some(pod) = pods.find(|pod| pods::address(pod).is_some()) {
                break pod;
            }
        };
        let address = pods::address(&pod).context("it has no address")?;
        let sidecar = SocketAddr::new(address, listen_port(&pod)?);
        let app = SocketAddr::new(address, web::PORT);
        tokio::try_join!(accepts(sidecar, begun), accepts(app, begun))
    }

    /// Takes the replica away again, without the time that its sidecar would give to latecomers, and returns when it is
    /// gone.
    ///
    /// # Errors
    ///
    /// When it does not go.
    pub async fn sleep(&self) -> anyhow::Result<()> {
        self.scale(0).await?;
        let selected = ListParams::default().labels(&format!("app={NAME}"));
        let at_once = DeleteParams::default().grace_period(0);
        let pods = self.namespace.api::<Pod>();
        pods.delete_collection(&at_once, &selected).await?;
        zero::until_empty(&self.namespace, NAME).await
    }

    async fn scale(&self, replicas: i32) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let deployments = self.namespace.api::<Deployment>();
        deployments
            .patch_scale(NAME, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }
}

/// Returns the port of the sidecar that stands for the app's.
fn listen_port(pod: &Pod) -> anyhow::Result<u16> {
    let counted = pods::annotation(pod, COUNTED);
    let counted = counted.with_context(|| format!("{NAME} has no sidecar"))?;
    let pair = counted
        .split(',')
        .find_map(|pair| pair.strip_suffix(&format!(":{}", web::PORT)));
    let port = pair.with_context(|| format!("no sidecar's port stands for it: {counted}"))?;
    Ok(port.parse()?)
}

/// Dials until somebody accepts.
async fn accepts(address: SocketAddr, begun: Instant) -> anyhow::Result<Duration> {
    while begun.elapsed() < watching::PATIENCE {
        if let Ok(Ok(_)) = timeout(DIAL, TcpStream::connect(address)).await {
            return Ok(begun.elapsed());
        }
        sleep(APART).await;
    }
    bail!("nobody accepts at {address}")
}
