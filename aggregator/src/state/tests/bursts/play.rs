//! Shapes of load against a model of the HPA, with the levels as one sidecar reports them.
//!
//! The model does what Kubernetes does: it looks every 15 s, and a moment after the target was moved; it waits for its answer
//! while that is in doubt, keeps to its tolerance, and takes pods away without stabilization, which is the worst case for
//! flapping.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times and levels of a test are small and positive"
)]

use std::{collections::HashMap, ops::RangeInclusive};

use crate::{burst::SETTLE_LIMIT, state::tests::*, trigger::Trigger};

pub(super) const TARGET: f64 = 10.0;
const TICK: Duration = Duration::from_secs(15);
pub(super) const GRAIN: u64 = 10;

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Played {
    /// When a look was asked for, in milliseconds.
    pub(super) asked: Vec<u64>,
    /// Replicas, at each change, in milliseconds.
    pub(super) replicas: Vec<(u64, usize)>,
}

impl Played {
    pub(super) fn most(&self, times: RangeInclusive<u64>) -> usize {
        let within = self.replicas.iter().filter(|(at, _)| times.contains(at));
        within.map(|(_, replicas)| *replicas).max().unwrap_or(0)
    }

    pub(super) fn last(&self) -> usize {
        self.replicas.last().unwrap().1
    }

    /// How often they went down after up, or up after down.
    pub(super) fn turns(&self) -> usize {
        let rises = self.replicas.windows(2).map(|pair| pair[0].1 < pair[1].1);
        let rises: Vec<_> = rises.collect();
        rises.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    /// When there were that many for the first time.
    pub(super) fn reached(&self, replicas: usize) -> u64 {
        let found = self.replicas.iter().find(|(_, count)| *count >= replicas);
        found
            .unwrap_or_else(|| panic!("never {replicas}: {self:?}"))
            .0
    }
}

/// How it is played.
#[derive(Clone, Copy, Debug)]
pub(super) struct Play {
    pub(super) bursts: bool,
    /// From the moved target to the HPA's reading, in milliseconds; none if that is none of its own.
    pub(super) delay: Option<u64>,
    /// When the HPA looks first, in milliseconds.
    pub(super) tick: u64,
    pub(super) max: u32,
}

pub(super) const PLAY: Play = Play {
    bursts: true,
    delay: Some(80),
    tick: 9_000,
    max: 100,
};

pub(super) const WITHOUT: Play = Play {
    bursts: false,
    ..PLAY
};

pub(super) fn trigger() -> Trigger {
    let metadata = HashMap::from([("targetConcurrency".to_owned(), TARGET.to_string())]);
    Trigger::parse(&metadata).unwrap()
}

/// Plays `shape`, which says how many are in flight at each millisecond.
pub(super) fn play(play: Play, milliseconds: u64, shape: impl Fn(u64) -> u64) -> Played {
    let mut world = World::with(Settings {
        bursts: play.bursts,
        ..Settings::default()
    });
    world.apply(MembershipEvent::ScaledObject(ScaledObject {
        max_replicas: play.max,
        ..object()
    }));
    world.apply(pod("first", true));
    world.apply(MembershipEvent::Synced);
    let process = world.sidecar("first");
    world.report(process, 0, Duration::ZERO, 0);
    world.pass(seconds(300));
    let (key, trigger) = (key(), trigger());
    world.state.spec_stream_opened(&key, &trigger);
    world.state.effects();

    let mut played = Played::default();
    let (mut area, mut requests, mut level, mut reported) = (Duration::ZERO, 0, 0, 0);
    let (mut replicas, mut named, mut moved) = (1, 0, false);
    let mut due = Some(world.now);
    let (mut looks, mut tick) = (Vec::new(), play.tick);
    // When the HPA is answered, and whether it waits for that.
    let (mut answer, mut answers, mut limit) = (world.now, false, world.now);
    played.replicas.push((0, 1));
    for time in (0..milliseconds).step_by(GRAIN as usize) {
        world.pass(Duration::from_millis(GRAIN));
        area += Duration::from_millis(GRAIN * level);
        let now_level = shape(time);
        if now_level != level || time - reported >= 1_000 {
            requests += now_level.saturating_sub(level);
            (level, reported) = (now_level, time);
            world.report(process, level, area, requests);
        }
        // Only when it is woken, or when it said so: that is part of the test.
        let mut woken = world.state.effects().contains(&Effect::Wake(key.clone()));
        while woken || due.is_some_and(|due| due <= world.now) {
            let step = world.state.spec_step(&key, &trigger, world.now);
            due = step.wait.filter(|wait| *wait > world.now);
            if step.moved != moved {
                moved = step.moved;
                played.asked.push(time);
                looks.extend(play.delay.map(|delay| time + delay));
            }
            woken = world.state.effects().contains(&Effect::Wake(key.clone()));
        }
        if time >= tick {
            tick += TICK.as_millis() as u64;
            looks.push(time);
        }
        let coming = looks.len();
        looks.retain(|look| *look > time);
        if looks.len() < coming && !answers {
            (answers, answer) = (true, world.now);
            limit = world.now + Settings::default().burst_lasting + SETTLE_LIMIT;
        }
        if !answers || world.now < answer {
            continue;
        }
        let doubtful = world
            .state
            .doubtful_until(&key, Duration::from_mins(1), world.now);
        if let Some(until) = doubtful.filter(|_| world.now < limit) {
            answer = until.min(limit);
            continue;
        }
        answers = false;
        let total = world.load().concurrency;
        world.state.looked(&key, Some(total), world.now);
        let ratio = total / (TARGET * replicas as f64);
        if (ratio - 1.0).abs() <= 0.1 {
            continue;
        }
        let wanted = ((total / TARGET).ceil() as usize).clamp(1, play.max as usize);
        if wanted == replicas {
            continue;
        }
        for _ in replicas..wanted {
            named += 1;
            world.apply(pod(&format!("p{named}"), false));
        }
        for _ in wanted..replicas {
            world.apply(gone(&format!("p{named}")));
            named -= 1;
        }
        replicas = wanted;
        played.replicas.push((time, replicas));
    }
    world.state.spec_stream_closed(&key);
    played
}

#[track_caller]
pub(super) fn assert_spaced(played: &Played) {
    let gaps = played.asked.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.into_iter().all(|gap| gap >= 3_000), "{played:?}");
}

