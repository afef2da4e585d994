//! How a Service object is read: its selector, ports and families, and what keeps it from being served at zero.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Service as ServiceObject, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use stillwake_proto::report::Workload;

use super::{
    Family, Port, Refusal, Service,
    objects::{Template, is_tcp},
};

/// Whether it selects pods with these labels. Without a selector it selects none.
pub(super) fn selects(service: &ServiceObject, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector(service) else {
        return false;
    };
    let mut selector = selector.iter();
    selector.all(|(key, value)| labels.get(key) == Some(value))
}

/// Returns its selector, if it has one.
pub(super) fn selector(service: &ServiceObject) -> Option<&BTreeMap<String, String>> {
    let selector = service.spec.as_ref()?.selector.as_ref()?;
    (!selector.is_empty()).then_some(selector)
}

/// Returns a Service that leads to these workloads, of which there is one at least.
pub(super) fn read(
    namespace: &str,
    object: &ServiceObject,
    template: &Template,
    workloads: Vec<Workload>,
) -> Service {
    let nothing = ServiceSpec::default();
    let spec = object.spec.as_ref().unwrap_or(&nothing);
    let ports = spec.ports.iter().flatten();
    let ports: Vec<_> = ports
        .filter(|port| is_tcp(port.protocol.as_deref()))
        .filter_map(|read| port(read, template))
        .collect();
    let workload = workloads.first().cloned().unwrap_or_default();
    let refused = if spec.type_.as_deref() == Some("ExternalName") {
        Some(Refusal::ExternalName)
    } else if spec.cluster_ip.as_deref() == Some("None") {
        Some(Refusal::Headless)
    } else if selector(object).is_none() {
        Some(Refusal::NoSelector)
    } else if ports.is_empty() {
        Some(Refusal::NoTcpPort)
    } else if workloads.len() > 1 {
        Some(Refusal::SeveralWorkloads(workloads))
    } else {
        None
    };
    let is_local = |policy: &Option<String>| policy.as_deref() == Some("Local");
    Service {
        namespace: namespace.to_owned(),
        name: object.metadata.name.clone().unwrap_or_default(),
        uid: object.metadata.uid.clone().unwrap_or_default(),
        workload,
        families: families(spec),
        ports,
        internal_local: is_local(&spec.internal_traffic_policy),
        external_local: is_local(&spec.external_traffic_policy),
        refused,
    }
}

fn families(spec: &ServiceSpec) -> Vec<Family> {
    let families = spec.ip_families.iter().flatten();
    let families: Vec<_> = families.filter_map(|name| Family::parse(name)).collect();
    if families.is_empty() {
        return vec![Family::IPv4];
    }
    families
}

fn port(port: &ServicePort, template: &Template) -> Option<Port> {
    let number = |number: i32| u16::try_from(number).ok().filter(|&number| number != 0);
    let app_port = match &port.target_port {
        // Not there, or 0, is the port itself.
        None | Some(IntOrString::Int(0)) => number(port.port),
        Some(IntOrString::Int(target)) => number(*target),
        Some(IntOrString::String(name)) => template.ports.get(name).copied(),
    };
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        number: number(port.port)?,
        app_protocol: port.app_protocol.clone(),
        app_port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(spec: &Value) -> ServiceObject {
        let object =
            json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u"}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    fn template() -> Template {
        Template {
            labels: [("app".to_owned(), "web".to_owned())].into(),
            ports: [("http".to_owned(), 8080)].into(),
        }
    }

    fn workload(name: &str) -> Workload {
        Workload {
            namespace: "shop".to_owned(),
            kind: "Deployment".to_owned(),
            name: name.to_owned(),
        }
    }

    fn reading(spec: &Value) -> Service {
        read("shop", &object(spec), &template(), vec![workload("web")])
    }

    #[test]
    fn ports_lead_where_the_target_port_says() {
        let service = reading(&json!({
            "selector": {"app": "web"}, "ipFamilies": ["IPv6", "IPv4"], "internalTrafficPolicy": "Local",
            "ports": [
                {"name": "http", "port": 80, "targetPort": "http", "appProtocol": "kubernetes.io/h2c"},
                {"name": "grpc", "port": 81, "targetPort": 9000, "protocol": "TCP"},
                {"name": "same", "port": 82},
                {"name": "lost", "port": 83, "targetPort": "nowhere"},
                {"name": "dns", "port": 53, "protocol": "UDP"}],
        }));
        let ports: Vec<_> = service
            .ports
            .iter()
            .map(|port| (port.name.as_str(), port.number, port.app_port))
            .collect();
        let expected = [
            ("http", 80, Some(8080)),
            ("grpc", 81, Some(9000)),
            ("same", 82, Some(82)),
            ("lost", 83, None),
        ];
        assert_eq!(ports, expected);
        let protocol = service.ports[0].app_protocol.as_deref();
        assert_eq!(protocol, Some("kubernetes.io/h2c"));
        assert_eq!(service.families, [Family::IPv6, Family::IPv4]);
        assert!(service.internal_local && !service.external_local);
        assert_eq!((service.uid.as_str(), service.refused), ("u", None));
    }

    #[test]
    fn what_cannot_be_served_says_why() {
        let ports = json!([{"port": 80}]);
        let selector = json!({"app": "web"});
        for (spec, refusal) in [
            (
                json!({"type": "ExternalName", "externalName": "example.com"}),
                Refusal::ExternalName,
            ),
            (
                json!({"clusterIP": "None", "selector": selector, "ports": ports}),
                Refusal::Headless,
            ),
            (json!({"selector": {}, "ports": ports}), Refusal::NoSelector),
            (
                json!({"selector": selector, "ports": [{"port": 53, "protocol": "UDP"}]}),
                Refusal::NoTcpPort,
            ),
        ] {
            assert_eq!(reading(&spec).refused, Some(refusal));
        }
        let both = vec![workload("web"), workload("blue")];
        let spec = json!({"selector": selector, "ports": ports});
        let refused = read("shop", &object(&spec), &template(), both)
            .refused
            .unwrap();
        let words = refused.to_string();
        assert!(
            words.contains("shop/Deployment/web, shop/Deployment/blue"),
            "{words}"
        );
    }

    #[test]
    fn a_selector_has_to_match_wholly_and_an_empty_one_matches_nothing() {
        let labels = &template().labels;
        let matches = |spec: &Value| selects(&object(spec), labels);
        assert!(matches(&json!({"selector": {"app": "web"}})));
        assert!(!matches(
            &json!({"selector": {"app": "web", "tier": "front"}})
        ));
        assert!(!matches(&json!({"selector": {}})));
        assert!(!matches(&json!({})));
    }
}
