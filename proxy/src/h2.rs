//! Watches an HTTP/2 connection pass and knows which requests are in flight (RFC 9113).
//!
//! A synchronous state machine, as [`crate::h1`] is: told the bytes that came from the client and the bytes that were
//! written to it, it holds a guard for each stream that the client opened until the stream has ended. It looks at the
//! heads of frames, at the identifiers in GOAWAY and `PUSH_PROMISE`, and at the client's header blocks if there are rules
//! to apply; all else is skipped by its length. What it cannot follow it says once, as [`Unparsable`].
//!
//! A stream that the server pushes is part of its answer and no request: it keeps the connection from being idle, and
//! does not count. Frames on streams that are closed or were never opened change nothing.

mod direction;
mod frame;
mod hpack;
mod huffman;
mod streams;

use std::sync::Arc;

pub(crate) use self::frame::{MAX_STREAM, goaway};
pub use self::streams::MAX_STREAMS;
use self::{
    direction::Direction,
    frame::{Event, FrameHead, kind},
    hpack::HeaderBlocks,
    streams::{Side, Streams},
};
use crate::{
    ignore::IgnoreRules,
    in_flight::{InFlight, InFlightGuard},
    protocol::HTTP2_PREFACE,
};

/// Why a connection cannot be followed as HTTP/2 any further: one side has violated the protocol, or speaks another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unparsable {
    /// The client did not begin with the connection preface.
    #[error("the connection does not begin with the preface")]
    Preface,
    /// The first frame of a side is not its SETTINGS.
    #[error("a side does not begin with SETTINGS")]
    Settings,
    /// A header block is interrupted, or continued without having begun.
    #[error("a header block is not contiguous")]
    Fields,
    /// A frame is too short or too long for what it must hold.
    #[error("a frame of type {kind} has {length} bytes")]
    FrameSize {
        /// The frame's type.
        kind: u8,
        /// The length of its payload.
        length: u32,
    },
    /// A side used a stream that it may not use this way.
    #[error("a frame of type {kind} is on stream {stream}")]
    Stream {
        /// The frame's type.
        kind: u8,
        /// The stream.
        stream: u32,
    },
}

/// An HTTP/2 connection as far as it has passed.
#[derive(Debug)]
pub struct Conversation {
    in_flight: InFlight,
    streams: Streams,
    /// How many bytes of the preface the client has sent.
    preface: usize,
    client: Direction,
    server: Direction,
    /// The client's header blocks. `None` if no rule needs them, or they cannot be read.
    blocks: Option<HeaderBlocks>,
    /// A stream that the client has opened with a header block that is not whole.
    opening: Option<u32>,
    /// The highest stream that the client has opened.
    last_stream: u32,
    /// What the server's GOAWAY has named: streams above it are refused.
    last_served: Option<u32>,
}

impl Conversation {
    /// Returns a connection on which nothing has passed, whose requests are counted by `in_flight` unless `rules`
    /// ignore them.
    pub fn new(in_flight: InFlight, rules: Arc<IgnoreRules>) -> Self {
        Self {
            in_flight,
            streams: Streams::default(),
            preface: 0,
            client: Direction::new(),
            server: Direction::new(),
            blocks: (!rules.is_empty()).then(|| HeaderBlocks::new(rules)),
            opening: None,
            last_stream: 0,
            last_served: None,
        }
    }

    /// Returns a connection that was upgraded from HTTP/1.1: its request, counted by `guard` if it counts, is the first
    /// stream, on which the client has sent all (RFC 7540, section 3.2).
    pub(crate) fn upgraded(
        in_flight: InFlight,
        rules: Arc<IgnoreRules>,
        guard: Option<InFlightGuard>,
    ) -> Self {
        let mut conversation = Self::new(in_flight, rules);
        conversation.last_stream = 1;
        conversation.streams.open(1, Some(Side::Client));
        if let Some(guard) = guard {
            conversation.streams.count(1, || guard);
        }
        conversation
    }

