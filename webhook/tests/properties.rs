//! What holds for any pod: injected twice is injected once, nobody's pod is touched unasked, and what worked still does.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Container, ContainerPort, Lifecycle, Pod};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};
use stillwake_webhook::{
    authorities::Bundle,
    inject::{InjectError, Outcome, inject},
    names,
    settings::Settings,
    surroundings::{PodSecurity, Surroundings},
};

const NAMES: [&str; 4] = ["http", "grpc", "admin", "metrics"];

fn number() -> impl Strategy<Value = u16> {
    select(vec![8080, 9090, 7070, 15080, 15081])
}

/// A port of a container, referred to by name or number.
fn reference() -> impl Strategy<Value = Value> {
    prop_oneof![
        select(NAMES.to_vec()).prop_map(Value::from),
        number().prop_map(Value::from)
    ]
}

fn ports() -> impl Strategy<Value = Value> {
    let protocol = option::of(select(vec!["TCP", "UDP"]));
    let host_port = option::weighted(0.1, Just(8080));
    let port = (
        option::of(select(NAMES.to_vec())),
        number(),
        protocol,
        host_port,
    );
    vec(port, 0..4).prop_map(|ports| {
        let mut names = BTreeSet::new();
        let ports = ports.into_iter().filter(|(name, ..)| name.is_none_or(|name| names.insert(name)));
        ports
            .map(|(name, number, protocol, host_port)| {
                json!({"name": name, "containerPort": number, "protocol": protocol, "hostPort": host_port})
            })
            .collect()
    })
}

fn probe() -> impl Strategy<Value = Value> {
    prop_oneof![
        reference().prop_map(|port| json!({"httpGet": {"port": port, "path": "/"}})),
        reference().prop_map(|port| json!({"tcpSocket": {"port": port}})),
        Just(json!({"exec": {"command": ["true"]}})),
    ]
}

fn container() -> impl Strategy<Value = Value> {
    let probes = (
        option::of(probe()),
        option::of(probe()),
        option::of(probe()),
    );
    (ports(), probes, option::of(probe())).prop_map(|(ports, (live, ready, start), hook)| {
        json!({"image": "app:1", "ports": ports, "livenessProbe": live, "readinessProbe": ready, "startupProbe": start,
            "lifecycle": hook.map(|hook| json!({"preStop": hook}))})
    })
}

fn named(containers: Vec<Value>, prefix: &str) -> Vec<Value> {
    let numbered = containers.into_iter().enumerate();
    numbered
        .map(|(index, mut container)| {
            container["name"] = format!("{prefix}{index}").into();
            container
        })
        .collect()
}

prop_compose! {
    fn pod()(
        containers in vec(container(), 1..4),
        init in vec((container(), option::of(Just("Always"))), 0..3),
        volumes in option::of(Just(json!([{"name": "cache", "emptyDir": {}}]))),
        wanted in option::weighted(0.3, vec(reference(), 1..3)),
    ) -> Value {
        let init = init.into_iter().map(|(mut container, restart)| {
            container["restartPolicy"] = restart.into();
            container
        });
        let mut pod = json!({"metadata": {"generateName": "web-", "labels": {"app": "web"}}, "spec": {
            "containers": named(containers, "app"),
            "initContainers": named(init.collect(), "init"),
            "volumes": volumes,
        }});
        if let Some(wanted) = wanted {
            let wanted: Vec<_> = wanted.iter().map(|port| port.as_str().map_or(port.to_string(), str::to_owned)).collect();
            pod["metadata"]["annotations"]["stillwake.dev/ports"] = wanted.join(",").into();
        }
        pod
    }
}

prop_compose! {
    fn surroundings()(
        targets in vec((reference(), any::<bool>()), 0..3),
        policy in option::of(vec(reference(), 0..3)),
        sleeps: bool,
    ) -> Surroundings {
        let services = targets.into_iter().map(|(target, headless)| {
            let ip = headless.then_some("None");
            let ports = [json!({"port": 80, "targetPort": target})];
            let service = json!({"spec": {"selector": {"app": "web"}, "clusterIP": ip, "ports": ports}});
            Arc::new(serde_json::from_value(service).unwrap())
        });
        let policies = policy.into_iter().map(|ports| {
            let ports: Vec<_> = ports.into_iter().map(|port| json!({"port": port})).collect();
            let policy = json!({"spec": {"podSelector": {}, "ingress": [{"ports": ports}]}});
            Arc::new(serde_json::from_value(policy).unwrap())
        });
        Surroundings {
            services: services.collect(),
            network_policies: policies.collect(),
            sleeps,
            ..Surroundings::default()
        }
    }
}

