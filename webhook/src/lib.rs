//! Injection: decides which pods get the sidecar and how, and serves that decision to the API server.
//!
//! Knows the cluster only by what its caller hands in ([`surroundings`], [`authorities`]), and tells of trouble through a
//! trait ([`admission::Notices`]); it has no Kubernetes client of its own. Which pods the API server sends at all is in
//! [`registration`].
//!
//! One admission goes through the modules in this order: [`server`] takes the request, [`admission`] answers it and lets
//! nothing of ours stop a pod, [`policy`] says whether, [`annotations`] what the pod wants otherwise, [`ports`] which
//! ports and how, `resources` what the sidecar takes, [`inject`] changes the typed pod with [`probes`], [`sidecar`] and
//! `stop_delay`, and [`patch`] says the difference.

pub mod admission;
pub mod annotations;
pub mod authorities;
pub mod inject;
mod mesh;
mod metrics;
pub mod names;
pub mod patch;
mod pod;
pub mod policy;
pub mod ports;
pub mod probes;
mod quantity;
pub mod registration;
mod resources;
mod review;
pub mod server;
pub mod settings;
pub mod sidecar;
mod stop_delay;
pub mod surroundings;
pub mod warning;
