//! Accepts TCP connections and survives what `accept` can throw at a long-lived server.
//!
//! Does not limit how many connections there are, and does not speak on them.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How long to wait after the process or the machine ran out of something that a closing connection gives back.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Returns the next connection, with `TCP_NODELAY` set.
///
/// Errors of a connection that died in the backlog are skipped. Exhaustion (no file descriptors, no memory) is logged
/// and tried again after a pause, because giving up would turn a passing shortage into an outage.
///
/// # Cancel safety
///
/// Dropping the future loses no connection.
pub async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Fails only if the peer is gone already, which the first read will tell.
                let _ = stream.set_nodelay(true);
                return (stream, peer);
            }
            Err(error) if died_in_backlog(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "Cannot accept a connection, trying again");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

fn died_in_backlog(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Connections that may wait to be accepted; the kernel takes the lesser of this and `net.core.somaxconn`, which is
/// 4096 as well. The usual 128 overflows when a thousand clients come at once, and each one left out tries again only
/// after a second.
const BACKLOG: u32 = 4096;

/// Binds a listener for `address`. Must be called inside a tokio runtime.
///
/// At `[::]` it takes IPv4 as well, and IPv4 alone on a machine whose kernel has no IPv6 (`ipv6.disable=1`).
///
/// # Errors
///
/// Names the address, and for an address in use says how to find out who holds it.
pub fn bind(what: &str, address: SocketAddr) -> Result<TcpListener, BindError> {
    let failed = |source| BindError {
        what: what.to_owned(),
        address,
        source,
    };
    let bound = listen(address).or_else(|error| match without_ipv6(address, &error) {
        Some(instead) => listen(instead),
        None => Err(error),
    });
    bound.map_err(failed)
}

/// Returns where to listen instead of `[::]` if there is no IPv6.
fn without_ipv6(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let everywhere = address.ip() == Ipv6Addr::UNSPECIFIED;
    let unknown = error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error());
    (everywhere && unknown).then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // As std's listeners do: otherwise a restart has to wait for old connections' last minute.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A listener could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {what}: {}", reason(source, *address))]
pub struct BindError {
    what: String,
    address: SocketAddr,
    source: io::Error,
}

fn reason(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "the port is in use; choose another, or stop its holder (`ss -ltnp 'sport = :{}'` names it)",
            address.port()
        ),
        io::ErrorKind::PermissionDenied => {
            format!(
                "permission denied; choose a port above 1023 instead of {}",
                address.port()
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "no interface of this machine has the address {}",
                address.ip()
            )
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_addresses_of_a_kernel_without_ipv6_are_those_of_ipv4() {
        let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 9090));
        let unknown = io::Error::from(Errno::AFNOSUPPORT);
        let instead = without_ipv6(everywhere, &unknown);
        assert_eq!(instead, Some(([0, 0, 0, 0], 9090).into()));
        let in_use = io::Error::from(Errno::ADDRINUSE);
        assert_eq!(without_ipv6(everywhere, &in_use), None);
        let one = SocketAddr::from((Ipv6Addr::LOCALHOST, 9090));
        assert_eq!(without_ipv6(one, &unknown), None);
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_remedy() {
        let first = bind("tests", ([127, 0, 0, 1], 0).into()).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind("tests", address).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        assert!(error.contains("in use"), "{error}");
    }

    #[tokio::test]
    async fn a_connection_is_accepted_without_delay_for_small_writes() {
        let listener = bind("tests", ([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let (client, (served, peer)) = tokio::join!(TcpStream::connect(address), accept(&listener));
        assert_eq!(client.unwrap().local_addr().unwrap(), peer);
        assert!(served.nodelay().unwrap());
    }
}
