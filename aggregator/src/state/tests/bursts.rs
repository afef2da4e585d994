//! What comes of shapes of load, and of what is not a shape: zero, termination, streams that end.

mod moving;
mod play;

use std::collections::HashMap;

use proptest::prelude::*;

use self::play::{
    GRAIN, PLAY, Play, TARGET, WITHOUT, arrivals, assert_spaced, assert_turns, play, shaken,
    trigger,
};
use super::*;

#[test]
fn a_step_reaches_its_replicas_by_one_look() {
    let shape = |time| if time < 20_000 { 5 } else { 80 };
    let played = play(PLAY, 90_000, shape);
    assert_eq!(played.asked.len(), 1, "{played:?}");
    assert!((20_050..=20_070).contains(&played.asked[0]), "{played:?}");
    let reached = played.reached(8);
    assert!(reached <= 20_310, "{played:?}");
    assert_eq!(played.most(0..=90_000), 8, "{played:?}");
    let without = play(WITHOUT, 90_000, shape);
    assert!(without.asked.is_empty());
    assert!(without.reached(8) > 23_000, "{without:?}");
    assert_eq!(played.last(), without.last());
}

#[test]
fn a_step_whose_requests_take_a_moment_to_come_reaches_them_by_one_look() {
    let shape = |time: u64| match time {
        ..20_000 => 5,
        20_000..20_200 => 5 + (time - 20_000) * 75 / 200,
        _ => 80,
    };
    let played = play(PLAY, 40_000, shape);
    assert_eq!(played.asked.len(), 1, "{played:?}");
    assert!(played.reached(8) < 20_500, "{played:?}");
}

#[test]
fn a_ramp_is_followed_without_haste() {
    let shape = |time: u64| (5 + time.saturating_sub(10_000) * 75 / 20_000).min(80);
    let played = play(PLAY, 110_000, shape);
    assert_spaced(&played);
    assert!((2..=8).contains(&played.asked.len()), "{played:?}");
    let replicas = played.replicas.windows(2);
    assert!(
        replicas.into_iter().all(|pair| pair[0].1 < pair[1].1),
        "{played:?}"
    );
    assert_eq!(played.last(), play(WITHOUT, 110_000, shape).last());
}

#[test]
fn a_spike_of_a_fifth_of_a_second_is_not_found_by_a_look_however_soon_it_comes() {
    for begins in [20_000, 20_010, 21_370] {
        for length in [10, 40, 60, 150, 200, 220] {
            let spike = |time| {
                if (begins..begins + length).contains(&time) {
                    80
                } else {
                    5
                }
            };
            // The last one is the HPA's own.
            for (delay, tick) in [(10, 9_000), (40, 9_000), (80, 9_000), (80, begins + 100)] {
                let this = Play {
                    delay: Some(delay),
                    tick,
                    ..PLAY
                };
                let played = play(this, 40_000, spike);
                let asked = usize::from(length > 50);
                assert_eq!(played.asked.len(), asked, "{length}: {played:?}");
                assert_eq!(played.most(0..=40_000), 1, "{length}: {played:?}");
            }
        }
    }
}

#[test]
fn a_spike_whose_end_is_told_in_parts_is_not_found_either() {
    let spike = |time| match time {
        20_000..20_200 => 80,
        20_200..20_260 => 38,
        _ => 5,
    };
    for (delay, tick) in [(10, 9_000), (80, 9_000), (180, 9_000), (80, 20_210)] {
        let this = Play {
            delay: Some(delay),
            tick,
            ..PLAY
        };
        let played = play(this, 40_000, spike);
        assert_eq!(played.most(0..=40_000), 1, "{played:?}");
    }
}

#[test]
fn a_look_that_comes_before_a_rise_is_sure_waits_for_that_and_finds_all_of_it() {
    let shape = |time| if time < 20_000 { 5 } else { 80 };
    for (delay, tick) in [(10, 9_000), (70, 9_000), (1_000, 20_020)] {
        let this = Play {
            delay: Some(delay),
            tick,
            ..PLAY
        };
        let reached = play(this, 40_000, shape).reached(8);
        assert!((20_225..=20_240).contains(&reached), "{reached}");
    }
}

