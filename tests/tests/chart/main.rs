//! The chart, read by helm without a cluster. `documents` needs no helm.

#![expect(clippy::unwrap_used, reason = "helpers of a suite are tests as well")]

mod activator;
mod documents;
mod flags;
mod grants;
mod names;
mod pod_security;
mod pods;
mod rendered;
mod rights;
mod values;
mod webhook;
