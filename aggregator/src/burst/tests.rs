//! The limits. What comes of shapes of load is in `state/tests/bursts.rs`.

use std::collections::VecDeque;

use super::*;

const SECOND: Moment = 1_000_000;

/// A `ScaledObject` with one pod, a target of 10, and a clock that tests move.
struct World {
    burst: Burst,
    level: Level,
    shared: Shared,
    scale: Scale,
    now: Moment,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            burst: Burst::default(),
            level: Level::new(Duration::from_millis(225), 0),
            shared: shared(20),
            scale: Scale {
                target: Some(10.0),
                pods: 1,
                most: 100,
                paused: false,
            },
            now: 0,
        };
        world.level.change(5, 0);
        world.pass(60 * SECOND);
        world
    }

    fn pass(&mut self, time: Moment) {
        self.now += time;
        self.level.observe(self.now);
    }

    fn settle(&mut self) -> Settled {
        let pods = self.scale.pods;
        self.burst.settle(pods, &mut self.shared, self.now)
    }

    fn step(&mut self) -> Step {
        self.settle();
        self.burst
            .step(&self.level, self.scale, &mut self.shared, self.now)
    }

    /// Changes the level and lets it last.
    fn load(&mut self, level: u64) -> Step {
        self.level.change(level, self.now);
        self.pass(SECOND / 4);
        self.step()
    }

    fn ask(&mut self) {
        assert_eq!(self.step(), Step::Ask);
        self.burst
            .ask(&self.level, self.scale, &mut self.shared, self.now);
    }

    fn looked(&mut self, value: f64) -> Settled {
        let pods = self.scale.pods;
        self.burst
            .looked(&self.level, Some(value), pods, &mut self.shared, self.now)
    }

    fn outcome(&self, name: &str) -> u64 {
        count(&self.shared, name)
    }

    /// Back to little load for so long that nothing is remembered.
    fn forget(&mut self) {
        self.level.change(5, self.now);
        self.pass(60 * SECOND);
        self.step();
    }
}

/// Many that burst at once.
struct Crowd {
    worlds: Vec<World>,
    shared: Shared,
}

impl Crowd {
    fn new(size: usize) -> Self {
        let mut worlds: Vec<_> = (0..size).map(|_| World::new()).collect();
        for world in &mut worlds {
            world.level.change(80, world.now);
            world.pass(SECOND / 4);
        }
        Self {
            worlds,
            shared: shared(20),
        }
    }

    /// Lets `action` see one of them with what all share.
    fn with<Seen>(&mut self, world: usize, action: impl FnOnce(&mut World) -> Seen) -> Seen {
        let world = &mut self.worlds[world];
        std::mem::swap(&mut world.shared, &mut self.shared);
        let seen = action(world);
        std::mem::swap(&mut world.shared, &mut self.shared);
        seen
    }

    /// Asks for all who may. Returns them.
    fn ask(&mut self) -> Vec<usize> {
        let asks = |world: &mut World| {
            let asks = world.step() == Step::Ask;
            if asks {
                world.ask();
            }
            asks
        };
        (0..self.worlds.len())
            .filter(|world| self.with(*world, asks))
            .collect()
    }

    /// The HPA looks, and pods come.
    fn look(&mut self, world: usize) {
        self.with(world, |world| {
            world.looked(80.0);
            world.scale.pods = 8;
        });
    }

    fn pass(&mut self, time: Moment) {
        for world in &mut self.worlds {
            world.pass(time);
        }
    }

    fn outcome(&self, name: &str) -> u64 {
        count(&self.shared, name)
    }
}

fn count(shared: &Shared, outcome: &str) -> u64 {
    let mut outcomes = shared.outcomes();
    outcomes.find(|(other, _)| *other == outcome).unwrap().1
}

fn shared(per_second: u32) -> Shared {
    Shared::new(Duration::from_secs(3), per_second)
}

#[test]
fn a_step_is_asked_for_once_it_promises_to_last_and_once() {
    let mut world = World::new();
    assert_eq!(world.step(), Step::Wait);
    world.level.change(80, world.now);
    assert!(world.burst.is_interested(80) && !world.burst.is_interested(80));
    let promising = world.now + 50_000;
    assert_eq!(world.step(), Step::WaitUntil(promising));
    world.pass(50_000);
    world.ask();
    assert!(world.burst.is_moved());
    assert_eq!(world.step(), Step::WaitUntil(world.now + 3 * SECOND));
    world.pass(SECOND / 10);
    assert_eq!(world.looked(80.0), Settled::Followed);
    assert_eq!(world.looked(80.0), Settled::Nothing);
    // Pods do not come, for a reason that asking again does not mend.
    for _ in 0..20 {
        world.pass(SECOND / 2);
        assert_ne!(world.step(), Step::Ask);
    }
    assert_eq!(world.outcome("read"), 1);
}

