//! The aggregator: collects what sidecars and activators count, and answers KEDA's external scaler from memory.
//!
//! Knows nothing of Kubernetes: who exists comes in as [`MembershipEvent`]s, the API server's keys as text
//! ([`PodTokens::set_keys`]), and what users should be told goes out as [`Notice`]s. Never writes a replica count.
//!
//! A process makes an [`Aggregator`], in a cluster with [`PodTokens`] for its reporters' identity and a clone of them for
//! who follows the keys ([`PodTokens::wants_keys`]), and runs side by side: [`Aggregator::serve_scaler`], and
//! [`Aggregator::serve_ingest`] after [`PodTokens::keys_known`], each with its own way to take connections; a task that
//! hands what it watches to [`Aggregator::apply`]; and one that publishes what [`Aggregator::notices`] returns.

mod aggregator;
mod burst;
mod debug;
mod history;
mod identity;
mod ingest;
mod membership;
mod metrics;
mod notice;
mod refusals;
mod scaler;
mod settings;
mod shares;
mod state;
mod token;
mod trigger;

pub use aggregator::Aggregator;
pub use identity::{Denied, Identify, Identity, TrustHello};
pub use membership::{MembershipEvent, Pod, ScaledObject};
pub use notice::Notice;
pub use settings::Settings;
pub use token::{KeysError, PodTokens, ServiceAccount, TokenError};
pub use trigger::{METADATA_KEYS, MetadataKey};
