//! Watches one connection from its first byte, whatever it speaks, and counts what is in flight on it.
//!
//! A synchronous state machine that changes no bytes. It decides nothing about the connection's life.

use std::{error::Error, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    h1::{self, Piece},
    h2,
    ignore::IgnoreRules,
    in_flight::{InFlight, InFlightGuard},
    opaque::Opaque,
    protocol::{Protocol, may_be_http2, skip_line_ends},
};

/// How connections are counted.
#[derive(Clone, Debug)]
pub struct Counting {
    /// Counts the requests.
    pub in_flight: InFlight,
    /// Which requests are not counted.
    pub ignore: Arc<IgnoreRules>,
    /// How long a connection that cannot be looked into counts after its last byte.
    pub opaque_idle_window: Duration,
}

/// One connection as far as it has passed.
#[derive(Debug)]
pub struct Observer {
    counting: Counting,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The client's first bytes, kept while they do not tell the protocol, and the request they may be the start of.
    Detecting(Vec<u8>, Option<InFlightGuard>),
    Http1(h1::Conversation),
    Http2(Box<h2::Conversation>),
    Opaque(Opaque),
    /// Nothing is looked at, and nothing counts.
    Uncounted,
}

impl Observer {
    /// Returns a connection on which nothing has passed.
    pub fn new(counting: Counting) -> Self {
        Self {
            counting,
            state: State::Detecting(Vec::new(), None),
        }
    }

    /// Returns a connection that somebody else counts.
    pub fn uncounted(counting: Counting) -> Self {
        Self {
            counting,
            state: State::Uncounted,
        }
    }

    /// Ends the connection as if it had never been: what was asked for on it is not counted here.
    pub fn forget(self) {
        match self.state {
            State::Http1(conversation) => conversation.forget(),
            State::Http2(conversation) => conversation.forget(),
            State::Opaque(opaque) => opaque.forget(),
            State::Detecting(_, guard) => {
                if let Some(guard) = guard {
                    guard.ignore();
                }
            }
            State::Uncounted => {}
        }
    }

    /// Whether something was asked for and nothing of it counts.
    pub fn is_ignored(&self) -> bool {
        match &self.state {
            State::Http1(conversation) => conversation.is_ignored(),
            State::Http2(conversation) => conversation.is_ignored(),
            State::Detecting(..) | State::Opaque(_) | State::Uncounted => false,
        }
    }

