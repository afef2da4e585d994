//! Finds free TCP ports of the loopback interface for the replicas.
//!
//! Not for listeners of this process, which bind port 0 and keep what they get.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
};

use rand::RngExt as _;
use socket2::{Domain, Socket, Type};

/// Below the range that the kernel takes for outgoing connections (32768 to 60999 unless changed): there, a port that
/// was free a moment ago may belong to somebody's connection when the replica binds it.
const RANGE: Range<u16> = 15_000..30_000;

/// Tries before giving up. With half of the range taken, all fail once in 10^19.
const TRIES: usize = 64;

/// Returns a port that nobody listens on and that `taken` does not name, or none if there seems to be none.
pub fn free(taken: impl Fn(u16) -> bool) -> Option<u16> {
    let mut random = rand::rng();
    (0..TRIES)
        .map(|_| random.random_range(RANGE))
        .find(|&port| !taken(port) && is_free(port))
}

/// Binds on all interfaces and without `SO_REUSEADDR`, as the strictest of servers would.
fn is_free(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    Socket::new(Domain::IPV4, Type::STREAM, None)
        .and_then(|socket| socket.bind(&address.into()))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_with_a_listener_or_a_taker_is_not_free() {
        let port = free(|_| false).unwrap();
        let _listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(!is_free(port));
        assert_eq!(free(|_| true), None);
    }
}
