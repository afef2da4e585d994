//! Tells from a connection's first bytes how to hold it. Looks at bytes only; where they come from is not its concern.

/// Longest method that is taken for one; the longest registered has 17 characters (RFC 3253's `BASELINE-CONTROL`: 16).
const LONGEST_METHOD: usize = 20;

/// What opens an HTTP/2 connection with prior knowledge (RFC 9113 §3.4). `PRI` is no method of HTTP/1.1 (RFC 9113 §11.6).
const HTTP2_METHOD: &[u8] = b"PRI";

/// How a connection is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// As requests.
    Http1,
    /// As one connection: TLS, HTTP/2 for now, and everything else.
    Opaque,
}

/// Returns how to hold a connection that begins with `bytes`, or nothing while that takes more of them.
///
/// An HTTP/1 request begins with a method in capital letters and a space; RFC 9112 §2.2 allows empty lines before it.
/// Taking something else for HTTP would answer it with HTTP errors, while HTTP that is taken for something else is
/// still served, so what is in doubt is opaque.
pub(crate) fn detect(bytes: &[u8]) -> Option<Protocol> {
    let start = bytes
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let line = &bytes[start..];
    let method_byte = |byte: &u8| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_');
    let length = line.iter().take_while(|byte| method_byte(byte)).count();
    let method = &line[..length];
    match line.get(length) {
        _ if length > LONGEST_METHOD => Some(Protocol::Opaque),
        None => None,
        Some(b' ') if length > 0 && method != HTTP2_METHOD => Some(Protocol::Http1),
        Some(_) => Some(Protocol::Opaque),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_and_a_space_are_http1() {
        for begin in [
            &b"GET /"[..],
            b"POST ",
            b"\r\n\r\nM-SEARCH *",
            b"VERSION-CONTROL /",
        ] {
            assert_eq!(detect(begin), Some(Protocol::Http1), "{begin:?}");
        }
    }

    #[test]
    fn what_is_not_http1_is_opaque() {
        for begin in [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            b"\x16\x03\x01\x02\x00",
            b"get key\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"PING\r\n",
            b" GET /",
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        ] {
            assert_eq!(detect(begin), Some(Protocol::Opaque), "{begin:?}");
        }
    }

    #[test]
    fn a_beginning_of_either_takes_more_bytes() {
        for begin in [&b""[..], b"P", b"PR", b"PRI", b"\r\n", b"OPTIONS"] {
            assert_eq!(detect(begin), None, "{begin:?}");
        }
    }
}
