//! Who gets which connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    pod::{POD_V4, POD_V6, Pod},
    server::{Client, Server},
};

#[test]
fn connections_from_outside_reach_the_sidecar_which_is_told_what_was_dialled() {
    let Some(pod) = Pod::start("redirecting connections from outside") else {
        return;
    };
    let _app = Server::start(&pod.inside, "app", 8080);
    let _sidecar = Server::start(&pod.inside, "sidecar", 15080);
    let ask = |address| pod.outside_asks(address, 8080).unwrap();
    assert_eq!(ask(POD_V4), "app 10.80.0.2:8080");
    assert_eq!(ask(POD_V6), "app [fd80::2]:8080");

    pod.apply(&[(15080, 8080)]).unwrap();
    assert_eq!(ask(POD_V4), "sidecar 10.80.0.2:8080");
    assert_eq!(ask(POD_V6), "sidecar [fd80::2]:8080");
}

#[test]
fn connections_inside_the_pod_reach_the_app() {
    let Some(pod) = Pod::start("connections inside the pod") else {
        return;
    };
    let _app = Server::start(&pod.inside, "app", 8080);
    let _sidecar = Server::start(&pod.inside, "sidecar", 15080);
    pod.apply(&[(15080, 8080)]).unwrap();
    // As the sidecar and the pod's other containers dial it.
    let local = [
        POD_V4,
        POD_V6,
        Ipv4Addr::LOCALHOST.into(),
        Ipv6Addr::LOCALHOST.into(),
    ];
    for address in local {
        let answer = pod.inside_asks(address, 8080).unwrap();
        assert!(answer.starts_with("app "), "{address}: {answer}");
    }
}

#[test]
fn connections_from_the_pod_to_others_are_untouched() {
    let Some(pod) = Pod::start("connections from the pod to others") else {
        return;
    };
    let _sidecar = Server::start(&pod.inside, "sidecar", 15080);
    let _other = Server::start(&pod.outside, "other", 8080);
    pod.apply(&[(15080, 8080)]).unwrap();
    let other = IpAddr::V4(Ipv4Addr::new(10, 80, 0, 1));
    let answer = pod.inside_asks(other, 8080).unwrap();
    assert_eq!(answer, "other 10.80.0.1:8080");
}

#[test]
fn each_port_has_its_own_way_and_others_have_none() {
    let Some(pod) = Pod::start("redirecting two ports") else {
        return;
    };
    let _servers = [
        Server::start(&pod.inside, "app", 8080),
        Server::start(&pod.inside, "app", 9090),
        Server::start(&pod.inside, "first", 15080),
        Server::start(&pod.inside, "second", 15081),
        Server::start(&pod.inside, "untouched", 9091),
    ];
    pod.apply(&[(15080, 8080), (15081, 9090)]).unwrap();
    let ask = |port| pod.outside_asks(POD_V4, port).unwrap();
    assert_eq!(ask(8080), "first 10.80.0.2:8080");
    assert_eq!(ask(9090), "second 10.80.0.2:9090");
    assert_eq!(ask(9091), "untouched 10.80.0.2:9091");
    assert_eq!(ask(15080), "first 10.80.0.2:15080");
}

#[test]
fn redirected_connections_outlive_a_second_call() {
    let Some(pod) = Pod::start("connections over a second call") else {
        return;
    };
    let _sidecar = Server::start(&pod.inside, "sidecar", 15080);
    pod.apply(&[(15080, 8080)]).unwrap();
    for address in [POD_V4, POD_V6] {
        let mut client = Client::connect(&pod.outside, (address, 8080).into()).unwrap();
        assert_eq!(client.echo("before").unwrap(), "before");
        pod.apply(&[(15080, 8080)]).unwrap();
        assert_eq!(client.echo("after").unwrap(), "after");
    }
}
