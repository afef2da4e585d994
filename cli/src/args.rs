//! The command line: flags, their help, and what is wrong with a value.
//!
//! Decides nothing else; [`RunArgs::options`] hands local mode a struct that needs no further checks.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    control::args::{ActivatorArgs, AggregatorArgs, WebhookArgs},
    local::{hpa, keda, options::Options},
};
use clap::{
    Arg, Args as _, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, error::ErrorKind,
};

/// Most replicas that `--max` takes: each is two processes of this machine.
const MOST_REPLICAS: u32 = 256;

/// Requests in flight per replica if no target is given: few enough that the usual load of fifty connections reaches the
/// default `--max` with a fast server, too, of whose connections most are between two requests.
const DEFAULT_TARGET_CONCURRENCY: f64 = 4.0;

/// What `run` logs: what happens to the replicas, and what goes wrong anywhere.
const RUN_FILTER: &str = "warn,stillwake::local=info,stillwake_runtime=info";

/// Scales HTTP workloads from zero to many and back.
#[derive(Debug, Parser)]
#[command(name = "stillwake", version, arg_required_else_help = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `stillwake` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a server of yours as 0 to many processes, started and stopped by its traffic
    Run(Box<RunArgs>),
    /// Watch a sample app go from 0 to many replicas and back, in under a minute
    Demo(DemoArgs),
    /// Admit pods, with the sidecar where a label asks for it (in a cluster)
    Webhook(Box<WebhookArgs>),
    /// Collect what sidecars count, and answer KEDA (in a cluster)
    Aggregator(Box<AggregatorArgs>),
    /// Hold requests for workloads at zero (in a cluster)
    Activator(Box<ActivatorArgs>),
    /// The sample app of the demo
    #[command(hide = true)]
    SampleApp(SampleAppArgs),
    /// Kills what `run` started, should `run` itself be killed
    #[command(hide = true)]
    Guardian,
}

/// Run a server of yours as 0 to many processes, started and stopped by its traffic.
///
/// Each replica is one process of COMMAND behind a sidecar that counts its requests. The counts go to the aggregator,
/// which serves them by KEDA's external-scaler protocol; a small scaler reads them from there and starts and stops
/// replicas by the rules of KEDA and of the Horizontal Pod Autoscaler (HPA). While no replica is ready, requests wait
/// in the activator. In a cluster, KEDA and the HPA take the scaler's place and nothing else changes.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES, override_usage = "stillwake run [OPTIONS] -- COMMAND...")]
pub struct RunArgs {
    /// The server to run, with its arguments. `{port}` in them becomes the port to listen on, which the environment
    /// variable PORT holds too
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,

    /// Where clients connect
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080",
        value_parser = address,
        help_heading = "Addresses"
    )]
    pub listen: SocketAddr,
    /// Where to serve /ready, /metrics and /debug/state
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9900",
        value_parser = address,
        help_heading = "Addresses"
    )]
    pub admin: SocketAddr,
    /// Where the aggregator serves KEDA's gRPC; port 0 takes a free one
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:0",
        value_parser = address,
        help_heading = "Addresses"
    )]
    pub scaler: SocketAddr,

    /// Fewest replicas; 0 lets the workload sleep (KEDA: minReplicaCount)
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = whole_number::<u32>, help_heading = "How many replicas")]
    pub min: u32,
    /// Most replicas (KEDA: maxReplicaCount)
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = most_replicas, help_heading = "How many replicas")]
    pub max: u32,
    /// Requests in flight that one replica should have [default: 4, unless --target-request-rate is given]
    /// (trigger metadata: targetConcurrency)
    #[arg(long, value_name = "N", value_parser = target, help_heading = "How many replicas")]
    pub target_concurrency: Option<f64>,
    /// Requests per second that one replica should get; of two targets the one that wants more replicas wins
    /// (trigger metadata: targetRequestRate)
    #[arg(long, value_name = "N", value_parser = target, help_heading = "How many replicas")]
    pub target_request_rate: Option<f64>,
    /// Time over which load is averaged (trigger metadata: window)
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = window, help_heading = "How many replicas")]
    pub window: Duration,

    /// How long to stay up without traffic before sleeping (KEDA: cooldownPeriod)
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration, help_heading = "Pace of scaling")]
    pub cooldown: Duration,
    /// How often to look for activity (KEDA: pollingInterval)
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = positive_duration, help_heading = "Pace of scaling")]
    pub polling_interval: Duration,
    /// How often to compare load with targets (HPA: --horizontal-pod-autoscaler-sync-period, 15s in a cluster)
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = positive_duration, help_heading = "Pace of scaling")]
    pub sync_period: Duration,
    /// Scale down to no less than the most replicas wanted within this time
    /// (HPA: behavior.scaleDown.stabilizationWindowSeconds, 300s in a cluster)
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration, help_heading = "Pace of scaling")]
    pub stabilization: Duration,
    /// Leave the replicas alone while the load is off its target by no more than this share (HPA: tolerance)
    #[arg(long, value_name = "SHARE", default_value = "0.1", value_parser = tolerance, help_heading = "Pace of scaling")]
    pub tolerance: f64,
    /// Replicas that may be added per --scale-up-period (HPA: behavior.scaleUp, type Pods)
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = whole_number::<u32>, help_heading = "Pace of scaling")]
    pub scale_up_pods: u32,
    /// Replicas that may be added per --scale-up-period, in percent of those there are; the larger of both holds
    /// (HPA: behavior.scaleUp, type Percent)
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = whole_number::<u32>, help_heading = "Pace of scaling")]
    pub scale_up_percent: u32,
    /// Time in which those may be added (HPA: behavior.scaleUp, periodSeconds)
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = positive_duration, help_heading = "Pace of scaling")]
    pub scale_up_period: Duration,

    /// How long COMMAND may take from its start until it listens
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = positive_duration, help_heading = "Starting and stopping")]
    pub startup_timeout: Duration,
    /// How long a replica may take to finish its requests, and then to exit (Kubernetes: terminationGracePeriodSeconds)
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration, help_heading = "Starting and stopping")]
    pub grace: Duration,
    /// Do not start COMMAND once beforehand to see that it listens
    #[arg(long, help_heading = "Starting and stopping")]
    pub skip_check: bool,
    /// The sidecar's program [default: stillwake-sidecar beside this program]
    #[arg(long, value_name = "PATH", help_heading = "Starting and stopping")]
    pub sidecar: Option<PathBuf>,

    /// How long a request may wait for a replica before it gets 503
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = positive_duration, help_heading = "Waiting requests")]
    pub hold_timeout: Duration,
    /// Most requests that may wait; further ones get 503 at once
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = at_least_one, help_heading = "Waiting requests")]
    pub max_held: usize,
    /// Most bytes of waiting requests' heads; further requests get 503 at once
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024 * 1024, value_parser = at_least_one, help_heading = "Waiting requests")]
    pub max_held_bytes: usize,

    /// What to log to stderr: a level, or target=level, separated by commas
    #[arg(long, value_name = "FILTER", default_value = RUN_FILTER)]
    pub log: String,
}