    /// Takes bytes that arrived from the client.
    ///
    /// # Errors
    ///
    /// Fails once the requests cannot be followed; the conversation must not be fed after that.
    pub fn client_bytes(&mut self, bytes: &[u8]) -> Result<(), Unparsable> {
        let missing = &HTTP2_PREFACE[self.preface..];
        let (preface, mut bytes) = bytes.split_at(missing.len().min(bytes.len()));
        if !missing.starts_with(preface) {
            return Err(Unparsable::Preface);
        }
        self.preface += preface.len();
        while let Some(event) = self.client.next(&mut bytes)? {
            let frame = self.client.reader.frame();
            match event {
                Event::Begins => self.client_frame_begins(frame)?,
                Event::Payload { at, bytes } if frame.has_fields() => {
                    self.add_fields(frame, at, bytes);
                }
                Event::Payload { .. } => {}
                Event::Ends => self.client_frame_ends(frame),
            }
        }
        // A request is in flight also while its head is not whole.
        if let Some(stream) = self.opening {
            self.streams.count(stream, || self.in_flight.begin());
        }
        Ok(())
    }

    /// Takes bytes that have been written to the client.
    ///
    /// # Errors
    ///
    /// Fails once the responses cannot be followed; the conversation must not be fed after that.
    pub fn server_bytes(&mut self, mut bytes: &[u8]) -> Result<(), Unparsable> {
        while let Some(event) = self.server.next(&mut bytes)? {
            if event == Event::Ends {
                self.server_frame_ends(self.server.reader.frame())?;
            }
        }
        Ok(())
    }

    /// Takes that the client will send nothing more. What it has asked for is still in flight.
    pub fn client_eof(&mut self) {
        self.streams.end_all(Side::Client);
    }

    /// Takes that the server will send nothing more and that all it sent has been written: nothing is in flight.
    pub fn server_eof(&mut self) {
        self.streams.clear();
        self.last_served = Some(0);
    }

    /// Whether no stream is open and neither side is inside a frame.
    pub fn is_idle(&self) -> bool {
        let preface = self.preface == 0 || self.preface == HTTP2_PREFACE.len();
        preface && self.client.is_at_boundary() && self.is_answered()
    }

    /// Whether no stream is open and the server is not inside a frame.
    pub fn is_answered(&self) -> bool {
        self.streams.is_empty() && self.server.is_at_boundary()
    }

    /// Whether a frame may be put before the server's next byte: only after its SETTINGS (RFC 9113, section 3.4) and
    /// not inside a header block (section 4.3).
    pub(crate) fn takes_frame(&self) -> bool {
        self.server.begun && self.server.is_at_boundary()
    }

    /// Returns how many of `bytes`, which come after all that [`Self::server_bytes`] was told, to pass on until a frame may
    /// be put before the next: all of them if none may.
    pub(crate) fn until_takes_frame(&self, bytes: &[u8]) -> usize {
        let mut reader = self.server.reader;
        let mut rest = bytes;
        while let Some(event) = reader.next(&mut rest) {
            if event == Event::Ends && !reader.frame().leaves_fields_open() {
                return bytes.len() - rest.len();
            }
        }
        bytes.len()
    }

    /// Returns the highest stream that the client has opened and the server not refused.
    pub(crate) fn last_stream(&self) -> u32 {
        self.last_stream.min(self.last_served.unwrap_or(MAX_STREAM))
    }

    /// Returns the highest stream that the server's GOAWAY has said it may serve, or `None` if it sent none.
    pub(crate) fn last_served(&self) -> Option<u32> {
        self.last_served
    }

    /// Gives up the requests in flight but for one, if there is one, which stands for the connection from here on.
    pub fn into_guard(mut self) -> Option<InFlightGuard> {
        self.streams.take_guard()
    }

    /// Whether streams are open and none of them counts.
    pub fn is_ignored(&self) -> bool {
        self.streams.is_ignored()
    }

    /// Takes the requests in flight out of the count.
    pub(crate) fn forget(self) {
        self.streams.forget();
    }

