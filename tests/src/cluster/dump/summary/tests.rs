//! The summary of namespaces in which something is wrong.

use super::*;

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn assert_told(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing from:\n{text}");
    }
}

#[test]
fn a_container_that_waits_or_fell_over_is_told_with_the_reason() {
    let pod = object(json!({
        "metadata": {"name": "web-1"},
        "spec": {"nodeName": "node1", "containers": []},
        "status": {
            "phase": "Pending",
            "initContainerStatuses": [{
                "name": "sidecar", "image": "", "imageID": "", "ready": false, "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}},
                "lastState": {"terminated": {"exitCode": 64, "reason": "Error", "message": "no such port"}},
            }],
            "containerStatuses": [{
                "name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ErrImageNeverPull", "message": "image is not present"}},
            }],
        },
    }));
    let facts = Facts {
        pods: vec![pod],
        ..Facts::default()
    };
    assert_told(
        &facts.text(),
        &[
            "web-1: Pending, not ready on node1",
            "container sidecar: waiting, CrashLoopBackOff: back-off 20s, not ready, 3 restarts; before that ended with code \
         64, Error: no such port",
            "container app: waiting, ErrImageNeverPull: image is not present, not ready, 0 restarts",
        ],
    );
}

#[test]
fn a_pod_that_found_no_node_is_told_with_the_schedulers_words() {
    let pod = object(json!({
        "metadata": {"name": "web-1"},
        "status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available"},
        ]},
    }));
    let facts = Facts {
        pods: vec![pod],
        ..Facts::default()
    };
    assert_told(
        &facts.text(),
        &[
            "on no node",
            "PodScheduled False, Unschedulable: 0/2 nodes are available",
        ],
    );
}

#[test]
fn warnings_are_in_order_and_come_with_how_often_they_came() {
    let event = |reason: &str, fields: Value| {
        let mut event = json!({
            "metadata": {}, "type": "Warning", "reason": reason, "message": "it said so",
            "involvedObject": {"kind": "Pod", "name": "web-1"},
        });
        event
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        object(event)
    };
    let events = vec![
        event(
            "Newest",
            json!({"eventTime": "2026-11-24T01:00:01.000000Z", "series":
            {"count": 7, "lastObservedTime": "2026-11-24T01:00:09.000000Z"}}),
        ),
        event(
            "Oldest",
            json!({"lastTimestamp": "2026-11-24T01:00:02Z", "count": 1}),
        ),
    ];
    let text = Facts {
        events,
        ..Facts::default()
    }
    .text();
    assert_told(
        &text,
        &[
            "01:00:02  Pod web-1: Oldest: it said so",
            "01:00:09  Pod web-1: Newest (7 times): it said so",
        ],
    );
    assert!(text.find("Oldest") < text.find("Newest"), "{text}");
}

#[test]
fn conditions_of_what_scales_and_endpoints_of_services_are_told() {
    let hpa = object(json!({
        "metadata": {"name": "keda-hpa-web"},
        "spec": {"maxReplicas": 10, "scaleTargetRef": {"kind": "Deployment", "name": "web"}},
        "status": {"currentReplicas": 3, "desiredReplicas": 0, "conditions": [
            {"type": "ScalingActive", "status": "False", "reason": "FailedGetExternalMetric", "message": "no answer"},
        ]},
    }));
    let scaled_object = object(json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "web"},
        "spec": {"triggers": [{"type": "external-push", "metadata": {"window": "1s"}}]},
        "status": {"conditions": [
            {"type": "Ready", "status": "False", "reason": "TriggerError", "message": "does not work"},
        ]},
    }));
    let service = object(
        json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}}),
    );
    let slice = object(json!({
        "addressType": "IPv4", "metadata": {"labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [
            {"addresses": ["10.1.0.1"], "conditions": {"ready": true}},
            {"addresses": ["10.1.0.2"], "conditions": {"ready": false}},
        ],
    }));
    let facts = Facts {
        hpas: vec![hpa],
        scaled_objects: vec![scaled_object],
        services: vec![service],
        slices: vec![slice],
        ..Facts::default()
    };
    assert_told(
        &facts.text(),
        &[
            "HorizontalPodAutoscaler keda-hpa-web: 3 now, 0 wanted",
            "ScalingActive False, FailedGetExternalMetric: no answer",
            r#"ScaledObject web, external-push {"window":"1s"}"#,
            "Ready False, TriggerError: does not work",
            "web 10.96.0.7 port 80: endpoints ready: 10.1.0.1; not ready: 10.1.0.2",
        ],
    );
}
