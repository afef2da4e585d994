//! What KEDA's scale executor decides for one `ScaledObject`: from 0 to 1 and from 1 to 0.
//!
//! Everything between 1 and the maximum is the HPA's (`hpa`). No clock and no sockets: fed with events and times. The
//! rules are those of KEDA 2.21, `pkg/scaling/executor/scale_scaledobjects.go`, without idle replicas, fallback and
//! pausing, which local mode does not offer.

use std::time::Duration;

use tokio::time::Instant;

/// The fields of a `ScaledObject` that decide.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `minReplicaCount`.
    pub min: u32,
    /// `maxReplicaCount`, at least 1.
    pub max: u32,
    /// `cooldownPeriod`: time since the workload was last seen active until it may sleep.
    pub cooldown: Duration,
    /// `initialCooldownPeriod`: the same, counted from the start, for a workload that has never been active.
    pub initial_cooldown: Duration,
}

/// The executor's memory of one `ScaledObject`.
#[derive(Debug)]
pub struct Executor {
    settings: Settings,
    created: Instant,
    last_active: Option<Instant>,
}

impl Executor {
    /// Creates the memory of a `ScaledObject` that came to be at `now`.
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            created: now,
            last_active: None,
        }
    }

    /// Takes the workload for active at `now`, told by a push or seen by a poll. Returns the replicas to set, if any.
    pub fn active(&mut self, replicas: u32, now: Instant) -> Option<u32> {
        self.last_active = Some(now);
        (replicas == 0).then(|| self.settings.min.max(1).min(self.settings.max))
    }

    /// Takes in that a poll at `now` found the workload inactive. Returns the replicas to set, if any.
    ///
    /// A poll that failed is not told here at all: an error keeps what runs.
    pub fn inactive(&mut self, replicas: u32, now: Instant) -> Option<u32> {
        if replicas < self.settings.min {
            return Some(self.settings.min);
        }
        let awake_until = match self.last_active {
            Some(last_active) => last_active + self.settings.cooldown,
            None => self.created + self.settings.initial_cooldown,
        };
        (replicas > 0 && self.settings.min == 0 && awake_until < now).then_some(0)
    }

    /// Returns when the workload was last seen active.
    pub fn last_active(&self) -> Option<Instant> {
        self.last_active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn executor(min: u32, now: Instant) -> Executor {
        let settings = Settings {
            min,
            max: 4,
            cooldown: seconds(10),
            initial_cooldown: seconds(3),
        };
        Executor::new(settings, now)
    }

    #[test]
    fn activity_wakes_only_what_sleeps() {
        let now = Instant::now();
        let mut keda = executor(0, now);
        assert_eq!(keda.active(0, now), Some(1));
        assert_eq!(keda.active(1, now), None);
        assert_eq!(keda.active(3, now), None);
    }

    #[test]
    fn waking_goes_to_the_minimum_when_that_is_more_than_one() {
        let now = Instant::now();
        assert_eq!(executor(3, now).active(0, now), Some(3));
    }

    #[test]
    fn the_workload_sleeps_once_the_cooldown_has_passed_whole() {
        let start = Instant::now();
        let mut keda = executor(0, start);
        keda.active(0, start + seconds(5));
        assert_eq!(keda.inactive(2, start + seconds(15)), None);
        assert_eq!(
            keda.inactive(2, start + seconds(15) + Duration::from_millis(1)),
            Some(0)
        );
        assert_eq!(
            keda.inactive(0, start + seconds(60)),
            None,
            "it sleeps already"
        );
    }

    #[test]
    fn each_activity_starts_the_cooldown_anew() {
        let start = Instant::now();
        let mut keda = executor(0, start);
        keda.active(1, start);
        keda.active(1, start + seconds(9));
        assert_eq!(keda.inactive(1, start + seconds(12)), None);
    }

    #[test]
    fn before_any_activity_the_initial_cooldown_holds() {
        let start = Instant::now();
        let mut keda = executor(0, start);
        assert_eq!(keda.inactive(1, start + seconds(3)), None);
        assert_eq!(keda.inactive(1, start + seconds(4)), Some(0));
    }

    #[test]
    fn a_minimum_above_zero_is_kept_and_restored() {
        let start = Instant::now();
        let mut keda = executor(2, start);
        assert_eq!(keda.inactive(2, start + seconds(60)), None);
        assert_eq!(keda.inactive(0, start + seconds(60)), Some(2));
    }
}
