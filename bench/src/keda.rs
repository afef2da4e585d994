//! KEDA's side of the external scaler: one connection, streams that wait for wake-ups, and questions at a fixed rate.

use std::{sync::Arc, thread, time::Duration};

use anyhow::Context as _;
use parking_lot::Mutex;
use stillwake_proto::scaler::{
    GetMetricsRequest, IsActiveResponse, external_scaler_client::ExternalScalerClient,
};
use tokio::time::Instant;
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::fleet::Fleet;

/// How often is asked again for what is not known yet.
const AGAIN: Duration = Duration::from_millis(20);

/// How many answers to wait for at a time.
const AT_ONCE: usize = 32;

/// A connection to an aggregator's port for KEDA.
#[derive(Clone, Debug)]
pub struct Keda {
    client: ExternalScalerClient<Channel>,
}

/// What became of questions at a fixed rate.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Time to each answer in seconds, from when its question was due.
    pub times: Vec<f64>,
    /// How many were answered with something else than a metric.
    pub failed: usize,
}

impl Keda {
    /// Connects, as soon as there is somebody.
    ///
    /// # Errors
    ///
    /// When nobody is there in time.
    pub async fn connect(port: u16) -> anyhow::Result<Self> {
        let address = format!("http://127.0.0.1:{port}");
        let client = ExternalScalerClient::connect(address).await;
        Ok(Self {
            client: client.context("no connection to the aggregator as KEDA")?,
        })
    }

    /// Opens the stream that wakes a workload.
    ///
    /// # Errors
    ///
    /// When the aggregator refuses.
    pub async fn wakes(&self, workload: usize) -> anyhow::Result<Streaming<IsActiveResponse>> {
        let reference = Fleet::reference(workload, WINDOW);
        let opened = self.client.clone().stream_is_active(reference).await;
        Ok(opened?.into_inner())
    }

    /// Asks for a metric of a workload.
    ///
    /// # Errors
    ///
    /// As the aggregator says.
    pub async fn metric(&self, request: GetMetricsRequest) -> Result<f64, Status> {
        let answer = self.client.clone().get_metrics(request).await?;
        let values = answer.into_inner().metric_values;
        let value = values.first().map(|value| value.metric_value_float);
        value.ok_or_else(|| Status::not_found("no value"))
    }

    /// Waits until the load of all workloads is known.
    ///
    /// # Errors
    ///
    /// When the aggregator answers with something else than that it does not know yet.
    pub async fn all_known(&self, fleet: Fleet) -> anyhow::Result<()> {
        let all: Vec<usize> = (0..fleet.workloads).collect();
        // Those that come last are the last to be asked, so that the end of this is when all are known.
        for some in all.chunks(AT_ONCE) {
            while !self.are_known(some).await? {
                tokio::time::sleep(AGAIN).await;
            }
        }
        Ok(())
    }

    async fn are_known(&self, workloads: &[usize]) -> anyhow::Result<bool> {
        let asked = workloads
            .iter()
            .map(|index| self.metric(Fleet::request(*index, WINDOW, CONCURRENCY)));
        for answer in futures_util::future::join_all(asked).await {
            match answer {
                Ok(_) => {}
                Err(status) if status.code() == Code::Unavailable => return Ok(false),
                Err(status) => return Err(status.into()),
            }
        }
        Ok(true)
    }

    /// Asks for one workload after the other, `rate` times a second for so long, whether answers come or not.
    ///
    /// # Errors
    ///
    /// When the asking thread fails.
    pub async fn ask(
        &self,
        fleet: Fleet,
        rate: u32,
        duration: Duration,
    ) -> anyhow::Result<Answers> {
        let answers = Arc::new(Mutex::new(Answers::default()));
        let (keda, runtime) = (self.clone(), tokio::runtime::Handle::current());
        let collected = Arc::clone(&answers);
        // A thread of its own, because the runtime's clock has steps of a millisecond.
        let asking = move || {
            let begun = Instant::now();
            let mut asked = Vec::new();
            for number in 0.. {
                let after = Duration::from_secs(1) * number / rate;
                if after >= duration {
                    break;
                }
                let due = begun + after;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let index = number as usize % fleet.workloads;
                let (keda, collected) = (keda.clone(), Arc::clone(&collected));
                asked.push(runtime.spawn(async move {
                    let request = Fleet::request(index, WINDOW, CONCURRENCY);
                    let answer = keda.metric(request).await;
                    let took = due.elapsed().as_secs_f64();
                    let mut collected = collected.lock();
                    match answer {
                        Ok(_) => collected.times.push(took),
                        Err(_) => collected.failed += 1,
                    }
                }));
            }
            asked
        };
        let asked = tokio::task::spawn_blocking(asking).await?;
        for answer in asked {
            answer.await?;
        }
        let answers = answers.lock().clone();
        Ok(answers)
    }
}

/// What loads are averaged over where it does not matter.
const WINDOW: Duration = Duration::from_mins(1);

/// Name of the metric of requests in flight.
pub const CONCURRENCY: &str = "concurrency";

/// Name of the metric of requests per second.
pub const REQUEST_RATE: &str = "request-rate";
