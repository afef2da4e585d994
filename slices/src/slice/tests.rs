//! How slices are named and written, and what counts as the same.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::board::{Listening, ServicePort};

fn replica() -> Replica {
    Replica {
        namespace: "system".to_owned(),
        pod: "activator-5d9c-x7k2p".to_owned(),
        uid: "0d3c7f8e-58d5-4b0e-9a77-1f6f3f0a9d11".to_owned(),
        addresses: vec!["10.0.3.7".parse().unwrap(), "fd00::7".parse().unwrap()],
        node: Some("node-a".to_owned()),
        zone: Some("zone-1".to_owned()),
        owner: Some(Owner {
            name: "stillwake-activator".to_owned(),
            uid: "role-uid".to_owned(),
        }),
    }
}

fn desired(service: &str, port: &str, family: Family) -> Desired {
    Desired {
        port: ServicePort {
            namespace: "shop".to_owned(),
            service: service.to_owned(),
            port: port.to_owned(),
        },
        listening: Listening {
            app_protocol: Some("kubernetes.io/h2c".to_owned()),
            families: vec![family],
            port: 20017,
        },
        family,
        ready: None,
    }
}

fn web(ready: bool) -> EndpointSlice {
    render(&replica(), &desired("web", "http", Family::IPv4), ready).unwrap()
}

/// Returns the slice as the API server shows it: with fields of its own, and what others have added.
fn shown(slice: &EndpointSlice) -> EndpointSlice {
    let mut slice = slice.clone();
    slice.metadata.uid = Some("u".to_owned());
    slice.metadata.resource_version = Some("7".to_owned());
    slice.metadata.generation = Some(1);
    let labels = slice.metadata.labels.as_mut().unwrap();
    labels.insert("of-another".to_owned(), "x".to_owned());
    let owners = slice.metadata.owner_references.as_mut().unwrap();
    owners.insert(0, OwnerReference::default());
    slice
}

#[test]
fn a_slice_says_what_data_planes_ask_for() {
    let is = serde_json::to_value(web(true)).unwrap();
    let name = is["metadata"]["name"].as_str().unwrap();
    let should = serde_json::json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": {
                "kubernetes.io/service-name": "web",
                "endpointslice.kubernetes.io/managed-by": "stillwake.dev",
                "stillwake.dev/installation": "system",
                "stillwake.dev/activator": "0d3c7f8e-58d5-4b0e-9a77-1f6f3f0a9d11",
            },
            "annotations": {"stillwake.dev/activator-pod": "activator-5d9c-x7k2p"},
            "ownerReferences": [{
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": "stillwake-activator",
                "uid": "role-uid",
            }],
        },
        "addressType": "IPv4",
        "endpoints": [{
            "addresses": ["10.0.3.7"],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": "node-a",
            "zone": "zone-1",
        }],
        "ports": [{"name": "http", "port": 20017, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"}],
    });
    assert_eq!(is, should);
}

#[test]
fn each_family_has_its_own_address_and_one_without_has_no_slice() {
    let mut replica = replica();
    let six = render(&replica, &desired("web", "http", Family::IPv6), true).unwrap();
    assert_eq!(six.address_type, "IPv6");
    assert_eq!(six.endpoints[0].addresses, ["fd00::7"]);
    replica.addresses.pop();
    assert_eq!(
        render(&replica, &desired("web", "http", Family::IPv6), true),
        None
    );
}

#[test]
fn a_port_without_a_name_is_published_with_an_empty_one() {
    let slice = render(&replica(), &desired("web", "", Family::IPv4), true).unwrap();
    assert_eq!(slice.ports.unwrap()[0].name.as_deref(), Some(""));
}

#[test]
fn a_name_begins_with_its_service_and_names_no_two_slices() {
    let mut names = std::collections::BTreeSet::new();
    let mut count = 0;
    for uid in ["a", "b"] {
        let replica = Replica {
            uid: uid.to_owned(),
            ..replica()
        };
        for family in [Family::IPv4, Family::IPv6] {
            for port in ["", "http", "admin"] {
                let name = name(&replica, &desired("web", port, family));
                assert!(name.name.starts_with("web-"), "{name}");
                names.insert(name);
                count += 1;
            }
        }
    }
    assert_eq!(names.len(), count);
}

#[test]
fn what_the_api_server_shows_of_a_slice_says_the_same() {
    for ready in [true, false] {
        let wanted = web(ready);
        assert!(says(&shown(&wanted), &wanted));
        assert_eq!(is_ready(&shown(&wanted)), ready);
        let replica = replica();
        let (uid, pod) = (replica.uid.as_str(), replica.pod.as_str());
        assert_eq!(publisher(&shown(&wanted)), (uid, pod));
    }
    assert_eq!(publisher(&EndpointSlice::default()), ("", ""));
}

