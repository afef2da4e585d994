use proptest::prelude::*;

use super::*;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn settings() -> Settings {
    Settings {
        min: 1,
        max: 100,
        tolerance: 0.1,
        stabilization: seconds(0),
        scale_up: ScaleUp {
            pods: 4,
            percent: 100,
            period: seconds(15),
        },
    }
}

/// An autoscaler whose policies never limit.
fn unlimited() -> Settings {
    let scale_up = ScaleUp {
        pods: 1000,
        ..settings().scale_up
    };
    Settings {
        scale_up,
        ..settings()
    }
}

fn reading(total: f64) -> [Reading; 1] {
    [Reading {
        target: 10.0,
        total: Some(total),
    }]
}

const FAILED: Reading = Reading {
    target: 10.0,
    total: None,
};

#[test]
fn the_total_over_the_target_is_rounded_up() {
    let now = Instant::now();
    for (total, expected) in [
        (31.0, Some(4)),
        (30.0, Some(3)),
        (25.1, Some(3)),
        (5.0, None),
    ] {
        let mut hpa = Autoscaler::new(unlimited());
        assert_eq!(hpa.sync(1, 1, &reading(total), now), expected, "{total}");
    }
}

#[test]
fn a_load_within_tolerance_changes_nothing() {
    let now = Instant::now();
    let mut hpa = Autoscaler::new(unlimited());
    // Three replicas at 10 are on target at 30; 10 % off either way is 27 to 33.
    assert_eq!(hpa.sync(3, 3, &reading(32.9), now), None);
    assert_eq!(hpa.sync(3, 3, &reading(27.1), now), None);
    assert_eq!(hpa.sync(3, 3, &reading(33.5), now), Some(4));
    assert_eq!(hpa.sync(3, 3, &reading(19.0), now), Some(2));
}

#[test]
fn the_metric_that_wants_most_wins() {
    let now = Instant::now();
    let mut hpa = Autoscaler::new(unlimited());
    let readings = [
        Reading {
            target: 10.0,
            total: Some(20.0),
        },
        Reading {
            target: 100.0,
            total: Some(700.0),
        },
    ];
    assert_eq!(hpa.sync(1, 1, &readings, now), Some(7));
}

#[test]
fn unread_metrics_never_take_replicas_away() {
    let now = Instant::now();
    let mut hpa = Autoscaler::new(unlimited());
    assert_eq!(hpa.sync(5, 5, &[FAILED], now), None);
    assert_eq!(hpa.sync(5, 5, &[], now), None);
    assert_eq!(hpa.sync(5, 5, &[FAILED, reading(20.0)[0]], now), None);
    assert_eq!(hpa.sync(5, 5, &[FAILED, reading(80.0)[0]], now), Some(8));
}

#[test]
fn a_sleeping_workload_is_left_alone() {
    let mut hpa = Autoscaler::new(settings());
    assert_eq!(hpa.sync(0, 0, &reading(500.0), Instant::now()), None);
}

#[test]
fn a_workload_without_any_process_yet_is_sized_by_its_load() {
    let mut hpa = Autoscaler::new(settings());
    assert_eq!(hpa.sync(1, 0, &reading(30.0), Instant::now()), Some(3));
}

#[test]
fn the_larger_policy_limits_and_earlier_scale_ups_of_the_period_count() {
    let start = Instant::now();
    let mut hpa = Autoscaler::new(settings());
    // From 1: +4 gives 5, +100 % gives 2.
    assert_eq!(hpa.sync(1, 1, &reading(900.0), start), Some(5));
    // The period began at 1 replica: 5 is still the limit.
    assert_eq!(hpa.sync(5, 5, &reading(900.0), start + seconds(14)), None);
    // From 5: +4 gives 9, +100 % gives 10.
    assert_eq!(
        hpa.sync(5, 5, &reading(900.0), start + seconds(15)),
        Some(10)
    );
    assert_eq!(
        hpa.sync(10, 10, &reading(900.0), start + seconds(30)),
        Some(20)
    );
}

#[test]
fn replicas_removed_in_the_period_may_come_back() {
    let start = Instant::now();
    let mut hpa = Autoscaler::new(settings());
    assert_eq!(hpa.sync(20, 20, &reading(20.0), start), Some(2));
    // The period began at 20: +100 % allows 40.
    assert_eq!(
        hpa.sync(2, 2, &reading(300.0), start + seconds(1)),
        Some(30)
    );
}

