//! Ports for the sidecar to listen on: free ones of a fixed range, the lowest first.

use std::{collections::BTreeSet, ops::RangeInclusive};

use k8s_openapi::api::core::v1::PodSpec;

use super::Candidate;
use crate::pod;

/// Where the sidecar listens. Between the two ranges meshes and our admin pages have theirs (15090).
const RANGES: [RangeInclusive<u16>; 2] = [15080..=15089, 15100..=15163];

/// What is still free.
#[derive(Debug)]
pub(super) struct ListenPorts {
    free: BTreeSet<u16>,
}

impl ListenPorts {
    /// Returns the range without what anybody in the pod is known to listen on.
    pub(super) fn new(spec: &PodSpec, candidates: &[Candidate], admin: Option<u16>) -> Self {
        let mut free: BTreeSet<u16> = RANGES.into_iter().flatten().collect();
        let declared = pod::containers(spec).flat_map(pod::tcp_ports);
        let targeted = candidates.iter().map(|candidate| candidate.number);
        for taken in declared
            .map(|(number, _)| number)
            .chain(targeted)
            .chain(admin)
        {
            free.remove(&taken);
        }
        Self { free }
    }

    /// Returns the lowest free ports, `None` if there are not so many. They stay free until they are taken.
    pub(super) fn reserve(&self, count: usize) -> Option<Vec<u16>> {
        let ports: Vec<_> = self.free.iter().copied().take(count).collect();
        (ports.len() == count).then_some(ports)
    }

    /// Takes ports that were reserved.
    pub(super) fn take(&mut self, ports: &[u16]) {
        for port in ports {
            self.free.remove(port);
        }
    }
}