#[test]
fn what_the_hpa_found_in_its_own_turn_is_not_asked_for() {
    let mut world = World::new();
    world.load(20);
    assert_eq!(world.looked(20.0), Settled::Nothing);
    assert_ne!(world.step(), Step::Ask);
    assert_eq!(world.load(80), Step::Ask, "that is more");
    // Before the load was known where it was read.
    world.looked(5.0);
    world.ask();
}

#[test]
fn more_pods_say_too_that_there_was_a_look() {
    let mut world = World::new();
    world.load(80);
    world.ask();
    world.scale.pods = 8;
    assert_eq!(world.settle(), Settled::Followed);
    assert_eq!(world.step(), Step::Wait);
}

#[test]
fn a_step_that_the_hpas_policy_limits_is_asked_for_again_for_as_long_as_pods_come() {
    let mut world = World::new();
    world.load(300);
    for pods in [10, 20] {
        world.ask();
        world.looked(300.0);
        world.scale.pods = pods;
        assert_ne!(world.step(), Step::Ask);
        world.pass(3 * SECOND);
    }
    world.ask();
    world.looked(300.0);
    world.pass(3 * SECOND);
    assert_ne!(world.step(), Step::Ask, "no more have come");
}

#[test]
fn what_is_little_more_than_what_pods_have_come_for_is_not_asked_for() {
    let mut world = World::new();
    world.load(80);
    world.ask();
    world.looked(80.0);
    world.scale.pods = 8;
    world.pass(3 * SECOND);
    world.step();
    assert_ne!(world.load(95), Step::Ask, "independent arrivals scatter so");
    assert_eq!(world.load(98), Step::Ask);
}

#[test]
fn what_the_pods_can_take_or_the_hpa_tolerates_is_not_asked_for() {
    let mut world = World::new();
    world.scale.pods = 8;
    assert_eq!(world.load(88), Step::Wait);
    assert_eq!(world.load(89), Step::Ask);
}

#[test]
fn nothing_is_asked_for_at_zero_at_most_while_paused_or_without_a_target_that_moves() {
    let mut world = World::new();
    let scale = world.scale;
    for withheld in [
        Scale { pods: 0, ..scale },
        Scale { most: 1, ..scale },
        Scale {
            paused: true,
            ..scale
        },
        Scale {
            target: None,
            ..scale
        },
    ] {
        world.scale = withheld;
        assert_eq!(world.load(80), Step::Wait, "{withheld:?}");
        assert!(!world.burst.is_interested(1_000));
        world.scale = scale;
        assert_eq!(world.step(), Step::Ask);
        world.forget();
    }
}

#[test]
fn a_further_rise_waits_for_the_interval() {
    let mut world = World::new();
    world.load(20);
    world.ask();
    let first = world.now;
    world.looked(20.0);
    assert_eq!(world.load(80), Step::WaitUntil(first + 3 * SECOND));
    world.pass(first + 3 * SECOND - world.now);
    world.ask();
    assert!(!world.burst.is_moved(), "back to the user's target");
}

#[test]
fn after_a_look_that_found_nothing_a_level_has_to_have_lasted() {
    let mut world = World::new();
    let blip = |world: &mut World, found: Option<f64>| {
        world.level.change(80, world.now);
        world.pass(SECOND / 20);
        let asks = world.step() == Step::Ask;
        if asks {
            world.ask();
            let pods = world.scale.pods;
            let World { level, shared, .. } = world;
            world.burst.looked(level, found, pods, shared, world.now);
        }
        world.forget();
        asks
    };
    assert!(blip(&mut world, Some(5.0)));
    assert!(!blip(&mut world, None));
    assert_eq!(world.load(80), Step::Ask, "this one lasts");
    world.ask();
    world.looked(80.0);
    world.forget();
    // It was read elsewhere, and no pod came of it.
    assert!(blip(&mut world, None));
    assert!(!blip(&mut world, None));
    world.load(80);
    world.ask();
    world.scale.pods = 8;
    world.forget();
    world.scale.pods = 1;
    assert!(blip(&mut world, None), "pods came of the last one");
}

