//! The local scaler: a gRPC client of the aggregator that decides as KEDA and the HPA do.
//!
//! The arithmetic is in `keda` and `hpa`; here is who is asked when. The replica count it decides on goes to the
//! supervisor, as `/scale` would to a Deployment.

mod streams;

use std::time::Duration;

use stillwake_proto::scaler::{
    GetMetricsRequest, MetricSpec, MetricValue, ScaledObjectRef,
    external_scaler_client::ExternalScalerClient,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, transport::Channel};

use self::streams::{follow_specs, listen};

use crate::local::{
    hpa::{self, Autoscaler, Reading},
    keda::{self, Executor},
    metrics::Metrics,
    supervisor,
};

/// Longest that one answer may take. KEDA's poll loop knows no limit, its metrics adapter knows this one.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

type Client = ExternalScalerClient<Channel>;

/// What the scaler is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `ScaledObject`, with the trigger's metadata.
    pub scaled_object: ScaledObjectRef,
    /// KEDA's part.
    pub keda: keda::Settings,
    /// The HPA's part.
    pub hpa: hpa::Settings,
    /// KEDA's `pollingInterval`. Not zero.
    pub polling_interval: Duration,
    /// The HPA's sync period. Not zero.
    pub sync_period: Duration,
}

/// What the scaler shows of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Replicas that it asks for.
    pub desired: u32,
    /// What the last poll or push said; none before the first answer and after an error.
    pub active: Option<bool>,
    /// When the workload was last seen active.
    pub last_active: Option<Instant>,
    /// When the workload was last woken from 0, and whether a push did it.
    pub woken: Option<Wake>,
    /// What was read last: metric, target per replica, total.
    pub metrics: Vec<(String, f64, Option<f64>)>,
    /// What went wrong last, until it goes well again.
    pub last_error: Option<String>,
}

/// One change from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// When.
    pub at: Instant,
    /// `StreamIsActive` told it, not a poll.
    pub pushed: bool,
}

/// Scales one workload.
#[derive(Debug)]
pub struct Scaler {
    settings: Settings,
    client: Client,
    keda: Executor,
    hpa: Autoscaler,
    /// What the HPA has been given.
    specs: Option<Vec<MetricSpec>>,
    /// Whether that was streamed. Then it is not asked for, as in KEDA ≥ 2.21 (`pkg/scaling/cache/scalers_cache.go`).
    streamed: bool,
    replicas: watch::Receiver<supervisor::View>,
    desired: watch::Sender<u32>,
    view: watch::Sender<View>,
    metrics: Metrics,
}

impl Scaler {
    /// Creates a scaler that asks over `channel`, looks at `replicas` and sets `desired`, which holds what is asked
    /// for to begin with.
    pub fn new(
        settings: Settings,
        channel: Channel,
        replicas: watch::Receiver<supervisor::View>,
        desired: watch::Sender<u32>,
        view: watch::Sender<View>,
        metrics: Metrics,
    ) -> Self {
        Self {
            client: Client::new(channel),
            keda: Executor::new(settings.keda, Instant::now()),
            hpa: Autoscaler::new(settings.hpa),
            specs: None,
            streamed: false,
            settings,
            replicas,
            desired,
            view,
            metrics,
        }
    }

