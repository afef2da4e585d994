//! The answers to KEDA's calls, all from memory.
//!
//! What is not known is `UNAVAILABLE`, on which KEDA and the HPA keep what runs. The specs need no knowledge: KEDA
//! before 2.20 builds an HPA without them, which the API server turns into one on 80 % CPU.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _, stream};
use rand::RngExt as _;
use stillwake_proto::scaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricValue,
    ScaledObjectRef, external_scaler_server::ExternalScaler,
};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use super::{
    push::{Push, Step},
    specs::{Looks, specs},
};
use crate::{
    aggregator::Aggregator,
    burst::SETTLE_LIMIT,
    state::{Load, ScaledObjectKey, State, Unknown},
    trigger::{CONCURRENCY, REQUEST_RATE, Trigger, TriggerError},
};

/// What gRPC sends a deadline in.
///
/// KEDA's metrics adapter asks its operator with one, for the HPA, and the operator asks on with it. Its own polls have
/// none (`pkg/metricsservice/client.go`, `pkg/scaling/scale_handler.go`). The calls are otherwise the same.
const DEADLINE: &str = "grpc-timeout";

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Serves the five calls.
#[derive(Debug)]
pub(crate) struct Service {
    aggregator: Aggregator,
    stop: CancellationToken,
}

impl From<TriggerError> for Status {
    fn from(error: TriggerError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl From<Unknown> for Status {
    fn from(unknown: Unknown) -> Self {
        let code = match unknown {
            Unknown::NotSynced | Unknown::Unreported { .. } => Code::Unavailable,
            Unknown::NoScaledObject { .. } => Code::NotFound,
        };
        Self::new(code, unknown.to_string())
    }
}

impl Service {
    /// Streams end with OK when `stop` is cancelled.
    pub(crate) fn new(aggregator: Aggregator, stop: CancellationToken) -> Self {
        Self { aggregator, stop }
    }

    fn load(&self, object: &ScaledObjectRef, trigger: &Trigger) -> Result<Load, Status> {
        let key = key(object);
        let load = self
            .aggregator
            .update(|state, now| state.load(&key, trigger.window, now))?;
        Ok(load)
    }

    async fn metrics(
        &self,
        request: &Request<GetMetricsRequest>,
    ) -> Result<GetMetricsResponse, Status> {
        let is_look = is_of_hpa(request);
        let request = request.get_ref();
        let object = request.scaled_object_ref.as_ref().ok_or_else(|| {
            Status::invalid_argument("scaledObjectRef is missing; it must name a ScaledObject")
        })?;
        let trigger = Trigger::parse(&object.scaler_metadata)?;
        let name = request.metric_name.as_str();
        if is_look && name == CONCURRENCY {
            self.decided(object, &trigger).await;
        }
        let load = self.load(object, &trigger)?;
        let names: Vec<_> = trigger.targets().map(|(name, _)| name).collect();
        let value = match name {
            _ if !names.contains(&name) => {
                let names = names.join(", ");
                return Err(Status::invalid_argument(format!(
                    "metricName '{name}' is not one of this trigger's: {names}"
                )));
            }
            CONCURRENCY => load.concurrency,
            REQUEST_RATE => load.request_rate,
            _ => return Err(Status::internal(format!("metric '{name}' has no value"))),
        };
        Ok(GetMetricsResponse {
            metric_values: vec![MetricValue {
                metric_name: name.to_owned(),
                metric_value: whole(value),
                metric_value_float: value,
            }],
        })
    }

    /// Waits until it is known whether a rise of this moment lasts, and how far it goes: what the HPA finds now it keeps to for
    /// 15 s. Cancel safe.
    async fn decided(&self, object: &ScaledObjectRef, trigger: &Trigger) {
        let key = key(object);
        let doubt = || {
            self.aggregator
                .update(|state, now| state.doubtful_until(&key, trigger.window, now))
        };
        // One rise after the other could be in doubt.
        let limit = Instant::now() + self.aggregator.settings().burst_lasting + SETTLE_LIMIT;
        while let Some(until) = doubt().filter(|_| Instant::now() < limit) {
            tokio::time::sleep_until(until.min(limit)).await;
        }
    }

    fn specs(&self, object: &ScaledObjectRef) -> Result<GetMetricSpecResponse, Status> {
        let trigger = Trigger::parse(&object.scaler_metadata);
        let key = key(object);
        let is_moved = self.aggregator.update(|state, _| {
            state.trigger_read(&key, trigger.as_ref().err());
            state.is_target_moved(&key)
        });
        Ok(specs(&trigger?, is_moved))
    }

    /// Notes a call that the HPA is behind, and what it was told.
    fn looked<T>(&self, request: &Request<T>, object: &ScaledObjectRef, value: Option<f64>) {
        if is_of_hpa(request) {
            let key = key(object);
            self.aggregator
                .update(|state, now| state.looked(&key, value, now));
        }
    }

    /// Begins a stream's life.
    fn lease(&self) -> Result<Lease, Status> {
        let place = self.aggregator.streams().try_acquire_owned().map_err(|_| {
            Status::resource_exhausted("too many streams are open; each ends within an hour")
        })?;
        let age = rand::rng().random_range(self.aggregator.settings().stream_age.clone());
        Ok(Lease {
            ends: Instant::now() + age,
            stop: self.stop.clone(),
            _place: place,
        })
    }

    fn counted<T>(
        &self,
        method: &'static str,
        answer: Result<T, Status>,
    ) -> Result<Response<T>, Status> {
        let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
        self.aggregator.metrics().called(method, code);
        answer.map(Response::new)
    }
}

/// How long a stream may live.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) ends: Instant,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Lease {
    /// Returns when the stream must end. Cancel safe.
    pub(super) async fn ended(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep_until(self.ends) => {}
        }
    }
}

