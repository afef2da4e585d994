//! Finds the frames of one direction of an HTTP/2 connection by their 9-byte heads (RFC 9113, section 4.1).
//!
//! Holds no byte of a payload and judges nothing: what a frame means is for the conversation.

/// Length of a frame's head, in bytes.
const HEAD: usize = 9;

/// The highest stream identifier: 31 bits.
pub(crate) const MAX_STREAM: u32 = u32::MAX >> 1;

/// Frame types (RFC 9113, section 6); all others are passed over.
pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0x0;
    pub(in super::super) const HEADERS: u8 = 0x1;
    pub(in super::super) const RST_STREAM: u8 = 0x3;
    pub(in super::super) const SETTINGS: u8 = 0x4;
    pub(in super::super) const PUSH_PROMISE: u8 = 0x5;
    pub(in super::super) const GOAWAY: u8 = 0x7;
    pub(in super::super) const CONTINUATION: u8 = 0x9;
}

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// What the head of a frame says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FrameHead {
    /// Length of the payload, in bytes; up to 2^24-1.
    pub(super) length: u32,
    pub(super) kind: u8,
    flags: u8,
    pub(super) stream: u32,
}

impl FrameHead {
    fn parse(head: [u8; HEAD]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind,
            flags,
            // The highest bit is reserved and ignored.
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & MAX_STREAM,
        }
    }

    /// Whether it is the first frame that both sides begin with: SETTINGS that acknowledges nothing (section 3.4).
    pub(super) fn begins_connection(self) -> bool {
        self.kind == kind::SETTINGS && self.flags & ACK == 0 && self.stream == 0
    }

    /// Whether its sender sends nothing more on the stream; only on DATA and HEADERS.
    pub(super) fn ends_stream(self) -> bool {
        self.flags & END_STREAM != 0
    }

    /// Whether it is part of a header block (section 4.3).
    pub(super) fn has_fields(self) -> bool {
        matches!(
            self.kind,
            kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION
        )
    }

    /// Whether a header block ends with it; only on those that are part of one.
    pub(super) fn ends_fields(self) -> bool {
        self.flags & END_HEADERS != 0
    }

    /// Whether a header block is open after it, and so only CONTINUATION may follow.
    pub(super) fn leaves_fields_open(self) -> bool {
        self.has_fields() && !self.ends_fields()
    }

    /// Whether its payload begins with the length of the padding at its end; on HEADERS and `PUSH_PROMISE`.
    pub(super) fn is_padded(self) -> bool {
        self.flags & PADDED != 0 && self.kind != kind::CONTINUATION
    }

    /// Returns how much of the payload comes before the header block, in bytes (sections 6.2, 6.6 and 6.10).
    pub(super) fn before_fields(self) -> u32 {
        let padding = u32::from(self.is_padded());
        match self.kind {
            kind::HEADERS if self.flags & PRIORITY != 0 => padding + 5,
            kind::PUSH_PROMISE => padding + 4,
            _ => padding,
        }
    }
}

/// One step through a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// A frame's head is whole.
    Begins,
    /// Bytes of its payload, the first of which has the offset `at` in it.
    Payload { at: u32, bytes: &'a [u8] },
    /// All of the frame has passed.
    Ends,
}

/// Where in the frames of a direction the next byte belongs. `Copy`, so that a copy can look ahead.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameReader {
    head: [u8; HEAD],
    at: At,
    frame: FrameHead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// This many bytes of a head have passed.
    Head(usize),
    /// This many bytes of a payload have passed.
    Payload(u32),
}

impl FrameReader {
    pub(super) const fn new() -> Self {
        Self {
            head: [0; HEAD],
            at: At::Head(0),
            frame: FrameHead {
                length: 0,
                kind: 0,
                flags: 0,
                stream: 0,
            },
        }
    }

    /// Returns the frame that the last event was about.
    pub(super) fn frame(&self) -> FrameHead {
        self.frame
    }

