use proptest::prelude::*;

use super::*;

const WINDOW: Duration = Duration::from_millis(150);

fn at(milliseconds: i64) -> Moment {
    milliseconds * 1_000
}

/// A level that has gone through these.
fn level(changes: &[(i64, u64)]) -> Level {
    let mut level = Level::new(WINDOW, 0);
    for (time, value) in changes {
        level.change(*value, at(*time));
    }
    level
}

#[test]
fn what_is_higher_lasts_after_the_window_and_what_is_lower_at_once() {
    let level = level(&[(1_000, 5), (2_000, 80)]);
    assert_eq!(level.lasting(at(2_149)), 5);
    assert_eq!(level.lasting(at(2_150)), 80);
    assert_eq!(level.held_for(at(50), at(2_049)), 5);
    assert_eq!(level.held_for(at(50), at(2_050)), 80);
    assert_eq!(level.exceeds_at(20.0, at(50)), Some(at(2_050)));
    assert_eq!(level.exceeds_at(80.0, at(50)), None);
    let mut level = level;
    level.change(7, at(3_000));
    assert_eq!(level.lasting(at(3_000)), 7);
}

#[test]
fn a_blip_never_lasts() {
    let mut level = level(&[(1_000, 5), (2_000, 80), (2_140, 6)]);
    for time in 2_000..2_500 {
        level.observe(at(time));
        assert!(level.lasting(at(time)) <= 6);
    }
}

#[test]
fn an_average_is_raised_in_a_clear_rise_until_it_ends() {
    let mut level = level(&[(1_000, 5), (20_000, 5)]);
    let near = |value: f64, expected: f64| (value - expected).abs() < 1e-9;
    level.change(80, at(20_000));
    assert!(near(level.raise(5.0, at(20_145)), 5.0));
    assert_eq!(level.doubtful_until(5.0, at(20_145)), Some(at(20_150)));
    assert!(near(level.raise(5.0, at(20_150)), 80.0));
    assert_eq!(level.doubtful_until(5.0, at(20_150)), None);
    assert_eq!(
        level.doubtful_until(78.0, at(20_100)),
        None,
        "too little more"
    );
    assert!(
        near(level.raise(78.0, at(26_000)), 78.0),
        "it has caught up"
    );
    level.change(10, at(26_000));
    assert!(near(level.raise(60.0, at(26_000)), 60.0));
    level.change(85, at(28_000));
    assert!(
        near(level.raise(40.0, at(29_000)), 40.0),
        "that was there a moment ago"
    );
    level.observe(at(33_000));
    assert!(near(level.raise(40.0, at(33_000)), 85.0));
}

#[test]
fn once_a_rise_is_sure_all_of_it_is_found() {
    let mut level = level(&[(1_000, 5), (20_000, 60), (20_090, 80)]);
    assert_eq!(level.lasting(at(20_150)), 60);
    assert_eq!(answer(&level, 20_145), "20", "it is not sure");
    assert_eq!(answer(&level, 20_150), "80");
    level.change(90, at(20_155));
    assert_eq!(answer(&level, 20_165), "80", "a moment is not enough");
}

#[test]
fn a_rise_that_goes_on_is_waited_for_but_not_for_long() {
    let mut rising = level(&[(1_000, 5)]);
    let mut found = None;
    for time in (20_000..21_000).step_by(10) {
        rising.change(u64::try_from(time - 19_960).unwrap() / 2, at(time));
        let doubtful = rising.doubtful_until(5.0, at(time)).is_some();
        found = found.or((!doubtful).then_some(time));
    }
    // It is sure after its window, and then waited for as long as a rise is that does not settle.
    assert_eq!(found, Some(20_000 + 450));
    // The second part comes before the first is sure.
    let mut level = level(&[(1_000, 5), (20_000, 40), (20_130, 80)]);
    assert_eq!(level.doubtful_until(5.0, at(20_140)), Some(at(20_280)));
    level.observe(at(20_280));
    assert_eq!(level.doubtful_until(5.0, at(20_280)), None);
    assert_eq!(level.raise(5.0, at(20_280)).to_string(), "80");
}

#[test]
fn the_rest_of_a_fall_is_waited_for() {
    let mut level = level(&[(1_000, 5), (20_000, 25), (20_140, 12)]);
    assert_eq!(level.doubtful_until(5.0, at(20_150)), Some(at(20_290)));
    level.change(5, at(20_190));
    assert_eq!(level.doubtful_until(5.0, at(20_190)), None);
    assert!(level.raise(5.0, at(20_190)) < 6.0);
    level.change(25, at(21_000));
    level.change(20, at(21_010));
    assert_eq!(level.doubtful_until(5.0, at(21_150)), Some(at(21_160)));
}

#[test]
fn a_rise_is_over_after_a_while_without_a_fall() {
    let mut level = level(&[(1_000, 5), (20_000, 80)]);
    let rise = level.rise();
    level.observe(at(35_001));
    assert!(level.rise() > rise);
    assert_eq!(level.earlier(), 80);
    assert!(level.raise(5.0, at(35_100)) < 6.0);
}

