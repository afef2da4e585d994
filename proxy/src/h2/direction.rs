//! One direction of an HTTP/2 connection: its frames, and what is alike for those of both sides (RFC 9113, section 6).
//!
//! Finds violations of framing; what a frame does to a stream is for the conversation.

use super::{
    Unparsable,
    frame::{Event, FrameHead, FrameReader, MAX_STREAM, kind},
};

/// Where one side is.
#[derive(Debug)]
pub(super) struct Direction {
    pub(super) reader: FrameReader,
    /// Whether its first frame has begun.
    pub(super) begun: bool,
    /// The header block that has begun and not ended.
    pub(super) fields: Option<Fields>,
    /// The length of the padding at the end of this frame.
    pub(super) padding: u32,
    /// The stream that this frame names in its payload, as far as it has passed.
    pub(super) named: u32,
}

/// A header block that is not whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields {
    pub(super) stream: u32,
    /// Whether the stream ends with it.
    pub(super) ends_stream: bool,
}

impl Direction {
    pub(super) const fn new() -> Self {
        Self {
            reader: FrameReader::new(),
            begun: false,
            fields: None,
            padding: 0,
            named: 0,
        }
    }

    pub(super) fn is_at_boundary(&self) -> bool {
        self.reader.is_between_frames() && self.fields.is_none()
    }

    /// As [`FrameReader::next`], and follows what is alike in both directions.
    pub(super) fn next<'a>(
        &mut self,
        bytes: &mut &'a [u8],
    ) -> Result<Option<Event<'a>>, Unparsable> {
        let event = self.reader.next(bytes);
        let frame = self.reader.frame();
        match event {
            Some(Event::Begins) => self.frame_begins(frame)?,
            Some(Event::Payload { at, bytes }) => self.payload(frame, at, bytes)?,
            Some(Event::Ends) | None => {}
        }
        Ok(event)
    }

    fn frame_begins(&mut self, frame: FrameHead) -> Result<(), Unparsable> {
        if !self.begun && !frame.begins_connection() {
            return Err(Unparsable::Settings);
        }
        self.begun = true;
        let continues = frame.kind == kind::CONTINUATION;
        if self
            .fields
            .is_some_and(|fields| !continues || fields.stream != frame.stream)
            || self.fields.is_none() && continues
        {
            return Err(Unparsable::Fields);
        }
        let is_long_enough = match frame.kind {
            kind::RST_STREAM => frame.length == 4,
            kind::GOAWAY => frame.length >= 8,
            _ if frame.has_fields() => frame.length >= frame.before_fields(),
            _ => true,
        };
        if !is_long_enough {
            return Err(frame.of_wrong_size());
        }
        self.padding = 0;
        self.named = 0;
        if matches!(frame.kind, kind::HEADERS | kind::PUSH_PROMISE) {
            self.fields = Some(Fields {
                stream: frame.stream,
                ends_stream: frame.kind == kind::HEADERS && frame.ends_stream(),
            });
        }
        Ok(())
    }

    fn payload(&mut self, frame: FrameHead, at: u32, bytes: &[u8]) -> Result<(), Unparsable> {
        if frame.has_fields() && frame.is_padded() && at == 0 {
            self.padding = u32::from(bytes[0]);
            if frame.before_fields() + self.padding > frame.length {
                return Err(frame.of_wrong_size());
            }
        }
        let named = match frame.kind {
            kind::GOAWAY => 0..4,
            kind::PUSH_PROMISE => frame.before_fields() - 4..frame.before_fields(),
            _ => return Ok(()),
        };
        for (byte, at) in bytes.iter().zip(at..named.end) {
            if named.contains(&at) {
                self.named = self.named << 8 | u32::from(*byte);
            }
        }
        self.named &= MAX_STREAM;
        Ok(())
    }
}

impl FrameHead {
    pub(super) fn on_wrong_stream(self) -> Unparsable {
        let Self { kind, stream, .. } = self;
        Unparsable::Stream { kind, stream }
    }

    fn of_wrong_size(self) -> Unparsable {
        let Self { kind, length, .. } = self;
        Unparsable::FrameSize { kind, length }
    }
}
