//! `stillwake demo`: a cold request, a burst, silence and a second wake, shown as they happen and summed up at the end.
//!
//! Runs local mode in this process, with this program's sample app as the command.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use stillwake_activator::ColdStart;
use stillwake_runtime::shutdown::Shutdown;
use tokio::{
    sync::{broadcast, watch},
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    args::DemoArgs,
    local::{hpa, keda, options::Options, run::Local, scaler, supervisor},
};

mod load;
mod report;
mod view;

use load::Tally;
use report::{Report, Wake};
use view::View;

/// Longest that one wake or the way to sleep may take before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(25);

/// How long a cold request is given to be told as a cold start after its answer.
const TOLD: Duration = Duration::from_secs(2);

/// Runs the demo and prints its view and its table to stdout.
///
/// # Errors
///
/// Fails if a request failed, or if the replicas did not go from 0 to at least 2 and back to 0.
pub async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let options = options(&args)?;
    let view = View::new();
    view.introduce(&format!(
        "Starting a sample app that needs {} to start and {} for each request…",
        humantime::format_duration(args.startup_delay),
        humantime::format_duration(args.work)
    ));
    let local = Local::start(options, &shutdown).await?;
    let stage = Stage {
        address: local.address(),
        scaler: local.scaler(),
        fleet: local.fleet(),
        cold_starts: local.cold_starts(),
        tally: Arc::default(),
        view: view.clone(),
    };
    let watching = view
        .clone()
        .watch(local.fleet(), local.scaler(), Arc::clone(&stage.tally));
    let watching = tokio::spawn(watching);
    let serving = tokio::spawn(local.serve(shutdown.clone()));
    let tally = Arc::clone(&stage.tally);
    let played = tokio::select! {
        wakes = stage.play(&args) => wakes,
        () = shutdown.drain.cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    view.phase("Stopping");
    shutdown.drain.cancel();
    let stopped = serving.await.context("local mode ended early")?;
    let replicas = watching.await.context("the view ended early")?;
    let report = Report {
        tally: &tally,
        replicas: &replicas,
        wakes: played?,
    };
    view.below(report.to_string().trim_end());
    stopped?;
    report.verdict()?;
    view.below("Now a server of yours: stillwake run -- python3 -m http.server {port}");
    Ok(())
}

fn options(args: &DemoArgs) -> anyhow::Result<Options> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let program = program
        .to_str()
        .context("this program's path is no UTF-8")?;
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let milliseconds = |duration: Duration| format!("{}ms", duration.as_millis());
    let command = [
        program,
        "sample-app",
        "--port",
        "{port}",
        "--startup-delay",
        &milliseconds(args.startup_delay),
        "--work",
        &milliseconds(args.work),
    ];
    let max = 4;
    Ok(Options {
        command: command.map(str::to_owned).to_vec(),
        listen: any_port,
        admin: any_port,
        scaler: any_port,
        sidecar: args.sidecar.clone(),
        target_concurrency: Some(10.0),
        target_request_rate: None,
        window: Duration::from_secs(4),
        polling_interval: Duration::from_secs(1),
        sync_period: Duration::from_secs(1),
        keda: keda::Settings {
            min: 0,
            max,
            cooldown: Duration::from_secs(5),
            initial_cooldown: Duration::ZERO,
        },
        hpa: hpa::Settings {
            min: 1,
            max,
            tolerance: 0.1,
            stabilization: Duration::from_secs(3),
            scale_up: hpa::ScaleUp {
                pods: 4,
                percent: 100,
                period: Duration::from_secs(15),
            },
        },
        startup_timeout: PATIENCE,
        grace: Duration::from_secs(10),
        hold_timeout: PATIENCE,
        max_held: 1000,
        max_held_bytes: 16 * 1024 * 1024,
        check: true,
        show_output: false,
    })
}

/// What the acts have to hand.
struct Stage {
    address: SocketAddr,
    scaler: watch::Receiver<scaler::View>,
    fleet: watch::Receiver<supervisor::View>,
    cold_starts: broadcast::Receiver<ColdStart>,
    tally: Arc<Tally>,
    view: View,
}

impl Stage {
    async fn play(mut self, args: &DemoArgs) -> anyhow::Result<Vec<Wake>> {
        self.view.phase("One request at 0 replicas");
        let first = self.wake().await?;
        self.view
            .phase(&format!("A burst over {} connections", args.connections));
        let mut clients = JoinSet::new();
        let until = Instant::now() + args.burst;
        for _ in 0..args.connections {
            clients.spawn(load::requests(self.address, until, Arc::clone(&self.tally)));
        }
        clients.join_all().await;
        self.view.phase("Silence");
        let asleep = self.fleet.wait_for(|fleet| fleet.replicas.is_empty());
        timeout(PATIENCE, asleep)
            .await
            .context("the replicas did not go back to 0 in time")?
            .context("the replicas are no longer watched")?;
        self.view.phase("One more request at 0 replicas");
        let second = self.wake().await?;
        Ok(vec![first, second])
    }

    /// Sends one request to the sleeping workload and takes its time apart.
    async fn wake(&mut self) -> anyhow::Result<Wake> {
        let sent = Instant::now();
        timeout(
            PATIENCE,
            load::request(self.address, Arc::clone(&self.tally)),
        )
        .await
        .context("a cold request was not answered in time")?;
        let answered = Instant::now();
        let told = timeout(TOLD, self.cold_starts.recv()).await;
        let cold = told
            .context("the activator told of no cold start")?
            .context("the activator told too many cold starts")?;
        let woken = self.scaler.borrow().woken;
        let started = self
            .fleet
            .borrow()
            .replicas
            .first()
            .map(|replica| replica.member.started);
        ensure!(
            woken.is_some() && started.is_some(),
            "nothing was started for a cold request"
        );
        Ok(Wake {
            sent,
            arrived: cold.arrived,
            woken: woken.map_or(cold.arrived, |woken| woken.at),
            started: started.unwrap_or(cold.arrived),
            ready: cold.ready,
            first_byte: cold.first_byte,
            answered,
        })
    }
}
