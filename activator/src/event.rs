//! What the activator is told about workloads, and what it tells about cold starts. No behaviour.

use std::net::{AddrParseError, IpAddr, SocketAddr};

use stillwake_proto::report::{self, Workload};
use tokio::time::Instant;

use crate::route::PortPair;

/// Whether a workload that is at zero can be woken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It can, so its requests are held.
    Available,
    /// Nobody would wake it, so its requests are answered at once while it has no endpoint.
    Unavailable {
        /// Ends the sentence "… cannot be started: ", such as `its ScaledObject is paused`.
        reason: String,
    },
}

/// An endpoint of a workload came or went, as an aggregator tells. Repeating an event changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointEvent {
    /// The endpoint takes requests.
    Ready {
        /// Whose endpoint it is.
        workload: Workload,
        /// Names the pod or replica, unlike any other there ever was.
        uid: String,
        /// The pod's address.
        address: IpAddr,
        /// What its sidecar takes over.
        ports: Vec<PortPair>,
    },
    /// The endpoint takes no further requests; those it has may finish.
    Gone {
        /// Whose endpoint it was.
        workload: Workload,
        /// As in `Ready`.
        uid: String,
    },
}

/// One of a route's endpoints, as `EndpointSlice`s tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedEndpoint {
    /// As in [`EndpointEvent`]; for an endpoint that is no pod whatever names it.
    pub uid: String,
    /// Where to dial on the route, most preferred first. Not empty.
    pub addresses: Vec<SocketAddr>,
}

/// An `Endpoint` frame that names nothing to dial.
#[derive(Debug, thiserror::Error)]
pub enum EndpointFrameError {
    /// The frame has no workload.
    #[error("endpoint `{uid}` names no workload; it must name the one it serves")]
    NoWorkload {
        /// The endpoint's uid.
        uid: String,
    },
    /// The address cannot be read.
    #[error("endpoint `{uid}` has the address `{address}`; it must be an IP address")]
    Address {
        /// The endpoint's uid.
        uid: String,
        /// What the frame said.
        address: String,
        /// What is wrong with it.
        source: AddrParseError,
    },
    /// There is no port, or one that no listener can have.
    #[error(
        "endpoint `{uid}` names no listening port; there must be one, and all must be 1 to 65535"
    )]
    Port {
        /// The endpoint's uid.
        uid: String,
    },
}

impl TryFrom<report::Endpoint> for EndpointEvent {
    type Error = EndpointFrameError;

    /// Reads a frame of the aggregator.
    ///
    /// An endpoint that is not ready becomes `Gone`, whatever its address says.
    fn try_from(frame: report::Endpoint) -> Result<Self, EndpointFrameError> {
        let uid = frame.uid;
        let Some(workload) = frame.workload else {
            return Err(EndpointFrameError::NoWorkload { uid });
        };
        if !frame.ready {
            return Ok(Self::Gone { workload, uid });
        }
        let address = match frame.address.parse::<IpAddr>() {
            Ok(address) => address,
            Err(source) => {
                let address = frame.address;
                return Err(EndpointFrameError::Address {
                    uid,
                    address,
                    source,
                });
            }
        };
        let ports: Option<Vec<_>> = frame.ports.into_iter().map(pair).collect();
        match ports.filter(|ports| !ports.is_empty()) {
            Some(ports) => Ok(Self::Ready {
                workload,
                uid,
                address,
                ports,
            }),
            None => Err(EndpointFrameError::Port { uid }),
        }
    }
}

fn pair(port: report::Port) -> Option<PortPair> {
    let number = |number: u32| u16::try_from(number).ok().filter(|&number| number != 0);
    Some(PortPair {
        listen: number(port.listen)?,
        app: number(port.app)?,
    })
}

/// One wake from zero, as its first request lived through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColdStart {
    /// What was woken.
    pub workload: Workload,
    /// When the first request that lasted came.
    pub arrived: Instant,
    /// When what was held was reported first, to whichever aggregator; nothing if an endpoint came before.
    pub signalled: Option<Instant>,
    /// When an endpoint was there for it.
    pub ready: Instant,
    /// When the first of the backend's answer came.
    pub first_byte: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> report::Endpoint {
        report::Endpoint {
            workload: Some(Workload {
                namespace: "shop".into(),
                kind: "Deployment".into(),
                name: "cart".into(),
            }),
            uid: "u1".into(),
            address: "fd00::1".into(),
            ports: vec![report::Port {
                listen: 15080,
                app: 8080,
            }],
            ready: true,
        }
    }

    #[test]
    fn a_ready_frame_tells_the_address_and_every_port() {
        let event = EndpointEvent::try_from(frame()).unwrap();
        let expected = EndpointEvent::Ready {
            workload: frame().workload.unwrap(),
            uid: "u1".into(),
            address: "fd00::1".parse().unwrap(),
            ports: vec![PortPair {
                listen: 15080,
                app: 8080,
            }],
        };
        assert_eq!(event, expected);
    }

    #[test]
    fn an_unready_frame_is_gone_even_without_an_address() {
        let unready = report::Endpoint {
            ready: false,
            address: String::new(),
            ..frame()
        };
        let event = EndpointEvent::try_from(unready).unwrap();
        assert!(matches!(event, EndpointEvent::Gone { uid, .. } if uid == "u1"));
    }

    #[test]
    fn a_frame_with_nothing_to_dial_says_what_is_missing() {
        let message =
            |frame: report::Endpoint| EndpointEvent::try_from(frame).unwrap_err().to_string();
        let named = report::Endpoint {
            address: "web".into(),
            ..frame()
        };
        assert!(message(named).contains("`web`"));
        let portless = report::Endpoint {
            ports: Vec::new(),
            ..frame()
        };
        assert!(message(portless).contains("listening port"));
        let mut impossible = frame();
        impossible.ports.push(report::Port {
            listen: 15081,
            app: 65536,
        });
        assert!(message(impossible).contains("65535"));
        let anonymous = report::Endpoint {
            workload: None,
            ..frame()
        };
        assert!(message(anonymous).contains("no workload"));
    }
}
