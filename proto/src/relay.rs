//! How a sidecar that goes away introduces a connection to the activator: a PROXY protocol v2 header that names the pod.
//!
//! Only the header's bytes; what follows it on the connection is the client's and none of this module's. The header is
//! `HAProxy`'s (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>, section 2.2), so that anything that knows
//! PROXY protocol can read such a connection, with one field of our own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest preamble that is read, in bytes. One of ours has less than 100 with a pod's UID, and never more than this.
pub const MAX_PREAMBLE: usize = 1024;

/// Longest UID, in bytes. Kubernetes' have 36.
pub const MAX_POD_UID: usize = 128;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes before the addresses, the last two of which say how many come after them.
const FIXED: usize = 16;

/// Version 2, and a connection made on behalf of another.
const PROXY: u8 = 0x21;

const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The field with the pod's UID: among those that are left to applications (section 2.2.7).
const POD_UID: u8 = 0xE5;

/// The field by which a sidecar asks for [`TAKEN`].
const ASKS: u8 = 0xE6;

/// The one byte by which an activator says that it takes the connection of a preamble that asks for it, before anything of
/// the app's: acknowledge, in ASCII. It resets a connection that it cannot lead anywhere.
pub const TAKEN: u8 = 0x06;

/// Says whose connection follows, and for whom it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preamble {
    source: SocketAddr,
    destination: SocketAddr,
    pod_uid: String,
    asks: bool,
}

/// What came of reading the beginning of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The bytes are, or begin with, this preamble.
    Whole(Preamble),
    /// It is not whole: this many more bytes are certain to belong to it, at least 1. Who reads no more than that never
    /// reads what comes after it.
    Missing(usize),
}

/// Why bytes are no preamble.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PreambleError {
    /// It is something else.
    #[error("the connection does not begin as PROXY protocol v2")]
    Signature,
    /// It is no relayed connection, such as a health check.
    #[error("version and command are {0:#04x}; {PROXY:#04x} is version 2 and a relayed connection")]
    Command(u8),
    /// It is not TCP.
    #[error("family and protocol are {0:#04x}; {TCP4:#04x} and {TCP6:#04x} are TCP")]
    Family(u8),
    /// It is longer than anybody needs.
    #[error("the preamble has {0} bytes; {MAX_PREAMBLE} are read")]
    Long(usize),
    /// Its parts do not fill it.
    #[error("the preamble's parts do not fit into its {0} bytes")]
    Length(usize),
    /// It names no pod.
    #[error("the preamble has no field {POD_UID:#04x} with a pod's UID")]
    NoPod,
    /// What should name the pod cannot.
    #[error("the pod's UID has {0} bytes; it has 1 to {MAX_POD_UID}, all of them printable ASCII")]
    PodUid(usize),
}

