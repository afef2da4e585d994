//! Watches an HTTP/1 connection pass and knows which requests are in flight (RFC 9112).
//!
//! A synchronous state machine: it is told the bytes that came from the client and the bytes that were written to it,
//! and holds a guard for each request from the first byte of its head to the last byte of its response. It stores no
//! bytes but those of a head that is not whole yet, and changes none. What it cannot follow it says once, as
//! [`Unparsable`]; from there the connection is someone else's.
//!
//! One case is ambiguous on the wire: a client that announced a body with `Expect: 100-continue` and was refused may
//! send the body or leave it out. The body is expected, as the head announced it; if it was left out, the next
//! response belongs to nothing and the connection becomes unparsable, which relays it all the same.

mod body;
mod head;
mod outstanding;

use std::sync::Arc;

pub(crate) use self::head::with_close;
use self::{
    body::Body,
    head::{Method, ResponseKind},
    outstanding::{Outstanding, Request},
};
use crate::{
    ignore::IgnoreRules,
    in_flight::{InFlight, InFlightGuard},
    protocol::skip_line_ends,
};

/// Longest head that is parsed, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;

/// Most requests of one connection that are followed while they wait for their responses.
pub const MAX_PIPELINED: usize = 1024;

/// Why a connection cannot be followed as HTTP/1 any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unparsable {
    /// A head is not HTTP/1, or has more header fields than are parsed.
    #[error("a head is malformed: {0}")]
    Head(#[from] httparse::Error),
    /// A head is longer than [`MAX_HEAD`].
    #[error("a head is longer than {MAX_HEAD} bytes")]
    LongHead,
    /// A head contradicts itself about where its body ends, or does not tell.
    #[error("a head does not say unambiguously where its body ends")]
    Framing,
    /// A chunked body is malformed.
    #[error("a chunked body is malformed")]
    Chunk,
    /// The server sent something that no request asked for.
    #[error("the server answered without being asked")]
    Unsolicited,
    /// More than [`MAX_PIPELINED`] requests wait for responses.
    #[error("more than {MAX_PIPELINED} requests are pipelined")]
    Pipelined,
}

/// An HTTP/1 connection as far as it has passed.
#[derive(Debug)]
pub struct Conversation {
    in_flight: InFlight,
    rules: Arc<IgnoreRules>,
    outstanding: Outstanding,
    client: Client,
    /// The start of a request head that has not arrived whole.
    client_head: PartialHead,
    server: Server,
    /// The start of a response head that has not been written whole.
    server_head: PartialHead,
}

/// Where the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// In a head or before one.
    Head,
    Body(Body),
    /// After a CONNECT, whose response says what its next bytes are. Holds whether there were any.
    Connecting(bool),
    /// After its last byte that matters.
    Done,
}

/// Where the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    /// In a head or before one.
    Head,
    Body(Body),
    /// In a tunnel, which is in flight until both sides have closed.
    Tunnel,
    /// After the head that has made the connection one of HTTP/2.
    Http2,
    /// Closed: nothing is answered any more.
    Done,
}

/// What the next bytes to the client are, for one who may change a head before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// This many bytes are to be passed on as they are; more may be known after these.
    Pass(usize),
    /// This many bytes are the whole head of a final response after which the connection could be closed.
    LastHead(usize),
    /// A head has begun and is not whole.
    Incomplete,
}

impl Conversation {
    /// Returns a connection on which nothing has passed, whose requests are counted by `in_flight` unless `rules`
    /// ignore them.
    pub fn new(in_flight: InFlight, rules: Arc<IgnoreRules>) -> Self {
        Self {
            in_flight,
            rules,
            outstanding: Outstanding::default(),
            client: Client::Head,
            client_head: PartialHead::default(),
            server: Server::Head,
            server_head: PartialHead::default(),
        }
    }

    /// Returns a connection whose first request was counted before it was known to be one.
    pub(crate) fn continued(
        in_flight: InFlight,
        rules: Arc<IgnoreRules>,
        first: Option<InFlightGuard>,
    ) -> Self {
        let mut conversation = Self::new(in_flight, rules);
        if let Some(guard) = first {
            conversation.client_head.begun = true;
            conversation.outstanding.push(Request::begun(guard));
        }
        conversation
    }

    /// Takes bytes that arrived from the client.
    ///
    /// # Errors
    ///
    /// Fails once the requests cannot be followed; the conversation must not be fed after that.
    pub fn client_bytes(&mut self, mut bytes: &[u8]) -> Result<(), Unparsable> {
        while !bytes.is_empty() {
            match &mut self.client {
                Client::Head => {
                    let consumed = self.request_head(bytes)?;
                    bytes = &bytes[consumed..];
                }
                Client::Body(body) => {
                    let consumed = body.advance(bytes)?;
                    bytes = &bytes[consumed..];
                    if body.is_done() {
                        self.client = Client::Head;
                    }
                }
                Client::Connecting(seen) => {
                    *seen = true;
                    return Ok(());
                }
                Client::Done => return Ok(()),
            }
        }
        Ok(())
    }

