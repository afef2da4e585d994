//! Which ports are counted, and how: by the name that moves, by the kernel's redirect, or not at all and then said.
//!
//! The test cluster enforces no network policy; what is looked at is that the way taken is one that a policy lets through.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use stillwake_e2e::{
    cluster::{
        self, Failure, Namespace, counts,
        pods::{self, COUNTED, INJECT, REDIRECT, UNCOUNTED},
        stillwake::Stillwake,
        web::{By, PORT, Web},
    },
    ledger::Ledger,
    load::Load,
};
use tokio::try_join;

/// Requests that are kept in flight.
const STEADY: u32 = 3;

/// The label of pods that only let in what a policy names.
const FENCED: &str = "fenced";

/// How a port should have been taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Swap,
    Redirect,
    /// With what the reason says.
    Uncounted(&'static str),
}

/// Where a policy allows the app's port.
#[derive(Clone, Copy, Debug)]
enum Fence {
    None,
    Policy(By),
}

#[test]
fn ports_are_counted_where_pod_security_and_policies_let_them_and_said_where_they_are_not()
-> Result<(), Failure> {
    cluster::run("ports", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let level = async |level: &str| {
            let labels = [
                (INJECT, "enabled"),
                ("pod-security.kubernetes.io/enforce", level),
            ];
            namespace.another(level, &labels, &[]).await
        };
        let (restricted, privileged) = try_join!(level("restricted"), level("privileged"))?;
        let number = By::Number;
        let name = By::Name;
        let forbidden = Way::Uncounted("Pod Security restricted forbids redirecting");
        let blocked = Way::Uncounted("network policy");
        let case = |namespace, name, target, fence, way| {
            Case {
                stillwake: &stillwake,
                namespace,
                name,
                target,
                fence,
                way,
            }
            .check()
        };
        try_join!(
            case(&restricted, "named", name, Fence::None, Way::Swap),
            case(&restricted, "numbered", number, Fence::None, forbidden),
            case(&privileged, "numbered", number, Fence::None, Way::Redirect),
            case(
                &restricted,
                "fenced-number",
                name,
                Fence::Policy(number),
                blocked
            ),
            case(
                &restricted,
                "fenced-name",
                name,
                Fence::Policy(name),
                Way::Swap
            ),
            case(
                &privileged,
                "fenced-number",
                name,
                Fence::Policy(number),
                Way::Redirect
            ),
            case(
                &privileged,
                "fenced-name",
                name,
                Fence::Policy(name),
                Way::Swap
            ),
        )?;
        Ok(())
    })
}

struct Case<'a> {
    stillwake: &'a Stillwake,
    namespace: &'a Namespace,
    name: &'static str,
    target: By,
    fence: Fence,
    way: Way,
}

impl Case<'_> {
    async fn check(self) -> anyhow::Result<()> {
        let checked = self.look().await;
        checked.with_context(|| format!("{} in {}", self.name, self.namespace.name()))
    }

    async fn look(&self) -> anyhow::Result<()> {
        let mut web = Web {
            target: self.target,
            ..Web::new(self.name)
        };
        if let Fence::Policy(by) = self.fence {
            web = web.label(FENCED, self.name);
            self.allow(by).await?;
        }
        web.foresee(self.namespace, |pod, created| {
            self.decided(pod)?;
            let warnings = created.of_stillwake();
            match self.way {
                Way::Uncounted(why) => {
                    let warned = warnings.iter().any(|warning| warning.contains(why));
                    ensure!(warned, "no warning that {why}: {warnings:?}");
                }
                _ => ensure!(warnings.is_empty(), "{warnings:?}"),
            }
            Ok(())
        })
        .await?;
        let (pods, address) = web.start(self.namespace).await?;
        let pod = pods.first().context("there is no pod")?;
        self.decided(pod)?;
        match self.way {
            Way::Uncounted(why) => self.works_and_says_so(&pods, address, why).await,
            Way::Swap => self.is_counted(&pods, address, &[]).await,
            Way::Redirect => {
                let own = pods::address(pod).context("the pod has no address")?;
                let direct = SocketAddr::new(own, PORT);
                self.is_counted(&pods, address, &[direct]).await
            }
        }
    }

    /// Nothing gets to these pods but what a policy allows.
    async fn allow(&self, by: By) -> anyhow::Result<()> {
        let values = [("name", self.name), ("port", &by.port().to_string())];
        let manifest = include_str!("policies.yaml");
        self.namespace.apply(manifest, &values).await
    }

    fn decided(&self, pod: &Pod) -> anyhow::Result<()> {
        let (counted, uncounted) = (
            pods::annotation(pod, COUNTED),
            pods::annotation(pod, UNCOUNTED),
        );
        let seen = (
            pods::sidecar(pod).is_some(),
            pods::init_container(pod, REDIRECT).is_some(),
            counted,
        );
        let expected = match self.way {
            Way::Swap => (true, false, Some("15080:8080")),
            Way::Redirect => (true, true, Some("15080:8080")),
            Way::Uncounted(_) => (false, false, None),
        };
        ensure!(
            seen == expected,
            "sidecar, redirect and counted ports are {seen:?} and not {expected:?}; uncounted: {uncounted:?}"
        );
        if let Way::Uncounted(why) = self.way {
            let said =
                uncounted.is_some_and(|said| said.starts_with("8080: ") && said.contains(why));
            ensure!(said, "the pod does not say that {why}: {uncounted:?}");
        }
        Ok(())
    }

    /// Every aggregator hears of exactly what is in flight, through the Service and through each of `others`.
    async fn is_counted(
        &self,
        pods: &[Pod],
        service: SocketAddr,
        others: &[SocketAddr],
    ) -> anyhow::Result<()> {
        let ledger = Ledger::default();
        let mut loads = Vec::new();
        for address in [service].iter().chain(others) {
            let load = Load::new(*address, ledger.clone());
            load.steady(STEADY, Duration::from_secs(2));
            loads.push(load);
            let count = u64::from(STEADY) * u64::try_from(loads.len())?;
            counts::until_in_flight(self.stillwake, pods, count).await?;
        }
        for load in loads {
            load.finish().await;
        }
        counts::until_in_flight(self.stillwake, pods, 0).await?;
        ledger.verdict().assert_nothing_lost();
        Ok(())
    }

    async fn works_and_says_so(
        &self,
        pods: &[Pod],
        service: SocketAddr,
        why: &str,
    ) -> anyhow::Result<()> {
        let ledger = Ledger::default();
        let load = Load::new(service, ledger.clone());
        load.steady(STEADY, Duration::from_secs(1));
        load.finish().await;
        ledger.verdict().assert_nothing_lost();
        let known = counts::reporters(self.stillwake, pods).await?;
        ensure!(
            known.values().all(Vec::is_empty),
            "somebody reports: {known:?}"
        );
        pods::event(self.namespace, "StillwakeUncounted", |message| {
            message.contains("8080") && message.contains(why)
        })
        .await?;
        Ok(())
    }
}
