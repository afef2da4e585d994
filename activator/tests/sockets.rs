//! The activator on real sockets, between scripted clients and scripted backends.

#[cfg(test)]
#[path = "sockets/support.rs"]
mod support;

#[cfg(test)]
#[path = "sockets/bounds.rs"]
mod bounds;
#[cfg(test)]
#[path = "sockets/breaker.rs"]
mod breaker;
#[cfg(test)]
#[path = "sockets/ending.rs"]
mod ending;
#[cfg(test)]
#[path = "sockets/forwarding.rs"]
mod forwarding;
#[cfg(test)]
#[path = "sockets/handovers.rs"]
mod handovers;
#[cfg(test)]
#[path = "sockets/holding.rs"]
mod holding;
#[cfg(test)]
#[path = "sockets/http2.rs"]
mod http2;
#[cfg(test)]
#[path = "sockets/http2_ending.rs"]
mod http2_ending;
#[cfg(test)]
#[path = "sockets/http2_forwarding.rs"]
mod http2_forwarding;
#[cfg(test)]
#[path = "sockets/http2_holding.rs"]
mod http2_holding;
#[cfg(test)]
#[path = "sockets/http2_interim.rs"]
mod http2_interim;
#[cfg(test)]
#[path = "sockets/http2_resets.rs"]
mod http2_resets;
#[cfg(test)]
#[path = "sockets/interim.rs"]
mod interim;
#[cfg(test)]
#[path = "sockets/observing.rs"]
mod observing;
#[cfg(test)]
#[path = "sockets/opaque.rs"]
mod opaque;
#[cfg(test)]
#[path = "sockets/retrying.rs"]
mod retrying;
#[cfg(test)]
#[path = "sockets/routes.rs"]
mod routes;
