//! What a real kernel does with our rules, in network namespaces that the tests make and that end with them.
//!
//! Needs root and `ip`, and for some `nft`; where something is missing, a test says that it is left out.

#![expect(clippy::unwrap_used, reason = "helpers of a suite are tests as well")]

mod namespace;
mod permission;
mod pod;
mod redirected;
mod ruleset;
mod server;
