//! Load steps under Stillwake beside the same without bursts, and beside KEDA's HTTP Add-on, in turn in one run on one
//! cluster: how soon the HPA asks for all replicas.
//!
//! Tells what it saw, and fails only if Stillwake loses a request: what is fast enough is for people to say.
//! `make bench-burst` brings the cluster and the Add-on.

mod report;
mod subject;

use std::time::Duration;

use anyhow::ensure;
use futures_util::future::try_join_all;
use serde_json::json;
use stillwake_e2e::{
    benchmark::{TURNS, environment::Environment},
    cluster::{self, Failure, Namespace, stillwake::Stillwake},
    settings::setting,
};
use tokio::time::sleep;

use self::{report::Report, subject::Subject};

/// How many steps each has, instead of [`FEW`].
const STEPS: &str = "STILLWAKE_BURST_STEPS";

const FEW: usize = 3;

/// Requests in flight before the step, and in it.
const BEFORE: u32 = 5;
const IN_IT: u32 = 80;

/// Requests in flight for each replica.
const TARGET: u32 = 10;

/// The replicas that they want.
const WANTED: i32 = 8;

/// How long a request takes.
const TIME: Duration = Duration::from_secs(2);

/// What averages are taken over, so that all are soon back to one replica.
const WINDOW: Duration = Duration::from_secs(10);

/// The HPA looks so often.
const PERIOD: Duration = Duration::from_secs(15);

#[test]
fn load_steps_beside_the_http_add_ons() -> Result<(), Failure> {
    cluster::run("load steps compared", async |namespace| {
        let steps = setting(STEPS, FEW)?;
        ensure!(steps > 0, "{STEPS} has to be 1 at least");
        let with = Stillwake::with_defaults(namespace).await?;
        let home = namespace.another("without bursts", &[], &[]).await?;
        let apart = namespace.another("stepped without", &[], &[]).await?;
        let off = json!({"aggregator": {"bursts": false}});
        let without = Stillwake::apart(&home, &apart, &off).await?;
        let compared = Box::pin(compare(namespace, &apart, &with, &without, steps)).await;
        // Not all of it belongs to a namespace.
        without.uninstall().await?;
        let report = compared?;
        eprintln!("\n{}", report.table());
        report.write()?;
        let lost = report.lost();
        ensure!(lost.is_empty(), "requests were lost: {}", lost.join("; "));
        Ok(())
    })
}

async fn compare(
    namespace: &Namespace,
    apart: &Namespace,
    with: &Stillwake,
    without: &Stillwake,
    steps: usize,
) -> anyhow::Result<Report> {
    let mut environment = Environment::begin(namespace).await?;
    eprintln!("{environment}");
    let (with, without, add_on) = tokio::try_join!(
        Subject::of_stillwake("stillwake", namespace, with),
        Subject::of_stillwake("without-bursts", apart, without),
        Subject::of_add_on(namespace, with),
    )?;
    let mut subjects = [with, without, add_on];
    for round in 1..=steps {
        // A pod that comes or goes takes the processors from whoever is measured.
        try_join_all(subjects.iter_mut().map(Subject::calm)).await?;
        sleep(rand::random_range(Duration::ZERO..PERIOD)).await;
        eprintln!("Round {round} of {steps}");
        for turn in TURNS[round % TURNS.len()] {
            subjects[turn].step().await?;
        }
    }
    let [with, without, add_on] = subjects.map(Subject::end);
    let (with, without, add_on) = tokio::try_join!(with, without, add_on)?;
    environment.end()?;
    Ok(Report {
        environment,
        with,
        without,
        add_on,
    })
}
