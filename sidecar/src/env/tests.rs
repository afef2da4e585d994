//! The configuration as people get it right and wrong.

use std::os::unix::ffi::OsStringExt as _;

use super::*;

fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::read(|name| {
        let name = name.strip_prefix("STILLWAKE_SIDECAR_").unwrap();
        let found = variables.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| OsString::from(value))
    })
}

/// Returns the certificate of a new authority as PEM.
fn authority() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::default();
    params.self_signed(&key).unwrap().pem()
}

/// Returns the complaint about a configuration that is right but for `variables`.
fn complaint(variables: &[(&str, &str)]) -> String {
    let mut all = vec![("PORTS", "15080:8080")];
    all.retain(|(name, _)| variables.iter().all(|(other, _)| other != name));
    all.extend(variables);
    read(&all).unwrap_err().to_string()
}

#[test]
fn the_ports_alone_are_enough() {
    let config = read(&[("PORTS", "15080:8080"), ("AGGREGATORS", "")]).unwrap();
    let pair = PortPair {
        listen: 15080,
        app: 8080,
    };
    let expected = Config {
        ports: vec![pair],
        address: None,
        aggregators: Vec::new(),
        trust: None,
        pod: PodIdentity::default(),
        readiness: ReadinessCheck::Tcp { port: 8080 },
        token_file: None,
        admin: None,
        control: None,
        ignore_paths: Vec::new(),
        ignore_user_agents: Vec::new(),
        idle_window: Duration::from_mins(1),
        drain_grace: Duration::from_secs(30),
        activator: None,
        linger: Duration::from_secs(5),
        stop_delay: None,
        log_filter: "warn,stillwake=info".to_owned(),
        log_format: Format::Text,
    };
    assert_eq!(config, expected);
    assert_eq!(config.app_address(), IpAddr::from([127, 0, 0, 1]));
}

#[test]
fn every_variable_is_read() {
    let bundle = [authority(), authority()].concat();
    let config = read(&[
        ("PORTS", "15080:8080, 0:9090"),
        ("ADDRESS", "::"),
        ("AGGREGATORS", "aggregator.stillwake-system:9091,[::1]:9091"),
        ("AGGREGATOR_CA", &bundle),
        ("POD_NAMESPACE", "shop"),
        ("POD_NAME", "web-1"),
        ("POD_UID", "u-1"),
        ("POD_ADDRESS", "10.0.0.7"),
        ("READINESS", "http:9090/health?deep=1"),
        ("TOKEN_FILE", "/var/run/token"),
        ("ADMIN", "[::]:15090"),
        ("CONTROL", "stillwake"),
        ("IGNORE_PATHS", "/health,/metrics"),
        ("IGNORE_USER_AGENTS", "Checker/, Other"),
        ("IDLE_WINDOW", "1m"),
        ("DRAIN_GRACE", "250ms"),
        ("ACTIVATOR", "activator.stillwake-system:9092"),
        ("LINGER", "3s"),
        ("STOP_DELAY", "2s"),
        ("LOG", "debug"),
        ("LOG_FORMAT", "json"),
    ])
    .unwrap();
    let pairs: Vec<_> = config
        .ports
        .iter()
        .map(|pair| (pair.listen, pair.app))
        .collect();
    assert_eq!(pairs, [(15080, 8080), (0, 9090)]);
    assert_eq!(config.address, Some(IpAddr::from([0; 16])));
    let expected = ["aggregator.stillwake-system:9091", "[::1]:9091"];
    assert_eq!(config.aggregators, expected);
    assert_eq!(config.trust, Some(Trust::from_pem(&bundle).unwrap()));
    let pod = PodIdentity {
        namespace: "shop".to_owned(),
        name: "web-1".to_owned(),
        uid: "u-1".to_owned(),
        address: Some(IpAddr::from([10, 0, 0, 7])),
    };
    assert_eq!(config.pod, pod);
    let readiness = ReadinessCheck::Http {
        port: 9090,
        path: "/health?deep=1".to_owned(),
    };
    assert_eq!(config.readiness, readiness);
    assert_eq!(config.token_file, Some("/var/run/token".into()));
    assert_eq!(config.admin, Some("[::]:15090".parse().unwrap()));
    assert_eq!(config.control.as_deref(), Some("stillwake"));
    assert_eq!(config.ignore_paths, ["/health", "/metrics"]);
    assert_eq!(config.ignore_user_agents, ["Checker/", "Other"]);
    assert_eq!(config.idle_window, Duration::from_mins(1));
    assert_eq!(config.drain_grace, Duration::from_millis(250));
    let activator = config.activator.as_deref();
    assert_eq!(activator, Some("activator.stillwake-system:9092"));
    assert_eq!(config.linger, Duration::from_secs(3));
    assert_eq!(config.stop_delay, Some(Duration::from_secs(2)));
    assert_eq!(config.log_filter, "debug");
    assert_eq!(config.log_format, Format::Json);
    assert_eq!(config.app_address(), IpAddr::from([10, 0, 0, 7]));
}

