//! Apps that do not come up: their clients are told so, after a while at once, and it ends when the app is mended.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;
use http::StatusCode;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use stillwake_e2e::{
    client::{self, Answer},
    cluster::{
        self, Failure, Namespace,
        scene::WEB,
        stillwake::{Component, Stillwake},
        watching,
        web::{self, PORT},
        zero,
    },
    settings::setting,
    wait,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// How long requests are held here.
const HOLD: Duration = Duration::from_secs(4);

/// For how long clients go on to ask for what fails, instead of [`WHILE`].
const FAILING: &str = "STILLWAKE_FAILING";

const WHILE: Duration = Duration::from_secs(20);

/// Clients that do, of each workload.
const CLIENTS: usize = 10;

/// How soon one of them asks again.
const APART: Duration = Duration::from_millis(100);

/// What an activator's memory may grow meanwhile, in MiB: what an allocator keeps of the first requests.
const GROWTH: f64 = 4.0;

fn short_hold() -> Value {
    json!({"activator": {"hold": {"timeout": humantime::format_duration(HOLD).to_string()}}})
}

/// What keeps an app from coming up: its name, and what its pod template is to say for that and without it.
type Trouble = (&'static str, Value, Value);

fn troubles() -> [Trouble; 3] {
    let container = |key: &str, value: Value| {
        let mut container = json!({"name": "app"});
        container[key] = value;
        json!({"containers": [container]})
    };
    let probe =
        |port: u16| json!({"httpGet": null, "tcpSocket": {"port": port}, "periodSeconds": 1});
    [
        // Nobody listens there.
        (
            "never-ready",
            container("readinessProbe", probe(9)),
            container("readinessProbe", probe(PORT)),
        ),
        // It says that it knows no such argument, and ends.
        (
            "crashing",
            container("args", json!(["--no-such-argument"])),
            container("args", json!(["--address=0.0.0.0", "--port=8080"])),
        ),
        (
            "unschedulable",
            json!({"nodeSelector": {"stillwake.dev/e2e": "no-such-node"}}),
            json!({"nodeSelector": null}),
        ),
    ]
}

#[test]
fn apps_that_never_get_ready_cost_their_clients_less_and_less() -> Result<(), Failure> {
    cluster::run("failing", async |namespace| {
        let lasting = Duration::from(setting(FAILING, humantime::Duration::from(WHILE))?);
        let stillwake = Stillwake::with_values(namespace, &short_hold()).await?;
        let mut broken = Vec::new();
        for trouble in troubles() {
            broken.push(Broken::start(namespace, &stillwake, trouble).await?);
        }
        for broken in &broken {
            broken.refuses(namespace).await?;
        }
        let before = memory(&stillwake).await?;
        let mut clients = JoinSet::new();
        for broken in &broken {
            for _ in 0..CLIENTS {
                clients.spawn(ask(broken.service, lasting));
            }
        }
        let mut refused = 0;
        while let Some(answers) = clients.join_next().await {
            refused += answers??;
        }
        let after = memory(&stillwake).await?;
        eprintln!(
            "{refused} requests refused within {lasting:?}: {before:.1} MiB before, {after:.1} MiB after"
        );
        ensure!(after <= before + GROWTH, "from {before} to {after} MiB");
        for broken in &broken {
            broken.mended(namespace).await?;
        }
        Ok(())
    })
}

#[test]
fn a_port_that_no_pod_has_is_refused_and_keeps_the_others_from_nothing() -> Result<(), Failure> {
    cluster::run("half served", async |namespace| {
        let stillwake = Stillwake::with_values(namespace, &short_hold()).await?;
        let half = "
apiVersion: v1
kind: Service
metadata: {name: half}
spec:
  selector: {app: web}
  ports:
  - {name: there, port: 80, targetPort: http}
  - {name: missing, port: 81, targetPort: no-such-name}";
        namespace.apply(half, &[]).await?;
        let scaling = zero::scaling(WEB, &[("targetConcurrency", "10")]);
        zero::put_to_sleep(namespace, &stillwake, &zero::app(WEB), &scaling).await?;
        zero::until_served(namespace, "half", true).await?;
        let there = web::cluster_address(namespace, "half").await?;
        let missing = SocketAddr::new(there.ip(), 81);
        let (refused, served) =
            tokio::try_join!(client::get(missing, "/"), client::get(there, "/"))?;
        let refused = refusal(refused)?;
        eprintln!("of a port that no pod has: {}", refused.text().trim());
        zero::ensure_waited(&served)?;
        Ok(())
    })
}

/// A workload that does not come up.
struct Broken {
    name: &'static str,
    service: SocketAddr,
    /// What its pod template says without the trouble.
    mended: Value,
}

impl Broken {
    async fn start(
        namespace: &Namespace,
        stillwake: &Stillwake,
        (name, trouble, mended): Trouble,
    ) -> anyhow::Result<Self> {
        let mut web = zero::app(name);
        web.replicas = 0;
        web.apply(namespace).await?;
        template(namespace, name, &trouble).await?;
        let scaling = zero::scaling(name, &[("targetConcurrency", "10")]);
        scaling.start(namespace, stillwake).await?;
        zero::until_asleep(namespace, name).await?;
        Ok(Self {
            name,
            service: web::cluster_address(namespace, name).await?,
            mended,
        })
    }

    /// Refuses at the deadline, and after some of them at once.
    async fn refuses(&self, namespace: &Namespace) -> anyhow::Result<()> {
        // kube-proxy hears of the slices within its own pace, and refuses until then.
        let what = format!("an answer for {}", self.name);
        let (first, took) = wait::until(&what, watching::PATIENCE, async || {
            let asked = Instant::now();
            let answer = client::get(self.service, "/").await?;
            anyhow::Ok((answer, asked.elapsed()))
        })
        .await?;
        let first = refusal(first)?;
        ensure!(
            first.header("retry-after").is_some(),
            "{}: no Retry-After: {:?}",
            self.name,
            first.headers
        );
        ensure!(
            (HOLD..HOLD * 2).contains(&took),
            "{}: after {took:?}",
            self.name
        );
        let deployment = namespace.api::<Deployment>().get(self.name).await?;
        let wanted = deployment.spec.and_then(|spec| spec.replicas);
        ensure!(wanted == Some(1), "{}: {wanted:?} replicas", self.name);
        eprintln!("{}, at the deadline: {}", self.name, first.text().trim());
        let at_once = wait::until("an answer at once", watching::PATIENCE, async || {
            let asked = Instant::now();
            let answer = refusal(client::get(self.service, "/").await?)?;
            ensure!(asked.elapsed() < HOLD / 2, "after {:?}", asked.elapsed());
            anyhow::Ok(answer)
        });
        let at_once = at_once.await?;
        eprintln!("{}, at once: {}", self.name, at_once.text().trim());
        Ok(())
    }

    async fn mended(&self, namespace: &Namespace) -> anyhow::Result<()> {
        template(namespace, self.name, &self.mended).await?;
        let what = format!("an answer of {}", self.name);
        wait::until(&what, watching::PATIENCE, async || {
            let answer = client::get(self.service, "/").await?;
            ensure!(answer.status == StatusCode::OK, "{}", answer.text());
            anyhow::Ok(())
        })
        .await
    }
}

/// Asks for so long, and returns how often.
async fn ask(service: SocketAddr, lasting: Duration) -> anyhow::Result<u64> {
    let begun = Instant::now();
    let mut refused = 0;
    while begun.elapsed() < lasting {
        refusal(client::get(service, "/").await?)?;
        refused += 1;
        sleep(APART).await;
    }
    Ok(refused)
}

fn refusal(answer: Answer) -> anyhow::Result<Answer> {
    ensure!(
        answer.status == StatusCode::SERVICE_UNAVAILABLE && !answer.text().is_empty(),
        "{} {}",
        answer.status,
        answer.text()
    );
    Ok(answer)
}

/// Returns what the largest activator has in memory, in MiB.
async fn memory(stillwake: &Stillwake) -> anyhow::Result<f64> {
    let mut largest: f64 = 0.0;
    for metrics in stillwake.metrics(Component::Activator).await?.into_values() {
        let bytes = metrics.sum("process_resident_memory_bytes", &[])?;
        largest = largest.max(bytes / 1024.0 / 1024.0);
    }
    Ok(largest)
}

/// Changes what a Deployment's pods are made from.
async fn template(namespace: &Namespace, name: &str, spec: &Value) -> anyhow::Result<()> {
    let patch = json!({"spec": {"template": {"spec": spec}}});
    namespace
        .api::<Deployment>()
        .patch(name, &PatchParams::default(), &Patch::Strategic(&patch))
        .await?;
    Ok(())
}
