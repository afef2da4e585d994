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
pub(crate) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

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

/// Whether a connection may still turn out to be HTTP/2 when its server has sent `server` after the client's `client`: its
/// servers may begin without waiting for the client, with a SETTINGS frame (RFC 9113, section 3.4).
pub(crate) fn may_be_http2(client: &[u8], server: &[u8]) -> bool {
    // A length below 64 KiB, the type, no flags, stream 0: nothing that other servers greet with.
    let known = [(0, 0), (3, 4), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0)];
    let fits = |(at, byte): &(usize, u8)| server.get(*at).is_none_or(|sent| sent == byte);
    HTTP2_PREFACE.starts_with(client) && known.iter().all(fits)
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
    fn only_settings_before_the_preface_may_be_http2() {
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
        for length in 1..settings.len() {
            assert!(may_be_http2(b"", &settings[..length]));
            assert!(may_be_http2(b"PRI * H", &settings[..length]));
            assert!(!may_be_http2(b"PUT", &settings[..length]));
        }
        for greeting in [
            &b"220 mail.example.com ESMTP\r\n"[..],
            b"\x4a\0\0\0\x0a8.0.36\0",
            b"HTTP/1.1 408 Request Timeout\r\n\r\n",
            b"\0\0\0\x04\x01\0\0\0\0",
        ] {
            assert!(!may_be_http2(b"", greeting), "{}", greeting.escape_ascii());
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