fn settings(redirect: bool) -> Settings {
    Settings {
        redirect,
        activator: Some("activator:9092".to_owned()),
        default_pod_security: PodSecurity::Privileged,
        ..Settings::new("sidecar:1", vec!["aggregator:9091".to_owned()])
    }
}

fn asking(mut surroundings: Surroundings) -> Surroundings {
    let label = (names::INJECT.to_owned(), "enabled".to_owned());
    surroundings.labels.extend([label]);
    surroundings
}

fn bundle(name: &str) -> Bundle {
    Bundle {
        pem: format!("-----BEGIN CERTIFICATE-----\n{name}").into(),
        name: name.into(),
    }
}

fn injected(raw: &Value, surroundings: &Surroundings, redirect: bool) -> (Value, Outcome) {
    injected_with(Some(&bundle("one")), raw, surroundings, redirect).unwrap()
}

fn injected_with(
    bundle: Option<&Bundle>,
    raw: &Value,
    surroundings: &Surroundings,
    redirect: bool,
) -> Result<(Value, Outcome), InjectError> {
    let before: Pod = serde_json::from_value(raw.clone()).unwrap();
    let injection = inject(&settings(redirect), bundle, before, surroundings)?;
    let mut after = raw.clone();
    json_patch::patch(&mut after, &injection.patch).unwrap();
    Ok((after, injection.outcome))
}

fn running(pod: &Pod) -> Vec<&Container> {
    let spec = pod.spec.as_ref().unwrap();
    let init = spec.init_containers.iter().flatten();
    let sidecars = init.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers.iter().chain(sidecars).collect()
}

fn is_tcp(port: &ContainerPort) -> bool {
    port.protocol.as_deref() != Some("UDP")
}

/// Where a Service with this target sends traffic to.
fn found(pod: &Pod, name: &str) -> Option<(String, i32)> {
    running(pod).into_iter().find_map(|container| {
        let mut ports = container.ports.iter().flatten();
        let port = ports.find(|port| port.name.as_deref() == Some(name) && is_tcp(port))?;
        Some((container.name.clone(), port.container_port))
    })
}

/// Returns the pairs listen:app that a pod says are counted.
fn counted(pod: &Pod) -> BTreeMap<i32, i32> {
    let annotations = pod.metadata.annotations.as_ref();
    let pairs = annotations.and_then(|annotations| annotations.get(names::COUNTED_PORTS));
    let pairs = pairs.map(String::as_str).unwrap_or_default().split(',');
    let pairs = pairs.filter_map(|pair| pair.split_once(':'));
    pairs
        .map(|(listen, app)| (listen.parse().unwrap(), app.parse().unwrap()))
        .collect()
}

/// What of a container must never change: all but names of ports, how references to them are written, the ports to which
/// names moved, and a hook that sleeps, as none has here of its own.
fn essence(container: &Container, counted: &BTreeMap<i32, i32>) -> Value {
    let mut container = container.clone();
    let mut names = Vec::new();
    if let Some(lifecycle) = &mut container.lifecycle {
        lifecycle.pre_stop.take_if(|hook| hook.sleep.is_some());
    }
    container
        .lifecycle
        .take_if(|lifecycle| *lifecycle == Lifecycle::default());
    if let Some(ports) = &mut container.ports {
        ports.retain_mut(|port| {
            let app = counted.get(&port.container_port).filter(|_| is_tcp(port));
            let meant = app.copied().unwrap_or(port.container_port);
            names.extend(port.name.take().map(|name| (name, meant)));
            app.is_none()
        });
    }
    let mut value = serde_json::to_value(container).unwrap();
    resolve(&mut value, &names);
    value
}

