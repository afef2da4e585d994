//! What a pod requests, or is limited to, in all: the largest of what runs beside each other at any time.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::{pod, quantity::Amount};

/// The sum of one resource over a pod, as a function of what the sidecar takes; `None` where no container says any.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    /// The most while the sidecar does not run yet.
    pub(super) before: Option<Amount>,
    /// The most while it runs, without its own part.
    pub(super) beside: Option<Amount>,
    /// What the pod says as a whole; `LimitRange`s then judge by this.
    pub(super) whole: Option<Amount>,
}

impl Sum {
    /// Sums what `of` says of each container, with the sidecar at `place` among the init containers.
    ///
    /// The redirecting init container right before the sidecar takes the same, and never makes the difference.
    pub(super) fn of(
        spec: &PodSpec,
        place: usize,
        whole: Option<Amount>,
        of: impl Fn(&Container) -> Option<Amount>,
    ) -> Self {
        let (mut before, mut beside) = (None, None);
        let mut sidecars = None;
        for (index, container) in spec.init_containers.iter().flatten().enumerate() {
            let peak = plus(sidecars, of(container));
            if pod::is_native_sidecar(container) {
                sidecars = peak;
            }
            let most = if index < place {
                &mut before
            } else {
                &mut beside
            };
            *most = peak.max(*most);
        }
        let running = spec.containers.iter().map(of).fold(sidecars, plus);
        Self {
            before,
            beside: running.max(beside),
            whole,
        }
    }

    /// Returns the sum with a sidecar that takes `own`.
    pub(super) fn with(&self, own: Option<Amount>) -> Option<Amount> {
        plus(self.beside, own).max(self.before)
    }

    /// Returns what `LimitRange`s judge by.
    pub(super) fn judged(&self, own: Option<Amount>) -> Option<Amount> {
        self.whole.or_else(|| self.with(own))
    }

    /// Returns the least that the sidecar has to take for the sum to be judged as `least`.
    pub(super) fn lacks(&self, least: Amount) -> Amount {
        if self.whole.is_some() || self.before >= Some(least) {
            return Amount::ZERO;
        }
        least.saturating_sub(self.beside.unwrap_or_default())
    }

    /// Returns the most that the sidecar may take for the sum to be judged as `most`.
    pub(super) fn leaves(&self, most: Amount) -> Amount {
        if self.whole.is_some() {
            return Amount::MOST;
        }
        most.saturating_sub(self.beside.unwrap_or_default())
    }
}

fn plus(one: Option<Amount>, other: Option<Amount>) -> Option<Amount> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}
