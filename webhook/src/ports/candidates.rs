//! The ports that should be counted: those the pod names, else those Services target, else all TCP ports.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Pod, PodSpec, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::Conditions;
use crate::{
    annotations::PortReference,
    mesh, pod,
    surroundings::service_selects,
    warning::{Reason, Warning, shown},
};

/// A port that should be counted, and who uses it how.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) number: u16,
    /// The names under which Services reach it; one that an earlier container has for another port is none.
    pub(super) names: Vec<String>,
    /// A Service that targets it by number.
    pub(super) by_number: Option<String>,
    /// A headless Service, if only such target it.
    pub(super) direct: Option<String>,
    pub(super) host_port: bool,
}

/// Returns the candidates by their number.
pub(super) fn find(
    pod: &Pod,
    spec: &PodSpec,
    conditions: &Conditions<'_>,
    warnings: &mut Vec<Warning>,
) -> Vec<Candidate> {
    let labels = pod::labels(pod);
    let services = conditions.surroundings.services.iter();
    let targets: Vec<_> = services
        .filter(|service| service_selects(service, labels))
        .flat_map(|service| targets(spec, service))
        .collect();
    let mut numbers = wanted(spec, conditions.wanted, warnings);
    if numbers.is_empty() {
        numbers = targets.iter().map(|target| target.number).collect();
    }
    if numbers.is_empty() {
        numbers = declared(spec);
    }
    let mut candidates: BTreeMap<u16, Candidate> = BTreeMap::new();
    for number in numbers {
        candidates
            .entry(number)
            .or_insert_with(|| candidate(spec, number, &targets));
    }
    candidates.into_values().collect()
}

/// A port of a Service.
struct Target {
    service: String,
    number: u16,
    by_number: bool,
    headless: bool,
}

fn targets<'a>(spec: &'a PodSpec, service: &'a Service) -> impl Iterator<Item = Target> + 'a {
    let name = service.metadata.name.clone().unwrap_or_default();
    let service = service.spec.as_ref();
    let headless = service.is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"));
    let ports = service
        .into_iter()
        .flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter(|port| pod::is_tcp(port.protocol.as_ref()))
        .filter_map(move |port| {
            let (number, by_number) = target(spec, port)?;
            Some(Target {
                service: name.clone(),
                number,
                by_number,
                headless,
            })
        })
}

fn target(spec: &PodSpec, port: &ServicePort) -> Option<(u16, bool)> {
    match &port.target_port {
        Some(IntOrString::String(name)) if !name.is_empty() => {
            Some((pod::port_named(spec, name)?, false))
        }
        // Zero is how the API server writes "not said".
        Some(IntOrString::Int(number)) if *number != 0 => Some((pod::number(*number)?, true)),
        _ => Some((pod::number(port.port)?, true)),
    }
}

fn wanted(
    spec: &PodSpec,
    wanted: Option<&[PortReference]>,
    warnings: &mut Vec<Warning>,
) -> Vec<u16> {
    let references = wanted.unwrap_or_default().iter();
    references
        .filter_map(|reference| match reference {
            PortReference::Number(number) => Some(*number),
            PortReference::Name(name) => {
                let number = pod::port_named(spec, name);
                if number.is_none() {
                    let message = format!(
                        "annotation stillwake.dev/ports names {}, which is no TCP port of any container; it is left out",
                        shown(name)
                    );
                    warnings.push(Warning::new(Reason::BadValue, message));
                }
                number
            }
        })
        .collect()
}

/// Returns the ports of the app's own containers. A native sidecar's are only counted if somebody targets them.
fn declared(spec: &PodSpec) -> Vec<u16> {
    let own = spec
        .containers
        .iter()
        .filter(|container| !mesh::owns(container));
    own.flat_map(pod::tcp_ports)
        .map(|(number, _)| number)
        .collect()
}

fn candidate(spec: &PodSpec, number: u16, targets: &[Target]) -> Candidate {
    let mut candidate = Candidate {
        number,
        ..Candidate::default()
    };
    let ports = pod::running(spec).flat_map(pod::tcp_ports);
    for (_, port) in ports.filter(|(declared, _)| *declared == number) {
        candidate.host_port |= port.host_port.is_some_and(|port| port != 0);
        let name = port.name.as_ref().filter(|name| {
            pod::port_named(spec, name) == Some(number) && !candidate.names.contains(name)
        });
        candidate.names.extend(name.cloned());
    }
    let here: Vec<_> = targets
        .iter()
        .filter(|target| target.number == number)
        .collect();
    let first = |wanted: &dyn Fn(&Target) -> bool| {
        let found = here.iter().find(|target| wanted(target));
        found.map(|target| target.service.clone())
    };
    candidate.by_number = first(&|target| target.by_number && !target.headless);
    if here.iter().all(|target| target.headless) {
        candidate.direct = first(&|target| target.headless);
    }
    candidate
}
