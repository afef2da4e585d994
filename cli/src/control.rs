//! The control plane's roles in a cluster: each is one process that puts libraries together and adds nothing of its own.
//!
//! What the cluster says comes from `stillwake-cluster`, and is handed to libraries that know nothing of Kubernetes.

pub mod activator;
pub mod aggregator;
pub mod args;
mod certificates;
mod held;
pub mod process;
mod version;
pub mod webhook;
