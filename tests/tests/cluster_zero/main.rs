//! Workloads at zero: their clients notice nothing but a pause.

mod crowd;
mod failing;
mod gadget;
mod gateway;
mod kinds;
mod lifecycle;
mod loss;
mod many;
mod outage;
mod protocols;
mod wake;
