//! Finds where a message body ends: by length, by chunks, or by close (RFC 9112, sections 6 and 7).
//!
//! Counts bytes and stores none. Small and `Copy`, so that a copy can look ahead.

use super::Unparsable;

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// This many bytes.
    Length(u64),
    Chunked(Chunked),
    /// All that comes until the sender closes.
    UntilClose,
}

impl Body {
    pub(super) const NONE: Self = Self::Length(0);

    pub(super) const fn chunked() -> Self {
        Self::Chunked(Chunked::SizeStart)
    }

    pub(super) const fn is_done(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunked::Done))
    }

    /// Moves over the bytes of `bytes` that belong to the body and returns how many these are.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<usize, Unparsable> {
        match self {
            Self::Length(left) => Ok(take(left, bytes)),
            Self::Chunked(chunked) => chunked.advance(bytes),
            Self::UntilClose => Ok(bytes.len()),
        }
    }
}

/// Lowers `left` by as many bytes as there are and returns how many these are.
fn take(left: &mut u64, bytes: &[u8]) -> usize {
    let taken = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
    *left -= taken as u64;
    taken
}

/// Where in a chunked body the next byte belongs. A line may end in CRLF or in a bare LF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunked {
    /// Before the first digit of a chunk's size.
    SizeStart,
    /// After at least one digit.
    Size(u64),
    /// In what follows the size on its line, such as extensions.
    Extension(u64),
    /// In the chunk's data, with this many bytes left.
    Data(u64),
    /// At the line end after the data.
    DataEnd,
    /// After the CR of that line end.
    DataEndLf,
    /// At the start of a trailer line, or of the empty line that ends the body.
    TrailerStart,
    Trailer,
    /// After the CR of the empty line.
    LastLf,
    Done,
}

impl Chunked {
    fn advance(&mut self, bytes: &[u8]) -> Result<usize, Unparsable> {
        let mut at = 0;
        while at < bytes.len() && *self != Self::Done {
            at += self.step(&bytes[at..])?;
        }
        Ok(at)
    }

    /// Moves over at least one byte of `bytes`, which is not empty, and returns how many it were.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Unparsable> {
        let byte = bytes[0];
        *self = match *self {
            Self::SizeStart => Self::Size(digit(byte).ok_or(Unparsable::Chunk)?),
            Self::Size(size) => match (digit(byte), byte) {
                (Some(digit), _) if size >> 60 == 0 => Self::Size(size << 4 | digit),
                (None, b'\n') => Self::after_size(size),
                (None, b'\r' | b';' | b' ' | b'\t') => Self::Extension(size),
                _ => return Err(Unparsable::Chunk),
            },
            Self::Extension(size) => {
                return Ok(self.skip_line(bytes, Self::after_size(size)));
            }
            Self::Data(mut left) => {
                let taken = take(&mut left, bytes);
                *self = if left == 0 {
                    Self::DataEnd
                } else {
                    Self::Data(left)
                };
                return Ok(taken);
            }
            Self::DataEnd if byte == b'\r' => Self::DataEndLf,
            Self::DataEnd | Self::DataEndLf if byte == b'\n' => Self::SizeStart,
            Self::TrailerStart if byte == b'\r' => Self::LastLf,
            Self::TrailerStart | Self::LastLf if byte == b'\n' => Self::Done,
            Self::TrailerStart => Self::Trailer,
            Self::Trailer => return Ok(self.skip_line(bytes, Self::TrailerStart)),
            Self::DataEnd | Self::DataEndLf | Self::LastLf | Self::Done => {
                return Err(Unparsable::Chunk);
            }
        };
        Ok(1)
    }

    const fn after_size(size: u64) -> Self {
        if size == 0 {
            Self::TrailerStart
        } else {
            Self::Data(size)
        }
    }

    /// Moves over the rest of a line, to `next` if its end is there.
    fn skip_line(&mut self, bytes: &[u8], next: Self) -> usize {
        match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                *self = next;
                end + 1
            }
            None => bytes.len(),
        }
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` in pieces of `size` and returns how many belonged to the body.
    fn consumed(bytes: &[u8], size: usize) -> Result<(usize, bool), Unparsable> {
        let mut body = Body::chunked();
        let mut total = 0;
        for piece in bytes.chunks(size) {
            total += body.advance(piece)?;
            if body.is_done() {
                break;
            }
        }
        Ok((total, body.is_done()))
    }

    #[test]
    fn a_chunked_body_ends_where_it_should_however_it_is_cut() {
        for body in [
            &b"0\r\n\r\n"[..],
            b"5\r\nhello\r\n0\r\n\r\n",
            b"00a;name=\"va;lue\"\r\n0123456789\r\n0;last\r\n\r\n",
            b"3 \r\n\r\n\r\r\n0\r\nChecksum: 5\r\nX: y\r\n\r\n",
            b"1\nx\n0\nT: v\n\n",
        ] {
            let mut wire = body.to_vec();
            wire.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
            for size in 1..wire.len() {
                let label = wire.escape_ascii();
                assert_eq!(
                    consumed(&wire, size).unwrap(),
                    (body.len(), true),
                    "{label} by {size}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for body in [
            &b"\r\n"[..],
            b"g\r\n",
            b"5x\r\n",
            b"2\r\nabc\r\n",
            b"10000000000000000\r\n",
            b"0\r\n\rx",
        ] {
            assert!(consumed(body, 1).is_err(), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn a_length_is_counted_down_to_the_byte() {
        let mut body = Body::Length(7);
        assert_eq!(body.advance(b"abcd").unwrap(), 4);
        assert!(!body.is_done());
        assert_eq!(body.advance(b"efgHTTP").unwrap(), 3);
        assert!(body.is_done());
    }
}
