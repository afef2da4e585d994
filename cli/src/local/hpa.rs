//! What the Horizontal Pod Autoscaler decides for one workload: from 1 to the maximum.
//!
//! Never wakes and never sleeps a workload; that is KEDA's (`keda`). No clock and no sockets: fed with readings and
//! times. The rules are those of Kubernetes 1.37, `pkg/controller/podautoscaler/{horizontal,replica_calculator}.go`,
//! for external metrics of type `AverageValue`, scale-up policies with `selectPolicy: Max`, no scale-up stabilization
//! and the default scale-down policy (100 % per period, which never limits).

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// The fields of the HPA that decide.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `minReplicas`, at least 1.
    pub min: u32,
    /// `maxReplicas`, at least `min`.
    pub max: u32,
    /// Share by which the load may be off its target without any change; from 0 up to but not including 1.
    pub tolerance: f64,
    /// `behavior.scaleDown.stabilizationWindowSeconds`.
    pub stabilization: Duration,
    /// `behavior.scaleUp`.
    pub scale_up: ScaleUp,
}

/// How many replicas may be added in a period; the policy that allows more holds.
#[derive(Clone, Copy, Debug)]
pub struct ScaleUp {
    /// Policy of type `Pods`.
    pub pods: u32,
    /// Policy of type `Percent`.
    pub percent: u32,
    /// `periodSeconds` of both.
    pub period: Duration,
}

/// One metric as read in a sync.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Wanted per replica; greater than 0.
    pub target: f64,
    /// Total over all replicas, or none if it could not be read.
    pub total: Option<f64>,
}

/// The autoscaler's memory of one workload.
#[derive(Debug)]
pub struct Autoscaler {
    settings: Settings,
    recommendations: VecDeque<(Instant, u32)>,
    changes: VecDeque<Change>,
}

/// A change of the replica count that this autoscaler made.
#[derive(Clone, Copy, Debug)]
struct Change {
    at: Instant,
    added: u32,
    removed: u32,
}

impl Autoscaler {
    /// Creates an autoscaler that remembers nothing.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            recommendations: VecDeque::new(),
            changes: VecDeque::new(),
        }
    }

    /// Compares load and targets at `now`. `spec` is the replica count asked for, `status` the one there is.
    /// Returns the replicas to set if that differs from `spec`.
    ///
    /// A workload at 0 is left alone: the HPA is disabled there.
    pub fn sync(
        &mut self,
        spec: u32,
        status: u32,
        readings: &[Reading],
        now: Instant,
    ) -> Option<u32> {
        let Settings { min, max, .. } = self.settings;
        if spec == 0 {
            return None;
        }
        if self.recommendations.is_empty() {
            // So that the first readings of a young workload do not take away what was just started.
            self.recommendations.push_back((now, spec));
        }
        let desired = if spec > max {
            max
        } else if spec < min {
            min
        } else {
            let wanted = self.wanted(spec, status, readings)?;
            let stabilized = self.stabilize(spec, wanted, now);
            self.limit(spec, stabilized, now)
        };
        if desired == spec {
            return None;
        }
        self.changes.push_back(Change {
            at: now,
            added: desired.saturating_sub(spec),
            removed: spec.saturating_sub(desired),
        });
        Some(desired)
    }

    /// Returns the largest count that any metric wants, or none if the metrics that failed could have held it up.
    fn wanted(&self, spec: u32, status: u32, readings: &[Reading]) -> Option<u32> {
        let wanted = readings
            .iter()
            .filter_map(|reading| Some(self.replicas_for(reading.target, reading.total?, status)))
            .max()?;
        let failed = readings.iter().any(|reading| reading.total.is_none());
        (!failed || wanted >= spec).then_some(wanted)
    }

    /// `GetExternalPerPodMetricReplicas`: the total over the target, unless that is within tolerance of what there is.
    fn replicas_for(&self, target: f64, total: f64, status: u32) -> u32 {
        let ratio = total / (target * f64::from(status));
        if (1.0 - ratio).abs() <= self.settings.tolerance {
            return status;
        }
        whole((total / target).ceil())
    }

    /// Keeps the count from falling below any recommendation of the stabilization window.
    fn stabilize(&mut self, spec: u32, wanted: u32, now: Instant) -> u32 {
        let window = self.settings.stabilization;
        self.recommendations
            .retain(|&(at, _)| now.saturating_duration_since(at) < window);
        self.recommendations.push_back((now, wanted));
        let floor = self
            .recommendations
            .iter()
            .map(|&(_, recommended)| recommended)
            .max()
            .unwrap_or(wanted);
        // Between what is wanted now (scaling up knows no window) and the floor (scaling down does).
        spec.max(wanted).min(floor)
    }

    /// Applies the scale-up policies and the bounds.
    fn limit(&mut self, spec: u32, desired: u32, now: Instant) -> u32 {
        let Settings {
            min, max, scale_up, ..
        } = self.settings;
        self.changes
            .retain(|change| now.saturating_duration_since(change.at) < scale_up.period);
        if desired <= spec {
            return desired.max(min);
        }
        let (added, removed) = self
            .changes
            .iter()
            .fold((0, 0), |(added, removed), change| {
                (added + change.added, removed + change.removed)
            });
        let at_start = (spec + removed).saturating_sub(added);
        let by_pods = at_start.saturating_add(scale_up.pods);
        let by_percent =
            whole((f64::from(at_start) * (1.0 + f64::from(scale_up.percent) / 100.0)).ceil());
        desired.min(by_pods.max(by_percent).max(spec)).min(max)
    }
}

/// Converts a rounded count; what is no number or negative counts as 0, what is too large as the largest.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float to integer casts saturate, which is what is wanted"
)]
fn whole(count: f64) -> u32 {
    count as u32
}

#[cfg(test)]
mod tests;
