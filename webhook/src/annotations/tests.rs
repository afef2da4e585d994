//! Annotations as people get them right and wrong.

use super::*;

/// What the sidecar takes of most pods.
fn usual() -> Share {
    Share::of(&PodSpec::default(), &Resources::default())
}

fn read_all(pairs: &[(&str, &str)]) -> (Overrides, Vec<String>) {
    let annotations = pairs
        .iter()
        .map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned()))
        .collect();
    let mut warnings = Vec::new();
    let overrides = read(&annotations, &usual(), &mut warnings);
    (
        overrides,
        warnings
            .into_iter()
            .map(|warning| warning.message)
            .collect(),
    )
}

#[test]
fn a_pod_without_annotations_has_the_defaults() {
    let (overrides, warnings) = read_all(&[]);
    let expected = Overrides {
        ports: None,
        redirect: true,
        ignore_paths: Vec::new(),
        ignore_user_agents: Vec::new(),
        idle_window: None,
        linger: None,
        stop_delay: None,
        log_level: None,
        resources: usual(),
    };
    assert_eq!(overrides, expected);
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn every_annotation_is_read() {
    let (overrides, warnings) = read_all(&[
        ("ports", "http, 9090"),
        ("redirect", "disabled"),
        ("ignore-paths", "/health,/metrics"),
        ("ignore-user-agents", "Checker/, Up Time"),
        ("idle-window", "5m"),
        ("linger", "10s"),
        ("stop-delay", "3000ms"),
        ("log-level", "debug"),
        ("cpu-request", "10m"),
        ("cpu-limit", "0.5"),
        ("memory-request", "16Mi"),
        ("memory-limit", "32Mi"),
        ("counted-ports", "left from before"),
    ]);
    let expected = Overrides {
        ports: Some(vec![
            PortReference::Name("http".to_owned()),
            PortReference::Number(9090),
        ]),
        redirect: false,
        ignore_paths: vec!["/health".to_owned(), "/metrics".to_owned()],
        ignore_user_agents: vec!["Checker/".to_owned(), "Up Time".to_owned()],
        idle_window: Some("5m".to_owned()),
        linger: Some("10s".to_owned()),
        stop_delay: Some(Duration::from_secs(3)),
        log_level: Some("debug".to_owned()),
        resources: Share {
            cpu_request: Some("10m".to_owned()),
            memory_request: Some("16Mi".to_owned()),
            cpu_limit: Some("0.5".to_owned()),
            memory_limit: Some("32Mi".to_owned()),
        },
    };
    assert_eq!(overrides, expected);
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn nonsense_is_named_with_what_would_be_right_and_changes_nothing() {
    for (name, value) in [
        ("ports", ""),
        ("ports", "http,"),
        ("ports", "0"),
        ("ports", "70000"),
        ("ports", "HTTP"),
        ("redirect", "false"),
        ("ignore-paths", "health"),
        ("ignore-user-agents", " , "),
        ("idle-window", "60"),
        ("linger", "5"),
        ("stop-delay", "5"),
        ("stop-delay", "1500ms"),
        ("stop-delay", "-1s"),
        ("stop-delay", "25h"),
        ("idle-window", "-1s"),
        ("idle-window", "25h"),
        ("idle-window", "18446744073709551615h"),
        ("log-level", "loud"),
        ("cpu-request", "lots"),
        ("cpu-limit", "1m"),
        ("memory-request", "8MB"),
        ("memory-limit", "1Mi"),
    ] {
        let (overrides, warnings) = read_all(&[(name, value)]);
        if value == "http," {
            // An empty part is a slip that leaves no doubt.
            assert_eq!((overrides.ports.unwrap().len(), warnings.len()), (1, 0));
            continue;
        }
        assert_eq!(overrides, read_all(&[]).0, "{name}={value}");
        let annotation = ANNOTATIONS
            .iter()
            .find(|known| known.name.ends_with(name))
            .unwrap();
        assert_eq!(warnings.len(), 1, "{name}={value}: {warnings:?}");
        assert!(warnings[0].contains(annotation.name), "{warnings:?}");
        assert!(warnings[0].contains(annotation.takes), "{warnings:?}");
    }
}

#[test]
fn a_request_never_exceeds_its_limit() {
    let (overrides, warnings) = read_all(&[("memory-request", "64Mi"), ("memory-limit", "32Mi")]);
    assert_eq!(overrides.resources, usual());
    assert!(warnings[0].contains("more than the limit"), "{warnings:?}");
    let mut warnings = Vec::new();
    let annotations = BTreeMap::from([(MEMORY_LIMIT.name.to_owned(), "16Mi".to_owned())]);
    let large = Share {
        memory_request: Some("20Mi".to_owned()),
        ..usual()
    };
    let overrides = read(&annotations, &large, &mut warnings);
    assert_eq!(overrides.resources.memory_request.as_deref(), Some("16Mi"));
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn an_annotation_that_does_not_exist_is_named_with_those_that_do() {
    let (_, warnings) = read_all(&[("port", "8080"), ("inject", "enabled")]);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("it is a label"), "{warnings:?}");
    assert!(
        warnings[1].contains("\"stillwake.dev/port\""),
        "{warnings:?}"
    );
    assert!(
        warnings[1].contains("ports, redirect, ignore-paths"),
        "{warnings:?}"
    );
}

#[test]
fn a_pod_with_resources_as_a_whole_gives_the_sidecar_none_of_its_own_unless_it_says_so() {
    let limited = Resources {
        cpu_limit: Some("100m".to_owned()),
        memory_limit: Some("32Mi".to_owned()),
        ..Resources::default()
    };
    let shared = |resources: serde_json::Value, own: Option<(&str, &str)>| {
        let spec = serde_json::json!({"containers": [], "resources": resources});
        let share = Share::of(&serde_json::from_value(spec).unwrap(), &limited);
        let own = own.map(|(name, value)| (format!("{PREFIX}{name}"), value.to_owned()));
        let mut warnings = Vec::new();
        let overrides = read(&own.into_iter().collect(), &share, &mut warnings);
        assert!(warnings.is_empty(), "{warnings:?}");
        let Share {
            cpu_request,
            memory_request,
            cpu_limit,
            memory_limit,
        } = overrides.resources;
        [cpu_request, cpu_limit, memory_request, memory_limit].map(Option::unwrap_or_default)
    };
    let nothing = serde_json::json!({});
    assert_eq!(shared(nothing, None), ["5m", "100m", "8Mi", "32Mi"]);
    let cpu = serde_json::json!({"limits": {"cpu": "1"}});
    assert_eq!(shared(cpu.clone(), None), ["", "", "8Mi", "32Mi"]);
    let own = Some(("cpu-request", "50m"));
    assert_eq!(shared(cpu, own), ["50m", "", "8Mi", "32Mi"]);
    let both = serde_json::json!({"requests": {"cpu": "1", "memory": "1Gi"}});
    assert_eq!(shared(both, None), ["", "", "", ""]);
}