#[test]
fn everything_wrong_is_named_together_with_what_was_given_and_what_is_taken() {
    let long = "x".repeat(108);
    let quoted = format!("{long:?}");
    let error = complaint(&[
        ("PORTS", "8080"),
        ("ADDRESS", "localhost"),
        ("AGGREGATORS", "aggregator"),
        ("AGGREGATOR_CA", "/etc/ca.crt"),
        ("READINESS", "exec:true"),
        ("ADMIN", "15090"),
        ("CONTROL", &long),
        ("IGNORE_PATHS", "/a,health"),
        ("IDLE_WINDOW", "60"),
        ("DRAIN_GRACE", "soon"),
        ("ACTIVATOR", "activator"),
        ("LINGER", "5"),
        ("LOG", "stillwake=loud"),
        ("LOG_FORMAT", "xml"),
    ]);
    let lines: Vec<_> = error.lines().skip(1).collect();
    for (variable, got) in [
        (&PORTS, "\"8080\""),
        (&ADDRESS, "\"localhost\""),
        (&AGGREGATORS, "\"aggregator\""),
        (
            &AGGREGATOR_CA,
            "\"/etc/ca.crt\", where there is no certificate",
        ),
        (&POD_NAMESPACE, "not set"),
        (&POD_NAME, "not set"),
        (&POD_UID, "not set"),
        (&POD_ADDRESS, "not set"),
        (&READINESS, "\"exec:true\""),
        (&ADMIN, "\"15090\""),
        (&CONTROL, &quoted),
        (&IGNORE_PATHS, "\"/a,health\""),
        (&IDLE_WINDOW, "\"60\""),
        (&DRAIN_GRACE, "\"soon\""),
        (&ACTIVATOR, "\"activator\""),
        (&LINGER, "\"5\""),
        (&LOG, "\"stillwake=loud\""),
        (&LOG_FORMAT, "\"xml\""),
    ] {
        let named = lines.iter().filter(|line| {
            line.trim_start()
                .starts_with(&format!("{} is {got}", variable.name))
                && line.ends_with(&format!("it takes {}", variable.takes))
        });
        assert_eq!(named.count(), 1, "{} in:\n{error}", variable.name);
    }
    assert_eq!(lines.len(), 18, "{error}");
}

#[test]
fn the_ports_must_be_there_and_lead_nowhere_twice_nor_in_a_circle() {
    assert!(
        read(&[])
            .unwrap_err()
            .to_string()
            .contains("PORTS is not set")
    );
    for (ports, why) in [
        (",", "names no port"),
        ("15080:0", "port 0 is nowhere"),
        ("70000:8080", "too large"),
        ("8080:8080", "both a listen port and an app port"),
        ("15080:8080,8080:9090", "both a listen port and an app port"),
        ("15080:8080,15080:9090", "occurs twice"),
    ] {
        let error = complaint(&[("PORTS", ports)]);
        assert!(error.contains(why), "{ports}: {error}");
    }
    assert!(read(&[("PORTS", "0:8080,0:8080")]).is_ok());
}

#[test]
fn aggregators_need_a_host_and_a_port() {
    for (aggregators, why) in [
        (":9091", "no host"),
        ("one:9091,two", "\"two\" is wrong: there is no port"),
        ("one:http", "invalid digit"),
        ("::1:9091", "brackets"),
    ] {
        let error = complaint(&[("AGGREGATORS", aggregators)]);
        assert!(error.contains(why), "{aggregators}: {error}");
    }
}

