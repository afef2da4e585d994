//! The numbers.

use super::*;

#[track_caller]
fn assert_near(value: f64, expected: f64) {
    assert!(
        (value - expected).abs() < 0.01,
        "{value} instead of {expected}"
    );
}

#[test]
fn concurrency_is_averaged_over_the_window_and_raised_by_its_last_tenth() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let process = world.sidecar("a");
    world.report(process, 12, Duration::ZERO, 12);
    world.pass(seconds(3));
    // 36 request-seconds: 0.6 over a minute, 6 over the last 6 s.
    assert_near(world.load().concurrency, 6.0);
    world.report(process, 0, seconds(36), 12);
    world.pass(seconds(20));
    assert_near(world.load().concurrency, 0.6);
    assert_near(world.load().request_rate, 0.2);
}

#[test]
fn what_is_little_more_lately_is_no_burst() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let process = world.sidecar("a");
    world.report(process, 10, Duration::ZERO, 10);
    world.pass(seconds(60));
    world.report(process, 11, seconds(600), 11);
    world.pass(seconds(6));
    // 606 request-seconds of the last minute, 66 of the last 6 s.
    assert_near(world.load().concurrency, 10.1);
    world.report(process, 13, seconds(666), 12);
    world.pass(seconds(6));
    // 684 and 78.
    assert_near(world.load().concurrency, 13.0);
}

#[test]
fn clients_that_come_all_at_once_to_a_young_workload_are_no_rate() {
    let mut world = World::old();
    let mut arrived = 0;
    world.apply(pod("a", true));
    let process = world.sidecar("a");
    world.report(process, 0, Duration::ZERO, 0);
    world.pass(Duration::from_millis(1_400));
    // 38 clients with requests of 4 s each: 9.5 per second, whose begins are spread after the first.
    for tick in 0..60 {
        arrived = arrived.max(38 + tick * 19 / 4);
        let area = Duration::from_millis(500 * 38 * tick);
        world.report(process, 38, area, arrived);
        let rate = world.load().request_rate;
        assert!(rate < 2.5 * 9.5 / 2.0, "{rate} after {tick} half seconds");
        world.pass(Duration::from_millis(500));
    }
}

#[test]
fn a_steady_rate_is_told_in_full_between_two_reports() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let process = world.sidecar("a");
    for second in 0..100 {
        world.report(process, 3, seconds(3 * second), 10 * second);
        if second > 60 {
            world.pass(Duration::from_millis(990));
            assert_near(world.load().request_rate, 10.0);
            world.pass(Duration::from_millis(10));
        } else {
            world.pass(seconds(1));
        }
    }
}

#[test]
fn a_short_request_between_two_polls_makes_the_next_poll_active() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let process = world.sidecar("a");
    world.report(process, 0, Duration::ZERO, 0);
    world.pass(seconds(2));
    assert!(!world.load().active);
    // Came and went between two reports.
    world.report(process, 0, Duration::from_millis(3), 1);
    world.pass(seconds(10));
    assert!(world.load().active);
    world.pass(seconds(1));
    assert!(!world.load().active);
}

#[test]
fn lost_frames_lose_nothing() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let process = world.sidecar("a");
    world.report(process, 0, Duration::ZERO, 0);
    world.pass(seconds(30));
    world.report(process, 0, seconds(90), 30);
    assert_near(world.load().concurrency, 3.0);
    assert_near(world.load().request_rate, 0.5);
}

#[test]
fn repeated_and_swapped_frames_change_nothing() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let process = world.sidecar("a");
    world.pass(seconds(1));
    let earlier = world.made(process, 5, seconds(1), 5);
    world.pass(seconds(1));
    let later = world.made(process, 0, seconds(6), 6);
    world.deliver(process, &later).unwrap();
    let before = world.load();
    assert_eq!(world.deliver(process, &earlier), Err(Rejected::Stale));
    assert_eq!(world.deliver(process, &later), Err(Rejected::Stale));
    assert_eq!(world.load(), before);
}

#[test]
fn a_late_frame_makes_no_burst() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let process = world.sidecar("a");
    world.report(process, 0, Duration::ZERO, 0);
    world.pass(seconds(10));
    let late = world.made(process, 0, seconds(60), 60);
    world.pass(seconds(20));
    world.deliver(process, &late).unwrap();
    assert_near(world.load().concurrency, 1.0);
}

#[test]
fn reports_that_are_all_late_by_minutes_add_up_all_the_same() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let process = world.sidecar("a");
    world.report(process, 2, Duration::ZERO, 2);
    let mut underway = Vec::new();
    for second in 1..=120 {
        world.pass(seconds(1));
        underway.push(world.made(process, 2, seconds(2 * second), 2));
    }
    // A stalled connection gives everything at once, three minutes later.
    world.pass(seconds(180));
    for report in &underway {
        world.deliver(process, report).unwrap();
    }
    assert_near(world.load().concurrency, 2.0);
}

#[test]
fn a_caller_whose_time_goes_back_is_answered_as_of_the_latest_time() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let process = world.sidecar("a");
    world.report(process, 1, Duration::ZERO, 1);
    world.pass(seconds(60));
    let before = world.load();
    world.now -= seconds(120);
    assert_eq!(world.load(), before);
    world.pass(seconds(120) + seconds(3_600));
    assert_near(world.load().concurrency, 1.0);
}

