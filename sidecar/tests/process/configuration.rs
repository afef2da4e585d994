//! What the process says and returns when it cannot start.

use tokio::net::TcpListener;

use crate::harness::Sidecar;

#[tokio::test]
async fn everything_wrong_is_named_together() {
    let sidecar = Sidecar::start(&[
        ("PORTS", "eighty"),
        ("AGGREGATORS", "aggregator:9091"),
        ("DRAIN_GRACE", "soon"),
    ]);
    let (status, log) = sidecar.ended().await;
    assert_eq!(status.code(), Some(64), "{log}");
    for named in [
        "STILLWAKE_SIDECAR_PORTS is \"eighty\"",
        "STILLWAKE_SIDECAR_POD_UID is not set",
        "STILLWAKE_SIDECAR_DRAIN_GRACE is \"soon\"",
    ] {
        assert!(log.contains(named), "{named} is missing from:\n{log}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_a_failure_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let ports = format!("{}:9", address.port());
    let (status, log) = Sidecar::start(&[("PORTS", &ports)]).ended().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains(&format!("cannot listen on {address}")),
        "{log}"
    );
}

#[tokio::test]
async fn a_command_that_there_is_not_is_a_usage_error_that_says_which_there_are() {
    for arguments in [&["serve"][..], &["drain", "now"], &["redirect", "8080"]] {
        let (status, log) = Sidecar::command(arguments, &[]).ended().await;
        assert_eq!(status.code(), Some(64), "{log}");
        for named in [arguments[0], "stillwake-sidecar drain", "LISTEN:APP"] {
            assert!(log.contains(named), "{named} is missing from:\n{log}");
        }
    }
}
