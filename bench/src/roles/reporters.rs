//! Simulated sidecars: the product's own reporting, fed by counters that a play moves. No request is made.

mod play;
mod pod;

use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use stillwake_proto::report::{Hello, Port, Role};
use stillwake_reporting::{Reporter, ReportingConfig, Status, random_epoch};
use tokio::{sync::mpsc, time::Duration};
use tokio_util::sync::CancellationToken;

use self::{play::Play, pod::Pod};
use super::conversation::Conversation;
use crate::{
    certificates::{ADDRESSES, Certificate},
    fleet::{Fleet, NAMESPACE},
};

/// What they are told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Whose pods they are.
    pub fleet: Fleet,
    /// The first pod.
    pub first: usize,
    /// How many pods.
    pub count: usize,
    /// The port to report to, on as many loopback addresses as it takes.
    pub port: u16,
    /// Whom they trust.
    pub certificate: Certificate,
}

/// What they can be asked.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// From now on, so many of a thousand pods have requests in flight. Answered with [`Going`].
    Active(u32),
    /// How it goes: [`Going`].
    Going,
    /// What was counted of each workload so far: a list of [`Total`].
    Ledger,
}

/// How it goes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Going {
    /// Connections that stand.
    pub connected: usize,
    /// Reports written so far.
    pub reports: u64,
    /// Connections and attempts that failed so far.
    pub failures: u64,
}

/// What the pods of a workload here have counted.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Total {
    /// Number of the workload.
    pub workload: usize,
    /// Integral of the requests in flight, in request-microseconds.
    pub in_flight_time: u64,
    /// Requests begun.
    pub requests: u64,
}

/// Reports until the input ends.
///
/// # Errors
///
/// When the certificate cannot be read.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let trust = settings.certificate.trust()?;
    let mut pods = Vec::with_capacity(settings.count);
    let mut statuses: Vec<Status> = Vec::with_capacity(settings.count);
    for index in settings.first..settings.first + settings.count {
        let uid = Fleet::pod(index);
        let hello = Hello {
            epoch: random_epoch(),
            role: Role::Sidecar.into(),
            namespace: NAMESPACE.to_owned(),
            pod: uid.clone(),
            uid,
            address: "127.0.0.1".to_owned(),
            ports: vec![Port {
                listen: 15080,
                app: 8080,
            }],
            ..Hello::default()
        };
        // Spread, since one pair of addresses has ports for some 28,000 connections.
        let last = 1 + index % usize::from(ADDRESSES);
        let target = format!("127.0.0.{last}:{}", settings.port);
        let config = ReportingConfig {
            trust: Some(trust.clone()),
            // An address is looked up by nobody.
            resolve_interval: Duration::from_hours(24),
            ..ReportingConfig::new(vec![target], hello)
        };
        let pod = Pod::default();
        let reporter = Reporter::new(config, Arc::new(pod.clone()));
        statuses.push(reporter.status());
        let (endpoints, _) = mpsc::channel(1);
        tokio::spawn(reporter.run(endpoints, CancellationToken::new()));
        pods.push(pod);
    }
    let play = Arc::new(Mutex::new(Play::new(pods.clone())));
    tokio::spawn(play::perform(Arc::clone(&play)));

    let going = || {
        statuses.iter().fold(Going::default(), |sum, status| {
            let totals = status.totals();
            Going {
                connected: sum.connected + status.connected(),
                reports: sum.reports + totals.reports,
                failures: sum.failures + totals.failures,
            }
        })
    };
    let mut conversation = Conversation::begin(&going())?;
    while let Some(question) = conversation.question().await? {
        match question {
            Question::Active(thousandths) => {
                play.lock().set_active(thousandths);
                conversation.say(&going())?;
            }
            Question::Going => conversation.say(&going())?,
            Question::Ledger => conversation.say(&ledger(&settings, &pods))?,
        }
    }
    Ok(())
}

fn ledger(settings: &Settings, pods: &[Pod]) -> Vec<Total> {
    let mut totals: Vec<Total> = Vec::new();
    for (place, pod) in pods.iter().enumerate() {
        let workload = settings.fleet.workload_of(settings.first + place);
        let count = pod.count();
        match totals.last_mut() {
            Some(total) if total.workload == workload => {
                total.in_flight_time += count.in_flight_time;
                total.requests += count.requests;
            }
            _ => totals.push(Total {
                workload,
                in_flight_time: count.in_flight_time,
                requests: count.requests,
            }),
        }
    }
    totals
}