#[test]
fn an_activator_needs_a_uid_that_it_can_be_told() {
    let error = complaint(&[("ACTIVATOR", "one:9092")]);
    let needs = "POD_UID is not set, which STILLWAKE_SIDECAR_ACTIVATOR needs";
    assert!(error.contains(needs), "{error}");
    let error = complaint(&[("ACTIVATOR", "one:9092"), ("POD_UID", "a b")]);
    assert!(error.contains("POD_UID is \"a b\", where"), "{error}");
    assert!(
        read(&[
            ("PORTS", "15080:8080"),
            ("ACTIVATOR", "one:9092"),
            ("POD_UID", "u-1"),
        ])
        .is_ok()
    );
}

#[test]
fn the_pod_address_falls_back_to_the_one_that_is_listened_on() {
    let reporting = [
        ("PORTS", "15080:8080"),
        ("AGGREGATORS", "one:9091"),
        ("POD_NAMESPACE", "shop"),
        ("POD_NAME", "web-1"),
        ("POD_UID", "u-1"),
    ];
    let listening = [&reporting[..], &[("ADDRESS", "127.0.0.2")]].concat();
    let config = read(&listening).unwrap();
    assert_eq!(config.pod.address, Some(IpAddr::from([127, 0, 0, 2])));
    let unspecified = [&reporting[..], &[("ADDRESS", "0.0.0.0")]].concat();
    let error = read(&unspecified).unwrap_err().to_string();
    assert!(error.contains("POD_ADDRESS is not set"), "{error}");
}

#[test]
fn readiness_checks_are_told_apart() {
    let check = |text| parse::readiness(text);
    assert_eq!(check("none"), Ok(ReadinessCheck::None));
    assert_eq!(check("tcp:80"), Ok(ReadinessCheck::Tcp { port: 80 }));
    let path = "/".to_owned();
    assert_eq!(
        check("http:80"),
        Ok(ReadinessCheck::Http { port: 80, path })
    );
    for wrong in [
        "",
        "tcp",
        "tcp:",
        "tcp:0",
        "http:/x",
        "http:80/a b",
        "grpc:80",
    ] {
        assert!(check(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn durations_are_a_whole_number_with_a_unit() {
    assert_eq!(parse::duration("0s"), Ok(Duration::ZERO));
    assert_eq!(parse::duration("250ms"), Ok(Duration::from_millis(250)));
    assert_eq!(parse::duration("2h"), Ok(Duration::from_hours(2)));
    for wrong in [
        "",
        "5",
        "s",
        "-5s",
        "1.5s",
        "5d",
        "5 s",
        "99999999999999999999s",
        "18446744073709551615h",
    ] {
        assert!(parse::duration(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn of_a_bundle_that_cannot_be_used_only_the_first_line_is_shown() {
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let error = complaint(&[("AGGREGATOR_CA", &key)]);
    let shown = "STILLWAKE_SIDECAR_AGGREGATOR_CA begins with \"-----BEGIN PRIVATE KEY-----\", where there is no";
    assert!(error.contains(shown), "{error}");
    let secret = key.lines().nth(1).unwrap();
    assert!(!error.contains(secret), "{error}");
}

#[test]
fn the_control_socket_alone_can_be_asked_for() {
    let control = |value: Option<&str>| Config::control(|_| value.map(OsString::from));
    assert_eq!(control(Some("stillwake")), Ok("stillwake".to_owned()));
    for value in [None, Some("")] {
        let error = control(value).unwrap_err().to_string();
        assert!(
            error.contains("STILLWAKE_SIDECAR_CONTROL is not set, so"),
            "{error}"
        );
    }
}

#[test]
fn a_value_that_is_no_text_is_refused() {
    let error = Config::read(|name| match name {
        "STILLWAKE_SIDECAR_PORTS" => Some(OsString::from_vec(vec![0xff])),
        _ => None,
    })
    .unwrap_err()
    .to_string();
    assert!(error.contains("which is not UTF-8"), "{error}");
}