const EXAMPLES: &str = "\
Examples:
  A static file server that sleeps after 10 s without traffic:
    stillwake run -- python3 -m http.server {port}
  A Node.js server that reads PORT: 1 to 8 processes, 50 requests in flight each:
    stillwake run --min 1 --max 8 --target-concurrency 50 -- node server.js
  What it is doing:
    curl -s 127.0.0.1:9900/debug/state
  A server that takes its port from a file only, such as nginx with `listen 8080` in nginx.conf:
    stillwake run -- sh -c 'sed s/8080/{port}/ nginx.conf >/tmp/nginx-{port}.conf &&
      exec nginx -c /tmp/nginx-{port}.conf -g \"daemon off; pid /tmp/nginx-{port}.pid;\"'

Durations are a number and a unit, such as 250ms, 10s or 1m30s. \
Ctrl-C finishes what is in flight and stops all replicas; a second Ctrl-C stops at once.

Exit codes: 0 after a clean stop, 64 for a command line that cannot be used, 1 for a start or a run that failed.";

/// Watch a sample app go from 0 to many replicas and back, in under a minute.
///
/// Starts `stillwake run` with a small server, sends one cold request, then a burst, then nothing, and prints what
/// happened. Exits with 0 only if no request failed and the replicas went from 0 to at least 2 and back to 0.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// How long the sample app takes from its start until it listens
    #[arg(long, value_name = "DURATION", default_value = "800ms", value_parser = duration)]
    pub startup_delay: Duration,
    /// How long the sample app works on a request
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = duration)]
    pub work: Duration,
    /// Connections of the burst
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub connections: u32,
    /// How long the burst lasts
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive_duration)]
    pub burst: Duration,
    /// The sidecar's program [default: stillwake-sidecar beside this program]
    #[arg(long, value_name = "PATH")]
    pub sidecar: Option<PathBuf>,
    /// What to log to stderr besides the view: a level, or target=level, separated by commas
    #[arg(long, value_name = "FILTER", default_value = "error")]
    pub log: String,
}

/// The sample app of the demo.
#[derive(Clone, Debug, clap::Args)]
pub struct SampleAppArgs {
    /// Where to listen on 127.0.0.1
    #[arg(long)]
    pub port: u16,
    /// How long to wait before listening
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub startup_delay: Duration,
    /// How long to work on a request
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub work: Duration,
}

