//! Reads what framing needs to know from the head of a message (RFC 9112, sections 3, 4 and 6).
//!
//! Everything else in a head is none of our business. What is ambiguous is refused, never guessed.

use std::mem::MaybeUninit;

use httparse::Status;

use super::{Unparsable, body::Body};
use crate::ignore::IgnoreRules;

/// Most header fields of a head that is parsed.
pub(super) const MAX_HEADERS: usize = 128;

/// How a request's method bears on the framing of its response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Method {
    /// Its response never has a body.
    Head,
    /// A successful response makes the connection a tunnel.
    Connect,
    #[default]
    Other,
}

impl Method {
    /// Returns the method of a request of which `head` is the beginning.
    pub(super) fn of_start(head: &[u8]) -> Self {
        match head.split(|byte| *byte == b' ').next() {
            Some(b"HEAD") => Self::Head,
            Some(b"CONNECT") => Self::Connect,
            _ => Self::Other,
        }
    }
}

/// The facts of a request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestHead {
    /// Length of the head, in bytes.
    pub(super) length: usize,
    pub(super) method: Method,
    pub(super) body: Body,
    pub(super) ignored: bool,
}

/// The facts of a response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResponseHead {
    /// Length of the head, in bytes.
    pub(super) length: usize,
    pub(super) kind: ResponseKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseKind {
    /// 1xx other than 101: another response to the same request follows.
    Interim,
    /// What follows is no HTTP/1 any more, in both directions.
    Tunnel,
    /// What follows is HTTP/2, in both directions (RFC 7540, section 3.2).
    Http2,
    Final(Body),
}

/// Reads a request head. Returns `None` if `bytes` does not hold all of it.
pub(super) fn request(
    bytes: &[u8],
    rules: &IgnoreRules,
) -> Result<Option<RequestHead>, Unparsable> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let Status::Complete(length) = parsed.parse_with_uninit_headers(bytes, &mut headers)? else {
        return Ok(None);
    };
    let method = Method::of_start(parsed.method.unwrap_or_default().as_bytes());
    let target = parsed.path.unwrap_or_default();
    let mut framing = Framing::default();
    let mut user_agent: &[u8] = b"";
    for header in &*parsed.headers {
        match Field::of(header.name) {
            Some(Field::UserAgent) => user_agent = header.value,
            Some(field) => framing.add(field, header.value)?,
            None => {}
        }
    }
    // A request that does not end by its framing ends nowhere (section 6.3, rule 4).
    let body = match framing.body(parsed.version)? {
        None => Body::NONE,
        Some(Body::UntilClose) => return Err(Unparsable::Framing),
        Some(body) => body,
    };
    Ok(Some(RequestHead {
        length,
        method,
        body,
        ignored: rules.ignores(target, user_agent),
    }))
}

/// Reads the head of a response to a request with `method`. Returns `None` if `bytes` does not hold all of it.
pub(super) fn response(bytes: &[u8], method: Method) -> Result<Option<ResponseHead>, Unparsable> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let status = config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut headers)?;
    let Status::Complete(length) = status else {
        return Ok(None);
    };
    let kind = match (parsed.code.unwrap_or_default(), method) {
        (101, _) if parsed.headers.iter().any(upgrades_to_http2) => ResponseKind::Http2,
        (101, _) | (200..=299, Method::Connect) => ResponseKind::Tunnel,
        (100..=199, _) => ResponseKind::Interim,
        (204 | 304, _) | (_, Method::Head) => ResponseKind::Final(Body::NONE),
        _ => {
            let mut framing = Framing::default();
            for header in &*parsed.headers {
                if let Some(field) = Field::of(header.name) {
                    framing.add(field, header.value)?;
                }
            }
            let body = framing.body(parsed.version)?;
            ResponseKind::Final(body.unwrap_or(Body::UntilClose))
        }
    };
    Ok(Some(ResponseHead { length, kind }))
}

fn upgrades_to_http2(header: &httparse::Header<'_>) -> bool {
    header.name.eq_ignore_ascii_case("upgrade") && header.value.eq_ignore_ascii_case(b"h2c")
}

/// A header field that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    ContentLength,
    TransferEncoding,
    UserAgent,
}

impl Field {
    /// By length and first letter, which rules out nearly all fields without looking at the others.
    fn of(name: &str) -> Option<Self> {
        let first = name.as_bytes().first()?.to_ascii_lowercase();
        let (field, lower) = match (name.len(), first) {
            (10, b'u') => (Self::UserAgent, "user-agent"),
            (14, b'c') => (Self::ContentLength, "content-length"),
            (17, b't') => (Self::TransferEncoding, "transfer-encoding"),
            _ => return None,
        };
        name.eq_ignore_ascii_case(lower).then_some(field)
    }
}

/// What a head says about its body so far.
#[derive(Default)]
struct Framing {
    length: Option<u64>,
    /// Whether chunked is the last transfer coding, if there is any.
    chunked: Option<bool>,
}

