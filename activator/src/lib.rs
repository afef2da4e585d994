//! The activator: holds what comes for a workload at zero, and hands it to the first endpoints that are ready.
//!
//! Reports of what is held wake the workload; starting it is KEDA's work. Which listeners lead to which port of which
//! workload, and which endpoints there are, is told from outside.

mod activator;
mod answer;
mod breaker;
mod connection;
mod directory;
mod endpoints;
mod event;
mod grpc;
mod handover;
mod holder;
mod http1;
mod http2;
mod metrics;
mod opaque;
mod protocol;
mod queue;
mod release;
mod report;
mod request;
mod route;
mod server_name;
mod settings;
mod stream;

pub use activator::Activator;
pub use event::{Availability, ColdStart, EndpointEvent, EndpointFrameError, ListedEndpoint};
pub use report::REPORT_GAP;
pub use route::{PortPair, Route, TargetPort};
pub use settings::Settings;
