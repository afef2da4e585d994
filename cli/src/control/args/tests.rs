use std::ffi::OsString;

use super::*;
use crate::args::{Args, Command};

const PROCESS: [&str; 2] = ["--namespace=system", "--name=pod-1"];
const WEBHOOK: [&str; 3] = [
    "--service=hook",
    "--aggregator=reports.system.svc.cluster.local:9091",
    "--sidecar-image=sidecar:1",
];

fn read(role: &str, arguments: &[&[&str]]) -> Result<Command, String> {
    let line = ["stillwake", role].into_iter();
    let line = line.chain(arguments.iter().copied().flatten().copied());
    let read = Args::read(line.map(OsString::from));
    read.map(|args| args.command)
        .map_err(|error| error.to_string())
}

fn webhook(arguments: &[&str]) -> Result<WebhookArgs, String> {
    match read("webhook", &[&PROCESS, &WEBHOOK, arguments])? {
        Command::Webhook(args) => Ok(*args),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_defaults_are_those_of_the_libraries() {
    let args = webhook(&["--authorities-secret=ca", "--webhook-configuration=hooks"]).unwrap();
    assert_eq!(args.certificates.settings(), rotation::Settings::default());
    assert_eq!(args.lease(), Some("ca"));
    let injection = args.injection();
    let defaults = settings::Settings::new("sidecar:1", args.aggregators.clone());
    assert_eq!(format!("{injection:?}"), format!("{defaults:?}"));
}

#[test]
fn certificates_come_from_exactly_one_place() {
    let own = ["--authorities-secret=ca", "--webhook-configuration=hooks"];
    let supplied = "--certificate-secret=tls";
    assert!(webhook(&own).is_ok());
    assert!(webhook(&[supplied]).is_ok());
    assert!(webhook(&[supplied, own[1], "--publish-authorities"]).is_ok());
    for (mistake, missing) in [
        (&[][..], "--authorities-secret"),
        (&[own[0], own[1], supplied], "cannot be used with"),
        (&[own[0]], "--webhook-configuration"),
        (
            &[own[0], own[1], "--publish-authorities"],
            "--certificate-secret",
        ),
        (
            &[supplied, "--publish-authorities"],
            "--webhook-configuration",
        ),
    ] {
        let error = webhook(mistake).unwrap_err();
        assert!(error.contains(missing), "{mistake:?}: {error}");
    }
}

#[test]
fn a_user_is_a_number_or_the_platforms_choice() {
    let with = |user: &str| {
        webhook(&[
            "--certificate-secret=tls",
            &format!("--sidecar-user={user}"),
        ])
    };
    assert_eq!(with("").unwrap().sidecar_user, User(None));
    assert_eq!(with("1000").unwrap().sidecar_user, User(Some(1000)));
    for wrong in ["0", "-1", "nobody"] {
        assert!(with(wrong).unwrap_err().contains("greater than 0"));
    }
}

#[test]
fn an_app_is_told_to_stop_after_whole_seconds() {
    let with = |delay: &str| {
        let flag = format!("--stop-delay={delay}");
        webhook(&["--certificate-secret=tls", &flag]).map(|args| args.injection().stop_delay)
    };
    assert_eq!(with("0s"), Ok(Duration::ZERO));
    assert_eq!(with("1m30s"), Ok(Duration::from_secs(90)));
    assert_eq!(with("3000ms"), Ok(Duration::from_secs(3)));
    for wrong in ["1500ms", "1s1ns"] {
        let error = with(wrong).unwrap_err();
        assert!(error.contains("give whole seconds"), "{error}");
    }
    assert!(with("2").unwrap_err().contains("a number and a unit"));
}

#[test]
fn the_aggregator_needs_its_two_services() {
    let services = ["--service=scaler", "--reports-service=reports"];
    let secret = ["--authorities-secret=ca"];
    assert!(read("aggregator", &[&PROCESS, &services, &secret]).is_ok());
    let error = read("aggregator", &[&PROCESS, &services[..1], &secret]).unwrap_err();
    assert!(error.contains("--reports-service"), "{error}");
}
