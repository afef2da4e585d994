//! The activator's own `EndpointSlice`s: which should exist, and how they come to.
//!
//! Every replica of the activator publishes its own address for each port of the Services it serves, in slices of its
//! own, beside those that Kubernetes keeps. No replica waits for another and nothing is allocated centrally: a port is
//! whichever the replica's listener got. kube-proxy and other data planes merge all slices of a Service.
//!
//! ```text
//!  listeners, backends ──► board (who is ready) ──► slices wanted ─┐
//!                                                                 ├─► writes (what to write next) ──► API server
//!  watches: slices published, replicas that live ─────────────────┘
//! ```
//!
//! # One slice for each Service port and family
//!
//! Readiness is for each port: of a Service with two, one may have backends and the other none. It is ready while no
//! backend of that port and family is serving and not terminating. It becomes ready at once, because in the meantime
//! clients are refused; it becomes unready a moment after a backend has appeared, because until every node has heard of
//! the backend the activator still takes its connections. A slice is not taken away when it is unready: flipping is one
//! write, and nobody routes to it.
//!
//! # What is written
//!
//! Only differences, a bounded number a second, what makes a slice ready first. Server-side apply, so that a write says
//! the whole and may be repeated. What somebody else changes is put right, more slowly each time.
//!
//! # What is left behind
//!
//! A replica that ends in peace takes its slices with it. Slices of one that did not are deleted by the others, once the
//! API server has said again that its pod is gone, runs nothing, or has been about to end for long. A container that is
//! started again takes over what the one before it has published.

pub mod board;
mod metrics;
mod orphans;
mod publisher;
pub mod share;
pub mod slice;
mod writes;

pub use publisher::{Handle, Publisher, Settings};
