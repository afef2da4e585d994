//! Tells from a client's first bytes which protocol a connection speaks.
//!
//! Looks at no more than it needs and keeps nothing: a guess that turns out wrong is mended by whoever parses.

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1: a method, then a space (RFC 9112, section 3).
    Http1,
    /// HTTP/2 with prior knowledge: the connection preface (RFC 9113, section 3.4).
    Http2,
    /// TLS: a handshake record (RFC 8446, section 5.1).
    Tls,
    /// Anything else, also where the server speaks first.
    Opaque,
}

/// What every HTTP/2 client sends first.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// First byte of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// Longest method that is believed, in bytes. The longest one registered has 17 (`UPDATEREDIRECTREF`).
const MAX_METHOD: usize = 32;

impl Protocol {
    /// Returns the protocol of a connection whose client began with `bytes`, or `None` if it takes more of them to
    /// tell. Never `None` for more than 32 bytes after leading line ends.
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        let bytes = skip_line_ends(bytes);
        let first = *bytes.first()?;
        if first == TLS_HANDSHAKE {
            return Some(Self::Tls);
        }
        if bytes.starts_with(HTTP2_PREFACE) {
            return Some(Self::Http2);
        }
        if HTTP2_PREFACE.starts_with(bytes) {
            return None;
        }
        let method = bytes.iter().take_while(|byte| is_token(**byte)).count();
        match bytes.get(method) {
            _ if method > MAX_METHOD => Some(Self::Opaque),
            None => None,
            Some(b' ') if method > 0 => Some(Self::Http1),
            Some(_) => Some(Self::Opaque),
        }
    }
}

/// Returns `bytes` without the empty lines that a server ignores before a request line (RFC 9112, section 2.2).
pub fn skip_line_ends(bytes: &[u8]) -> &[u8] {
    let ends = bytes
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'));
    &bytes[ends.count()..]
}

/// Whether a byte may be part of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol() {
        for (bytes, protocol) in [
            (&b"GET / HTTP/1.1\r\n"[..], Protocol::Http1),
            (b"\r\n\nX-ODD!METHOD ", Protocol::Http1),
            (b"PRI * HTTP/1.1\r\n", Protocol::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0", Protocol::Http2),
            (b"\x16\x03\x01", Protocol::Tls),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", Protocol::Opaque),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Protocol::Opaque),
            (b" GET / HTTP/1.1", Protocol::Opaque),
            (b"PING\r\n", Protocol::Opaque),
        ] {
            assert_eq!(
                Protocol::detect(bytes),
                Some(protocol),
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn it_waits_only_while_more_bytes_could_change_the_answer() {
        for bytes in [
            &b""[..],
            b"\r\n",
            b"G",
            b"DELETE",
            b"P",
            b"PRI",
            b"PRI * HTTP/2.0\r\n\r\nSM",
        ] {
            assert_eq!(Protocol::detect(bytes), None, "{}", bytes.escape_ascii());
        }
        assert_eq!(Protocol::detect(&[b'A'; MAX_METHOD]), None);
        assert_eq!(
            Protocol::detect(&[b'A'; MAX_METHOD + 1]),
            Some(Protocol::Opaque)
        );
    }
}