/// Fails if replicas changed their direction more often.
#[track_caller]
pub(super) fn assert_turns(played: &Played, most: usize) {
    assert!(played.turns() <= most, "{played:?}");
}

/// A number that looks random, from 0 to 1.
fn noise(time: u64) -> f64 {
    let mixed = (time / 50 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64
        / (1_u64 << 24) as f64
}

pub(super) fn shaken(level: f64, time: u64) -> u64 {
    (level * (0.92 + 0.16 * noise(time))).round() as u64
}

/// How many of independent requests are in flight at each millisecond: so many a second, which take a second on average.
pub(super) fn arrivals(milliseconds: u64, per_second: f64) -> Vec<u64> {
    let mut number = 0;
    let mut drawn = || {
        number += 50;
        -(noise(number).max(1e-9)).ln()
    };
    let mut changes = vec![0_i64; milliseconds as usize + 1];
    let mut time = 0.0;
    loop {
        time += drawn() * 1_000.0 / per_second;
        let ends = time + drawn() * 1_000.0;
        if time >= milliseconds as f64 {
            break;
        }
        changes[time as usize] += 1;
        changes[ends.min(milliseconds as f64) as usize] -= 1;
    }
    let mut level = 0;
    let levels = changes.into_iter().map(|change| {
        level += change;
        u64::try_from(level).unwrap()
    });
    levels.collect()
}