    /// Takes bytes that arrived from the client.
    pub fn client_bytes(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Http1(conversation) => {
                let fed = conversation.client_bytes(bytes);
                self.give_up_at(fed.err(), "client");
            }
            State::Http2(conversation) => {
                let fed = conversation.client_bytes(bytes);
                self.give_up_at(fed.err(), "client");
            }
            State::Opaque(opaque) => opaque.moved(Instant::now()),
            State::Uncounted => {}
            State::Detecting(first, guard) if first.is_empty() => {
                // The common case: one read tells, and nothing is copied.
                let guard = guard.take();
                self.detect(bytes, guard);
            }
            State::Detecting(first, guard) => {
                let (mut first, guard) = (std::mem::take(first), guard.take());
                first.extend_from_slice(bytes);
                self.detect(&first, guard);
            }
        }
    }

    /// Takes bytes that have been written to the client.
    pub fn server_bytes(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Http1(conversation) => match conversation.server_bytes(bytes) {
                Ok(_) if !conversation.is_http2() => {}
                Ok(taken) => {
                    self.upgrade();
                    self.server_bytes(&bytes[taken..]);
                }
                Err(error) => self.give_up_at(Some(error), "server"),
            },
            State::Http2(conversation) => {
                let fed = conversation.server_bytes(bytes);
                self.give_up_at(fed.err(), "server");
            }
            State::Opaque(opaque) => opaque.moved(Instant::now()),
            State::Uncounted => {}
            // The server speaks before the client has said anything that could be answered.
            State::Detecting(first, guard) if may_be_http2(first, bytes) => {
                let (first, guard) = (std::mem::take(first), guard.take());
                self.become_http2(&first, guard);
                self.server_bytes(bytes);
            }
            State::Detecting(..) => self.give_up(),
        }
    }

    /// Takes that the client will send nothing more.
    pub fn client_eof(&mut self) {
        match &mut self.state {
            State::Http1(conversation) => conversation.client_eof(),
            State::Http2(conversation) => conversation.client_eof(),
            State::Detecting(..) | State::Opaque(_) | State::Uncounted => {}
        }
    }

    /// Takes that the server will send nothing more and that all it sent has been written.
    pub fn server_eof(&mut self) {
        match &mut self.state {
            State::Http1(conversation) => conversation.server_eof(),
            State::Http2(conversation) => conversation.server_eof(),
            // Whatever the client may still send, nothing will be answered.
            State::Detecting(..) => {
                let mut conversation = self.http1_with(None);
                conversation.server_eof();
                self.state = State::Http1(conversation);
            }
            State::Opaque(_) | State::Uncounted => {}
        }
    }

    /// Whether the connection carries HTTP/1 messages, and not what has become of an upgrade.
    pub fn is_http1(&self) -> bool {
        self.http1().is_some()
    }

    /// Whether nothing is under way, so that the connection could be closed and no one would miss it.
    pub fn is_idle(&self) -> bool {
        match &self.state {
            State::Detecting(first, _) => first.is_empty(),
            State::Http1(conversation) => conversation.is_idle(),
            State::Http2(conversation) => conversation.is_idle(),
            State::Opaque(_) | State::Uncounted => false,
        }
    }

    /// Whether all that was asked for has been answered, to the last byte.
    pub fn is_answered(&self) -> bool {
        match &self.state {
            State::Http1(conversation) => !conversation.is_tunnel() && conversation.is_answered(),
            State::Http2(conversation) => conversation.is_answered(),
            State::Detecting(..) | State::Opaque(_) | State::Uncounted => false,
        }
    }

    /// Whether the client's next byte would begin a request.
    pub fn is_between_requests(&self) -> bool {
        self.http1()
            .is_some_and(h1::Conversation::is_between_requests)
    }

    /// Says what the next bytes to the client are, for one who may change an HTTP/1 head or put a frame between two of
    /// HTTP/2; see [`h1::Conversation::next_piece`].
    pub fn next_piece(&self, bytes: &[u8]) -> Piece {
        match &self.state {
            State::Http1(conversation) => conversation.next_piece(bytes),
            State::Http2(conversation) => Piece::Pass(conversation.until_takes_frame(bytes)),
            State::Detecting(..) | State::Opaque(_) | State::Uncounted => Piece::Pass(bytes.len()),
        }
    }

    /// Whether the client could be told by a GOAWAY frame to open no more streams, once the server's frames allow, and the
    /// server has not told it.
    pub fn wants_goaway(&self) -> bool {
        self.http2()
            .is_some_and(|conversation| conversation.last_served().is_none())
    }

    /// Whether a frame may be put before the next byte to the client.
    pub fn takes_frame(&self) -> bool {
        self.http2().is_some_and(h2::Conversation::takes_frame)
    }

    /// Returns the last stream that is served if the connection is closed now, or `None` if the client knows or may not
    /// be told.
    pub fn last_stream(&self) -> Option<u32> {
        let conversation = self
            .http2()
            .filter(|conversation| conversation.takes_frame())?;
        let last = conversation.last_stream();
        (conversation.last_served() != Some(last)).then_some(last)
    }

    /// Returns when [`Self::tick`] is due, or `None` if time does not matter now.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Opaque(opaque) => opaque.deadline(),
            State::Detecting(..) | State::Http1(_) | State::Http2(_) | State::Uncounted => None,
        }
    }

    /// Takes what time it is.
    pub fn tick(&mut self, now: Instant) {
        if let State::Opaque(opaque) = &mut self.state {
            opaque.tick(now);
        }
    }

    fn http1(&self) -> Option<&h1::Conversation> {
        match &self.state {
            State::Http1(conversation) if !conversation.is_tunnel() => Some(conversation),
            _ => None,
        }
    }

    fn http2(&self) -> Option<&h2::Conversation> {
        match &self.state {
            State::Http2(conversation) => Some(conversation),
            _ => None,
        }
    }

    /// Returns a conversation that begins with what `guard` counts.
    fn http1_with(&self, guard: Option<InFlightGuard>) -> h1::Conversation {
        let Counting {
            in_flight, ignore, ..
        } = self.counting.clone();
        h1::Conversation::continued(in_flight, ignore, guard)
    }

    /// Takes all bytes from the client so far.
    fn detect(&mut self, first: &[u8], guard: Option<InFlightGuard>) {
        match Protocol::detect(first) {
            Some(Protocol::Http1) => {
                self.state = State::Http1(self.http1_with(guard));
                self.client_bytes(first);
            }
            Some(Protocol::Http2) => self.become_http2(first, guard),
            Some(Protocol::Tls | Protocol::Opaque) => self.become_opaque(guard),
            None => {
                let start = skip_line_ends(first);
                let guard =
                    guard.or_else(|| (!start.is_empty()).then(|| self.counting.in_flight.begin()));
                self.state = State::Detecting(start.to_vec(), guard);
            }
        }
    }

    /// Follows the connection as HTTP/2, whose client has begun with `first`.
    fn become_http2(&mut self, first: &[u8], guard: Option<InFlightGuard>) {
        // What was taken for the start of a request was the preface.
        if let Some(guard) = guard {
            guard.ignore();
        }
        let Counting {
            in_flight, ignore, ..
        } = self.counting.clone();
        self.state = State::Http2(Box::new(h2::Conversation::new(in_flight, ignore)));
        self.client_bytes(first);
    }

    /// Follows a connection of HTTP/1 as HTTP/2 from here on.
    fn upgrade(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Detecting(Vec::new(), None));
        if let State::Http1(conversation) = state {
            let Counting {
                in_flight, ignore, ..
            } = self.counting.clone();
            let guard = conversation.into_guard();
            let conversation = h2::Conversation::upgraded(in_flight, ignore, guard);
            self.state = State::Http2(Box::new(conversation));
        }
    }

    /// Gives up if there was an error in what `side` sent.
    fn give_up_at(&mut self, error: Option<impl Error>, side: &str) {
        if let Some(error) = error {
            tracing::debug!(%error, side, "A connection cannot be followed, counting it as one");
            self.give_up();
        }
    }

    /// Counts the connection instead of its requests.
    fn give_up(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Detecting(Vec::new(), None));
        match state {
            State::Http1(conversation) => self.become_opaque(conversation.into_guard()),
            State::Http2(conversation) => self.become_opaque(conversation.into_guard()),
            State::Detecting(_, guard) => self.become_opaque(guard),
            state @ (State::Opaque(_) | State::Uncounted) => self.state = state,
        }
    }

    fn become_opaque(&mut self, guard: Option<InFlightGuard>) {
        let Counting {
            in_flight,
            opaque_idle_window,
            ..
        } = self.counting.clone();
        let opaque = Opaque::new(in_flight, opaque_idle_window, guard, Instant::now());
        self.state = State::Opaque(opaque);
    }
}
