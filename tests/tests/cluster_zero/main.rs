//! Workloads at zero: their clients notice nothing but a pause.

mod crowd;
mod dual_stack;
mod failing;
mod gadget;
mod gateway;
mod jobs;
mod kinds;
mod lifecycle;
mod loss;
mod many;
mod outage;
mod ports;
mod protocols;
mod sockets;
mod wake;
