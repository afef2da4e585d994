//! When the HPA is asked to look at once, because the load has clearly risen above what runs.
//!
//! The HPA looks every 15 s. From Kubernetes 1.37 it also looks when its spec changes, and KEDA ≥ 2.21 changes that when a
//! scaler streams another spec. What is read by that look is not decided here but in [`Level::raise`], on every aggregator
//! alike: KEDA reads from any of them.

mod belief;
mod level;
mod pace;
mod rate;
mod shared;
mod target;

use std::time::Duration;

use serde_json::{Value, json};

use self::{belief::Belief, level::clear, shared::Outcome};
pub(crate) use self::{
    level::{Level, SETTLE_LIMIT},
    shared::Shared,
    target::moved,
};
use crate::history::{Moment, span};

/// Load off its target by less than this part is left alone by the HPA.
const TOLERANCE: f64 = 1.1;

/// How often the HPA looks by itself (`--horizontal-pod-autoscaler-sync-period`, by default).
const TURN: Duration = Duration::from_secs(15);

/// How long a look that was asked for may take. It takes a tenth of a second where KEDA has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a level has to be held for a look to be asked for: the look takes as long again to come, and its answer waits until
/// the level has lasted. Where the last one found nothing, the level has to have lasted before.
const PROMISE: Duration = Duration::from_millis(50);

/// What decides besides the level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// The user's target of requests in flight; none if there is none or it cannot be moved.
    pub(crate) target: Option<f64>,
    /// Pods that exist and are not terminating.
    pub(crate) pods: usize,
    /// Most pods that may exist.
    pub(crate) most: usize,
    /// KEDA adds none.
    pub(crate) paused: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A look should be asked for now; say so with [`Burst::ask`].
    Ask,
    /// Decide again at this time, or when something changes.
    WaitUntil(Moment),
    /// Decide again when something changes.
    Wait,
}

/// What the last look found, whether it was asked for or not; what one was asked for, until that is known.
#[derive(Clone, Copy, Debug)]
struct Told {
    rise: u64,
    level: f64,
    pods: usize,
}

/// A look that was asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Moment,
    pods: usize,
    /// What these can take.
    capacity: f64,
}

/// What became of a look that was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// None is, or it still is.
    Nothing,
    /// It followed.
    Followed,
    /// It did not.
    Unread,
    /// It did not, and none is asked for this `ScaledObject` for a while.
    LostHere,
    /// It did not, and none is asked for any for a while.
    Lost,
}

/// One `ScaledObject`'s memory.
#[derive(Debug)]
pub(crate) struct Burst {
    moved: bool,
    told: Option<Told>,
    /// How long a level has to be held for a look to be asked for, where that is less than to last: [`PROMISE`] if the last
    /// one found more than the pods can take.
    promise: i64,
    /// Whether only others' looks are in its way.
    queued: bool,
    /// When the HPA was last seen to look.
    seen: Option<Moment>,
    withheld: bool,
    /// When the rate allows it.
    slot: Option<Moment>,
    asked: Option<Asked>,
    last: Option<Moment>,
    belief: Belief,
    interest: f64,
}

impl Default for Burst {
    fn default() -> Self {
        Self {
            moved: false,
            told: None,
            promise: span(PROMISE),
            queued: false,
            seen: None,
            withheld: false,
            slot: None,
            asked: None,
            last: None,
            belief: Belief::default(),
            interest: f64::INFINITY,
        }
    }
}

impl Burst {
    /// Whether the target is the moved one.
    pub(crate) fn is_moved(&self) -> bool {
        self.moved
    }

    /// Whether a level is worth a decision. True once for each decision.
    pub(crate) fn is_interested(&mut self, level: u64) -> bool {
        let interested = level as f64 > self.interest;
        if interested {
            self.interest = f64::INFINITY;
        }
        interested
    }

    /// Returns how long it is until the HPA looks by itself, if only others' looks keep one from being asked for; its whole
    /// turn where it has not been seen to look.
    ///
    /// Who has to wait longest is to be asked for first.
    pub(crate) fn queued(&self, now: Moment) -> Option<i64> {
        let turn = span(TURN);
        let since = self.seen.map_or(0, |seen| (now - seen).rem_euclid(turn));
        self.queued.then_some(turn - since)
    }

    /// Decides what to do now, once what was asked for before is settled.
    pub(crate) fn step(
        &mut self,
        level: &Level,
        scale: Scale,
        shared: &mut Shared,
        now: Moment,
    ) -> Step {
        let step = self.decide(level, scale, shared, now);
        match (step, self.asked.map(Asked::overdue)) {
            (Step::WaitUntil(at), Some(overdue)) => Step::WaitUntil(at.min(overdue)),
            (Step::Wait, Some(overdue)) => Step::WaitUntil(overdue),
            (step, _) => step,
        }
    }