    /// Takes bytes that have been written to the client and returns how many of them were of HTTP/1: all, unless
    /// [`Self::is_http2`] after them.
    ///
    /// # Errors
    ///
    /// Fails once the responses cannot be followed; the conversation must not be fed after that.
    pub fn server_bytes(&mut self, bytes: &[u8]) -> Result<usize, Unparsable> {
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.server {
                Server::Head => at += self.response_head(&bytes[at..])?,
                Server::Body(body) => {
                    at += body.advance(&bytes[at..])?;
                    if body.is_done() {
                        self.response_ended();
                    }
                }
                Server::Http2 => return Ok(at),
                Server::Tunnel | Server::Done => break,
            }
        }
        Ok(bytes.len())
    }

    /// Takes that the client will send nothing more. What it has asked for is still in flight.
    pub fn client_eof(&mut self) {
        if self.server != Server::Tunnel {
            // The start of a head is kept: a response to it may still come.
            self.client = Client::Done;
        }
    }

    /// Takes that the server will send nothing more and that all it sent has been written. Outside of a tunnel
    /// nothing is in flight after that.
    pub fn server_eof(&mut self) {
        if self.server != Server::Tunnel {
            self.server = Server::Done;
            self.client = Client::Done;
            self.client_head.clear();
            self.server_head.clear();
            self.outstanding.clear();
        }
    }

    /// Whether neither side is inside a message and no request waits for a response.
    pub fn is_idle(&self) -> bool {
        let client = self.client == Client::Done || self.is_between_requests();
        let server = self.server == Server::Done || self.is_between_responses();
        self.outstanding.is_empty() && client && server
    }

    /// Whether every byte written so far belongs to a complete response.
    pub fn is_between_responses(&self) -> bool {
        self.server == Server::Head && self.server_head.bytes.is_empty()
    }

    /// Whether no request waits for the rest of its response.
    pub fn is_answered(&self) -> bool {
        let server = self.server == Server::Done || self.is_between_responses();
        self.outstanding.is_empty() && server
    }

    /// Whether the client is between two requests: what it sends next begins one.
    pub fn is_between_requests(&self) -> bool {
        self.client == Client::Head && !self.client_head.begun
    }

    /// Whether the connection has become a tunnel: by 101 or a successful CONNECT.
    pub fn is_tunnel(&self) -> bool {
        self.server == Server::Tunnel
    }

    /// Whether the connection has been upgraded to HTTP/2 after a request that is whole; it must not be fed any more.
    pub fn is_http2(&self) -> bool {
        self.server == Server::Http2
    }

    /// Gives up the requests in flight but for one, if there is one, which stands for the connection from here on.
    pub fn into_guard(mut self) -> Option<InFlightGuard> {
        self.outstanding.take_guard()
    }

    /// Whether requests wait for their responses and none of them is counted.
    pub fn is_ignored(&self) -> bool {
        self.outstanding.is_ignored()
    }

    /// Takes the requests in flight out of the count.
    pub(crate) fn forget(self) {
        self.outstanding.forget();
    }

    /// Says what the next bytes to the client are, where `bytes` come after all that [`Self::server_bytes`] was told.
    pub fn next_piece(&self, bytes: &[u8]) -> Piece {
        let all = Piece::Pass(bytes.len());
        match self.server {
            Server::Body(mut body) => body.advance(bytes).map_or(all, Piece::Pass),
            Server::Head if !self.server_head.bytes.is_empty() => self.rest_of_head(bytes),
            Server::Head => {
                let line_ends = bytes.len() - skip_line_ends(bytes).len();
                if line_ends > 0 {
                    return Piece::Pass(line_ends);
                }
                match head::response(bytes, self.method_of_front()) {
                    Ok(None) if bytes.len() < MAX_HEAD => Piece::Incomplete,
                    Ok(Some(head)) => match head.kind {
                        ResponseKind::Final(_) if self.outstanding.len() == 1 => {
                            Piece::LastHead(head.length)
                        }
                        _ => Piece::Pass(head.length),
                    },
                    Ok(None) | Err(_) => all,
                }
            }
            Server::Tunnel | Server::Http2 | Server::Done => all,
        }
    }

    /// As [`Self::next_piece`], inside a head whose start has been written: too late to change it.
    fn rest_of_head(&self, bytes: &[u8]) -> Piece {
        let begun = self.server_head.bytes.len();
        let whole = [&self.server_head.bytes, bytes].concat();
        match head::response(&whole, self.method_of_front()) {
            Ok(Some(head)) if head.length > begun => Piece::Pass(head.length - begun),
            _ => Piece::Pass(bytes.len()),
        }
    }

    /// Takes bytes of a request head, or of what comes before one, and returns how many belong to it.
    fn request_head(&mut self, bytes: &[u8]) -> Result<usize, Unparsable> {
        if self.client_head.begun {
            return self.rest_of_request_head(bytes);
        }
        let start = bytes.len() - skip_line_ends(bytes).len();
        let bytes = &bytes[start..];
        if bytes.is_empty() {
            return Ok(start);
        }
        if self.outstanding.len() >= MAX_PIPELINED {
            return Err(Unparsable::Pipelined);
        }
        let Some(head) = head::request(bytes, &self.rules)? else {
            self.client_head.begun = true;
            self.outstanding
                .push(Request::begun(self.in_flight.begin()));
            self.client_head.append(bytes)?;
            return Ok(start + bytes.len());
        };
        let guard = (!head.ignored).then(|| self.in_flight.begin());
        self.outstanding.push(Request {
            method: head.method,
            is_whole: true,
            guard,
        });
        self.after_request_head(&head);
        Ok(start + head.length)
    }

    fn rest_of_request_head(&mut self, bytes: &[u8]) -> Result<usize, Unparsable> {
        let before = self.client_head.bytes.len();
        if !self.client_head.append(bytes)? {
            return Ok(bytes.len());
        }
        let Some(head) = head::request(&self.client_head.bytes, &self.rules)? else {
            return Ok(bytes.len());
        };
        // An early response may have ended the request already.
        if let Some(request) = self.outstanding.back_begun() {
            request.method = head.method;
            request.is_whole = true;
            if head.ignored
                && let Some(guard) = request.guard.take()
            {
                guard.ignore();
            }
        }
        self.client_head.clear();
        self.after_request_head(&head);
        Ok(head.length - before)
    }

    fn after_request_head(&mut self, head: &head::RequestHead) {
        self.client = if head.method == Method::Connect {
            Client::Connecting(false)
        } else if head.body.is_done() {
            Client::Head
        } else {
            Client::Body(head.body)
        };
    }

    /// Takes bytes of a response head, or of what comes before one, and returns how many belong to it.
    fn response_head(&mut self, bytes: &[u8]) -> Result<usize, Unparsable> {
        let before = self.server_head.bytes.len();
        if before > 0 {
            if !self.server_head.append(bytes)? {
                return Ok(bytes.len());
            }
            let method = self.method_of_front();
            let Some(head) = head::response(&self.server_head.bytes, method)? else {
                return Ok(bytes.len());
            };
            self.server_head.clear();
            self.after_response_head(head.kind)?;
            return Ok(head.length - before);
        }
        let start = bytes.len() - skip_line_ends(bytes).len();
        let bytes = &bytes[start..];
        if bytes.is_empty() {
            return Ok(start);
        }
        if self.outstanding.is_empty() {
            return Err(Unparsable::Unsolicited);
        }
        let Some(head) = head::response(bytes, self.method_of_front())? else {
            self.server_head.append(bytes)?;
            return Ok(start + bytes.len());
        };
        self.after_response_head(head.kind)?;
        Ok(start + head.length)
    }

    fn after_response_head(&mut self, kind: ResponseKind) -> Result<(), Unparsable> {
        match kind {
            ResponseKind::Interim => {}
            ResponseKind::Http2 if self.is_between_requests() && self.outstanding.len() == 1 => {
                self.server = Server::Http2;
            }
            // An upgrade in the middle of requests is none that a client could follow either.
            ResponseKind::Tunnel | ResponseKind::Http2 => {
                self.server = Server::Tunnel;
                self.client = Client::Done;
                self.client_head.clear();
                self.outstanding.keep_front();
            }
            ResponseKind::Final(body) => {
                // Refused: what came after the CONNECT was either a request or meant for the tunnel.
                match self.client {
                    Client::Connecting(true) if self.outstanding.len() == 1 => {
                        return Err(Unparsable::Framing);
                    }
                    Client::Connecting(false) if self.outstanding.len() == 1 => {
                        self.client = Client::Head;
                    }
                    _ => {}
                }
                self.server = Server::Body(body);
                if body.is_done() {
                    self.response_ended();
                }
            }
        }
        Ok(())
    }

    fn response_ended(&mut self) {
        self.server = Server::Head;
        self.outstanding.pop_front();
    }

    /// Returns the method of the request that the next response answers.
    fn method_of_front(&self) -> Method {
        match self.outstanding.front() {
            Some(request) if request.is_whole => request.method,
            Some(_) => Method::of_start(&self.client_head.bytes),
            None => Method::Other,
        }
    }
}

/// The start of a head, kept until the rest of it is there.
#[derive(Debug, Default)]
struct PartialHead {
    bytes: Vec<u8>,
    /// Whether the first byte of the head has passed.
    begun: bool,
    /// Parse again when there are this many bytes, also without an empty line: garbage should not pass for a head
    /// until it is too long.
    parse_at: usize,
}

impl PartialHead {
    /// Adds bytes and returns whether it pays to parse: without this, a head that arrives byte by byte would cost the
    /// square of its length.
    fn append(&mut self, bytes: &[u8]) -> Result<bool, Unparsable> {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        if head::has_end(&self.bytes, before) {
            return Ok(true);
        }
        if self.bytes.len() > MAX_HEAD {
            return Err(Unparsable::LongHead);
        }
        let due = self.bytes.len() >= self.parse_at;
        if due {
            self.parse_at = self.bytes.len() * 2;
        }
        Ok(due)
    }

    /// Forgets the head and gives its memory back.
    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests;
