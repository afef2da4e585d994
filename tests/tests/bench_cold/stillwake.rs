//! A Deployment under Stillwake, asked through its own Service.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use stillwake_e2e::{
    benchmark::summary::Timed,
    client,
    cluster::{Namespace, pods, scaling::Scaling, stillwake::Stillwake, zero},
    ledger::Ledger,
    load::Load,
};
use tokio::time::Instant;

use super::{COOLDOWN, PATH, POLLING, check, timeline::Timeline};

const NAME: &str = "stillwake";

/// It, at zero between two requests.
pub(super) struct Sleeper {
    namespace: Namespace,
    service: SocketAddr,
}

impl Sleeper {
    pub(super) async fn start(
        namespace: &Namespace,
        stillwake: &Stillwake,
    ) -> anyhow::Result<Self> {
        let scaling = Scaling {
            polling: POLLING,
            cooldown: COOLDOWN,
            ..zero::scaling(NAME, &[("targetConcurrency", "100")])
        };
        let web = zero::app(NAME);
        Ok(Self {
            namespace: namespace.clone(),
            service: zero::put_to_sleep(namespace, stillwake, &web, &scaling).await?,
        })
    }

    /// Sends the first request and returns how long it takes until the answer is complete, and until each step in between.
    pub(super) async fn wake(&self, round: usize) -> anyhow::Result<(Timed, Vec<Duration>)> {
        let timeline = Timeline::begin(&self.namespace, NAME).await?;
        let begun = Instant::now();
        let answer = client::get_as(self.service, PATH, round as u64).await;
        let took = begun.elapsed();
        let wake = Timed::of(took, || {
            let answer = answer?;
            check(&answer, round as u64)?;
            ensure!(answer.cold_start().is_some(), "it did not wait");
            Ok(())
        });
        Ok((wake, timeline.end(begun).await?))
    }

    pub(super) async fn until_asleep(&self) -> anyhow::Result<()> {
        zero::until_asleep(&self.namespace, NAME).await
    }

    /// Returns a load that comes through the Service.
    pub(super) fn load(&self, ledger: &Ledger) -> Load {
        Load::new(self.service, ledger.clone())
    }

    /// Returns its pods: one, once that takes requests.
    pub(super) async fn pods(&self) -> anyhow::Result<Vec<Pod>> {
        pods::until_ready(&self.namespace, NAME, 1).await
    }

    /// Returns where the activators take its connections, once none are led there any more. They forward what comes all the
    /// same.
    pub(super) async fn activators(&self) -> anyhow::Result<Vec<SocketAddr>> {
        zero::until_served(&self.namespace, NAME, false).await?;
        zero::activators(&self.namespace, NAME).await
    }
}