impl Framing {
    fn add(&mut self, field: Field, value: &[u8]) -> Result<(), Unparsable> {
        match field {
            Field::ContentLength => {
                for length in value.split(|byte| *byte == b',') {
                    let length = decimal(length.trim_ascii()).ok_or(Unparsable::Framing)?;
                    if self.length.is_some_and(|before| before != length) {
                        return Err(Unparsable::Framing);
                    }
                    self.length = Some(length);
                }
            }
            Field::TransferEncoding => {
                for coding in value.split(|byte| *byte == b',') {
                    // Nothing may be applied after chunked, and chunked itself only once.
                    if self.chunked == Some(true) {
                        return Err(Unparsable::Framing);
                    }
                    self.chunked = Some(coding.trim_ascii().eq_ignore_ascii_case(b"chunked"));
                }
            }
            Field::UserAgent => {}
        }
        Ok(())
    }

    /// Returns the body that the header fields announce, or `None` if they announce none.
    fn body(self, version: Option<u8>) -> Result<Option<Body>, Unparsable> {
        match (self.chunked, self.length) {
            // Both: somebody is wrong, or smuggles. HTTP/1.0 has no transfer codings (section 6.1).
            (Some(_), Some(_)) => Err(Unparsable::Framing),
            (Some(_), None) if version == Some(0) => Err(Unparsable::Framing),
            (Some(true), None) => Ok(Some(Body::chunked())),
            (Some(false), None) => Ok(Some(Body::UntilClose)),
            (None, length) => Ok(length.map(Body::Length)),
        }
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Whether `bytes`, of which the first `from` were looked at before, hold an empty line: then it pays to parse.
pub(super) fn has_end(bytes: &[u8], from: usize) -> bool {
    // The empty line may begin in bytes that were looked at before.
    let bytes = &bytes[from.saturating_sub(3)..];
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

/// Returns `head`, a complete response head without empty lines before it, saying that the connection closes after this response: the options of
/// `Connection` are kept but for `keep-alive`, and `close` is among them. Nothing else changes.
pub(crate) fn with_close(head: &[u8]) -> Vec<u8> {
    let mut edited = Vec::with_capacity(head.len() + b"Connection: close\r\n".len());
    let mut closes = false;
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let content = line.trim_ascii_end();
        let end = &line[content.len()..];
        if content.is_empty() {
            if !closes {
                edited.extend_from_slice(b"Connection: close");
                edited.extend_from_slice(end);
            }
            edited.extend_from_slice(line);
            continue;
        }
        match connection_options(content) {
            Some(options) => {
                let kept = options.filter(|option| !option.eq_ignore_ascii_case(b"keep-alive"));
                let mut kept: Vec<&[u8]> = kept.filter(|option| !option.is_empty()).collect();
                if !closes
                    && !kept
                        .iter()
                        .any(|option| option.eq_ignore_ascii_case(b"close"))
                {
                    kept.push(b"close");
                }
                closes = true;
                if !kept.is_empty() {
                    edited.extend_from_slice(&content[..=b"connection".len()]);
                    edited.push(b' ');
                    edited.extend_from_slice(&kept.join(&b", "[..]));
                    edited.extend_from_slice(end);
                }
            }
            None => edited.extend_from_slice(line),
        }
    }
    edited
}

/// Returns the options that a header line names if it is a `Connection` line.
fn connection_options(line: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let (name, value) = line.split_at_checked(b"connection:".len())?;
    name.eq_ignore_ascii_case(b"connection:")
        .then(|| value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_is_said_once_and_only_keep_alive_is_taken_away() {
        for (head, expected) in [
            ("H 1 OK\r\n\r\n", "H 1 OK\r\nConnection: close\r\n\r\n"),
            ("H 1 OK\nA: b\n\n", "H 1 OK\nA: b\nConnection: close\n\n"),
            (
                "H\r\nconnection:keep-alive\r\n\r\n",
                "H\r\nconnection: close\r\n\r\n",
            ),
            (
                "H\r\nConnection: x, Keep-Alive,y\r\nConnection-X: keep-alive\r\n\r\n",
                "H\r\nConnection: x, y, close\r\nConnection-X: keep-alive\r\n\r\n",
            ),
            (
                "H\r\nConnection: x\r\nA: b\r\nConnection: keep-alive\r\nConnection: keep-alive, z\r\n\r\n",
                "H\r\nConnection: x, close\r\nA: b\r\nConnection: z\r\n\r\n",
            ),
        ] {
            let edited = with_close(head.as_bytes());
            assert_eq!(String::from_utf8(edited.clone()).unwrap(), expected);
            assert_eq!(with_close(&edited), edited, "a second time changes nothing");
        }
    }

    #[test]
    fn an_empty_line_is_found_wherever_it_was_cut() {
        for head in [&b"a\r\n\r\n"[..], b"a\n\n", b"a\n\r\n"] {
            for cut in 0..head.len() {
                assert!(has_end(head, cut), "{} at {cut}", head.escape_ascii());
            }
            assert!(!has_end(&head[..head.len() - 1], 0));
        }
    }
}
