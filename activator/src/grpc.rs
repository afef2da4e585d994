//! What of gRPC is known here: how its requests are told, how long they may take, and how a status message is written.
//!
//! After gRPC's "gRPC over HTTP2". Messages are not looked at.

use std::{fmt::Write as _, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};

/// How long the client will wait, from when it sent the request.
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Most digits of a timeout.
const TIMEOUT_DIGITS: usize = 8;

/// Returns how long the client of a gRPC call gives it, if it says so. One that makes no sense is ignored, for the backend
/// to judge.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    headers.get(CONTENT_TYPE).filter(|kind| is_grpc(kind))?;
    let (digits, unit) = headers.get(TIMEOUT)?.as_bytes().split_last_chunk::<1>()?;
    let fits = (1..=TIMEOUT_DIGITS).contains(&digits.len());
    if !fits || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b"H" => Some(Duration::from_secs(value * 3600)),
        b"M" => Some(Duration::from_secs(value * 60)),
        b"S" => Some(Duration::from_secs(value)),
        b"m" => Some(Duration::from_millis(value)),
        b"u" => Some(Duration::from_micros(value)),
        b"n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// Returns true for `application/grpc` and its variants, such as `application/grpc+proto` and `application/grpc-web`.
pub(crate) fn is_grpc(content_type: &HeaderValue) -> bool {
    let prefix = b"application/grpc";
    let bytes = content_type.as_bytes();
    bytes.len() >= prefix.len() && bytes[..prefix.len()].eq_ignore_ascii_case(prefix)
}

/// Returns `text` as `grpc-message` wants it: everything but printable ASCII, and the percent sign, as `%XX`.
pub(crate) fn percent_encoded(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | ..=0x1f | 0x7f.. => {
                // Writing to a string cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
            _ => encoded.push(char::from(byte)),
        }
    }
    HeaderValue::try_from(encoded).unwrap_or(HeaderValue::from_static("unavailable"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout_of(kind: &'static str, value: &'static str) -> Option<Duration> {
        let kind = (CONTENT_TYPE, HeaderValue::from_static(kind));
        let value = (TIMEOUT, HeaderValue::from_static(value));
        timeout(&HeaderMap::from_iter([kind, value]))
    }

    #[test]
    fn a_timeout_has_up_to_eight_digits_and_a_unit() {
        for (value, expected) in [
            ("2H", Duration::from_hours(2)),
            ("3M", Duration::from_mins(3)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("0250m", Duration::from_millis(250)),
            ("7u", Duration::from_micros(7)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(timeout_of("application/grpc+proto", value), Some(expected));
        }
    }

    #[test]
    fn what_is_not_a_timeout_is_ignored() {
        for value in [
            "",
            "S",
            "5",
            "5s",
            "-5S",
            "+5S",
            "5 S",
            "123456789S",
            "1.5S",
        ] {
            assert_eq!(timeout_of("application/grpc", value), None, "{value}");
        }
        assert_eq!(timeout_of("application/json", "5S"), None);
        assert_eq!(timeout(&HeaderMap::new()), None);
    }

    #[test]
    fn a_grpc_message_is_printable_ascii() {
        let encoded = percent_encoded("100% of «cart»\n");
        assert_eq!(encoded, "100%25 of %C2%ABcart%C2%BB%0A");
    }
}