#[test]
fn a_sawtooth_is_asked_for_once_and_ends_with_as_many_replicas_as_without() {
    let slopes = |time: u64| {
        if time < 20_000 {
            5
        } else {
            5 + time % 2_000 * 75 / 2_000
        }
    };
    let square = |time: u64| {
        if time < 20_000 || time % 2_000 < 1_000 {
            5
        } else {
            80
        }
    };
    for shape in [&slopes as &dyn Fn(u64) -> u64, &square] {
        let played = play(PLAY, 80_000, shape);
        assert!(played.asked.len() <= 1, "{played:?}");
        let without = play(WITHOUT, 80_000, shape);
        assert_eq!(played.last(), without.last(), "{played:?}");
        // The first tooth may be a burst, for all that anybody knows, and is over before the HPA's own turn.
        assert_turns(&played, without.turns() + 2);
    }
}

#[test]
fn noise_and_decay_ask_for_nothing() {
    let steady = |time| shaken(80.0, time);
    let decay = |time: u64| {
        shaken(
            80.0 - 75.0 * time.saturating_sub(40_000) as f64 / 80_000.0,
            time,
        )
    };
    for shape in [&steady as &dyn Fn(u64) -> u64, &decay] {
        let played = play(PLAY, 120_000, shape);
        // It begins with a step from nothing.
        assert_eq!(played.asked.len(), 1, "{played:?}");
        assert!(played.asked[0] < 1_000, "{played:?}");
        let without = play(WITHOUT, 120_000, shape);
        assert!(
            played.last().abs_diff(without.last()) <= 1,
            "{played:?} {without:?}"
        );
        assert_turns(&played, without.turns());
    }
}

#[test]
fn what_independent_arrivals_add_by_chance_is_no_burst() {
    for per_second in [3.0, 12.0, 50.0, 200.0] {
        let levels = arrivals(600_000, per_second);
        let mean = levels.iter().sum::<u64>() as f64 / levels.len() as f64;
        assert!((mean / per_second - 1.0).abs() < 0.2, "{mean}");
        let shape = |time| levels[usize::try_from(time).unwrap()];
        let played = play(PLAY, 600_000, shape);
        let later = played.asked.iter().filter(|at| **at > 20_000);
        assert!(later.count() <= 6, "{per_second}: {:?}", played.asked);
    }
}

#[test]
fn at_most_and_where_nothing_reads_it_comes_to_rest() {
    let again = |time: u64| if time % 40_000 < 20_000 { 5 } else { 80 };
    let at_most = Play { max: 1, ..PLAY };
    assert!(play(at_most, 100_000, again).asked.is_empty());
    let unread = Play {
        delay: None,
        ..PLAY
    };
    // The HPA's own turn comes 4 s after each step, which is too late to be a sign.
    let played = play(unread, 500_000, again);
    // Three, and then two trials, the second after twice as long.
    assert_eq!(played.asked.len(), 5, "{played:?}");
}

#[test]
fn from_zero_the_first_pod_is_the_moment() {
    let mut world = World::with(Settings::default());
    world.apply(MembershipEvent::Synced);
    world.pass(seconds(300));
    let (key, trigger) = (key(), trigger());
    let activator = world.activator("act");
    world.hold(activator, 0, 0);
    world.state.spec_stream_opened(&key, &trigger);
    let step = |world: &mut World| world.state.spec_step(&key, &trigger, world.now);
    world.pass(seconds(1));
    world.hold(activator, 200, 200);
    let before = step(&mut world);
    assert!(!before.moved);
    world.pass(Duration::from_millis(200));
    assert!(!step(&mut world).moved, "the HPA is disabled at 0");
    world.state.effects();
    world.apply(pod("first", false));
    assert!(world.state.effects().contains(&Effect::Wake(key.clone())));
    assert!(step(&mut world).moved);
    assert!(world.load().concurrency >= 200.0);
    // Its requests move from here to there.
    world.apply(pod("first", true));
    let sidecar = world.sidecar("first");
    world.report(sidecar, 150, Duration::ZERO, 150);
    world.hold(activator, 50, 200);
    world.pass(Duration::from_millis(160));
    assert!((world.load().concurrency - 200.0).abs() < 1.0);
}

