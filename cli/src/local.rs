//! Local mode: one workload of processes on this machine, scaled as KEDA and the HPA would scale it in a cluster.
//!
//! The stand-ins for a cluster live here (scaler, supervisor, Service); the sidecar, the aggregator and the activator
//! are the real ones.

pub mod check;
pub mod fleet;
pub mod guardian;
pub mod hpa;
pub mod keda;
pub mod listening;
pub mod metrics;
pub mod options;
pub mod output;
pub mod ports;
pub mod process;
pub mod replica;
pub mod run;
pub mod scaler;
pub mod service;
pub mod supervisor;
