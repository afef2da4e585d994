//! The streams of a connection that have not ended (RFC 9113, section 5.1).
//!
//! Says when a stream has ended, and with it its request; which frame does what to it is for the conversation.

use std::collections::VecDeque;

use crate::in_flight::InFlightGuard;

/// Most streams of one connection that are followed at once, and so most that it counts. Servers that announce no limit
/// bear some thousands; 24 bytes each.
pub const MAX_STREAMS: usize = 16 * 1024;

/// For how many streams room is kept while there are none.
const KEPT: usize = 64;

#[derive(Debug)]
struct Stream {
    id: u32,
    /// `None` if it does not count: ignored, pushed, or not known yet.
    guard: Option<InFlightGuard>,
    client_ended: bool,
    server_ended: bool,
}

/// Which side of a stream something is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// The open streams, by identifier.
#[derive(Debug, Default)]
pub(super) struct Streams {
    // New streams have the highest identifier, and of those that end most are among the oldest or newest.
    open: VecDeque<Stream>,
    /// There were more than are followed.
    overflowed: bool,
}

impl Streams {
    /// Whether no stream is open.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && !self.overflowed
    }

    /// Whether streams are open and none of them counts.
    pub(super) fn is_ignored(&self) -> bool {
        !self.is_empty() && self.open.iter().all(|stream| stream.guard.is_none())
    }

    /// Takes all streams out of the count.
    pub(super) fn forget(self) {
        for guard in self.open.into_iter().filter_map(|stream| stream.guard) {
            guard.ignore();
        }
    }

    /// Adds a stream, which does not count yet, on which only what `ended` names cannot send.
    pub(super) fn open(&mut self, id: u32, ended: Option<Side>) {
        if self.open.len() >= MAX_STREAMS {
            self.overflowed = true;
            return;
        }
        if let Err(at) = self.position(id) {
            let stream = Stream {
                id,
                guard: None,
                client_ended: ended == Some(Side::Client),
                server_ended: ended == Some(Side::Server),
            };
            self.open.insert(at, stream);
        }
    }

    /// Counts an open stream by the guard that `begin` makes, unless it counts.
    pub(super) fn count(&mut self, id: u32, begin: impl FnOnce() -> InFlightGuard) {
        if let Some(stream) = self.get_mut(id) {
            stream.guard.get_or_insert_with(begin);
        }
    }

    /// Stops counting an open stream: it was a probe or a scrape.
    pub(super) fn ignore(&mut self, id: u32) {
        let guard = self.get_mut(id).and_then(|stream| stream.guard.take());
        if let Some(guard) = guard {
            guard.ignore();
        }
    }

    /// Takes that one side sends nothing more on a stream.
    pub(super) fn end(&mut self, id: u32, side: Side) {
        if let Some(stream) = self.get_mut(id) {
            match side {
                Side::Client => stream.client_ended = true,
                Side::Server => stream.server_ended = true,
            }
            if stream.client_ended && stream.server_ended {
                self.remove(id);
            }
        }
    }

    /// Takes that one side sends nothing more at all.
    pub(super) fn end_all(&mut self, side: Side) {
        for stream in &mut self.open {
            match side {
                Side::Client => stream.client_ended = true,
                Side::Server => stream.server_ended = true,
            }
        }
        self.keep(|stream| !(stream.client_ended && stream.server_ended));
    }

    /// Ends a stream; one that is not open stays so.
    pub(super) fn remove(&mut self, id: u32) {
        if let Ok(at) = self.position(id) {
            self.open.remove(at);
            self.give_back();
        }
    }

    /// Ends the streams above `last` that were opened by `opener`.
    pub(super) fn refuse_above(&mut self, last: u32, opener: Side) {
        let parity = u32::from(opener == Side::Client);
        self.keep(|stream| stream.id % 2 != parity || stream.id <= last);
    }

    /// Ends all streams.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Ends all streams and returns a guard of one that counted.
    pub(super) fn take_guard(&mut self) -> Option<InFlightGuard> {
        let guard = self.open.iter_mut().find_map(|stream| stream.guard.take());
        self.clear();
        guard
    }

    fn keep(&mut self, keeps: impl Fn(&Stream) -> bool) {
        self.open.retain(keeps);
        self.give_back();
    }

    fn give_back(&mut self) {
        if self.open.is_empty() && self.open.capacity() > KEPT {
            self.open = VecDeque::new();
        }
    }

    fn position(&self, id: u32) -> Result<usize, usize> {
        self.open.binary_search_by_key(&id, |stream| stream.id)
    }

    fn get_mut(&mut self, id: u32) -> Option<&mut Stream> {
        let at = self.position(id).ok()?;
        self.open.get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::in_flight::InFlight;

    #[tokio::test]
    async fn streams_past_the_bound_leave_the_count_as_it_is() {
        let in_flight = InFlight::new();
        let mut streams = Streams::default();
        let ids = (0..).map(|number| number * 2 + 1);
        for id in ids.clone().take(MAX_STREAMS + 10) {
            streams.open(id, None);
            streams.count(id, || in_flight.begin());
        }
        assert_eq!(in_flight.snapshot().in_flight, MAX_STREAMS as u64);
        for id in ids.take(MAX_STREAMS + 10) {
            streams.remove(id);
        }
        assert_eq!(in_flight.snapshot().in_flight, 0);
        // Some that were not followed may still be open.
        assert!(!streams.is_empty());
    }

    #[tokio::test]
    async fn room_for_many_streams_is_given_back_with_the_last() {
        let mut streams = Streams::default();
        for id in 1..1000 {
            streams.open(id, None);
        }
        for id in 1..1000 {
            streams.remove(id);
        }
        assert!(streams.is_empty());
        assert_eq!(streams.open.capacity(), 0);
    }
}
