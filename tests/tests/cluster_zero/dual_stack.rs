//! Services of both address families, and of IPv6 alone, in front of workloads that sleep.

use std::{
    collections::BTreeSet,
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, ensure};
use http::{Method, StatusCode, header};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, api::ListParams};
use stillwake_e2e::{
    client::{self, Connection},
    cluster::{
        self, Failure, Namespace, counts,
        pods::{self, REDIRECT},
        stillwake::Stillwake,
        watching,
        web::{self, By, Web},
        zero,
    },
    ledger::Ledger,
    load::Load,
    tools, wait,
};
use tokio::try_join;

/// Requests that are kept in flight. Twice as many are still one replica.
const STEADY: u32 = 3;

#[test]
fn each_address_of_both_families_wakes_the_workload_and_leads_straight_to_it() -> Result<(), Failure>
{
    cluster::run("dual stack", async |namespace| {
        if !is_dual_stack(namespace).await? {
            return tools::left_out("Services of IPv6 at zero", "the cluster has IPv4 alone");
        }
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let case = |name, target| {
            Case {
                namespace,
                stillwake: &stillwake,
                name,
                both: format!("{name}-both"),
                alone: format!("{name}-alone"),
                target,
            }
            .check()
        };
        try_join!(case("named", By::Name), case("numbered", By::Number))?;
        Ok(())
    })
}

/// Whether nodes, and so pods, have addresses of IPv6 beside those of IPv4.
async fn is_dual_stack(namespace: &Namespace) -> anyhow::Result<bool> {
    let nodes = Api::<Node>::all(namespace.cluster().client());
    let nodes = nodes.list(&ListParams::default()).await?;
    let addresses = nodes.iter().filter_map(|node| node.status.as_ref());
    let mut addresses = addresses.filter_map(|status| status.addresses.as_ref());
    Ok(addresses.any(|addresses| {
        let mut addresses = addresses.iter();
        addresses.any(|address| address.address.parse::<Ipv6Addr>().is_ok())
    }))
}

/// A workload whose port is taken over in one of the two ways, and its Services.
struct Case<'a> {
    namespace: &'a Namespace,
    stillwake: &'a Stillwake,
    /// Of the workload, and of a Service that says nothing of families.
    name: &'static str,
    both: String,
    alone: String,
    target: By,
}

impl Case<'_> {
    async fn check(self) -> anyhow::Result<()> {
        let checked = self.look().await;
        checked.with_context(|| self.name.to_owned())
    }

    async fn look(&self) -> anyhow::Result<()> {
        let addresses = self.put_to_sleep().await?;
        for address in addresses {
            self.lead_to_activators().await?;
            self.wakes(address)
                .await
                .with_context(|| address.to_string())?;
            zero::until_asleep(self.namespace, self.name).await?;
        }
        Ok(())
    }

    /// Returns where the workload is reached once it sleeps: by IPv4, by IPv6, and by the Service that has no other.
    async fn put_to_sleep(&self) -> anyhow::Result<[SocketAddr; 3]> {
        let values = [
            ("name", self.name),
            ("both", &self.both),
            ("alone", &self.alone),
            ("target", &self.target.port().to_string()),
        ];
        let manifest = "
apiVersion: v1
kind: Service
metadata: {name: ${both}}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {app: ${name}}
  ports: [{port: 80, targetPort: ${target}}]
---
apiVersion: v1
kind: Service
metadata: {name: ${alone}}
spec:
  ipFamilyPolicy: SingleStack
  ipFamilies: [IPv6]
  selector: {app: ${name}}
  ports: [{port: 80, targetPort: ${target}}]";
        self.namespace.apply(manifest, &values).await?;
        let web = Web {
            address: Ipv6Addr::UNSPECIFIED.into(),
            target: self.target,
            ..zero::app(self.name)
        };
        web.foresee(self.namespace, |pod, _| {
            let redirects = pods::init_container(pod, REDIRECT).is_some();
            ensure!(pods::sidecar(pod).is_some() && redirects == (self.target == By::Number));
            Ok(())
        })
        .await?;
        let scaling = zero::scaling(self.name, &[("targetConcurrency", "10")]);
        zero::put_to_sleep(self.namespace, self.stillwake, &web, &scaling).await?;
        let mut addresses = web::cluster_addresses(self.namespace, &self.both).await?;
        addresses.extend(web::cluster_addresses(self.namespace, &self.alone).await?);
        match *addresses {
            [four, six, alone] if four.is_ipv4() && six.is_ipv6() && alone.is_ipv6() => {
                Ok([four, six, alone])
            }
            _ => anyhow::bail!("the Services have {addresses:?}"),
        }
    }

    /// Waits until activators take the connections of all Services, and fails unless they do so at addresses of each of the
    /// Service's families and no other.
    async fn lead_to_activators(&self) -> anyhow::Result<()> {
        for (service, ipv6) in [
            (self.name, &[false][..]),
            (&self.both, &[false, true]),
            (&self.alone, &[true]),
        ] {
            zero::until_served(self.namespace, service, true).await?;
            let activators = zero::activators(self.namespace, service).await?;
            let families: BTreeSet<_> = activators.iter().map(SocketAddr::is_ipv6).collect();
            ensure!(
                families.iter().eq(ipv6),
                "{service} leads to {activators:?}"
            );
        }
        Ok(())
    }

    /// Wakes the workload by an address, and fails unless connections there then go to the pod, which counts them.
    async fn wakes(&self, address: SocketAddr) -> anyhow::Result<()> {
        let answer = client::get(address, "/bytes?length=100").await?;
        zero::ensure_waited(&answer)?;
        let ledger = Ledger::default();
        let load = || {
            let load = Load::new(address, ledger.clone());
            load.steady(STEADY, Duration::from_secs(2));
            load
        };
        // It does not sleep meanwhile.
        let awake = load();
        for service in [self.name, &self.both, &self.alone] {
            zero::until_served(self.namespace, service, false).await?;
        }
        // kube-proxy takes its time.
        wait::until("a way past the activators", watching::PATIENCE, || {
            is_straight(address)
        })
        .await?;
        let pods = pods::until_ready(self.namespace, self.name, 1).await?;
        let warm = load();
        let count = 2 * u64::from(STEADY);
        counts::until_in_flight(self.stillwake, &pods, count).await?;
        awake.finish().await;
        warm.finish().await;
        ledger.verdict().assert_nothing_lost();
        Ok(())
    }
}

/// Fails if an activator answers: it ends each connection after its answer.
async fn is_straight(address: SocketAddr) -> anyhow::Result<()> {
    let request = client::request(Method::GET, "/bytes?length=100", 0, client::whole(""));
    let answer = Connection::open(address).await?.send(request).await?;
    ensure!(
        answer.status == StatusCode::OK && !answer.headers.contains_key(header::CONNECTION),
        "{} {:?} {}",
        answer.status,
        answer.headers,
        answer.text()
    );
    Ok(())
}
