//! Annotations as people get them right and wrong.

use super::*;

fn read_all(pairs: &[(&str, &str)]) -> (Overrides, Vec<String>) {
    let annotations = pairs
        .iter()
        .map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned()))
        .collect();
    let mut warnings = Vec::new();
    let overrides = read(&annotations, &Resources::default(), &mut warnings);
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
        ignore_paths: Vec::new(),
        ignore_user_agents: Vec::new(),
        idle_window: None,
        log_level: None,
        resources: Resources::default(),
    };
    assert_eq!(overrides, expected);
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn every_annotation_is_read() {
    let (overrides, warnings) = read_all(&[
        ("ports", "http, 9090"),
        ("ignore-paths", "/health,/metrics"),
        ("ignore-user-agents", "Checker/, Up Time"),
        ("idle-window", "5m"),
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
        ignore_paths: vec!["/health".to_owned(), "/metrics".to_owned()],
        ignore_user_agents: vec!["Checker/".to_owned(), "Up Time".to_owned()],
        idle_window: Some("5m".to_owned()),
        log_level: Some("debug".to_owned()),
        resources: Resources {
            cpu_request: "10m".to_owned(),
            memory_request: "16Mi".to_owned(),
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
        ("ignore-paths", "health"),
        ("ignore-user-agents", " , "),
        ("idle-window", "60"),
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
    assert_eq!(overrides.resources, Resources::default());
    assert!(warnings[0].contains("more than the limit"), "{warnings:?}");
    let mut warnings = Vec::new();
    let annotations = BTreeMap::from([(MEMORY_LIMIT.name.to_owned(), "16Mi".to_owned())]);
    let large = Resources {
        memory_request: "20Mi".to_owned(),
        ..Resources::default()
    };
    let overrides = read(&annotations, &large, &mut warnings);
    assert_eq!(overrides.resources.memory_request, "16Mi");
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
    assert!(warnings[1].contains("ports, ignore-paths"), "{warnings:?}");
}