#[test]
fn scaling_down_waits_for_the_largest_recommendation_to_age() {
    let start = Instant::now();
    let mut hpa = Autoscaler::new(Settings {
        stabilization: seconds(5),
        ..unlimited()
    });
    assert_eq!(hpa.sync(1, 1, &reading(80.0), start), Some(8));
    assert_eq!(hpa.sync(8, 8, &reading(50.0), start + seconds(2)), None);
    assert_eq!(hpa.sync(8, 8, &reading(20.0), start + seconds(4)), None);
    // The 8 of the start is 6 s old, the 5 is 4 s old.
    assert_eq!(hpa.sync(8, 8, &reading(20.0), start + seconds(6)), Some(5));
    assert_eq!(hpa.sync(5, 5, &reading(20.0), start + seconds(8)), Some(2));
}

#[test]
fn a_young_workload_keeps_what_it_was_started_with_for_the_window() {
    let start = Instant::now();
    let mut hpa = Autoscaler::new(Settings {
        stabilization: seconds(5),
        ..unlimited()
    });
    assert_eq!(hpa.sync(4, 4, &reading(0.0), start), None);
    assert_eq!(hpa.sync(4, 4, &reading(0.0), start + seconds(6)), Some(1));
}

#[test]
fn counts_outside_the_bounds_are_brought_back() {
    let now = Instant::now();
    let bounds = Settings {
        min: 2,
        max: 6,
        ..unlimited()
    };
    assert_eq!(
        Autoscaler::new(bounds).sync(9, 9, &reading(900.0), now),
        Some(6)
    );
    assert_eq!(Autoscaler::new(bounds).sync(1, 1, &[FAILED], now), Some(2));
    assert_eq!(
        Autoscaler::new(bounds).sync(4, 4, &reading(900.0), now),
        Some(6)
    );
    assert_eq!(
        Autoscaler::new(bounds).sync(4, 4, &reading(0.0), now),
        Some(2)
    );
}

#[test]
fn the_percent_policy_rounds_as_the_autoscaler_does() {
    let percent = |percent| {
        Autoscaler::new(Settings {
            max: 100,
            scale_up: ScaleUp {
                pods: 0,
                percent,
                period: seconds(15),
            },
            ..settings()
        })
    };
    let now = Instant::now();
    assert_eq!(percent(10).sync(9, 9, &reading(900.0), now), Some(10));
    assert_eq!(percent(100).sync(25, 25, &reading(900.0), now), Some(50));
    // In floating point, which it works in, 25 * 1.12 is a little more than 28.
    assert_eq!(percent(12).sync(25, 25, &reading(900.0), now), Some(29));
}

proptest! {
    #[test]
    fn the_count_stays_in_bounds_and_never_grows_faster_than_the_policies(
        loads in prop::collection::vec((0.0..2000.0_f64, 0_u64..20, any::<bool>()), 1..60),
        max in 1_u32..50,
        pods in 0_u32..6,
        percent in 0_u32..300,
    ) {
        let period = seconds(15);
        let mut hpa = Autoscaler::new(Settings {
            max,
            stabilization: seconds(7),
            scale_up: ScaleUp { pods, percent, period },
            ..settings()
        });
        let (mut now, mut spec) = (Instant::now(), 1);
        let mut history = vec![(now, spec)];
        for (load, pause, read) in loads {
            now += seconds(pause);
            let reading = Reading { target: 10.0, total: read.then_some(load) };
            if let Some(count) = hpa.sync(spec, spec, &[reading], now) {
                prop_assert!(read, "an unread metric changed the count");
                prop_assert_ne!(count, spec);
                if count > spec {
                    // Whatever the count was at some moment of the period, the policies bound what follows it.
                    let most = history
                        .iter()
                        .enumerate()
                        .filter(|(index, _)| {
                            history.get(index + 1).is_none_or(|&(end, _)| now - end < period)
                        })
                        .map(|(_, &(_, count))| count)
                        .max()
                        .unwrap();
                    // By percent one more than exact arithmetic gives: see the test above.
                    let allowed = (most + pods).max(most + (most * percent) / 100 + 1);
                    prop_assert!(count <= allowed, "{count} > {allowed}, history {history:?}");
                    prop_assert!(f64::from(count) <= (load / 10.0).ceil());
                } else {
                    prop_assert!(f64::from(count) >= (load / 10.0).ceil().min(f64::from(max)));
                }
                spec = count;
                history.push((now, spec));
            }
            prop_assert!((1..=max).contains(&spec));
        }
    }
}
