//! Tests of the relay as its users see it: the observer fed by hand, and `serve` over real sockets.

#![allow(
    clippy::unwrap_used,
    reason = "all of this crate is tests, and helpers outside of test functions fail a test as well"
)]

mod conversations;
mod drain;
mod exchange;
mod goaway;
mod handover;
mod http2;
mod pair;
mod rig;
mod sockets;
mod streams;
