//! The data plane of the sidecar: relays connections byte for byte and counts the requests on them exactly.
//!
//! Never terminates a protocol: it watches bytes pass (law 2 of the design). The only change it makes is
//! `Connection: close` in response heads, or a GOAWAY frame, while draining. Knows nothing of aggregators, Kubernetes or configuration.

pub mod drain;
pub mod h1;
pub mod h2;
pub mod ignore;
pub mod in_flight;
pub mod listener;
pub mod observer;
mod opaque;
pub mod protocol;
pub mod relay;