impl Args {
    /// Reads the command line `arguments`, the program's name first.
    ///
    /// # Errors
    ///
    /// Names what cannot be read, and the flags that contradict each other. Help and version are answered so too.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut definition = Self::command().mut_subcommands(|command| command.mut_args(negative));
        let mut matches = definition.try_get_matches_from_mut(arguments)?;
        let args = Self::from_arg_matches_mut(&mut matches)?;
        if let Command::Run(run) = &args.command
            && let Some(message) = run.contradiction()
        {
            // With the usage of `run`, as every other mistake in its flags.
            let mut run = RunArgs::augment_args(clap::Command::new("run"));
            return Err(run.error(ErrorKind::ValueValidation, message));
        }
        Ok(args)
    }
}

/// Lets the flag take `-1` or `-5s` for its value, so that the answer is what it takes and not that `-1` is no flag.
fn negative(arg: Arg) -> Arg {
    let takes_value = arg.get_long().is_some() && arg.get_action().takes_values();
    arg.allow_hyphen_values(takes_value)
}

impl RunArgs {
    /// Returns what is wrong if values that are right by themselves do not fit together.
    fn contradiction(&self) -> Option<String> {
        let Self {
            min,
            max,
            listen,
            admin,
            scaler,
            ..
        } = self;
        if min > max {
            return Some(format!(
                "--min {min} is more than --max {max}: give --max {min} or more, or a smaller --min"
            ));
        }
        if self.scale_up_pods == 0 && self.scale_up_percent == 0 {
            let message = "--scale-up-pods 0 and --scale-up-percent 0 allow no scaling up at all: give one of them 1 or more";
            return Some(message.to_owned());
        }
        let pairs = [
            ("--listen", listen, "--admin", admin),
            ("--listen", listen, "--scaler", scaler),
            ("--admin", admin, "--scaler", scaler),
        ];
        let (one, address, other, _) = pairs
            .into_iter()
            .find(|(_, address, _, same)| address == same && address.port() != 0)?;
        Some(format!(
            "{one} and {other} are both {address}: give each an address of its own"
        ))
    }

    /// Returns what local mode needs to know.
    pub fn options(self) -> Options {
        let default_target = self
            .target_request_rate
            .is_none()
            .then_some(DEFAULT_TARGET_CONCURRENCY);
        Options {
            command: self.command,
            listen: self.listen,
            admin: self.admin,
            scaler: self.scaler,
            sidecar: self.sidecar,
            target_concurrency: self.target_concurrency.or(default_target),
            target_request_rate: self.target_request_rate,
            window: self.window,
            polling_interval: self.polling_interval,
            sync_period: self.sync_period,
            keda: keda::Settings {
                min: self.min,
                max: self.max,
                cooldown: self.cooldown,
                initial_cooldown: Duration::ZERO,
            },
            hpa: hpa::Settings {
                min: self.min.max(1),
                max: self.max,
                tolerance: self.tolerance,
                stabilization: self.stabilization,
                scale_up: hpa::ScaleUp {
                    pods: self.scale_up_pods,
                    percent: self.scale_up_percent,
                    period: self.scale_up_period,
                },
            },
            startup_timeout: self.startup_timeout,
            grace: self.grace,
            hold_timeout: self.hold_timeout,
            max_held: self.max_held,
            max_held_bytes: self.max_held_bytes,
            check: !self.skip_check,
            show_output: true,
        }
    }
}

pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        // What follows the last colon of `8080`, `:8080` and `localhost:8080`.
        let port = text
            .rsplit(':')
            .next()
            .and_then(|port| port.parse::<u16>().ok());
        let port = port.unwrap_or(8080);
        format!("give an IP address and a port up to 65535, such as 127.0.0.1:{port}")
    })
}

fn whole_number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| "give a whole number, 0 or more".to_owned())
}

pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("give a whole number of at least 1".to_owned()),
    }
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    // Its own messages speak of character positions and of units nobody needs here.
    humantime::parse_duration(text)
        .map_err(|_| "give a number and a unit, such as 250ms, 10s or 1m30s".to_owned())
}

pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => {
            Err("give a duration longer than 0s, such as 250ms, 10s or 1m30s".to_owned())
        }
        duration => Ok(duration),
    }
}

fn window(text: &str) -> Result<Duration, String> {
    // The range that the aggregator takes.
    let range = Duration::from_secs(1)..=Duration::from_mins(10);
    match duration(text)? {
        window if range.contains(&window) => Ok(window),
        _ => Err("give a duration from 1s to 10m".to_owned()),
    }
}

fn most_replicas(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(count) if (1..=MOST_REPLICAS).contains(&count) => Ok(count),
        _ => Err(format!("give a whole number from 1 to {MOST_REPLICAS}")),
    }
}

fn target(text: &str) -> Result<f64, String> {
    // Kubernetes keeps three decimals of a target.
    match text.parse::<f64>() {
        Ok(target) if target.is_finite() && target >= 0.001 => Ok(target),
        _ => Err("give a number of at least 0.001, such as 10 or 0.5".to_owned()),
    }
}

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err("give a share from 0 up to but not including 1, such as 0.1".to_owned()),
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
