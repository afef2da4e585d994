//! Requests that move from one pod to those that came after it, as their sidecars tell of it: who takes one says so at once,
//! who has one less does in its next report.

use super::play::{TARGET, trigger};
use crate::state::tests::*;

const GRAIN: Duration = Duration::from_millis(10);

/// How often a sidecar in steady load reports.
const STEADY: Duration = Duration::from_secs(1);

/// How often a request that ended at the first pod is followed by one elsewhere.
const MOVE: Duration = Duration::from_millis(50);

/// A sidecar, and what it has counted.
struct Counting {
    process: Process,
    in_flight: u64,
    area: Duration,
    requests: u64,
    /// When it reports next.
    due: Instant,
}

impl Counting {
    fn new(world: &mut World, uid: &str) -> Self {
        let process = world.sidecar(uid);
        world.report(process, 0, Duration::ZERO, 0);
        Self {
            process,
            in_flight: 0,
            area: Duration::ZERO,
            requests: 0,
            due: world.now + STEADY,
        }
    }

    fn pass(&mut self) {
        self.area += GRAIN * u32::try_from(self.in_flight).unwrap();
    }

    fn begin(&mut self, requests: u64, now: Instant) {
        self.in_flight += requests;
        self.requests += requests;
        self.due = now;
    }

    fn report(&mut self, world: &mut World) {
        self.due = world.now + STEADY;
        world.report(self.process, self.in_flight, self.area, self.requests);
    }
}

/// What came of a step from 5 to 80 whose pods were there at once and took requests a second later.
struct Moved {
    asked: usize,
    /// The most that the HPA would have found at any moment after the pods came.
    found: f64,
}

/// Plays it, with requests that begin to move so long after the pods took any, that many at a time.
fn step(after: Duration, together: u64) -> Moved {
    let mut world = World::with(Settings::default());
    world.apply(pod("first", true));
    world.apply(MembershipEvent::Synced);
    let mut first = Counting::new(&mut world, "first");
    world.pass(seconds(300));
    let (key, trigger) = (key(), trigger());
    world.state.spec_stream_opened(&key, &trigger);
    first.begin(5, world.now);
    first.report(&mut world);
    let mut others = Vec::new();
    let began = world.now + seconds(60);
    let come = began + Duration::from_millis(300);
    let mut moves = come + STEADY + after;
    let (mut moved, mut played) = (
        false,
        Moved {
            asked: 0,
            found: 0.0,
        },
    );
    while world.now < began + seconds(14) {
        world.pass(GRAIN);
        let now = world.now;
        first.pass();
        others.iter_mut().for_each(Counting::pass);
        if now == began {
            first.begin(75, now);
        }
        if now == come + STEADY {
            others.extend((1..8).map(|other| Counting::new(&mut world, &format!("p{other}"))));
        }
        if now == come {
            assert!(moved, "nothing was asked for");
            let load = world.load();
            world.state.looked(&key, Some(load.concurrency), now);
            for other in 1..8 {
                world.apply(pod(&format!("p{other}"), false));
            }
        }
        if now > moves && first.in_flight > 10 {
            moves += MOVE;
            for _ in 0..together {
                first.in_flight -= 1;
                let other = others.iter_mut().min_by_key(|other| other.in_flight);
                other.unwrap().begin(1, now);
            }
        }
        for counting in others.iter_mut().chain([&mut first]) {
            if now >= counting.due {
                counting.report(&mut world);
            }
        }
        let step = world.state.spec_step(&key, &trigger, now);
        if std::mem::replace(&mut moved, step.moved) != step.moved {
            played.asked += 1;
        }
        assert!(step.wait.is_none_or(|wait| wait > now), "it would spin");
        if now > come {
            played.found = played.found.max(world.load().concurrency);
        }
    }
    assert_eq!(first.in_flight, 10);
    played
}

#[test]
fn they_are_no_further_burst_whenever_they_begin_to_move() {
    for together in [1, 5, 70] {
        for after in (0..=5_000).step_by(500) {
            let played = step(Duration::from_millis(after), together);
            let case = format!("{together} at a time, {after} ms after the pods");
            assert_eq!(played.asked, 1, "{case}");
            assert!(
                played.found <= 1.1 * 8.0 * TARGET,
                "{} found: {case}",
                played.found
            );
        }
    }
}
