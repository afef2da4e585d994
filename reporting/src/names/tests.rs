//! Names against a name server on loopback, and against none.

use super::{scripted::NameServer, *};

/// What kubelets write for a pod in the namespace `shop`.
const POD: &str = "search shop.svc.test svc.test test\noptions ndots:5";

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    let parsed = texts.iter().map(|text| text.parse().unwrap());
    parsed.collect()
}

async fn found(machine: Machine, host: &str) -> Vec<IpAddr> {
    let mut found = machine.addresses(host).await.unwrap();
    found.sort();
    found
}

/// A machine without an `/etc/resolv.conf`.
fn without_servers() -> Machine {
    Machine {
        hosts: String::new(),
        servers: Err(io::ErrorKind::NotFound.into()),
        port: PORT,
    }
}

#[tokio::test]
async fn a_name_has_all_its_addresses_of_both_families_at_each_moment() {
    let server = NameServer::start().await;
    server.set("reports.test.", &["10.0.0.2", "fd00::1", "10.0.0.1"]);
    let of_both = addresses(&["10.0.0.1", "10.0.0.2", "fd00::1"]);
    assert_eq!(found(server.machine("", ""), "reports.test").await, of_both);
    server.set("reports.test.", &["fd00::1"]);
    let of_one = addresses(&["fd00::1"]);
    assert_eq!(found(server.machine("", ""), "reports.test").await, of_one);
}

#[tokio::test]
async fn short_names_go_through_the_search_list_in_its_order() {
    let server = NameServer::start().await;
    server.set("reports.system.svc.test.", &["10.0.0.1"]);
    server.set("reports.system.test.", &["10.0.0.2"]);
    let first = addresses(&["10.0.0.1"]);
    assert_eq!(
        found(server.machine(POD, ""), "reports.system").await,
        first
    );
    let asked = ["reports.system.shop.svc.test.", "reports.system.svc.test."];
    assert_eq!(server.asked(), asked);
}

#[tokio::test]
async fn names_with_enough_dots_or_a_last_one_are_asked_for_as_they_are() {
    let server = NameServer::start().await;
    for host in ["a.b.c.d.e.test", "reports.test."] {
        server.set(&format!("{}.", host.trim_end_matches('.')), &["10.0.0.1"]);
        assert_eq!(
            found(server.machine(POD, ""), host).await,
            addresses(&["10.0.0.1"])
        );
    }
    assert_eq!(server.asked(), ["a.b.c.d.e.test.", "reports.test."]);
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_an_error_as_is_one_without_addresses() {
    let server = NameServer::start().await;
    server.set("empty.test.", &[]);
    for host in ["unknown.test", "empty.test"] {
        let error = server.machine(POD, "").addresses(host).await.unwrap_err();
        assert!(matches!(error, LookupError::Unknown), "{host}: {error}");
    }
}

#[tokio::test]
async fn the_hosts_file_comes_before_name_servers_are_asked() {
    let server = NameServer::start().await;
    let hosts = "10.0.0.9 Reports other # comment\nfd00::9 reports\n";
    let listed = addresses(&["10.0.0.9", "fd00::9"]);
    assert_eq!(found(server.machine(POD, hosts), "reports").await, listed);
    assert_eq!(server.asked(), [""; 0]);
}

#[tokio::test]
async fn without_name_servers_localhost_is_found_and_the_reason_told_for_the_rest() {
    let loopback = addresses(&["127.0.0.1", "::1"]);
    assert_eq!(found(without_servers(), "localhost").await, loopback);
    let error = without_servers()
        .addresses("reports.test")
        .await
        .unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("/etc/resolv.conf") && error.contains("not found"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_is_away_or_fails_is_named_with_the_reason() {
    let server = NameServer::start().await;
    let mut machine = server.machine("options timeout:1 attempts:1", "");
    // Nothing can listen there.
    machine.port = 0;
    for (machine, host, why) in [
        (machine, "reports.test.", "127.0.0.1:0: "),
        (
            server.machine("options attempts:1", ""),
            "broken.test.",
            "SERVFAIL",
        ),
    ] {
        let error = machine.addresses(host).await.unwrap_err();
        assert!(matches!(error, LookupError::NoAnswer(_)), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_fails() {
    let server = NameServer::start().await;
    server.set("reports.test.", &["10.0.0.1"]);
    let mut machine = server.machine("options timeout:1 attempts:1", "");
    let servers = &mut machine.servers.as_mut().unwrap().nameservers;
    // Nobody has this address.
    servers.insert(0, "127.255.255.254".parse().unwrap());
    assert_eq!(
        found(machine, "reports.test.").await,
        addresses(&["10.0.0.1"])
    );
}

#[tokio::test]
async fn an_answer_too_long_for_a_datagram_is_fetched_whole() {
    let server = NameServer::start().await;
    let many: Vec<_> = (0..100).map(|number| format!("10.0.0.{number}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    server.set("reports.test.", &many);
    assert_eq!(
        found(server.machine("", ""), "reports.test").await,
        addresses(&many)
    );
}

#[tokio::test]
async fn what_can_be_no_name_is_refused() {
    let server = NameServer::start().await;
    let long = "x".repeat(64);
    for host in ["a..b", long.as_str(), "é.test"] {
        let error = server.machine("", "").addresses(host).await.unwrap_err();
        assert!(matches!(error, LookupError::NotName(_)), "{host}: {error}");
    }
}

#[test]
fn what_is_not_host_and_port_is_refused() {
    assert_eq!(
        host_and_port("reports.system.svc.:9091").unwrap(),
        ("reports.system.svc.", 9091)
    );
    assert_eq!(host_and_port("[fd00::1]:9091").unwrap(), ("fd00::1", 9091));
    for wrong in [
        "reports",
        ":9091",
        "reports:",
        "reports:http",
        "reports:99999",
    ] {
        let error = host_and_port(wrong).unwrap_err();
        assert!(matches!(error, LookupError::NotHostAndPort(_)), "{wrong}");
    }
}
