//! The aggregator: collects what sidecars and activators count, and answers KEDA's external scaler from memory.
//!
//! Knows nothing of Kubernetes: who exists comes in as [`MembershipEvent`]s. Never writes a replica count.

mod aggregator;
mod debug;
mod history;
mod identity;
mod ingest;
mod membership;
mod metrics;
mod scaler;
mod settings;
mod state;
mod trigger;

pub use aggregator::Aggregator;
pub use identity::{Denied, Identify, Identity, TrustHello};
pub use membership::{MembershipEvent, Pod, ScaledObject};
pub use settings::Settings;
