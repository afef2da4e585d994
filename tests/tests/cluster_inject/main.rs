//! The installed product under a real API server and kubelet: pods that ask for the sidecar get it, and all that worked
//! before goes on working.
//!
//! The chart is installed with default values. What KEDA makes of the counts is not looked at here.

mod compare;
mod ending;
mod golden;
mod labels;
mod ports;
mod same;