/// What is answered where the average is 20.
fn answer(level: &Level, time: i64) -> String {
    level.raise(20.0, at(time)).to_string()
}

#[test]
fn requests_that_move_to_new_pods_neither_end_a_rise_nor_add_to_it() {
    let mut level = level(&[(1_000, 5), (20_000, 80)]);
    level.change(80, at(21_000));
    level.pods_changed(at(21_000));
    // One told that they have come, then the other that they were gone, before the first told of the rest.
    for (time, told) in [(21_100, 110), (21_400, 60), (21_700, 80)] {
        level.change(told, at(time));
        assert_eq!(answer(&level, time + 200), "80", "{told} told");
    }
    level.change(85, at(23_000));
    level.observe(at(26_000));
    assert_eq!(answer(&level, 26_000), "85", "they have all come");
}

#[test]
fn what_may_come_from_requests_that_move_is_promised_when_they_have_come() {
    let mut level = level(&[(1_000, 5), (20_000, 80)]);
    level.change(80, at(21_000));
    level.pods_changed(at(21_000));
    level.change(100, at(21_100));
    let held = at(50);
    assert_eq!(level.held_for(held, at(21_150)), 100);
    assert_eq!(level.promised_for(held, at(21_150)), 80);
    assert_eq!(level.exceeds_at(88.0, held), Some(at(26_000)));
    assert_eq!(level.promised_for(held, at(26_000)), 100);
    let before = level.exceeds_at(70.0, held);
    assert!(
        before.is_some_and(|before| before < at(21_000)),
        "{before:?}"
    );
    level.change(60, at(21_200));
    assert_eq!(level.promised_for(held, at(21_250)), 60, "nor what is gone");
    // More than half as many more are none of those once all have told.
    level.change(121, at(22_000));
    assert_eq!(level.exceeds_at(88.0, held), Some(at(23_100)));
    assert_eq!(level.promised_for(held, at(23_099)), 80);
    assert_eq!(level.promised_for(held, at(23_100)), 121);
    // Nor are more than twice as many.
    level.change(161, at(23_200));
    assert_eq!(level.exceeds_at(130.0, held), Some(at(23_250)));
    assert_eq!(level.promised_for(held, at(23_249)), 121);
    assert_eq!(level.promised_for(held, at(23_250)), 161);
}

#[test]
fn while_requests_move_an_end_or_a_further_burst_is_seen_all_the_same() {
    for (told, after, expected) in [
        (30, 21_300, "20"),
        (150, 22_150, "80"),
        (150, 22_200, "150"),
        (200, 21_325, "200"),
    ] {
        let mut level = level(&[(1_000, 5), (20_000, 80)]);
        level.change(80, at(21_000));
        level.pods_changed(at(21_000));
        level.change(told, at(21_100));
        level.observe(at(after));
        assert_eq!(answer(&level, after), expected);
    }
}

#[test]
fn pods_that_come_all_the_time_do_not_hold_an_earlier_level_up() {
    let mut level = level(&[(1_000, 5), (20_000, 80)]);
    for time in (21_000..32_000).step_by(500) {
        level.change(if time < 22_000 { 80 } else { 100 }, at(time));
        level.pods_changed(at(time));
    }
    assert_eq!(answer(&level, 32_000), "100");
}

#[test]
fn more_than_chance_is_clear() {
    assert!(clear(0.0) < 1.0);
    assert!(clear(1.0) > 2.0 && clear(1.0) < 3.0);
    assert!(clear(50.0) > 60.0 && clear(50.0) < 70.0);
    assert!(clear(1_000.0) < 1_200.0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Against the definition: the least value in effect within the window. Changes are kept on a grid of 5 ms, so a lower
    /// value may be kept for so much longer.
    #[test]
    fn the_lasting_level_is_the_least_of_the_window(
        changes in prop::collection::vec((0..60_i64, 0..20_u64), 1..80),
        rest in 0..200_i64,
    ) {
        let (mut time, mut history) = (1_000, vec![(0, 0_u64)]);
        let mut level = Level::new(WINDOW, 0);
        for (gap, value) in changes {
            time += gap;
            level.change(value, at(time));
            history.push((time, value));
        }
        let now = time + rest;
        let least = |window: i64| {
            let ends = history.iter().skip(1).map(|(end, _)| *end).chain([i64::MAX]);
            let within = history.iter().zip(ends).filter(|(_, end)| *end > now - window);
            within.map(|((_, value), _)| *value).min().unwrap()
        };
        level.observe(at(now));
        let lasting = level.lasting(at(now));
        prop_assert!(lasting <= least(150), "{lasting} of {}", least(150));
        prop_assert!(lasting >= least(155), "{lasting} of {}", least(155));
        prop_assert!(level.lower.len() <= 221);
    }
}
