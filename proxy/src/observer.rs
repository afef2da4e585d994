//! Watches one connection from its first byte, whatever it speaks, and counts what is in flight on it.
//!
//! A synchronous state machine that changes no bytes. It decides nothing about the connection's life.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    h1::{Conversation, Piece},
    ignore::IgnoreRules,
    in_flight::{InFlight, InFlightGuard},
    opaque::Opaque,
    protocol::{Protocol, skip_line_ends},
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
    Http1(Conversation),
    Opaque(Opaque),
}

impl Observer {
    /// Returns a connection on which nothing has passed.
    pub fn new(counting: Counting) -> Self {
        Self {
            counting,
            state: State::Detecting(Vec::new(), None),
        }
    }

    /// Takes bytes that arrived from the client.
    pub fn client_bytes(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Http1(conversation) => {
                if let Err(error) = conversation.client_bytes(bytes) {
                    tracing::debug!(%error, "A client cannot be followed, counting its connection");
                    self.give_up();
                }
            }
            State::Opaque(opaque) => opaque.moved(Instant::now()),
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
            State::Http1(conversation) => {
                if let Err(error) = conversation.server_bytes(bytes) {
                    tracing::debug!(%error, "A server cannot be followed, counting its connection");
                    self.give_up();
                }
            }
            State::Opaque(opaque) => opaque.moved(Instant::now()),
            // The server speaks before the client has said anything that could be answered.
            State::Detecting(..) => self.give_up(),
        }
    }

    /// Takes that the client will send nothing more.
    pub fn client_eof(&mut self) {
        if let State::Http1(conversation) = &mut self.state {
            conversation.client_eof();
        }
    }

    /// Takes that the server will send nothing more and that all it sent has been written.
    pub fn server_eof(&mut self) {
        match &mut self.state {
            State::Http1(conversation) => conversation.server_eof(),
            // Whatever the client may still send, nothing will be answered.
            State::Detecting(..) => {
                let mut conversation = self.conversation_with(None);
                conversation.server_eof();
                self.state = State::Http1(conversation);
            }
            State::Opaque(_) => {}
        }
    }

    /// Whether the connection carries HTTP/1 messages, and not what has become of an upgrade.
    pub fn is_http1(&self) -> bool {
        self.conversation().is_some()
    }

    /// Whether nothing is under way, so that the connection could be closed and no one would miss it.
    pub fn is_idle(&self) -> bool {
        match &self.state {
            State::Detecting(first, _) => first.is_empty(),
            State::Http1(conversation) => conversation.is_idle(),
            State::Opaque(_) => false,
        }
    }

    /// Whether all that was asked for has been answered, to the last byte.
    pub fn is_answered(&self) -> bool {
        self.conversation().is_some_and(Conversation::is_answered)
    }

    /// Whether the client's next byte would begin a request.
    pub fn is_between_requests(&self) -> bool {
        self.conversation()
            .is_some_and(Conversation::is_between_requests)
    }

    /// Says what the next bytes to the client are; see [`Conversation::next_piece`].
    pub fn next_piece(&self, bytes: &[u8]) -> Piece {
        let all = Piece::Pass(bytes.len());
        self.conversation()
            .map_or(all, |conversation| conversation.next_piece(bytes))
    }

    /// Returns when [`Self::tick`] is due, or `None` if time does not matter now.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Opaque(opaque) => opaque.deadline(),
            State::Detecting(..) | State::Http1(_) => None,
        }
    }

    /// Takes what time it is.
    pub fn tick(&mut self, now: Instant) {
        if let State::Opaque(opaque) = &mut self.state {
            opaque.tick(now);
        }
    }

    fn conversation(&self) -> Option<&Conversation> {
        match &self.state {
            State::Http1(conversation) if !conversation.is_tunnel() => Some(conversation),
            _ => None,
        }
    }

    /// Returns a conversation that begins with what `guard` counts.
    fn conversation_with(&self, guard: Option<InFlightGuard>) -> Conversation {
        let Counting {
            in_flight, ignore, ..
        } = self.counting.clone();
        Conversation::continued(in_flight, ignore, guard)
    }

    /// Takes all bytes from the client so far.
    fn detect(&mut self, first: &[u8], guard: Option<InFlightGuard>) {
        match Protocol::detect(first) {
            Some(Protocol::Http1) => {
                self.state = State::Http1(self.conversation_with(guard));
                self.client_bytes(first);
            }
            // HTTP/2 will be followed by its frames; until then its connections count as one each.
            Some(Protocol::Http2 | Protocol::Tls | Protocol::Opaque) => self.become_opaque(guard),
            None => {
                let start = skip_line_ends(first);
                let guard =
                    guard.or_else(|| (!start.is_empty()).then(|| self.counting.in_flight.begin()));
                self.state = State::Detecting(start.to_vec(), guard);
            }
        }
    }

    /// Counts the connection instead of its requests.
    fn give_up(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Detecting(Vec::new(), None));
        match state {
            State::Http1(conversation) => self.become_opaque(conversation.into_guard()),
            State::Detecting(_, guard) => self.become_opaque(guard),
            opaque @ State::Opaque(_) => self.state = opaque,
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
