//! What activators hear of pods.

use super::*;

#[test]
fn an_activator_hears_all_ready_pods_when_it_names_the_workload_and_then_each_change() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let first = world.sidecar("a");
    world.report(first, 0, Duration::ZERO, 0);
    let activator = world.activator("act");
    let named = world.hold(activator, 0, 0);
    assert_eq!(named.len(), 1);
    assert_eq!((named[0].uid.as_str(), named[0].ready), ("a", true));
    assert_eq!(named[0].address, "10.0.0.1");
    assert_eq!(named[0].ports[0].listen, 15080);
    world.pass(Duration::from_millis(1));
    assert!(world.hold(activator, 0, 0).is_empty(), "named before");
    world.state.effects();

    let second = world.sidecar("b");
    world.report(second, 0, Duration::ZERO, 0);
    assert_eq!(world.endpoint_effects(), [], "nobody knows whose pod it is");
    world.apply(pod("b", false));
    let to = activator.connection;
    assert_eq!(world.endpoint_effects(), [(to, "b".to_owned(), true)]);
    world.apply(pod("b", true));
    assert_eq!(world.endpoint_effects(), []);
    world.apply(gone("b"));
    assert_eq!(world.endpoint_effects(), [(to, "b".to_owned(), false)]);
}

#[test]
fn draining_failing_and_a_new_epoch_take_an_endpoint_away() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let process = world.sidecar("a");
    let activator = world.activator("act");
    world.hold(activator, 0, 0);
    let to = activator.connection;
    let there = [(to, "a".to_owned(), true)];
    let away = [(to, "a".to_owned(), false)];
    world.state.effects();

    let say = |world: &mut World, app_ready, draining| {
        world.pass(seconds(1));
        let mut report = world.made(process, 0, Duration::ZERO, 0);
        (report.app_ready, report.draining) = (app_ready, draining);
        world.deliver(process, &report).unwrap();
        world.endpoint_effects()
    };
    assert_eq!(say(&mut world, true, false), there);
    assert_eq!(say(&mut world, true, false), []);
    assert_eq!(say(&mut world, false, false), away);
    assert_eq!(say(&mut world, true, false), there);
    assert_eq!(say(&mut world, true, true), away);
    assert_eq!(say(&mut world, true, false), there);
    world.connect("a", Role::Sidecar, 2, world.now);
    assert_eq!(world.endpoint_effects(), away);
}

#[test]
fn a_newer_connection_closes_the_older_and_keeps_what_was_said() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let first = world.sidecar("a");
    world.report(first, 2, Duration::ZERO, 2);
    world.state.effects();
    let born = first.born;
    let second = world.connect("a", Role::Sidecar, 1, born);
    assert_eq!(world.state.effects(), [Effect::Close(first.connection)]);
    world.leave(first);
    assert_eq!(world.load().in_flight, 2);
    world.pass(seconds(1));
    world.report(second, 3, seconds(2), 3);
    assert_eq!(world.load().in_flight, 3);
    assert_eq!(world.state.connected(Role::Sidecar), 1);
}

#[test]
fn a_pod_that_moves_to_another_workload_takes_its_load_along() {
    let mut world = World::old();
    world.apply(pod("a", true));
    let process = world.sidecar("a");
    world.report(process, 2, Duration::ZERO, 2);
    let mut other = workload();
    other.name = "other".to_owned();
    world.apply(MembershipEvent::Pod(Pod {
        uid: "a".to_owned(),
        name: "pod-a".to_owned(),
        workload: other,
        ready: true,
        terminating: false,
        reports: true,
    }));
    let load = world.load();
    assert_eq!((load.in_flight, load.ready_endpoints), (0, 0));
}
