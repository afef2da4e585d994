//! The metric specs, and the stream that says them: at once, and when the HPA should look.
//!
//! When that is, is decided in `burst`; here the user's target or the moved one is put into words.

use stillwake_proto::scaler::{GetMetricSpecResponse, MetricSpec};
use tokio::sync::watch;

use super::service::{Lease, whole};
use crate::{
    aggregator::Aggregator,
    burst,
    state::ScaledObjectKey,
    trigger::{CONCURRENCY, Trigger},
};

/// Returns the metrics, with the moved target in place of the user's where it is to be that.
///
/// Only of requests in flight: there is no rate of this moment that could clearly have risen.
pub(super) fn specs(trigger: &Trigger, is_moved: bool) -> GetMetricSpecResponse {
    let specs = trigger.targets().map(|(name, target)| {
        let moved = burst::moved(target).filter(|_| is_moved && name == CONCURRENCY);
        MetricSpec {
            metric_name: name.to_owned(),
            // Not of the moved one, which would be one more.
            target_size: whole(target),
            target_size_float: moved.unwrap_or(target),
        }
    });
    GetMetricSpecResponse {
        metric_specs: specs.collect(),
    }
}

/// The specs of one stream: at once, and whenever the target is moved.
pub(super) struct Looks {
    aggregator: Aggregator,
    key: ScaledObjectKey,
    trigger: Trigger,
    /// `None` only while it is dropped.
    wakes: Option<watch::Receiver<()>>,
    /// Whether the target was the moved one when it was last said.
    said: Option<bool>,
    lease: Lease,
}

impl Looks {
    pub(super) fn new(
        aggregator: Aggregator,
        key: ScaledObjectKey,
        trigger: Trigger,
        lease: Lease,
    ) -> Self {
        let wakes = aggregator.watch_wakes(&key);
        aggregator.update(|state, _| state.spec_stream_opened(&key, &trigger));
        Self {
            aggregator,
            key,
            trigger,
            wakes: Some(wakes),
            said: None,
            lease,
        }
    }

    /// Waits until the specs are to be said. Returns none when the stream ends.
    pub(super) async fn next(&mut self) -> Option<GetMetricSpecResponse> {
        loop {
            let wakes = self.wakes.as_mut()?;
            wakes.mark_unchanged();
            let (key, trigger) = (&self.key, &self.trigger);
            let step = self
                .aggregator
                .update(|state, now| state.spec_step(key, trigger, now));
            if self.said != Some(step.moved) {
                self.said = Some(step.moved);
                return Some(specs(trigger, step.moved));
            }
            let wait = step.wait.unwrap_or(self.lease.ends);
            tokio::select! {
                () = self.lease.ended() => return None,
                changed = wakes.changed() => changed.ok()?,
                () = tokio::time::sleep_until(wait) => {}
            }
        }
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        self.aggregator
            .update(|state, _| state.spec_stream_closed(&self.key));
        if let Some(wakes) = self.wakes.take() {
            self.aggregator.unwatch_wakes(&self.key, wakes);
        }
    }
}
