//! What activators hold.

use super::*;

#[test]
fn held_requests_count_wake_and_starve_until_an_endpoint_is_ready() {
    let mut world = World::old();
    let activator = world.activator("act");
    world.hold(activator, 0, 0);
    assert_eq!(world.wake(), Wake::default());
    world.state.effects();
    world.pass(Duration::from_millis(5));
    world.hold(activator, 3, 3);
    assert_eq!(world.state.effects().first(), Some(&Effect::Wake(key())));
    assert_eq!(
        world.wake(),
        Wake {
            activations: 1,
            starved: true
        }
    );
    let load = world.load();
    assert_eq!((load.active, load.held), (true, 3));
    assert!((load.concurrency - 3.0).abs() < f64::EPSILON);

    world.apply(pod("a", false));
    let process = world.sidecar("a");
    world.pass(Duration::from_millis(5));
    world.report(process, 0, Duration::ZERO, 0);
    assert!(!world.wake().starved);
    world.hold(activator, 0, 3);
    assert_eq!(world.load().held, 0);
    world.pass(seconds(10));
    assert!(world.load().active, "for two polling intervals more");
    world.pass(seconds(1));
    assert!(!world.load().active);
}

#[test]
fn losing_the_last_endpoint_while_requests_are_held_is_told() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let process = world.sidecar("a");
    world.report(process, 0, Duration::ZERO, 0);
    let activator = world.activator("act");
    world.hold(activator, 1, 1);
    world.state.effects();
    assert!(!world.wake().starved);
    world.apply(gone("a"));
    assert!(world.state.effects().contains(&Effect::Wake(key())));
    assert!(world.wake().starved);
}

#[test]
fn a_pod_that_may_take_requests_soon_is_waited_for_until_it_is_to_go() {
    let mut world = World::old();
    let activator = world.activator("act");
    world.hold(activator, 1, 1);
    assert!(world.wake().starved);
    world.apply(pod("a", false));
    assert!(!world.wake().starved, "KEDA has heard");
    assert!(world.load().active);
    world.state.effects();
    let MembershipEvent::Pod(pod) = pod("a", false) else {
        unreachable!()
    };
    world.apply(MembershipEvent::Pod(Pod {
        terminating: true,
        ..pod
    }));
    assert!(world.state.effects().contains(&Effect::Wake(key())));
    assert!(world.wake().starved);
}

#[test]
fn a_request_held_before_the_scaled_object_is_known_wakes_it_once_it_is() {
    let mut world = World::old();
    world.apply(MembershipEvent::ScaledObjectGone {
        namespace: key().namespace,
        name: key().name,
    });
    let activator = world.activator("act");
    world.hold(activator, 1, 1);
    world.state.effects();
    world.apply(MembershipEvent::ScaledObject(ScaledObject {
        namespace: key().namespace,
        name: key().name,
        workload: workload(),
        polling_interval: seconds(5),
        max_replicas: 100,
        paused: false,
    }));
    assert!(world.state.effects().contains(&Effect::Wake(key())));
    assert!(world.wake().starved);
}

#[test]
fn what_a_lost_activator_held_is_dropped_after_three_busy_intervals() {
    let mut world = World::old();
    let activator = world.activator("act");
    world.hold(activator, 2, 2);
    world.leave(activator);
    world.pass(seconds(3));
    assert_eq!(world.load().held, 2);
    world.pass(seconds(1));
    let load = world.load();
    assert_eq!(load.held, 0);
    assert!(load.active);
    world.pass(seconds(9));
    assert!(
        world.load().active,
        "two polling intervals from when it was dropped"
    );
    world.pass(seconds(1));
    assert!(!world.load().active);
}

#[test]
fn a_reconnected_activator_says_everything_again() {
    let mut world = World::old();
    let first = world.activator("act");
    world.hold(first, 2, 2);
    world.leave(first);
    world.pass(seconds(2));
    let born = first.born;
    let second = world.connect("act", Role::Activator, 1, born);
    world.pass(seconds(60));
    assert_eq!(world.load().held, 2, "kept until it reports");
    let nothing = HeldReport {
        elapsed: world.elapsed(second),
        held: Vec::new(),
    };
    world
        .state
        .held_report(second.connection, &nothing, world.now)
        .unwrap();
    assert_eq!(world.load().held, 0);
}

#[test]
fn two_activators_add_up_and_each_forgets_for_itself() {
    let mut world = World::old();
    let first = world.activator("one");
    let second = world.activator("two");
    world.hold(first, 2, 2);
    world.hold(second, 3, 3);
    assert_eq!(world.load().held, 5);
    world.leave(first);
    world.pass(seconds(4));
    assert_eq!(world.load().held, 3);
}

#[test]
fn an_activator_that_names_too_many_workloads_is_refused() {
    let mut world = World::old();
    world.state.settings.max_held_workloads = 2;
    let activator = world.activator("act");
    let named = |index: u32| Held {
        workload: Some(Workload {
            name: format!("w{index}"),
            ..workload()
        }),
        count: None,
    };
    let mut report = |elapsed, names: std::ops::Range<u32>| {
        let held = names.map(named).collect();
        let report = HeldReport { elapsed, held };
        world
            .state
            .held_report(activator.connection, &report, world.now)
    };
    assert!(report(1, 0..2).is_ok());
    assert!(report(2, 0..2).is_ok());
    assert_eq!(report(3, 0..3), Err(Rejected::TooMany));
}

#[test]
fn a_request_held_soon_after_the_last_one_is_told_although_the_workload_is_still_active() {
    let mut world = World::old();
    let activator = world.activator("act");
    world.hold(activator, 1, 1);
    world.pass(seconds(1));
    world.hold(activator, 0, 1);
    world.state.effects();
    world.pass(seconds(1));
    world.hold(activator, 1, 2);
    assert_eq!(world.wake().activations, 1);
    assert_eq!(world.state.effects(), [Effect::Wake(key())]);
}

#[test]
fn an_older_report_than_the_last_changes_nothing() {
    let mut world = World::old();
    let activator = world.activator("act");
    world.pass(seconds(1));
    world.hold(activator, 3, 3);
    let older = HeldReport {
        elapsed: 1,
        held: vec![Held {
            workload: Some(workload()),
            count: None,
        }],
    };
    let answer = world
        .state
        .held_report(activator.connection, &older, world.now);
    assert_eq!(answer, Err(Rejected::Stale));
    assert_eq!(world.load().held, 3);
}
