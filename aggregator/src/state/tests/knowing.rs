//! When the state says that it does not know.

use super::*;

#[test]
fn nothing_is_known_before_membership_is() {
    let mut world = World::new();
    assert_eq!(world.ask(), Err(Unknown::NotSynced));
    world.apply(MembershipEvent::Synced);
    assert!(!world.load().active);
}

#[test]
fn an_unknown_scaled_object_is_named() {
    let mut world = World::old();
    let other = ScaledObjectKey {
        namespace: "shop".to_owned(),
        name: "other".to_owned(),
    };
    let unknown = world.state.load(&other, WINDOW, world.now).unwrap_err();
    assert!(unknown.to_string().contains("shop/other"), "{unknown}");
    world.apply(MembershipEvent::ScaledObjectGone {
        namespace: key().namespace,
        name: key().name,
    });
    assert!(matches!(world.ask(), Err(Unknown::NoScaledObject { .. })));
}

#[test]
fn after_a_restart_a_ready_pod_must_report_before_anything_is_said() {
    let mut world = World::new();
    world.apply(pod("a", true));
    world.apply(pod("b", true));
    world.apply(MembershipEvent::Synced);
    let first = world.sidecar("a");
    world.pass(seconds(1));
    world.report(first, 0, Duration::ZERO, 0);
    let unknown = world.ask().unwrap_err();
    assert!(
        unknown
            .to_string()
            .contains("1 ready pods of shop/Deployment/web"),
        "{unknown}"
    );
    assert!(unknown.to_string().contains("pod-b"), "{unknown}");
    let second = world.sidecar("b");
    world.report(second, 3, Duration::ZERO, 3);
    assert_eq!(world.load().in_flight, 3);
}

#[test]
fn a_pod_that_is_not_ready_is_not_waited_for() {
    let mut world = World::new();
    world.apply(pod("a", false));
    world.apply(MembershipEvent::Synced);
    assert!(!world.load().active);
}

#[test]
fn after_the_grace_a_pod_that_never_reported_keeps_its_workload_active() {
    let mut world = World::new();
    world.apply(pod("a", true));
    world.apply(MembershipEvent::Synced);
    world.pass(seconds(29));
    assert!(world.ask().is_err());
    world.pass(seconds(1));
    let load = world.load();
    assert!(load.active);
    assert_eq!(load.unknown_names, ["pod-a"]);
    world.apply(gone("a"));
    assert!(!world.load().active);
}

#[test]
fn a_pod_that_gets_ready_later_is_waited_for_as_long() {
    let mut world = World::new();
    world.apply(MembershipEvent::Synced);
    world.pass(seconds(100));
    world.apply(pod("a", false));
    world.apply(pod("a", true));
    world.pass(seconds(29));
    assert!(world.ask().is_err());
    world.apply(pod("a", true));
    world.pass(seconds(1));
    assert!(world.load().active);
}

#[test]
fn a_ready_pod_without_a_sidecar_keeps_its_workload_active() {
    let mut world = World::new();
    world.apply(MembershipEvent::Pod(Pod {
        uid: "a".to_owned(),
        name: "pod-a".to_owned(),
        workload: workload(),
        ready: true,
        terminating: false,
        reports: false,
    }));
    world.apply(MembershipEvent::Synced);
    assert!(world.load().active);
}

#[test]
fn an_old_process_is_known_only_once_it_could_have_shown_its_rate() {
    let mut world = World::new();
    world.apply(pod("a", true));
    world.apply(MembershipEvent::Synced);
    world.pass(seconds(1));
    let began = world.began;
    let older = world.connect("a", Role::Sidecar, 1, began);
    let totals = |elapsed, requests| PodReport {
        elapsed,
        count: Some(Count {
            in_flight: 0,
            in_flight_time: 0,
            requests,
        }),
        app_ready: true,
        draining: false,
    };
    world
        .deliver(older, &totals(3_600_000_000, 1_000_000))
        .unwrap();
    assert!(world.ask().is_err());
    world.pass(Duration::from_millis(100));
    world
        .deliver(older, &totals(3_600_100_000, 1_000_001))
        .unwrap();
    assert!(world.ask().is_err(), "one request of a tenth of a second");
    world.pass(Duration::from_millis(900));
    world
        .deliver(older, &totals(3_601_000_000, 1_000_050))
        .unwrap();
    let load = world.load();
    assert!((load.request_rate - 50.0).abs() < 0.001, "{load:?}");
}

#[test]
fn an_old_process_that_ever_served_is_taken_for_recently_active_but_wakes_nobody() {
    let mut world = World::new();
    world.apply(pod("a", true));
    world.apply(MembershipEvent::Synced);
    let began = world.began;
    let older = world.connect("a", Role::Sidecar, 1, began);
    let report = PodReport {
        elapsed: 3_600_000_000,
        count: Some(Count {
            requests: 9,
            ..Count::default()
        }),
        ..PodReport::default()
    };
    world.deliver(older, &report).unwrap();
    world.pass(seconds(2));
    assert!(world.load().active);
    assert_eq!(world.wake().activations, 0);
    world.pass(seconds(9));
    assert!(!world.load().active);
}

#[test]
fn a_quiet_old_process_is_known_without_a_second_frame() {
    let mut world = World::new();
    world.apply(pod("a", true));
    world.apply(MembershipEvent::Synced);
    let began = world.began;
    let older = world.connect("a", Role::Sidecar, 1, began);
    let report = PodReport {
        elapsed: 3_600_000_000,
        ..PodReport::default()
    };
    world.deliver(older, &report).unwrap();
    world.pass(seconds(2));
    assert!(world.ask().is_ok());
}

#[test]
fn a_silent_sidecar_keeps_its_last_value_and_is_unknown_until_its_pod_is_gone() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let process = world.sidecar("a");
    world.report(process, 4, Duration::ZERO, 4);
    world.pass(seconds(3));
    assert_eq!(world.load().unknown_pods, 0);
    world.pass(seconds(1));
    assert_eq!(world.load().unknown_pods, 1);
    world.leave(process);
    world.pass(seconds(3_600));
    let load = world.load();
    assert_eq!((load.in_flight, load.unknown_pods), (4, 1));
    assert!((load.concurrency - 4.0).abs() < 0.001, "{load:?}");
    world.apply(gone("a"));
    let load = world.load();
    assert_eq!((load.in_flight, load.unknown_pods), (0, 0));
    assert!(
        load.concurrency > 3.9,
        "what it served stays in the window: {load:?}"
    );
    world.pass(seconds(61));
    let load = world.load();
    assert!(!load.active);
    assert!(load.concurrency.abs() < f64::EPSILON);
}

#[test]
fn an_idle_sidecar_may_be_silent_for_three_idle_intervals() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let process = world.sidecar("a");
    world.report(process, 0, Duration::ZERO, 0);
    world.pass(seconds(30));
    assert!(!world.load().active);
    world.pass(seconds(1));
    assert!(world.load().active);
}
