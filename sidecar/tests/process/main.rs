//! The sidecar as a process, between a scripted app and a scripted aggregator.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do, but are not recognised as such outside of `cfg(test)`"
)]

mod configuration;
mod draining;
mod handing_over;
mod harness;
mod proxying;
