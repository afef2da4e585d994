//! What the cluster says: who exists, what is around a pod, whose tokens count; and Events back to it.
//!
//! The only crate of the control plane that watches. It tells facts and decides nothing: the aggregator decides what a
//! missing pod means, the webhook what a Service means for a port. It knows neither of them; whoever starts a component
//! hands the one what the other asks for, in a few lines.
//!
//! # How a watch becomes knowledge
//!
//! ```text
//!  API server ──list, then watch──► watch ──one fact at a time──► index (synchronous) ──changes──► who asked
//! ```
//!
//! A watch is a connection that fails, lags behind the others and starts over with a new list. None of that is seen
//! above it: a list is compared with what was told before, so that what vanished in between is told as gone; one object
//! that cannot be read is left out and named in the log, the others stay; a watch that fails is tried again for ever,
//! says so once, with the permission it needs, and counts in `stillwake_cluster_watch_failures_total`.
//!
//! Facts of different kinds arrive in any order: a pod before the `ReplicaSet` that owns it, a `ScaledObject` long after
//! both. The indexes ([`membership`], [`surroundings`]) therefore come to the same end in every order, which a property
//! test says. They are plain values fed with facts; the tasks around them only carry.
//!
//! # What is known and what is not
//!
//! Nothing here turns "not known" into "there is none". Before all its watches have listed once, an index is not synced
//! and says so, and its owner answers that it does not know. After that, losing the API server loses nothing: what was
//! known stays until a list says otherwise.
//!
//! One answer may look like an exception: when the cluster has no `ScaledObject` kind at all, because KEDA is not
//! installed yet, there are none, and that is knowledge. It is said once, and looked at again every half minute or so.
//!
//! # Scope
//!
//! [`scope::Scope`] is all namespaces, or a list. With a list, requests go to those namespaces only, so that Roles in
//! them are all the permissions it takes, and Namespace objects are watched one by one by name. Each watch is one
//! connection: a list is for a few namespaces, not for hundreds.
//!
//! # Memory
//!
//! Objects are decoded into what is needed of them. Pods and owners never exist whole in this process, and lists come in
//! pages.

pub mod client;
pub mod events;
pub mod keys;
pub mod membership;
mod metrics;
mod object;
pub mod published;
pub mod replicas;
pub mod scope;
#[cfg(any(test, feature = "testing"))]
#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "is for tests"
)]
pub mod scripted;
pub mod services;
pub mod surroundings;
mod watch;

pub use metrics::Metrics;