    /// Scales until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        // One wake-up that waits is as good as many.
        let (pushes, mut pushed) = mpsc::channel(1);
        let stream = listen(
            self.client.clone(),
            self.settings.scaled_object.clone(),
            pushes,
        );
        let stream = tokio::spawn(stop.clone().run_until_cancelled_owned(stream));
        // The last one is as good as all of them.
        let (told, mut specs) = watch::channel(Vec::new());
        let spec_stream = follow_specs(
            self.client.clone(),
            self.settings.scaled_object.clone(),
            told,
        );
        let spec_stream = tokio::spawn(stop.clone().run_until_cancelled_owned(spec_stream));
        let mut polls = ticks(self.settings.polling_interval);
        let mut syncs = ticks(self.settings.sync_period);
        // Not within the call: the guard of a borrow keeps others from setting.
        let initial = *self.desired.borrow();
        self.set(initial);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(()) = pushed.recv() => self.active(true),
                Ok(()) = specs.changed() => {
                    let specs = specs.borrow_and_update().clone();
                    self.respecified(specs).await;
                }
                _ = polls.tick() => self.poll().await,
                _ = syncs.tick() => self.sync().await,
            }
        }
        // Both end by the same token.
        let _ = tokio::join!(stream, spec_stream);
    }

    fn active(&mut self, pushed: bool) {
        let now = Instant::now();
        let decided = self.keda.active(*self.desired.borrow(), now);
        self.view.send_modify(|view| {
            view.active = Some(true);
            view.last_active = Some(now);
            if decided.is_some() {
                view.woken = Some(Wake { at: now, pushed });
            }
        });
        if let Some(replicas) = decided {
            tracing::info!(replicas, pushed, "Waking the workload");
            self.set(replicas);
        }
    }

    /// One turn of KEDA's poll loop: an error in any of the three calls keeps the replicas.
    async fn poll(&mut self) {
        let answer = async {
            self.read().await?;
            within(
                self.client
                    .clone()
                    .is_active(self.settings.scaled_object.clone()),
            )
            .await
        };
        match answer.await {
            Ok(answer) if answer.result => {
                self.succeeded();
                self.active(false);
            }
            Ok(_) => {
                self.succeeded();
                self.view.send_modify(|view| view.active = Some(false));
                let desired = *self.desired.borrow();
                if let Some(replicas) = self.keda.inactive(desired, Instant::now()) {
                    tracing::info!(replicas, "No traffic for the cooldown");
                    self.set(replicas);
                }
            }
            Err(status) => {
                self.failed(&status);
                self.view.send_modify(|view| view.active = None);
            }
        }
    }

    /// Specs were streamed. KEDA writes other ones into the HPA, and Kubernetes ≥ 1.37 syncs an HPA whose spec changed at
    /// once; the same ones again change nothing.
    async fn respecified(&mut self, specs: Vec<MetricSpec>) {
        // KEDA takes no notice of none, and an HPA could not be given a target of 0.
        if specs.is_empty() || specs.iter().any(|spec| target(spec) <= 0.0) {
            return;
        }
        let spec_changed = self.specs.as_ref().is_some_and(|known| *known != specs);
        self.specs = Some(specs);
        self.streamed = true;
        if spec_changed {
            self.sync().await;
        }
    }

    /// One sync of the HPA.
    async fn sync(&mut self) {
        let spec = *self.desired.borrow();
        if spec == 0 {
            return;
        }
        let readings = match self.read_each().await {
            Ok(readings) => readings,
            Err(status) => return self.failed(&status),
        };
        self.view.send_modify(|view| {
            let shown = readings.iter();
            view.metrics = shown
                .map(|(name, reading)| (name.clone(), reading.target, reading.total))
                .collect();
        });
        let readings: Vec<_> = readings.into_iter().map(|(_, reading)| reading).collect();
        let status = self.replicas.borrow().live();
        if let Some(replicas) = self.hpa.sync(spec, status, &readings, Instant::now()) {
            tracing::info!(
                from = spec,
                to = replicas,
                "Changing the number of replicas by load"
            );
            self.set(replicas);
        }
    }

    /// Reads every metric; the first that fails fails all.
    async fn read(&mut self) -> Result<(), Status> {
        for spec in self.specs().await? {
            self.total(&spec.metric_name, Reader::Keda).await?;
        }
        Ok(())
    }

    /// Reads every metric by itself.
    async fn read_each(&mut self) -> Result<Vec<(String, Reading)>, Status> {
        let mut readings = Vec::new();
        for spec in self.specs().await? {
            let total = match self.total(&spec.metric_name, Reader::Hpa).await {
                Ok(total) => Some(total),
                Err(status) => {
                    self.failed(&status);
                    None
                }
            };
            let target = target(&spec);
            readings.push((spec.metric_name, Reading { target, total }));
        }
        Ok(readings)
    }

    async fn specs(&mut self) -> Result<Vec<MetricSpec>, Status> {
        if let Some(streamed) = self.specs.clone().filter(|_| self.streamed) {
            return Ok(streamed);
        }
        let asked = self.settings.scaled_object.clone();
        let answer = within(self.client.get_metric_spec(asked)).await?;
        let specs = answer.metric_specs;
        if let Some(spec) = specs.iter().find(|spec| target(spec) <= 0.0) {
            return Err(Status::invalid_argument(format!(
                "metric '{}' has no target above 0",
                spec.metric_name
            )));
        }
        self.specs = Some(specs.clone());
        Ok(specs)
    }

    async fn total(&self, metric_name: &str, reader: Reader) -> Result<f64, Status> {
        let mut request = Request::new(GetMetricsRequest {
            scaled_object_ref: Some(self.settings.scaled_object.clone()),
            metric_name: metric_name.to_owned(),
        });
        if reader == Reader::Hpa {
            // As KEDA's metrics adapter; the aggregator tells the HPA's readings by it.
            request.set_timeout(ANSWER_LIMIT);
        }
        let values = within(self.client.clone().get_metrics(request))
            .await?
            .metric_values;
        Ok(values.iter().map(value).sum())
    }

    fn set(&self, replicas: u32) {
        self.metrics.desired.set(replicas.into());
        self.view.send_modify(|view| view.desired = replicas);
        self.desired
            .send_if_modified(|desired| std::mem::replace(desired, replicas) != replicas);
    }

    fn succeeded(&self) {
        self.view.send_modify(|view| view.last_error = None);
    }

    fn failed(&self, status: &Status) {
        let error = format!("{:?}: {}", status.code(), status.message());
        self.view.send_if_modified(|view| {
            let new = view.last_error.as_ref() != Some(&error);
            if new {
                tracing::warn!(%error, "The aggregator gave no answer, keeping the replicas");
                view.last_error = Some(error);
            }
            new
        });
    }
}

/// On whose behalf a metric is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Keda,
    Hpa,
}

async fn within<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(ANSWER_LIMIT, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Status::deadline_exceeded("no answer within 3 s")),
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The target per replica; the floating-point field wins, and Kubernetes keeps three decimals.
fn target(spec: &MetricSpec) -> f64 {
    if spec.target_size_float > 0.0 {
        (spec.target_size_float * 1000.0).round() / 1000.0
    } else {
        spec.target_size as f64
    }
}

/// The reading; the floating-point field wins, and what is no number or negative is 0, as in KEDA.
fn value(value: &MetricValue) -> f64 {
    let read = if value.metric_value_float > 0.0 {
        value.metric_value_float
    } else {
        value.metric_value as f64
    };
    if read.is_finite() { read.max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests;