impl Preamble {
    /// Returns the preamble of a connection from `source` that dialled `destination`, at the pod with the UID `pod_uid`.
    ///
    /// # Errors
    ///
    /// Fails if the UID is none.
    pub fn new(
        source: SocketAddr,
        destination: SocketAddr,
        pod_uid: &str,
    ) -> Result<Self, PreambleError> {
        let printable = pod_uid.bytes().all(|byte| byte.is_ascii_graphic());
        if pod_uid.is_empty() || pod_uid.len() > MAX_POD_UID || !printable {
            return Err(PreambleError::PodUid(pod_uid.len()));
        }
        // A socket for both families sees IPv4 as mapped into IPv6.
        let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port()).into();
        Ok(Self {
            source: canonical(source),
            destination: canonical(destination),
            pod_uid: pod_uid.to_owned(),
            asks: false,
        })
    }

    /// Returns the same, asking for [`TAKEN`].
    #[must_use]
    pub fn asking(self) -> Self {
        Self { asks: true, ..self }
    }

    /// Whether [`TAKEN`] is to be said.
    pub fn asks(&self) -> bool {
        self.asks
    }

    /// Returns whose connection it is.
    pub fn source(&self) -> SocketAddr {
        self.source
    }

    /// Returns what the client dialled, with the app's port: not where the sidecar listens.
    pub fn destination(&self) -> SocketAddr {
        self.destination
    }

    /// Returns the UID of the pod that goes away.
    pub fn pod_uid(&self) -> &str {
        &self.pod_uid
    }

    /// Returns the preamble's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (source, destination) = (self.source.ip(), self.destination.ip());
        let mut rest = Vec::with_capacity(2 * (16 + 2) + 3 + self.pod_uid.len() + 3);
        let family = if let (IpAddr::V4(source), IpAddr::V4(destination)) = (source, destination) {
            rest.extend(source.octets());
            rest.extend(destination.octets());
            TCP4
        } else {
            rest.extend(as_ipv6(source).octets());
            rest.extend(as_ipv6(destination).octets());
            TCP6
        };
        rest.extend(self.source.port().to_be_bytes());
        rest.extend(self.destination.port().to_be_bytes());
        rest.push(POD_UID);
        push_length(&mut rest, self.pod_uid.len());
        rest.extend(self.pod_uid.bytes());
        if self.asks {
            rest.push(ASKS);
            push_length(&mut rest, 0);
        }

        let mut bytes = Vec::with_capacity(FIXED + rest.len());
        bytes.extend(SIGNATURE);
        bytes.extend([PROXY, family]);
        push_length(&mut bytes, rest.len());
        bytes.extend(rest);
        bytes
    }

    /// Reads the preamble that `bytes` begin with, as far as they have come.
    ///
    /// # Errors
    ///
    /// Says why they do not, as soon as that is certain.
    pub fn parse(bytes: &[u8]) -> Result<Parsed, PreambleError> {
        let begin = &bytes[..bytes.len().min(SIGNATURE.len())];
        if !SIGNATURE.starts_with(begin) {
            return Err(PreambleError::Signature);
        }
        let Some(fixed) = bytes.first_chunk::<FIXED>() else {
            return Ok(Parsed::Missing(FIXED - bytes.len()));
        };
        let [.., command, family, high, low] = *fixed;
        if command != PROXY {
            return Err(PreambleError::Command(command));
        }
        if ![TCP4, TCP6].contains(&family) {
            return Err(PreambleError::Family(family));
        }
        let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
        if length > MAX_PREAMBLE {
            return Err(PreambleError::Long(length));
        }
        let Some(rest) = bytes.get(FIXED..length) else {
            return Ok(Parsed::Missing(length - bytes.len()));
        };
        let mut rest = Rest {
            bytes: rest,
            length,
        };
        let (source, destination) = if family == TCP4 {
            let mut address = || {
                rest.take()
                    .map(|octets| Ipv4Addr::from_octets(octets).into())
            };
            (address()?, address()?)
        } else {
            let mut address = || {
                rest.take()
                    .map(|octets| Ipv6Addr::from_octets(octets).into())
            };
            (address()?, address()?)
        };
        let ports = (rest.number()?, rest.number()?);
        let pod_uid = rest.field(POD_UID)?.ok_or(PreambleError::NoPod)?;
        let pod_uid = str::from_utf8(pod_uid).map_err(|_| PreambleError::PodUid(pod_uid.len()))?;
        let source: (IpAddr, u16) = (source, ports.0);
        let destination: (IpAddr, u16) = (destination, ports.1);
        let preamble = Self::new(source.into(), destination.into(), pod_uid)?;
        let asks = rest.field(ASKS)?.is_some();
        Ok(Parsed::Whole(Self { asks, ..preamble }))
    }
}

fn as_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Writes a length of which [`Preamble::new`] has seen to it that it fits.
fn push_length(bytes: &mut Vec<u8>, length: usize) {
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    bytes.extend(length.to_be_bytes());
}

/// What of a preamble has not been read.
#[derive(Clone, Copy)]
struct Rest<'a> {
    bytes: &'a [u8],
    /// Of the whole preamble.
    length: usize,
}

impl<'a> Rest<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], PreambleError> {
        let (taken, bytes) = self
            .bytes
            .split_first_chunk()
            .ok_or(PreambleError::Length(self.length))?;
        self.bytes = bytes;
        Ok(*taken)
    }

    fn number(&mut self) -> Result<u16, PreambleError> {
        self.take().map(u16::from_be_bytes)
    }

    /// Returns the first field of this type; others are skipped, as the specification wants it.
    fn field(mut self, wanted: u8) -> Result<Option<&'a [u8]>, PreambleError> {
        let mut found = None;
        while !self.bytes.is_empty() {
            let [kind] = self.take()?;
            let length = usize::from(self.number()?);
            let (value, bytes) = self
                .bytes
                .split_at_checked(length)
                .ok_or(PreambleError::Length(self.length))?;
            self.bytes = bytes;
            if kind == wanted {
                found = found.or(Some(value));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
