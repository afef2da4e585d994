//! What the sidecar is told, compared with what it reads.

use std::collections::BTreeSet;

use super::*;
use crate::annotations;

fn everything_said() -> Container {
    with_grace(Some(5))
}

fn with_grace(seconds: Option<i64>) -> Container {
    let settings = Settings {
        admin: Some(([0, 0, 0, 0], 15090).into()),
        activator: Some("activator:9092".to_owned()),
        ..Settings::new(
            "sidecar:1",
            vec!["one:9091".to_owned(), "two:9091".to_owned()],
        )
    };
    let values = [
        ("ignore-paths", "/$(HOME),/b"),
        ("ignore-user-agents", "Checker/"),
        ("idle-window", "5s"),
        ("linger", "3s"),
        ("log-level", "debug"),
    ];
    let values = values.map(|(name, value)| (format!("stillwake.dev/{name}"), value.to_owned()));
    let overrides = annotations::read(&values.into(), &Share::default(), &mut Vec::new());
    let spec = serde_json::from_value(serde_json::json!({
        "containers": [{"name": "web", "readinessProbe": {"tcpSocket": {"port": 9090}}}],
        "terminationGracePeriodSeconds": seconds,
    }));
    made(&settings, &overrides, &spec.unwrap())
}

fn made(settings: &Settings, overrides: &Overrides, spec: &PodSpec) -> Container {
    let takeover = Takeover::NameSwap("http".to_owned());
    let counted = [Counted {
        listen: 15080,
        app: 8080,
        takeover,
    }];
    let (pem, name) = ("-----BEGIN CERTIFICATE-----".into(), "one".into());
    let bundle = Bundle { pem, name };
    let stop_delay = Some(Duration::from_secs(2));
    container(
        settings,
        overrides,
        Some(&bundle),
        spec,
        &counted,
        stop_delay,
    )
}

/// Returns what the variables say of going away: the activator, the linger, and when the app is told to stop.
fn successor(
    settings: &Settings,
    linger: Option<&str>,
    policy: Option<&str>,
) -> [Option<String>; 3] {
    let annotations = linger.map(|linger| ("stillwake.dev/linger".to_owned(), linger.to_owned()));
    let annotations = annotations.into_iter().collect();
    let overrides = annotations::read(&annotations, &Share::default(), &mut Vec::new());
    let spec = PodSpec {
        restart_policy: policy.map(str::to_owned),
        ..PodSpec::default()
    };
    let container = made(settings, &overrides, &spec);
    ["ACTIVATOR", "LINGER", "STOP_DELAY"].map(|name| {
        let name = variable(name);
        let mut variables = container.env.iter().flatten();
        let found = variables.find(|variable| variable.name == name);
        found.and_then(|variable| variable.value.clone())
    })
}

#[test]
fn a_pod_that_is_replaced_hands_over_what_comes_late() {
    let activator = Some("activator:9092".to_owned());
    let settings = Settings {
        activator: activator.clone(),
        linger: Duration::from_millis(2500),
        ..Settings::new("sidecar:1", Vec::new())
    };
    let said = |linger: &str| {
        let linger = Some(linger.to_owned());
        [activator.clone(), linger, Some("2s".to_owned())]
    };
    assert_eq!(successor(&settings, None, None), said("2500ms"));
    let told = successor(&settings, Some("1m"), Some("Always"));
    assert_eq!(told, said("1m"));
    let nothing = [None, None, None];
    for policy in ["Never", "OnFailure"] {
        assert_eq!(successor(&settings, Some("1m"), Some(policy)), nothing);
    }
    let alone = Settings::new("sidecar:1", Vec::new());
    assert_eq!(successor(&alone, Some("1m"), None), nothing);
}

fn value(container: &Container, name: &str) -> String {
    let name = variable(name);
    let mut variables = container.env.iter().flatten();
    let found = variables.find(|variable| variable.name == name);
    found.unwrap().value.clone().unwrap()
}

#[test]
fn only_variables_are_written_that_the_sidecar_reads() {
    let page = include_str!("../../../docs/reference/sidecar-environment.md");
    let listed = page.lines().filter_map(|line| line.strip_prefix("## `"));
    let listed: BTreeSet<_> = listed.map(|name| name.trim_end_matches('`')).collect();
    let container = everything_said();
    let written: BTreeSet<_> = container
        .env
        .iter()
        .flatten()
        .map(|variable| variable.name.as_str())
        .collect();
    let left: Vec<_> = listed.difference(&written).copied().collect();
    assert!(written.is_subset(&listed), "{written:?}");
    // The address is all of them, and logs are text.
    assert_eq!(
        left,
        ["STILLWAKE_SIDECAR_ADDRESS", "STILLWAKE_SIDECAR_LOG_FORMAT"]
    );
}

#[test]
fn a_value_reaches_the_sidecar_as_it_was_given() {
    let container = everything_said();
    let value = |name: &str| value(&container, name);
    assert_eq!(value("IGNORE_PATHS"), "/$$(HOME),/b");
    assert_eq!(value("AGGREGATORS"), "one:9091,two:9091");
    assert_eq!(value("LOG"), "warn,stillwake=debug");
    assert_eq!(value("AGGREGATOR_CA"), "-----BEGIN CERTIFICATE-----");
}

#[test]
fn requests_in_flight_get_as_long_as_the_pod_has() {
    for (seconds, expected) in [
        (None, "30s"),
        (Some(0), "0s"),
        (Some(1), "1s"),
        (Some(90), "90s"),
        (Some(-1), "0s"),
    ] {
        assert_eq!(value(&with_grace(seconds), "DRAIN_GRACE"), expected);
    }
}
