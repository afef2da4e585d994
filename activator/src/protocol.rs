//! Tells from a connection's first bytes how to hold it. Looks at bytes only; where they come from is not its concern.

use stillwake_proxy::protocol::{Protocol as Spoken, skip_line_ends};

/// How a connection is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// As requests.
    Http1,
    /// As requests, each a stream.
    Http2,
    /// As one connection: TLS and everything else.
    Opaque,
}

/// Returns how to hold a connection that begins with `bytes`, or nothing while that takes more of them.
///
/// The relay may take any token and a space for HTTP/1, since a wrong guess costs it only a number. Here something else
/// that is taken for HTTP, such as memcached's `get key`, would be answered with HTTP errors, while HTTP that is taken
/// for something else is still served: so only methods in capital letters are believed.
pub(crate) fn detect(bytes: &[u8]) -> Option<Protocol> {
    match Spoken::detect(bytes)? {
        Spoken::Http1 if begins_in_capitals(skip_line_ends(bytes)) => Some(Protocol::Http1),
        Spoken::Http2 => Some(Protocol::Http2),
        Spoken::Http1 | Spoken::Tls | Spoken::Opaque => Some(Protocol::Opaque),
    }
}

fn begins_in_capitals(line: &[u8]) -> bool {
    let mut method = line.iter().take_while(|byte| **byte != b' ');
    method.all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'))
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
    fn the_preface_is_http2() {
        let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0";
        assert_eq!(detect(begin), Some(Protocol::Http2));
    }

    #[test]
    fn what_is_not_http_is_opaque() {
        for begin in [
            &b"\x16\x03\x01\x02\x00"[..],
            b"get key\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"PING\r\n",
            b" GET /",
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLM",
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
