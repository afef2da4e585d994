//! Where the connections of one listener lead: to a workload, and to which port of its endpoints. Values only.

use stillwake_proto::report::Workload;

/// Where the connections of one listener lead.
///
/// A listener has one route for as long as it lives; what leads elsewhere gets a listener of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// Whose requests they are. All routes of a workload share its queue, its bounds and its wake.
    pub workload: Workload,
    /// Tells it from the workload's other routes, such as `cart/http` for a Service and its port's name. May be empty.
    pub name: String,
    /// Which port of an endpoint that an aggregator told of.
    pub target: TargetPort,
}

impl Route {
    /// Returns the only route of a workload that has one port.
    pub fn only(workload: Workload) -> Self {
        Self {
            workload,
            name: String::new(),
            target: TargetPort::First,
        }
    }
}

/// Which port of an endpoint that an aggregator told of. Endpoints that were
/// [listed](crate::Activator::set_listed) for a route say themselves where to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetPort {
    /// The first that its sidecar takes over.
    First,
    /// The app's port of this number: where the sidecar listens for it, or else the port itself, which nobody counts.
    App(u16),
    /// Not known, such as a port's name that the pod template does not resolve: only what is listed is dialled.
    Unresolved,
}

/// A port of the app and where the sidecar listens for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortPair {
    /// Where the sidecar listens. Not 0.
    pub listen: u16,
    /// The app's own. Not 0.
    pub app: u16,
}

impl TargetPort {
    /// Returns which port to dial of a pod whose sidecar takes over `ports`.
    pub(crate) fn among(self, ports: &[PortPair]) -> Option<u16> {
        match self {
            Self::First => ports.first().map(|pair| pair.listen),
            Self::App(app) => {
                let taken_over = ports.iter().find(|pair| pair.app == app);
                Some(taken_over.map_or(app, |pair| pair.listen))
            }
            Self::Unresolved => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_dialled_at_its_sidecar_where_there_is_one() {
        let ports = [(15080, 8080), (15081, 9000)].map(|(listen, app)| PortPair { listen, app });
        assert_eq!(TargetPort::App(9000).among(&ports), Some(15081));
        assert_eq!(TargetPort::App(7000).among(&ports), Some(7000));
        assert_eq!(TargetPort::First.among(&ports), Some(15080));
        assert_eq!(TargetPort::First.among(&[]), None);
        assert_eq!(TargetPort::Unresolved.among(&ports), None);
    }
}
