//! Decisions that a golden file would be too long for; the others are in `tests/golden`.

use serde_json::json;

use super::*;

fn planned(ports: &[u16], admin: Option<u16>) -> PortPlan {
    let ports: Vec<_> = ports
        .iter()
        .map(|port| json!({"name": format!("p{port}"), "containerPort": port}))
        .collect();
    let pod = json!({"spec": {"containers": [{"name": "web", "ports": ports}]}});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let conditions = Conditions {
        surroundings: &Surroundings::default(),
        wanted: None,
        redirect: true,
        redirect_wanted: true,
        pod_security: PodSecurity::Privileged,
        admin,
    };
    let mut warnings = Vec::new();
    let plan = plan(&pod, pod.spec.as_ref().unwrap(), conditions, &mut warnings);
    assert_eq!(warnings.len(), plan.uncounted.len());
    plan
}

#[test]
fn the_sidecar_listens_on_the_lowest_ports_that_nobody_has() {
    let plan = planned(&[8080, 9090, 15081], Some(15080));
    let listen: Vec<_> = plan
        .counted
        .iter()
        .map(|port| (port.listen, port.app))
        .collect();
    assert_eq!(listen, [(15082, 8080), (15083, 9090), (15084, 15081)]);
}

#[test]
fn ports_beyond_what_the_sidecar_can_have_stay_uncounted() {
    let ports: Vec<_> = (1000..1100).collect();
    let plan = planned(&ports, None);
    assert_eq!(plan.counted.len(), 74);
    assert!(
        plan.counted.iter().all(|port| port.listen != 15090),
        "metrics pages are there"
    );
    assert_eq!(plan.uncounted.len(), 26);
    let last = plan.uncounted.last().unwrap();
    assert_eq!((last.app, &last.swap), (1099, &NoSwap::NoListenPort));
    assert_eq!(last.redirect, NoRedirect::NoListenPort);
}