#[test]
fn a_pod_that_terminates_does_not_count_and_an_unknown_load_is_not_asked_for() {
    let mut world = World::with(Settings::default());
    world.apply(MembershipEvent::Synced);
    world.apply(pod("a", true));
    let process = world.sidecar("a");
    world.report(process, 5, Duration::ZERO, 5);
    world.pass(seconds(300));
    let (key, trigger) = (key(), trigger());
    world.state.spec_stream_opened(&key, &trigger);
    for uid in ["b", "c", "d", "e"] {
        world.apply(pod(uid, false));
    }
    world.report(process, 48, seconds(1_500), 50);
    world.pass(seconds(1));
    let step = |world: &mut World| world.state.spec_step(&key, &trigger, world.now);
    assert!(!step(&mut world).moved, "five pods take 48");
    let MembershipEvent::Pod(pod) = pod("e", false) else {
        unreachable!()
    };
    let terminating = Pod {
        terminating: true,
        ..pod
    };
    world.apply(MembershipEvent::Pod(terminating));
    world.apply(super::pod("b", true));
    let waits = step(&mut world);
    assert!(!waits.moved && waits.wait.is_some(), "b has not reported");
    world.apply(super::pod("b", false));
    assert!(step(&mut world).moved);
    world.apply(gone("d"));
    world.apply(gone("e"));
    let described = world.state.describe_burst(&key, world.now);
    assert_eq!(described["pods"], 3);
    assert_eq!(described["target_moved"], true);
}

#[test]
fn the_target_stays_moved_while_no_stream_is_open_and_is_forgotten_with_its_object() {
    let mut world = World::with(Settings::default());
    world.apply(MembershipEvent::Synced);
    world.apply(pod("a", false));
    world.pass(seconds(300));
    let (key, trigger) = (key(), trigger());
    world.state.spec_stream_opened(&key, &trigger);
    let activator = world.activator("act");
    world.hold(activator, 50, 50);
    world.pass(seconds(1));
    assert!(world.state.spec_step(&key, &trigger, world.now).moved);
    world.state.spec_stream_closed(&key);
    assert!(world.state.is_target_moved(&key));
    assert_eq!(world.state.spec_streams(), 0);
    world.apply(MembershipEvent::ScaledObjectGone {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    });
    assert!(!world.state.is_target_moved(&key));
    // Whoever was to be looked at is not waited for.
    world.apply(MembershipEvent::ScaledObject(object()));
    world.state.spec_stream_opened(&key, &trigger);
    world.hold(activator, 0, 50);
    world.pass(seconds(60));
    world.hold(activator, 50, 100);
    world.pass(seconds(1));
    assert!(world.state.spec_step(&key, &trigger, world.now).moved);
}

/// `ScaledObject`s of one workload whose load has risen, with a stream of specs each. A look was asked for the first, and the
/// others wait for that.
fn crowd(names: &[&str]) -> (World, Vec<ScaledObjectKey>) {
    let mut world = World::with(Settings::default());
    let keys: Vec<_> = names
        .iter()
        .map(|name| ScaledObjectKey {
            name: (*name).to_owned(),
            ..key()
        })
        .collect();
    for key in &keys {
        world.apply(MembershipEvent::ScaledObject(ScaledObject {
            name: key.name.clone(),
            ..object()
        }));
        world.state.spec_stream_opened(key, &trigger());
    }
    world.apply(pod("a", false));
    world.apply(MembershipEvent::Synced);
    world.pass(seconds(300));
    let activator = world.activator("act");
    world.hold(activator, 50, 50);
    world.pass(seconds(1));
    for (place, key) in keys.iter().enumerate() {
        assert_eq!(is_asked_for(&mut world, key), place == 0);
    }
    world.state.effects();
    (world, keys)
}

fn is_asked_for(world: &mut World, key: &ScaledObjectKey) -> bool {
    world.state.spec_step(key, &trigger(), world.now).moved
}

