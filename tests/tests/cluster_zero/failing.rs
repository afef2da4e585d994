//! Apps that do not come up: their clients are told so, after a while at once, and it ends when the app is mended.

use anyhow::ensure;
use http::StatusCode;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use stillwake_e2e::{
    client::{self, Answer},
    cluster::{self, Failure, Namespace, scene::WEB, stillwake::Stillwake, watching, zero},
    wait,
};
use tokio::time::{Duration, Instant};

/// How long requests are held here.
const HOLD: Duration = Duration::from_secs(4);

#[test]
fn an_app_that_never_gets_ready_costs_its_clients_less_and_less() -> Result<(), Failure> {
    cluster::run("never ready", async |namespace| {
        let values = json!({"activator": {"hold": {"timeout": humantime::format_duration(HOLD).to_string()}}});
        let stillwake = Stillwake::with_values(namespace, &values).await?;
        let scaling = zero::scaling(WEB, &[("targetConcurrency", "10")]);
        let web = zero::app(WEB);
        let service = zero::put_to_sleep(namespace, &stillwake, &web, &scaling).await?;
        // Nobody listens there.
        probe(namespace, 9).await?;
        let first = refusal(client::get(service, "/").await?)?;
        ensure!(
            first.header("retry-after").is_some(),
            "no Retry-After: {:?}",
            first.headers
        );
        eprintln!("at the deadline: {}", first.text().trim());
        let at_once = wait::until("an answer at once", watching::PATIENCE, async || {
            let asked = Instant::now();
            let answer = refusal(client::get(service, "/").await?)?;
            ensure!(asked.elapsed() < HOLD / 2, "after {:?}", asked.elapsed());
            anyhow::Ok(answer)
        })
        .await?;
        eprintln!("at once: {}", at_once.text().trim());
        probe(namespace, stillwake_e2e::cluster::web::PORT).await?;
        wait::until("an answer of the app", watching::PATIENCE, async || {
            let answer = client::get(service, "/").await?;
            ensure!(answer.status == StatusCode::OK, "{}", answer.text());
            anyhow::Ok(())
        })
        .await
    })
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

/// Sets which port the kubelet connects to before the app takes traffic.
async fn probe(namespace: &Namespace, port: u16) -> anyhow::Result<()> {
    let probe = json!({"httpGet": null, "tcpSocket": {"port": port}, "periodSeconds": 1});
    let container = json!({"name": "app", "readinessProbe": probe});
    let patch = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
    namespace
        .api::<Deployment>()
        .patch(WEB, &PatchParams::default(), &Patch::Strategic(&patch))
        .await?;
    Ok(())
}