    fn client_frame_begins(&mut self, frame: FrameHead) -> Result<(), Unparsable> {
        match frame.kind {
            // The client opens odd streams, in their order (section 5.1.1). On one that is not new these are trailers.
            kind::HEADERS if frame.stream % 2 == 1 => {
                if frame.stream > self.last_stream {
                    self.last_stream = frame.stream;
                    if self.last_served.is_none_or(|last| frame.stream <= last) {
                        self.streams.open(frame.stream, None);
                    }
                    self.opening = Some(frame.stream);
                }
                Ok(())
            }
            // Only servers push.
            kind::HEADERS | kind::PUSH_PROMISE => Err(frame.on_wrong_stream()),
            _ => Ok(()),
        }
    }

    fn client_frame_ends(&mut self, frame: FrameHead) {
        match frame.kind {
            kind::DATA if frame.ends_stream() => self.streams.end(frame.stream, Side::Client),
            kind::RST_STREAM => self.streams.remove(frame.stream),
            kind::GOAWAY => self.streams.refuse_above(self.client.named, Side::Server),
            _ if frame.has_fields() && frame.ends_fields() => self.client_fields_end(),
            _ => {}
        }
    }

    fn client_fields_end(&mut self) {
        let ignored = self.blocks.as_mut().map(HeaderBlocks::end);
        let ignored = self.readable(ignored).unwrap_or(false);
        match self.opening.take() {
            Some(stream) if ignored => self.streams.ignore(stream),
            Some(stream) => self.streams.count(stream, || self.in_flight.begin()),
            None => {}
        }
        if let Some(fields) = self.client.fields.take()
            && fields.ends_stream
        {
            self.streams.end(fields.stream, Side::Client);
        }
    }

    /// Takes bytes of a client's frame that holds part of a header block.
    fn add_fields(&mut self, frame: FrameHead, at: u32, bytes: &[u8]) {
        let Some(blocks) = &mut self.blocks else {
            return;
        };
        let begin = frame.before_fields();
        let end = frame.length - self.client.padding;
        let offset =
            |position: u32| usize::try_from(position.saturating_sub(at)).unwrap_or(usize::MAX);
        let fragment = &bytes[offset(begin).min(bytes.len())..offset(end).min(bytes.len())];
        let is_whole = at <= begin && offset(end) <= bytes.len() && frame.ends_fields();
        let added = Some(blocks.add(fragment, is_whole));
        self.readable(added);
    }

    /// Returns what was read of a header block, or forgets about them all if that failed: it takes the one before to
    /// read the next.
    fn readable<T>(&mut self, read: Option<Result<T, hpack::Unreadable>>) -> Option<T> {
        match read? {
            Ok(read) => Some(read),
            Err(error) => {
                tracing::debug!(%error, "A client's header blocks cannot be read, ignoring none of its requests");
                self.blocks = None;
                None
            }
        }
    }

    fn server_frame_ends(&mut self, frame: FrameHead) -> Result<(), Unparsable> {
        match frame.kind {
            kind::DATA if frame.ends_stream() => self.streams.end(frame.stream, Side::Server),
            kind::RST_STREAM => self.streams.remove(frame.stream),
            kind::GOAWAY => {
                // It may be said again with a lower stream, and never with a higher one (section 6.8).
                let last = self
                    .server
                    .named
                    .min(self.last_served.unwrap_or(MAX_STREAM));
                self.last_served = Some(last);
                self.streams.refuse_above(last, Side::Client);
            }
            // The server opens even streams, of which 0 is the connection.
            kind::PUSH_PROMISE => match self.server.named {
                stream if stream > 0 && stream % 2 == 0 => {
                    self.streams.open(stream, Some(Side::Client));
                }
                _ => return Err(frame.on_wrong_stream()),
            },
            _ => {}
        }
        if frame.has_fields()
            && frame.ends_fields()
            && let Some(fields) = self.server.fields.take()
            && fields.ends_stream
        {
            self.streams.end(fields.stream, Side::Server);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