#[test]
fn a_new_epoch_counts_anew_and_keeps_what_the_old_one_served() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let first = world.sidecar("a");
    world.report(first, 0, Duration::ZERO, 0);
    world.pass(seconds(20));
    world.report(first, 3, seconds(30), 10);
    let second = world.connect("a", Role::Sidecar, 2, world.now);
    assert_eq!(
        world.load().in_flight,
        0,
        "the old process's requests died with it"
    );
    world.pass(seconds(10));
    world.report(second, 1, seconds(30), 5);
    let load = world.load();
    assert_eq!(load.in_flight, 1);
    assert_near(load.concurrency, 3.0);
    world.pass(seconds(20));
    // 60 request-seconds so far and 20 more of the one in flight.
    assert_near(world.load().concurrency, 80.0 / 60.0);
    assert_near(world.load().request_rate, 15.0 / 60.0);
    assert_eq!(
        world.deliver(first, &PodReport::default()),
        Err(Rejected::Replaced)
    );
}

#[test]
fn a_new_epoch_that_was_cut_off_for_long_is_counted_from_its_birth() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let first = world.sidecar("a");
    world.report(first, 0, Duration::ZERO, 0);
    let born = world.now;
    world.pass(seconds(100));
    let second = world.connect("a", Role::Sidecar, 2, born);
    world.report(second, 0, seconds(200), 100);
    // Which of the 100 s they fell in is not known, so they are spread over all of them.
    assert_near(world.load().concurrency, 2.0);
    assert_near(world.load().request_rate, 1.0);
}

#[test]
fn after_a_restart_averages_cover_the_time_that_is_known() {
    let mut world = World::new();
    world.apply(pod("old", true));
    world.apply(pod("young", true));
    world.apply(MembershipEvent::Synced);
    world.pass(seconds(1));
    let began = world.began;
    let old = world.connect("old", Role::Sidecar, 1, began);
    let young = world.connect("young", Role::Sidecar, 1, began);
    let report = |seconds: u64, in_flight, served: u64, requests| PodReport {
        elapsed: seconds * 1_000_000,
        count: Some(Count {
            in_flight,
            in_flight_time: served * 1_000_000,
            requests,
        }),
        app_ready: true,
        draining: false,
    };
    // Hours of totals are a base, half a minute of them is knowledge.
    world
        .deliver(old, &report(7_200, 5, 900_000, 70_000))
        .unwrap();
    world.deliver(young, &report(30, 2, 60, 30)).unwrap();
    world.pass(seconds(2));
    let load = world.load();
    assert_near(load.concurrency, 7.0);
    assert_eq!(load.in_flight, 7);
    assert_near(load.request_rate, 1.0);
}

#[test]
fn after_a_restart_requests_that_have_moved_to_new_pods_are_not_missing() {
    let mut world = World::new();
    world.apply(pod("old", true));
    world.apply(pod("new", true));
    world.apply(MembershipEvent::Synced);
    let old = world.connect("old", Role::Sidecar, 1, world.began);
    let new = world.connect("new", Role::Sidecar, 1, world.began);
    let report = |milliseconds: u64, in_flight, served: u64| PodReport {
        elapsed: milliseconds * 1_000,
        count: Some(Count {
            in_flight,
            in_flight_time: served * 1_000_000,
            requests: 100,
        }),
        app_ready: true,
        draining: false,
    };
    // 80 all the time, 50 of which the new pod got bit by bit in its two seconds.
    world.deliver(old, &report(100_000, 30, 500)).unwrap();
    world.deliver(new, &report(2_000, 50, 50)).unwrap();
    world.pass(Duration::from_millis(1_500));
    world.deliver(old, &report(101_500, 30, 545)).unwrap();
    world.deliver(new, &report(3_500, 50, 125)).unwrap();
    let load = world.load();
    assert!(load.concurrency >= 80.0, "{load:?}");
}

#[test]
fn a_pod_that_reports_before_it_is_known_counts_once_it_is() {
    let mut world = World::old();
    let process = world.sidecar("a");
    world.report(process, 2, Duration::ZERO, 2);
    assert_eq!(world.load().in_flight, 0);
    world.apply(pod("a", false));
    world.apply(pod("a", true));
    let load = world.load();
    assert_eq!(load.in_flight, 2);
    assert!(load.active);
    world.pass(seconds(1));
    world.report(process, 1, seconds(2), 2);
    assert_eq!(world.load().in_flight, 1);
}

#[test]
fn a_stranger_is_remembered_only_while_connected() {
    let mut world = World::old();
    let process = world.sidecar("a");
    world.report(process, 2, Duration::ZERO, 2);
    world.leave(process);
    assert_eq!(world.state.reporters(10).len(), 0);
}

#[test]
fn reports_after_the_pod_is_gone_are_ignored() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let process = world.sidecar("a");
    world.report(process, 2, Duration::ZERO, 2);
    world.apply(gone("a"));
    world.pass(seconds(1));
    let report = world.made(process, 7, seconds(2), 2);
    assert_eq!(world.deliver(process, &report), Err(Rejected::Replaced));
    assert_eq!(world.load().in_flight, 0);
}

#[test]
fn to_zero_and_back_again_each_wake_is_announced_once() {
    let mut world = World::old();
    for round in 1..=3 {
        let uid = format!("round-{round}");
        world.apply(pod(&uid, true));
        let process = world.sidecar(&uid);
        for _ in 0..4 {
            world.pass(seconds(1));
            let area = seconds(u64::from(world.now > process.born));
            world.report(process, 1, area, 1);
        }
        assert_eq!(world.wake().activations, round);
        world.apply(gone(&uid));
        world.pass(seconds(11));
        assert!(!world.load().active);
        world.pass(seconds(60));
    }
}
