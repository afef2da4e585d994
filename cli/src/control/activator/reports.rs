//! Reports what is held to the aggregators, trusting whom a file says. What they tell of endpoints is handed on.

use std::{path::PathBuf, sync::Arc, time::Duration};

use stillwake_activator::REPORT_GAP;
use stillwake_proto::report::{Endpoint, Hello, Role};
use stillwake_reporting::{Reporter, ReportingConfig, Source, Status, random_epoch};
use stillwake_runtime::{readiness::Latch, tls::Trust};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::control::args::ActivatorArgs;

/// How often the file is looked at. Authorities overlap for minutes when they are replaced.
const INTERVAL: Duration = Duration::from_secs(10);

/// How often it is looked at until it is there, and until an aggregator has taken a connection.
const FIRST: Duration = Duration::from_millis(200);

/// Reports under the authorities that a file names.
#[derive(Debug)]
pub(super) struct Reports {
    authorities: PathBuf,
    config: ReportingConfig,
}

impl Reports {
    pub(super) fn new(args: &ActivatorArgs) -> Self {
        let hello = Hello {
            epoch: random_epoch(),
            role: Role::Activator.into(),
            namespace: args.process.namespace.clone(),
            pod: args.process.name.clone(),
            uid: args.pod_uid.clone(),
            ..Hello::default()
        };
        Self {
            authorities: args.aggregator_authorities.clone(),
            config: ReportingConfig {
                token_file: Some(args.token.clone()),
                minimum_gap: REPORT_GAP,
                ..ReportingConfig::new(args.aggregators.clone(), hello)
            },
        }
    }

    /// Reports until `stop` is cancelled, last what there is then. Lets go of `unconnected` once an aggregator has been
    /// reached.
    pub(super) async fn run(
        self,
        source: Arc<dyn Source>,
        endpoints: mpsc::Sender<Endpoint>,
        unconnected: Latch,
        stop: CancellationToken,
    ) {
        let mut unconnected = Some(unconnected);
        let mut trusted = None;
        let mut current: Option<(CancellationToken, Status, tokio::task::JoinHandle<()>)> = None;
        loop {
            if let Some((text, trust)) = self.read(trusted.as_deref()) {
                if let Some((end, _, reporting)) = current.take() {
                    tracing::info!("The aggregators' authorities have changed");
                    end.cancel();
                    ended(reporting).await;
                }
                let config = ReportingConfig {
                    trust: Some(trust),
                    ..self.config.clone()
                };
                let reporter = Reporter::new(config, Arc::clone(&source));
                let (end, status) = (stop.child_token(), reporter.status());
                let reporting = tokio::spawn(reporter.run(endpoints.clone(), end.clone()));
                current = Some((end, status, reporting));
                trusted = Some(text);
            }
            let connected = current
                .as_ref()
                .map_or(0, |(_, status, _)| status.connected());
            if connected > 0 {
                unconnected = None;
            }
            let pause = if unconnected.is_some() {
                FIRST
            } else {
                INTERVAL
            };
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                break;
            }
        }
        if let Some((_, _, reporting)) = current {
            ended(reporting).await;
        }
    }

    /// Returns what the file says, if that is of use and not what is trusted already.
    fn read(&self, trusted: Option<&str>) -> Option<(String, Trust)> {
        let path = self.authorities.display();
        let text = match std::fs::read_to_string(&self.authorities) {
            Ok(text) => text,
            Err(error) => {
                tracing::warn!(%error, %path, "Cannot read the aggregators' authorities");
                return None;
            }
        };
        if Some(text.as_str()) == trusted {
            return None;
        }
        match Trust::from_pem(&text) {
            Ok(trust) => Some((text, trust)),
            Err(error) => {
                tracing::warn!(%error, %path, "The aggregators' authorities are of no use");
                None
            }
        }
    }
}

async fn ended(reporting: tokio::task::JoinHandle<()>) {
    if let Err(error) = reporting.await {
        tracing::error!(%error, "Reporting broke off");
    }
}