fn resolve(value: &mut Value, names: &[(String, i32)]) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| {
            let name = names
                .iter()
                .find(|(name, _)| key == "port" && value.as_str() == Some(name));
            match name {
                Some((_, number)) => *value = (*number).into(),
                None => resolve(value, names),
            }
        }),
        Value::Array(values) => values.iter_mut().for_each(|value| resolve(value, names)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn twice_is_once_whatever_became_of_the_authorities(
        pod in pod(),
        surroundings in surroundings(),
        redirect: bool,
        later in option::of(select(vec!["one", "two"])),
    ) {
        let surroundings = asking(surroundings);
        let (once, _) = injected(&pod, &surroundings, redirect);
        let later = later.map(bundle);
        let (twice, _) = injected_with(later.as_ref(), &once, &surroundings, redirect).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn unasked_nothing_is_touched(
        pod in pod(),
        surroundings in surroundings(),
        redirect: bool,
        bundle in option::of(Just(bundle("one"))),
    ) {
        let (after, outcome) = injected_with(bundle.as_ref(), &pod, &surroundings, redirect).unwrap();
        prop_assert_eq!(after, pod);
        prop_assert!(matches!(outcome, Outcome::Left(_)));
    }

    #[test]
    fn without_authorities_exactly_what_would_be_injected_is_an_error(
        pod in pod(),
        surroundings in surroundings(),
        redirect: bool,
    ) {
        let surroundings = asking(surroundings);
        let with = injected(&pod, &surroundings, redirect);
        match injected_with(None, &pod, &surroundings, redirect) {
            Ok(without) => prop_assert_eq!(with, without),
            Err(InjectError::Authorities(_)) => prop_assert_eq!(with.1, Outcome::Injected),
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn the_apps_containers_mean_what_they_meant(pod in pod(), surroundings in surroundings(), redirect: bool) {
        let (after, _) = injected(&pod, &asking(surroundings), redirect);
        let before: Pod = serde_json::from_value(pod).unwrap();
        let after: Pod = serde_json::from_value(after).unwrap();
        let counted = counted(&after);
        let essences = |pod: &Pod, counted: &BTreeMap<i32, i32>| {
            let spec = pod.spec.clone().unwrap();
            let init = spec.init_containers.unwrap_or_default();
            let all = spec.containers.into_iter().chain(init);
            let own = all.filter(|container| ![names::SIDECAR, names::REDIRECT].contains(&container.name.as_str()));
            own.map(|container| essence(&container, counted)).collect::<Vec<_>>()
        };
        prop_assert_eq!(essences(&before, &BTreeMap::new()), essences(&after, &counted));
    }

    #[test]
    fn a_name_leads_to_where_it_led_or_to_the_sidecar_in_front_of_it(pod in pod(), surroundings in surroundings(), redirect: bool) {
        let (after, _) = injected(&pod, &asking(surroundings), redirect);
        let before: Pod = serde_json::from_value(pod).unwrap();
        let after: Pod = serde_json::from_value(after).unwrap();
        let counted = counted(&after);
        for name in NAMES {
            let is = found(&after, name).map(|(container, port)| {
                (container, counted.get(&port).copied().unwrap_or(port))
            });
            prop_assert_eq!(found(&before, name), is);
        }
        for port in running(&after).into_iter().flat_map(|container| container.ports.iter().flatten()) {
            if is_tcp(port) && counted.contains_key(&port.container_port) {
                let name = port.name.as_deref().unwrap();
                prop_assert_eq!(found(&after, name).map(|(_, port)| port), Some(port.container_port));
            }
        }
    }

    #[test]
    fn the_sidecar_listens_where_nobody_else_does(pod in pod(), surroundings in surroundings(), redirect: bool) {
        let (after, outcome) = injected(&pod, &asking(surroundings), redirect);
        let before: Pod = serde_json::from_value(pod).unwrap();
        let after: Pod = serde_json::from_value(after).unwrap();
        let counted = counted(&after);
        prop_assert_eq!(counted.is_empty(), outcome != Outcome::Injected);
        let declared = running(&before).into_iter().flat_map(|container| container.ports.iter().flatten());
        for port in declared.filter(|port| is_tcp(port)) {
            prop_assert!(!counted.contains_key(&port.container_port), "{:?}", counted);
        }
    }
}
