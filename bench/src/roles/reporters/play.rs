//! What the pods go through: a share of them has one to eight requests in flight, which changes about once a second; each
//! is busy for about twenty seconds, then another one is.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use rand::{Rng, RngExt as _, SeedableRng as _, rngs::SmallRng};
use tokio::time::{MissedTickBehavior, interval};

use super::pod::Pod;

/// Time between two steps.
const STEP: Duration = Duration::from_millis(10);

/// How long the number in flight stays the same, in the mean.
const CHANGE: Duration = Duration::from_secs(1);

/// How long a pod is busy, in the mean.
const BUSY: Duration = Duration::from_secs(20);

/// Most requests in flight at one pod.
const MOST: u64 = 8;

/// Pods, and which of them are busy.
#[derive(Debug)]
pub(super) struct Play {
    busy: Vec<Pod>,
    idle: Vec<Pod>,
    active: usize,
    random: SmallRng,
}

/// Goes on, one step after the other.
pub(super) async fn perform(play: Arc<Mutex<Play>>) {
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        steps.tick().await;
        play.lock().step();
    }
}

impl Play {
    /// All pods, of which none is busy.
    pub(super) fn new(pods: Vec<Pod>) -> Self {
        Self {
            busy: Vec::new(),
            idle: pods,
            active: 0,
            // The same play each time.
            random: SmallRng::seed_from_u64(8),
        }
    }

    /// Lets so many of a thousand pods be busy, from this moment.
    pub(super) fn set_active(&mut self, thousandths: u32) {
        let pods = self.busy.len() + self.idle.len();
        self.active = pods * thousandths as usize / 1000;
        while self.busy.len() > self.active {
            self.end_one();
        }
        while self.busy.len() < self.active {
            self.begin_one();
        }
    }

    fn step(&mut self) {
        for _ in 0..self.happening(CHANGE) {
            let place = self.random.random_range(0..self.busy.len());
            self.busy[place].change(self.random.random_range(1..=MOST));
        }
        for _ in 0..self.happening(BUSY) {
            self.end_one();
            self.begin_one();
        }
    }

    /// How many busy pods something happens to in a step that happens to each of them once in `time`.
    fn happening(&mut self, time: Duration) -> usize {
        let mean = self.busy.len() as f64 * STEP.as_secs_f64() / time.as_secs_f64();
        let luck = self.random.random_bool(mean.fract());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number of pods"
        )]
        let sure = mean as usize;
        sure + usize::from(luck)
    }

    fn begin_one(&mut self) {
        if let Some(pod) = taken(&mut self.idle, &mut self.random) {
            pod.change(self.random.random_range(1..=MOST));
            self.busy.push(pod);
        }
    }

    fn end_one(&mut self) {
        if let Some(pod) = taken(&mut self.busy, &mut self.random) {
            pod.change(0);
            self.idle.push(pod);
        }
    }
}

fn taken(pods: &mut Vec<Pod>, random: &mut impl Rng) -> Option<Pod> {
    (!pods.is_empty()).then(|| pods.swap_remove(random.random_range(0..pods.len())))
}
