//! Who gets a delay; whole pods are in the golden cases.

use serde_json::{Value, json};

use super::*;
use crate::ports::Takeover;

fn counted() -> [Counted; 1] {
    [Counted {
        listen: 15080,
        app: 8080,
        takeover: Takeover::Redirect,
    }]
}

/// Returns the seconds that each container sleeps.
fn delays(spec: Value, delay: u64) -> Vec<Option<i64>> {
    let mut spec: PodSpec = serde_json::from_value(spec).unwrap();
    give(&mut spec, &counted(), Duration::from_secs(delay));
    let init = spec.init_containers.unwrap_or_default();
    let containers = spec.containers.into_iter().chain(init);
    let sleeps = containers.map(|container| {
        let hook = container.lifecycle?.pre_stop?;
        Some(hook.sleep?.seconds)
    });
    sleeps.collect()
}

fn web(lifecycle: &Value) -> Value {
    json!({"name": "web", "ports": [{"containerPort": 8080}], "lifecycle": lifecycle})
}

#[test]
fn a_grace_period_is_five_times_the_delay_or_more() {
    for (grace, delay, expected) in [
        (json!(null), 6, Some(6)),
        (json!(null), 7, None),
        (json!(10), 2, Some(2)),
        (json!(9), 2, None),
        (json!(0), 2, None),
        (json!(-1), 2, None),
        (json!(0), 0, None),
        (json!(90), 0, None),
        (json!(i64::MAX), u64::MAX, None),
        (json!(i64::MAX), i64::MAX as u64, Some(i64::MAX)),
    ] {
        let spec =
            json!({"containers": [web(&json!(null))], "terminationGracePeriodSeconds": grace});
        assert_eq!(delays(spec, delay), [expected], "{delay} of {grace}");
    }
}

#[test]
fn only_pods_that_are_always_restarted_are_delayed() {
    for (policy, expected) in [
        (json!(null), Some(2)),
        (json!("Always"), Some(2)),
        (json!("OnFailure"), None),
        (json!("Never"), None),
    ] {
        let spec = json!({"containers": [web(&json!(null))], "restartPolicy": policy});
        assert_eq!(delays(spec, 2), [expected], "{policy}");
    }
}

#[test]
fn whoever_says_how_it_ends_is_left_alone() {
    for (lifecycle, expected) in [
        (json!({}), Some(2)),
        (json!({"postStart": {"sleep": {"seconds": 7}}}), Some(2)),
        (json!({"preStop": {"sleep": {"seconds": 7}}}), Some(7)),
        (json!({"preStop": {"exec": {"command": ["stop"]}}}), None),
        (json!({"stopSignal": "SIGUSR1"}), None),
    ] {
        let spec = json!({"containers": [web(&lifecycle)]});
        assert_eq!(delays(spec, 2), [expected], "{lifecycle}");
    }
}

#[test]
fn only_app_containers_that_serve_a_counted_port_are_delayed() {
    let other = json!({"name": "other", "ports": [{"containerPort": 9090}]});
    let quic = json!({"name": "quic", "ports": [{"containerPort": 8080, "protocol": "UDP"}]});
    let beside = |containers: Value| delays(json!({"containers": containers}), 2);
    assert_eq!(
        beside(json!([other, web(&json!(null)), quic])),
        [None, Some(2), None]
    );
    // Nobody says whose the port is: it can only be that of the one there is.
    assert_eq!(beside(json!([other])), [Some(2)]);
    assert_eq!(beside(json!([other, quic])), [None, None]);
    let mut sidecar = web(&json!(null));
    sidecar["restartPolicy"] = json!("Always");
    let served = json!({"containers": [other], "initContainers": [sidecar]});
    assert_eq!(delays(served, 2), [None, None]);
}

#[test]
fn it_is_known_when_the_first_one_is_told_to_stop_if_all_sleep_until_then() {
    let hook = |hook: Value| web(&json!({"preStop": hook}));
    let sleeps = |seconds: i64| hook(json!({"sleep": {"seconds": seconds}}));
    let executes = hook(json!({"exec": {"command": ["stop"]}}));
    let (without, other) = (web(&json!(null)), json!({"name": "other"}));
    for (containers, delay, expected) in [
        (json!([without]), 2, Some(2)),
        (json!([without]), 0, None),
        (json!([without]), 7, None),
        (json!([without, other]), 2, Some(2)),
        (json!([sleeps(7)]), 0, Some(7)),
        (json!([sleeps(7), without]), 2, Some(2)),
        (json!([sleeps(1), without]), 2, Some(1)),
        (json!([executes]), 2, None),
        (json!([executes, without]), 2, None),
        (json!([other]), 2, Some(2)),
        (json!([other, other]), 2, None),
    ] {
        let mut spec: PodSpec = serde_json::from_value(json!({"containers": containers})).unwrap();
        let delay = Duration::from_secs(delay);
        let before = of(&spec, &counted(), delay);
        assert_eq!(before, expected.map(Duration::from_secs), "{containers}");
        give(&mut spec, &counted(), delay);
        assert_eq!(of(&spec, &counted(), delay), before, "{containers}");
    }
}