#[test]
fn whatever_somebody_changes_is_seen() {
    type Change = fn(&mut EndpointSlice);
    let changes: [(&str, Change); 11] = [
        ("ready", |slice| {
            slice.endpoints[0].conditions.as_mut().unwrap().ready = Some(false);
        }),
        ("serving", |slice| {
            slice.endpoints[0].conditions.as_mut().unwrap().serving = Some(false);
        }),
        ("address", |slice| {
            slice.endpoints[0].addresses[0] = "10.0.3.8".to_owned();
        }),
        ("endpoint", |slice| {
            slice.endpoints.push(Endpoint::default());
        }),
        ("node", |slice| slice.endpoints[0].node_name = None),
        ("port", |slice| {
            slice.ports.as_mut().unwrap()[0].port = Some(1);
        }),
        ("ports", |slice| slice.ports = None),
        ("label", |slice| {
            slice.metadata.labels.as_mut().unwrap().remove(REPLICA);
        }),
        ("label value", |slice| {
            let labels = slice.metadata.labels.as_mut().unwrap();
            labels.insert(SERVICE_NAME.to_owned(), "other".to_owned());
        }),
        ("annotation", |slice| slice.metadata.annotations = None),
        ("owner", |slice| slice.metadata.owner_references = None),
    ];
    let wanted = web(true);
    for (what, change) in changes {
        let mut published = shown(&wanted);
        change(&mut published);
        assert!(!says(&published, &wanted), "{what}");
    }
}

/// A name that Kubernetes takes for a Service of this many characters.
fn label(longest: usize) -> impl Strategy<Value = String> {
    let pattern = format!("[a-z0-9]([a-z0-9-]{{0,{}}}[a-z0-9])?", longest - 2);
    proptest::string::string_regex(&pattern).unwrap()
}

/// Whether Kubernetes takes it for the name of a slice: labels of a domain name.
fn is_subdomain(name: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|part| {
            let bytes = part.as_bytes();
            let inner = bytes.iter().all(|&byte| edge(byte) || byte == b'-');
            inner
                && [bytes.first(), bytes.last()]
                    .iter()
                    .all(|end| end.is_some_and(|&end| edge(end)))
        })
}

fn is_label_value(value: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_alphanumeric();
    let bytes = value.as_bytes();
    let inner = bytes
        .iter()
        .all(|&byte| edge(byte) || b"-_.".contains(&byte));
    let ends = [bytes.first(), bytes.last()];
    value.len() <= 63 && inner && ends.iter().all(|end| end.is_none_or(|&end| edge(end)))
}

proptest! {
    #[test]
    fn names_and_labels_are_valid(
        service in label(63), port in prop_oneof![Just(String::new()), label(63)], namespace in label(63)
    ) {
        let replica = Replica { namespace, ..replica() };
        let slice = render(&replica, &desired(&service, &port, Family::IPv4), true).unwrap();
        let metadata = slice.metadata;
        let name = metadata.name.unwrap();
        prop_assert!(is_subdomain(&name), "{name}");
        prop_assert!(name.starts_with(&service), "{name}");
        for value in metadata.labels.unwrap().values() {
            prop_assert!(is_label_value(value), "{value}");
        }
    }

    #[test]
    fn a_name_has_its_bound_however_long_its_service(service in "[a-z]{230,300}") {
        let name = name(&replica(), &desired(&service, "http", Family::IPv4)).name;
        prop_assert!(is_subdomain(&name), "{name}");
        // What ingress-nginx compares: as much of the Service's name as the API server keeps of a generated one.
        prop_assert!(name.starts_with(&service[..service.len().min(240)]), "{name}");
        let other = super::name(&replica(), &desired(&service, "admin", Family::IPv4)).name;
        prop_assert_ne!(name, other);
    }

    #[test]
    fn two_slices_say_the_same_only_if_they_are(
        services in proptest::array::uniform2("[ab]"),
        ports in proptest::array::uniform2("[ab]"),
        numbers in proptest::array::uniform2(1..3_u16),
        ready in proptest::array::uniform2(any::<bool>()),
    ) {
        let slice = |at: usize| {
            let mut desired = desired(&services[at], &ports[at], Family::IPv4);
            desired.listening.port = numbers[at];
            let mut slice = render(&replica(), &desired, ready[at]).unwrap();
            // The name is what they are found by.
            slice.metadata.name = None;
            slice
        };
        let (first, second) = (slice(0), slice(1));
        prop_assert_eq!(says(&shown(&first), &second), first == second);
    }
}

#[test]
fn an_address_is_written_as_the_api_server_does() {
    let address: IpAddr = "fd00:0:0::0007".parse().unwrap();
    let replica = Replica {
        addresses: vec![address],
        ..replica()
    };
    let slice = render(&replica, &desired("web", "http", Family::IPv6), true).unwrap();
    assert_eq!(slice.endpoints[0].addresses, ["fd00::7"]);
}
