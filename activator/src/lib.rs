//! The activator: holds what comes for a workload at zero, and hands it to the first endpoints that are ready.
//!
//! Reports of what is held wake the workload; starting it is KEDA's work. Which listeners serve which workload, and
//! which endpoints there are, is told from outside.

mod activator;
mod answer;
mod connection;
mod endpoints;
mod event;
mod holder;
mod http1;
mod metrics;
mod opaque;
mod protocol;
mod queue;
mod release;
mod report;
mod settings;
mod stream;

pub use activator::Activator;
pub use event::{Availability, ColdStart, EndpointEvent, EndpointFrameError};
pub use report::REPORT_GAP;
pub use settings::Settings;