#[test]
fn what_waited_for_anothers_look_goes_on_when_that_has_followed() {
    let (mut world, keys) = crowd(&["first", "second"]);
    world.state.looked(&keys[0], Some(50.0), world.now);
    assert_eq!(world.state.effects(), [Effect::Wake(keys[1].clone())]);
    assert!(is_asked_for(&mut world, &keys[1]));
    let outcomes: HashMap<_, _> = world.state.burst_outcomes().into_iter().collect();
    assert_eq!(outcomes["read"], 1);
}

#[test]
fn of_those_that_wait_whose_hpa_would_look_last_goes_first_and_who_needs_none_lets_others_pass() {
    let (mut world, keys) = crowd(&["first", "a", "b", "c"]);
    let woken = |keys: &[&ScaledObjectKey]| -> Vec<_> {
        keys.iter()
            .map(|key| Effect::Wake((*key).clone()))
            .collect()
    };
    let [first, a, b, c] = &keys[..] else {
        unreachable!()
    };
    for key in [a, c, b] {
        world.state.looked(key, None, world.now);
        world.pass(Duration::from_millis(100));
    }
    assert_eq!(world.state.effects(), []);
    world.state.looked(first, Some(50.0), world.now);
    // One more than before, since one followed.
    assert_eq!(world.state.effects(), woken(&[b, c]));
    world.state.looked(b, Some(50.0), world.now);
    assert!(!is_asked_for(&mut world, b), "it was looked at");
    assert_eq!(world.state.effects(), woken(&[c, a]));
}

#[test]
fn who_waits_without_a_stream_takes_nobodys_turn() {
    let (mut world, keys) = crowd(&["first", "a", "b", "c"]);
    world.state.spec_stream_closed(&keys[1]);
    world.state.looked(&keys[0], Some(50.0), world.now);
    let woken = [&keys[2], &keys[3]].map(|key| Effect::Wake(key.clone()));
    assert_eq!(world.state.effects(), woken);
}

#[test]
fn a_keda_that_opens_no_streams_of_specs_is_told_of_once() {
    let told = |streams, specs| {
        let mut world = World::with(Settings::default());
        for _ in 0..streams {
            world.state.activity_stream_opened(world.now);
        }
        if specs {
            world.state.spec_stream_opened(&key(), &trigger());
        }
        let early = world.state.tells_of_missing_specs(world.now);
        assert!(!early, "it has just come");
        world.pass(seconds(60));
        let asked = (0..100).filter(|_| world.state.tells_of_missing_specs(world.now));
        asked.count()
    };
    assert_eq!(told(100, false), 1);
    assert_eq!(told(5, false), 1);
    assert_eq!(told(4, false), 0, "those of specs may all be elsewhere");
    assert_eq!(told(100, true), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    /// Whatever comes: the writes are few, nothing is asked for without a need, and in the end there are as many replicas
    /// as there would have been.
    #[test]
    fn any_shape_is_asked_for_seldom_and_ends_as_without(
        pieces in prop::collection::vec((0..120_u64, 50..5_000_u64), 1..30),
        delay in 4..30_u64,
        tick in 0..15_000_u64,
    ) {
        let total: u64 = pieces.iter().map(|(_, length)| length).sum();
        let shape = |time: u64| {
            let mut rest = time;
            for (level, length) in &pieces {
                if rest < *length {
                    return *level;
                }
                rest -= length;
            }
            20
        };
        let this = Play { delay: Some(delay * GRAIN), tick, ..PLAY };
        let length = total + 90_000;
        let played = play(this, length, shape);
        assert_spaced(&played);
        for asked in &played.asked {
            let before = played.replicas.iter().rev().find(|(at, _)| at < asked).unwrap().1;
            let level = shape(*asked);
            prop_assert!(level as f64 > 1.1 * TARGET * before as f64, "{level} at {asked}: {played:?}");
        }
        let without = play(Play { bursts: false, ..this }, length, shape);
        prop_assert_eq!(played.last(), without.last(), "{:?} {:?}", &played, &without);
    }
}