    fn decide(&mut self, level: &Level, scale: Scale, shared: &mut Shared, now: Moment) -> Step {
        self.interest = f64::INFINITY;
        self.queued = false;
        let Scale {
            pods, most, paused, ..
        } = scale;
        // At 0 the HPA is disabled: the first pod is the moment to look.
        let Some(target) = scale.target.filter(|_| !paused && 0 < pods && pods < most) else {
            self.rest();
            return Step::Wait;
        };
        let capacity = capacity(target, pods);
        let grown = self.told.is_some_and(|told| pods > told.pods);
        if grown {
            self.promise = span(PROMISE);
        }
        // Once is enough, unless pods have come and are not enough: the HPA's scale-up policy may limit each step.
        let told = self
            .told
            .filter(|told| told.rise == level.rise() && !(grown && told.level > capacity))
            .map_or(0.0, |told| told.level);
        let earlier = told.max(level.earlier() as f64);
        let threshold = capacity.max(clear(earlier));
        let held = self.held(level);
        if level.promised_for(held, now) as f64 <= threshold {
            self.rest();
            self.interest = capacity;
            return match level.exceeds_at(threshold, held) {
                Some(at) => Step::WaitUntil(at),
                None if level.now() as f64 > capacity => Step::WaitUntil(level.forgets_at()),
                None => Step::Wait,
            };
        }
        if let Some(asked) = self.asked {
            return Step::WaitUntil(asked.overdue());
        }
        if let Some(next) = self
            .last
            .map(|last| last + shared.interval)
            .filter(|next| now < *next)
        {
            return Step::WaitUntil(next);
        }
        let allowed = self
            .belief
            .allows(now)
            .and_then(|()| shared.belief.allows(now));
        if let Err(retry) = allowed {
            if !std::mem::replace(&mut self.withheld, true) {
                shared.count(Outcome::Stopped);
            }
            return Step::WaitUntil(retry);
        }
        // Decided again when it is its turn.
        if shared.free() == 0 {
            self.queued = true;
            return Step::WaitUntil(now + span(PATIENCE));
        }
        let slot = *self.slot.get_or_insert_with(|| {
            let slot = shared.rate.reserve(now);
            if slot > now {
                shared.count(Outcome::Limited);
            }
            slot
        });
        if now < slot {
            return Step::WaitUntil(slot);
        }
        Step::Ask
    }

    /// Moves the target, after a step has said so.
    pub(crate) fn ask(&mut self, level: &Level, scale: Scale, shared: &mut Shared, now: Moment) {
        self.rest();
        self.moved = !self.moved;
        self.told = Some(Told {
            rise: level.rise(),
            level: level.promised_for(self.held(level), now) as f64,
            pods: scale.pods,
        });
        self.asked = Some(Asked {
            at: now,
            pods: scale.pods,
            capacity: capacity(scale.target.unwrap_or_default(), scale.pods),
        });
        // Until it has found something.
        self.promise = i64::MAX;
        self.last = Some(now);
        shared.asked += 1;
    }

    /// The HPA has looked, and found `value` if it asked here for that.
    pub(crate) fn looked(
        &mut self,
        level: &Level,
        value: Option<f64>,
        pods: usize,
        shared: &mut Shared,
        now: Moment,
    ) -> Settled {
        self.seen = Some(now);
        if let Some(value) = value {
            if self.asked.is_some_and(|asked| value > asked.capacity) {
                self.promise = span(PROMISE);
            }
            // Less than what lasted if it came before the load was known where it was read.
            self.told = Some(Told {
                rise: level.rise(),
                level: value,
                pods,
            });
        }
        self.followed(shared)
    }

    /// Ends the wait for a look if more pods say that there was one, or if it takes too long.
    pub(crate) fn settle(&mut self, pods: usize, shared: &mut Shared, now: Moment) -> Settled {
        match self.asked {
            Some(asked) if pods > asked.pods => self.followed(shared),
            Some(asked) if now >= asked.overdue() => {
                self.abandon(shared);
                // Nothing was found. An HPA that looks when asked skips that right after a look of its own, for 15 s.
                if shared.belief.is_proven() {
                    self.told = None;
                }
                shared.count(Outcome::Unread);
                let here = self.belief.disappointed(now);
                if shared.pace.missed(asked.at, now) && shared.belief.disappointed(now) {
                    Settled::Lost
                } else if here {
                    Settled::LostHere
                } else {
                    Settled::Unread
                }
            }
            _ => Settled::Nothing,
        }
    }

    /// Waits no longer for a look or for its turn, and takes that for no sign.
    pub(crate) fn abandon(&mut self, shared: &mut Shared) {
        self.queued = false;
        if self.asked.take().is_some() {
            shared.asked -= 1;
        }
    }

    /// A few words for people.
    pub(crate) fn describe(&self, level: &Level, now: Moment) -> Value {
        json!({
            "lasting": level.lasting(now),
            "earlier": level.earlier(),
            "target_moved": self.moved,
            "asked": self.asked.is_some(),
            "looks": self.belief.name(),
        })
    }

    fn followed(&mut self, shared: &mut Shared) -> Settled {
        if self.asked.is_none() {
            return Settled::Nothing;
        }
        self.abandon(shared);
        shared.count(Outcome::Read);
        self.belief.followed();
        shared.belief.followed();
        shared.pace.followed();
        Settled::Followed
    }

    /// Returns how long a level has to be held for a look to be asked for.
    fn held(&self, level: &Level) -> i64 {
        self.promise.min(level.window())
    }

    fn rest(&mut self) {
        self.slot = None;
        self.withheld = false;
    }
}

/// Returns how many requests the HPA leaves to so many pods.
fn capacity(target: f64, pods: usize) -> f64 {
    target * pods as f64 * TOLERANCE
}

impl Asked {
    fn overdue(self) -> Moment {
        self.at + span(PATIENCE)
    }
}

#[cfg(test)]
mod tests;