#[test]
fn it_stops_when_looks_do_not_follow_tells_it_once_and_tries_again_later() {
    let mut world = World::new();
    for settled in [Settled::Unread, Settled::Unread, Settled::Lost] {
        world.load(80);
        world.ask();
        world.pass(3 * SECOND);
        assert_eq!(world.settle(), settled);
        world.forget();
    }
    assert_eq!(world.outcome("unread"), 3);
    assert!(matches!(world.load(80), Step::WaitUntil(at) if at > world.now + 50 * SECOND));
    world.step();
    assert_eq!(world.outcome("stopped"), 1, "counted once");
    world.forget();
    world.pass(600 * SECOND);
    world.load(80);
    world.ask();
    assert_eq!(world.looked(80.0), Settled::Followed);
    world.forget();
    assert_eq!(world.load(80), Step::Ask);
}

#[test]
fn a_look_that_does_not_follow_where_others_did_is_asked_for_once_more() {
    let mut world = World::new();
    world.shared.belief.followed();
    world.load(80);
    world.ask();
    world.pass(3 * SECOND);
    world.ask();
    assert_eq!(world.outcome("unread"), 1);
    for _ in 0..20 {
        world.pass(SECOND / 2);
        assert_ne!(world.step(), Step::Ask, "now there is doubt");
    }
}

#[test]
fn a_look_that_came_too_early_is_asked_for_again() {
    let mut world = World::new();
    world.load(80);
    world.ask();
    let first = world.now;
    // Where it was read, the load was not known yet.
    assert_eq!(world.looked(5.0), Settled::Followed);
    assert_eq!(world.step(), Step::WaitUntil(first + 3 * SECOND));
    world.pass(3 * SECOND);
    world.ask();
    world.looked(80.0);
    world.pass(3 * SECOND);
    assert_ne!(world.step(), Step::Ask);
}

#[test]
fn one_object_that_is_not_looked_at_does_not_stop_others() {
    let mut world = World::new();
    for _ in 0..10 {
        // Others' looks follow.
        world.shared.belief.followed();
        world.shared.belief.followed();
    }
    for settled in [Settled::Unread, Settled::Unread, Settled::LostHere] {
        world.load(80);
        world.ask();
        world.pass(3 * SECOND);
        assert_eq!(world.settle(), settled);
        world.shared.belief.followed();
        world.forget();
    }
    assert!(!world.shared.belief.is_lost());
    assert_ne!(world.load(80), Step::Ask);
}

#[test]
fn until_a_look_has_followed_only_one_is_waited_for() {
    let mut one = World::new();
    let mut other = World::new();
    one.load(80);
    one.ask();
    other.shared = one.shared;
    assert!(matches!(other.load(80), Step::WaitUntil(_)));
    assert_eq!(other.burst.queued(other.now), Some(span(TURN)));
    one.shared = other.shared;
    one.looked(80.0);
    other.shared = one.shared;
    assert_eq!(other.step(), Step::Ask);
}

#[test]
fn only_a_few_are_waited_for_at_a_time() {
    let mut crowd = Crowd::new(20);
    for _ in 0..pace::MOST {
        crowd.shared.pace.followed();
    }
    assert_eq!(crowd.ask().len(), pace::MOST);
    crowd.look(0);
    assert_eq!(crowd.ask().len(), 1);
}

#[test]
fn a_crowd_whose_looks_follow_slowly_is_asked_for_slowly_and_not_given_up() {
    let mut crowd = Crowd::new(200);
    crowd.shared.belief.followed();
    let mut waiting = VecDeque::new();
    // As long as it rises: at most 15 s.
    for tick in 1..=1_400 {
        waiting.extend(crowd.ask());
        // One look in a second: who waits behind three others has waited in vain.
        if tick % 100 == 0
            && let Some(world) = waiting.pop_front()
        {
            crowd.look(world);
        }
        crowd.pass(SECOND / 100);
        assert!(!crowd.shared.belief.is_lost(), "after {tick} ticks");
    }
    let [read, unread] = ["read", "unread"].map(|outcome| crowd.outcome(outcome));
    assert!(read >= 8 && unread >= 1, "{read} read and {unread} not");
}

#[test]
fn all_together_ask_at_the_rate_and_each_gets_its_turn() {
    let mut crowd = Crowd::new(200);
    let began = crowd.worlds[0].now;
    let mut asked = Vec::new();
    // As long as it rises: at most 15 s.
    for _ in 0..1_400 {
        for world in crowd.ask() {
            asked.push(crowd.worlds[world].now - began);
            crowd.look(world);
        }
        crowd.pass(SECOND / 100);
    }
    assert_eq!(asked.len(), 200);
    for (index, time) in asked.iter().enumerate() {
        let earlier = asked[..index].iter().filter(|other| time - *other < SECOND);
        assert!(earlier.count() < 41, "a second's worth and the rate");
    }
    assert!(*asked.last().unwrap() < 10 * SECOND);
    assert_eq!(crowd.shared.asked, 0);
}