#[tonic::async_trait]
impl ExternalScaler for Service {
    type StreamIsActiveStream = Answers<IsActiveResponse>;
    type StreamMetricSpecStream = Answers<GetMetricSpecResponse>;

    async fn is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        let object = request.get_ref();
        let answer = Trigger::parse(&object.scaler_metadata)
            .map_err(Status::from)
            .and_then(|trigger| self.load(object, &trigger))
            .map(|load| IsActiveResponse {
                result: load.active,
            });
        // With several aggregators, another one may have been asked for the metric.
        self.looked(&request, request.get_ref(), None);
        // KEDA asks regularly, and opens streams seldom.
        if self.aggregator.update(State::tells_of_missing_specs) {
            tracing::info!(
                "KEDA has opened no StreamMetricSpec here, as releases before 2.21 do not: bursts wait for the HPA's own \
                 turn, up to 15 s"
            );
        }
        self.counted("IsActive", answer)
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let answer = self.specs(request.get_ref());
        self.counted("GetMetricSpec", answer)
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let answer = self.metrics(&request).await;
        if let (Ok(answer), Some(object)) = (&answer, &request.get_ref().scaled_object_ref) {
            let mut values = answer.metric_values.iter();
            let concurrency = values.find(|value| value.metric_name == CONCURRENCY);
            let found = concurrency.map(|value| value.metric_value_float);
            self.looked(&request, object, found);
        }
        self.counted("GetMetrics", answer)
    }

    /// Opens even for a `ScaledObject` that is not known yet, and stays silent: KEDA opens it once, and after an error it
    /// waits for longer each time.
    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let begun = Trigger::parse(&request.get_ref().scaler_metadata)
            .map_err(Status::from)
            .and_then(|_| self.lease())
            .map(|lease| {
                self.aggregator.update(State::activity_stream_opened);
                let key = key(request.get_ref());
                let pushes = Pushes::new(self.aggregator.clone(), key, lease);
                let answers = stream::unfold(pushes, async |mut pushes| {
                    pushes
                        .next()
                        .await
                        .then_some((Ok(IsActiveResponse { result: true }), pushes))
                });
                answers.boxed()
            });
        self.counted("StreamIsActive", begun)
    }

    async fn stream_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamMetricSpecStream>, Status> {
        // Read first, so that a mistake is told to people.
        let begun = self.specs(request.get_ref()).and_then(|_| {
            let trigger = Trigger::parse(&request.get_ref().scaler_metadata)?;
            let lease = self.lease()?;
            let key = key(request.get_ref());
            let looks = Looks::new(self.aggregator.clone(), key, trigger, lease);
            let answers = stream::unfold(looks, async |mut looks| {
                let specs = looks.next().await?;
                Some((Ok(specs), looks))
            });
            Ok(answers.boxed())
        });
        self.counted("StreamMetricSpec", begun)
    }
}

/// The wake-ups of one stream.
struct Pushes {
    aggregator: Aggregator,
    key: ScaledObjectKey,
    /// `None` only while it is dropped.
    wakes: Option<watch::Receiver<()>>,
    push: Push,
    lease: Lease,
}

impl Pushes {
    fn new(aggregator: Aggregator, key: ScaledObjectKey, lease: Lease) -> Self {
        // Listens first, so that no change falls between looking and listening.
        let wakes = aggregator.watch_wakes(&key);
        let opened = aggregator.update(|state, now| state.wake_state(&key, now));
        let push = Push::new(aggregator.settings().hold_resend, opened);
        Self {
            aggregator,
            key,
            wakes: Some(wakes),
            push,
            lease,
        }
    }

    /// Waits until `true` is to be said. Returns false when the stream ends.
    async fn next(&mut self) -> bool {
        loop {
            let Some(wakes) = &mut self.wakes else {
                return false;
            };
            wakes.mark_unchanged();
            let (key, push) = (&self.key, &mut self.push);
            let step = self
                .aggregator
                .update(|state, now| push.step(state.wake_state(key, now), now));
            let wait = match step {
                Step::Send => {
                    self.aggregator.metrics().pushed();
                    return true;
                }
                Step::WaitUntil(due) => due,
                Step::Wait => self.lease.ends,
            };
            tokio::select! {
                () = self.lease.ended() => return false,
                changed = wakes.changed() => {
                    if changed.is_err() {
                        return false;
                    }
                }
                () = tokio::time::sleep_until(wait) => {}
            }
        }
    }
}

impl Drop for Pushes {
    fn drop(&mut self) {
        if let Some(wakes) = self.wakes.take() {
            self.aggregator.unwatch_wakes(&self.key, wakes);
        }
    }
}

/// Whether the HPA is behind a call.
fn is_of_hpa<T>(request: &Request<T>) -> bool {
    request.metadata().contains_key(DEADLINE)
}

fn key(object: &ScaledObjectRef) -> ScaledObjectKey {
    ScaledObjectKey {
        namespace: object.namespace.clone(),
        name: object.name.clone(),
    }
}

/// Rounds up for clients that read whole numbers only, so that some load never looks like none.
#[allow(
    clippy::cast_possible_truncation,
    reason = "saturates, and values are far smaller"
)]
pub(super) fn whole(value: f64) -> i64 {
    value.ceil() as i64
}
