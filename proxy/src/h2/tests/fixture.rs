//! A connection that tests play both sides of, and the frames that they send.

use std::sync::Arc;

use crate::{
    h2::{Conversation, Unparsable},
    ignore::IgnoreRules,
    in_flight::InFlight,
    protocol::HTTP2_PREFACE,
};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const WITH_PRIORITY: u8 = 0x20;

/// `:method: GET`, `:scheme: http`, `:path: /`.
pub(super) const GET: &[u8] = b"\x82\x86\x84";
/// The same from `kube-probe/`, which becomes an entry of the dynamic table.
pub(super) const PROBE: &[u8] = b"\x82\x86\x84\x7a\x0bkube-probe/";
/// The same by that entry.
pub(super) const PROBE_AGAIN: &[u8] = b"\x82\x86\x84\xbe";

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

pub(super) fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, GET)
}

pub(super) fn ok(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x88")
}

pub(super) struct Fixture {
    pub(super) in_flight: InFlight,
    pub(super) conversation: Conversation,
}

impl Fixture {
    /// A connection on which nothing has passed.
    pub(super) fn new() -> Self {
        let in_flight = InFlight::new();
        let rules = Arc::new(IgnoreRules::default());
        Self {
            conversation: Conversation::new(in_flight.clone(), rules),
            in_flight,
        }
    }

    /// A connection on which both sides have said their settings.
    pub(super) fn open() -> Self {
        let mut fixture = Self::new();
        let settings = frame(SETTINGS, 0, 0, b"\0\x03\0\0\0\x64");
        let preface = [HTTP2_PREFACE, &settings].concat();
        assert_eq!(fixture.client(preface), Ok(0));
        assert_eq!(fixture.server(settings), Ok(0));
        assert_eq!(fixture.client(frame(SETTINGS, 1, 0, b"")), Ok(0));
        fixture
    }

    pub(super) fn count(&self) -> u64 {
        self.in_flight.snapshot().in_flight
    }

    /// Takes bytes from the client and returns what is in flight then.
    pub(super) fn client(&mut self, bytes: impl AsRef<[u8]>) -> Result<u64, Unparsable> {
        self.conversation.client_bytes(bytes.as_ref())?;
        Ok(self.count())
    }

    /// Takes bytes to the client and returns what is in flight then.
    pub(super) fn server(&mut self, bytes: impl AsRef<[u8]>) -> Result<u64, Unparsable> {
        self.conversation.server_bytes(bytes.as_ref())?;
        Ok(self.count())
    }
}
