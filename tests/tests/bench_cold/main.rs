//! Cold starts under Stillwake beside those under KEDA's HTTP Add-on and beside the least that Kubernetes takes, in turn
//! in one run on one cluster; and then what it takes of both to forward to who is awake.
//!
//! Tells what it saw, and fails only if a request is not answered with 200: what is fast enough is for people to say.
//! `make bench-cold` brings the cluster and the Add-on.

mod add_on;
mod breakdown;
mod forwarding;
mod report;
mod series;
mod stillwake;
mod timeline;

use std::time::Duration;

use anyhow::ensure;
use http::StatusCode;
use stillwake_e2e::{
    benchmark::{TURNS, environment::Environment, summary::Timed},
    client::Answer,
    cluster::{self, Failure, Namespace, bare::Bare, stillwake::Stillwake},
    settings::setting,
};

use self::{add_on::AddOn, breakdown::Breakdown, report::Report, series::Series};

/// How many cold starts each has, instead of [`ROUNDS`].
const STARTS: &str = "STILLWAKE_COLD_STARTS";

const ROUNDS: usize = 20;

/// How many requests come each way in a block where it is measured what forwarding takes, instead of [`REQUESTS`].
const FORWARDED: &str = "STILLWAKE_FORWARDED";

const REQUESTS: usize = 2_000;

/// What is asked for.
const PATH: &str = "/bytes?length=100";

/// What Stillwake's `ScaledObject` has. The Add-on makes its own with 15 s and lets nobody choose. Nobody is woken by it:
/// both push. With this one, both are asleep again after about as long, since Stillwake calls a workload active for two of
/// these after its last request.
const POLLING: Duration = Duration::from_secs(5);

/// What both have, long enough for nobody to fall asleep while the others are measured.
const COOLDOWN: Duration = Duration::from_secs(10);

/// Who is measured.
#[derive(Clone, Copy, Debug)]
enum Contender {
    Stillwake,
    AddOn,
    Bare,
}

const CONTENDERS: [Contender; 3] = [Contender::Stillwake, Contender::AddOn, Contender::Bare];

#[test]
fn cold_starts_beside_the_http_add_ons() -> Result<(), Failure> {
    cluster::run("cold starts compared", async |namespace| {
        let rounds = setting(STARTS, ROUNDS)?;
        ensure!(rounds > 0, "{STARTS} has to be 1 at least");
        let requests = setting(FORWARDED, REQUESTS)?;
        ensure!(requests > 0, "{FORWARDED} has to be 1 at least");
        let report = Box::pin(compare(namespace, rounds, requests)).await?;
        eprintln!("\n{}\n{}", report.table(), report.forwarding());
        report.write()?;
        let unanswered = report.unanswered();
        ensure!(
            unanswered.is_empty(),
            "not all went as it should: {}",
            unanswered.join("; ")
        );
        Ok(())
    })
}

async fn compare(namespace: &Namespace, rounds: usize, requests: usize) -> anyhow::Result<Report> {
    let release = Stillwake::with_defaults(namespace).await?;
    let mut environment = Environment::begin(namespace).await?;
    eprintln!("{environment}\nPutting three copies of an app to sleep");
    let (ours, add_on, bare) = tokio::try_join!(
        stillwake::Sleeper::start(namespace, &release),
        AddOn::start(namespace),
        Bare::start(namespace),
    )?;
    let mut series = Series::default();
    let mut before = Breakdown::read(&release).await?;
    // The first round is not counted: names, addresses and images are looked up for the first time in it.
    for round in 0..=rounds {
        let mut row = Series::default();
        for contender in TURNS[round % TURNS.len()].map(|turn| CONTENDERS[turn]) {
            match contender {
                Contender::Stillwake => {
                    let (wake, steps) = ours.wake(round).await?;
                    row.stillwake.push(wake);
                    row.steps.push(steps);
                }
                Contender::AddOn => row.add_on.push(add_on.wake(round).await),
                Contender::Bare => {
                    let (sidecar, app) = bare.wake().await?;
                    row.sidecar.push(Timed::of(sidecar, || Ok(())));
                    row.app.push(Timed::of(app, || Ok(())));
                    // At once, or its end falls into the others' beginning.
                    bare.sleep().await?;
                }
            }
        }
        tokio::try_join!(ours.until_asleep(), add_on.until_asleep())?;
        if round == 0 {
            eprintln!("not counted: {row}");
            before = Breakdown::read(&release).await?;
        } else {
            eprintln!("{round} of {rounds}: {row}");
            series.append(row);
        }
    }
    let breakdown = Breakdown::read(&release).await?.since(&before);
    let forwarding = forwarding::measure(namespace, &release, &ours, &add_on, requests).await;
    environment.end()?;
    Ok(Report {
        environment,
        series,
        breakdown,
        forwarding,
    })
}

/// Fails unless it is the app's answer to the request `id`, with 200.
fn check(answer: &Answer, id: u64) -> anyhow::Result<()> {
    ensure!(
        answer.status == StatusCode::OK && answer.request_id() == Some(id),
        "{} {}",
        answer.status,
        answer.text().trim()
    );
    Ok(())
}