    /// Whether the next byte begins a frame.
    pub(super) fn is_between_frames(&self) -> bool {
        self.at == At::Head(0)
    }

    /// Returns the next event and takes its bytes off `bytes`, or takes all of them and returns `None`.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Event<'a>> {
        match self.at {
            At::Head(passed) => {
                let part = take(bytes, HEAD - passed);
                let end = passed + part.len();
                self.head[passed..end].copy_from_slice(part);
                if end < HEAD {
                    self.at = At::Head(end);
                    return None;
                }
                self.frame = FrameHead::parse(self.head);
                self.at = At::Payload(0);
                Some(Event::Begins)
            }
            At::Payload(passed) if passed == self.frame.length => {
                self.at = At::Head(0);
                Some(Event::Ends)
            }
            At::Payload(passed) => {
                let left = usize::try_from(self.frame.length - passed).unwrap_or(usize::MAX);
                let part = take(bytes, left);
                if part.is_empty() {
                    return None;
                }
                // Never more than the frame's length, which has 24 bits.
                self.at = At::Payload(passed + u32::try_from(part.len()).unwrap_or(0));
                Some(Event::Payload {
                    at: passed,
                    bytes: part,
                })
            }
        }
    }
}

/// Takes up to `most` bytes off the front of `bytes`.
fn take<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (part, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    part
}

/// Returns a GOAWAY frame without an error, after which streams above `last` will not be processed (section 6.8).
pub(crate) fn goaway(last: u32) -> [u8; 17] {
    let [s0, s1, s2, s3] = last.to_be_bytes();
    let mut frame = [0; 17];
    frame[..HEAD].copy_from_slice(&[0, 0, 8, kind::GOAWAY, 0, 0, 0, 0, 0]);
    frame[HEAD..HEAD + 4].copy_from_slice(&[s0, s1, s2, s3]);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `bytes` are when they come in pieces of `size`: for each frame its head and its payload.
    fn frames(bytes: &[u8], size: usize) -> Vec<(FrameHead, Vec<u8>)> {
        let mut reader = FrameReader::new();
        let (mut frames, mut payload) = (Vec::new(), Vec::new());
        for mut piece in bytes.chunks(size) {
            while let Some(event) = reader.next(&mut piece) {
                match event {
                    Event::Begins => assert!(payload.is_empty()),
                    Event::Payload { at, bytes } => {
                        assert_eq!(at as usize, payload.len());
                        payload.extend_from_slice(bytes);
                    }
                    Event::Ends => frames.push((reader.frame(), std::mem::take(&mut payload))),
                }
            }
            assert!(piece.is_empty());
        }
        assert!(reader.is_between_frames());
        frames
    }

    #[test]
    fn frames_are_found_wherever_they_are_cut() {
        let mut bytes = vec![0, 0, 0, 4, 1, 0, 0, 0, 0];
        bytes.extend_from_slice(&[0, 0, 3, 0xfa, 0xff, 0x80, 0, 0, 7, 1, 2, 3]);
        bytes.extend_from_slice(&[0, 1, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff]);
        bytes.resize(bytes.len() + 256, 0);
        bytes.extend_from_slice(&goaway(5));
        let whole = frames(&bytes, bytes.len());
        let heads: Vec<_> = whole
            .iter()
            .map(|(head, payload)| (head.kind, head.stream, payload.len()))
            .collect();
        let expected = [(4, 0, 0), (0xfa, 7, 3), (0, MAX_STREAM, 256), (7, 0, 8)];
        assert_eq!(heads, expected);
        for size in 1..bytes.len() {
            assert_eq!(frames(&bytes, size), whole, "in pieces of {size}");
        }
    }

    #[test]
    fn the_longest_frame_is_one_frame() {
        let mut bytes = vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1];
        bytes.resize(bytes.len() + (1 << 24) - 1, b'x');
        assert_eq!(frames(&bytes, 64 * 1024).len(), 1);
    }
}
