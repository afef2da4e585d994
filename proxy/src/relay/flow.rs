//! Moves bytes between a client and an app, both ways in one task.
//!
//! Written as polls and not as `async` code, for two reasons. The buffer is shared by all connections of a thread and
//! may not be held across a wait. And `poll_read` of tokio knows that a short read has emptied the socket (edge-triggered
//! epoll will tell of more), which saves the read that finds nothing: a request costs two waits, two reads, two writes.

mod ending;
mod unserved;

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    net::TcpStream,
    time::{Duration, Instant, Sleep},
};

use super::{RelayError, RelaySettings, ResetOnDrop, pending::Pending};
use crate::{
    h1::{MAX_HEAD, Piece, with_close},
    h2::{MAX_STREAM, goaway},
    observer::Observer,
};

/// Most bytes that are read at once, and so most that wait for a slow peer in one direction.
const CHUNK: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice());
}

/// Two connected streams and the bytes between them.
#[derive(Debug)]
pub(super) struct Flow {
    client: ResetOnDrop,
    app: ResetOnDrop,
    observer: Observer,
    phase: Phase,
    /// From client to app.
    up: Direction,
    /// From app to client.
    down: Direction,
    /// The app broke its end while being written to. What it has said before may still be read.
    app_deaf: bool,
    /// Somebody else may take what the app has got nothing of.
    has_successor: bool,
    /// The app has neither taken nor sent a byte, and there is a successor.
    awaits_first_byte: bool,
    stage: Stage,
    told: Told,
    /// What is said to the client of ourselves, before anything else of the app's.
    notice: Pending,
    /// When the connection is closed for being idle while draining.
    idle_until: Option<Instant>,
    /// When to look for a client that is gone while its bytes are stuck.
    check_at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    drain_idle: Duration,
    linger: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Relaying,
    /// Both sides have been told the end; the client may still be sending until then.
    Lingering(Instant),
}

/// How far the process is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    Draining,
    /// Draining, and the app will be told to stop at once, which may then end what has just reached it.
    AppStops,
}

/// What the client has been told of the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// That the connection closes after the response under way.
    Close,
    /// That it should open no more streams.
    GoAway,
}

/// How a flow ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Both sides are closed.
    Closed,
    /// The client has begun to ask, which is better done elsewhere, and the app has got nothing of it.
    Unserved,
}

#[derive(Debug, Default)]
struct Direction {
    pending: Pending,
    /// The source has sent its last byte.
    ended: bool,
    /// The destination has been told.
    shut: bool,
}

/// Reads what `client` has sent, at most one chunk; empty if it has closed its side.
pub(super) async fn read_early(client: &TcpStream) -> io::Result<Vec<u8>> {
    loop {
        client.readable().await?;
        let read = SCRATCH.with_borrow_mut(|scratch| {
            let count = client.try_read(scratch)?;
            Ok(scratch[..count].to_vec())
        });
        match read {
            Err(error) if would_block(&error) => {}
            read => return read,
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

impl Flow {
    pub(super) fn new(
        client: ResetOnDrop,
        app: ResetOnDrop,
        observer: Observer,
        settings: &RelaySettings,
    ) -> Self {
        Self {
            client,
            app,
            observer,
            phase: Phase::Relaying,
            up: Direction::default(),
            down: Direction::default(),
            app_deaf: false,
            has_successor: false,
            awaits_first_byte: false,
            stage: Stage::Serving,
            told: Told::Nothing,
            notice: Pending::default(),
            idle_until: None,
            check_at: None,
            timer: None,
            drain_idle: settings.drain_idle,
            linger: settings.linger,
        }
    }

    /// Has `bytes`, which the observer knows, sent to the app before all others.
    pub(super) fn send_first(&mut self, bytes: &[u8]) {
        self.up.pending.push(bytes);
    }

    pub(super) fn begin_drain(&mut self) {
        self.stage = Stage::Draining;
    }

    /// Takes that the app will be told to stop at once.
    pub(super) fn app_stops(&mut self) {
        self.stage = Stage::AppStops;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.stage != Stage::Serving
    }

    /// Moves what can be moved. Ready when both sides are closed, one is broken, or the rest is not for this app.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Ended, RelayError>> {
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                if let Phase::Lingering(until) = self.phase {
                    let gone = self.poll_linger(context, scratch).is_ready();
                    if gone || self.poll_timer(context, Some(until)).is_ready() {
                        return Poll::Ready(Ok(Ended::Closed));
                    }
                    return Poll::Pending;
                }
                match self.poll_up(context, scratch)? {
                    Poll::Ready(Ended::Unserved) => return Poll::Ready(Ok(Ended::Unserved)),
                    Poll::Ready(Ended::Closed) if self.down.shut => {
                        self.close();
                        return Poll::Ready(Ok(Ended::Closed));
                    }
                    Poll::Ready(Ended::Closed) | Poll::Pending => {}
                }
                let down = self.poll_down(context, scratch)?;
                if down.is_ready() && self.up.shut {
                    self.close();
                    return Poll::Ready(Ok(Ended::Closed));
                }
                // Either this was the last response, or nobody is left who could give another.
                let answered = self.told == Told::Close && self.observer.is_answered();
                if answered || self.app_deaf && self.down.shut {
                    self.begin_linger(context);
                    continue;
                }
                let deadline = self.deadline();
                if deadline.is_none() && self.timer.is_none() {
                    return Poll::Pending;
                }
                ready!(self.poll_timer(context, deadline));
                self.tick(context, Instant::now())?;
            }
        })
    }

    /// Has the streams closed without a reset when they are dropped.
    fn close(&mut self) {
        self.client.resets = false;
        self.app.resets = false;
    }

    /// Takes that the app will not be told anything more.
    fn deafen(&mut self) {
        self.app_deaf = true;
        self.up.pending = Pending::default();
    }

    /// From client to app. Ready when the client has ended and the app knows, or when the app is to know no more of it.
    fn poll_up(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<Ended, RelayError>> {
        loop {
            while !self.up.pending.is_empty() {
                self.check_unserved()?;
                let app = Pin::new(&mut self.app.stream);
                match app.poll_write(context, self.up.pending.as_slice()) {
                    Poll::Ready(Ok(count)) => {
                        self.awaits_first_byte = false;
                        self.up.pending.take(count);
                    }
                    Poll::Ready(Err(error)) if self.is_unserved() => {
                        return Poll::Ready(Err(RelayError::App(error)));
                    }
                    Poll::Ready(Err(_)) => self.deafen(),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.up.ended {
                if !self.up.shut {
                    // Fails only if the app is gone, which reading from it tells.
                    let _ = ready!(Pin::new(&mut self.app.stream).poll_shutdown(context));
                    self.up.shut = true;
                }
                return Poll::Ready(Ok(Ended::Closed));
            }
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.client.stream).poll_read(context, &mut buffer))
                .map_err(RelayError::Client)?;
            let bytes = buffer.filled();
            if bytes.is_empty() {
                self.up.ended = true;
                self.observer.client_eof();
                continue;
            }
            if self.is_draining() && self.leaves_app() {
                self.observer.client_bytes(bytes);
                self.up.pending.push(bytes);
                self.app.resets = false;
                return Poll::Ready(Ok(Ended::Unserved));
            }
            if self.is_unserved() {
                self.observer.client_bytes(bytes);
                self.up.pending.push(bytes);
                continue;
            }
            // After `close` has been said, a further request is not to be processed (RFC 9112, section 9.6); the client
            // knows that it was not. And nobody listens to an app's broken end.
            if self.app_deaf || self.told == Told::Close && self.observer.is_between_requests() {
                continue;
            }
            self.observer.client_bytes(bytes);
            match Pin::new(&mut self.app.stream).poll_write(context, bytes) {
                Poll::Ready(Ok(count)) => {
                    self.awaits_first_byte = false;
                    if count < bytes.len() {
                        self.up.pending.push(&bytes[count..]);
                    }
                }
                Poll::Ready(Err(_)) => self.deafen(),
                Poll::Pending => self.up.pending.push(bytes),
            }
        }
    }

    /// From app to client. Ready when the app has ended and the client knows.
    fn poll_down(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<(), RelayError>> {
        loop {
            let starved = ready!(self.poll_flush_down(context))?;
            let edits = self.edits();
            if self.down.ended {
                if !self.down.shut {
                    if !self.up.ended && self.is_between_requests() {
                        // Told of it, the client may be asking just then; and what it asks can be answered elsewhere.
                        return Poll::Pending;
                    }
                    self.check_complete()?;
                    ready!(Pin::new(&mut self.client.stream).poll_shutdown(context))
                        .map_err(RelayError::Client)?;
                    self.down.shut = true;
                    self.observer.server_eof();
                }
                return Poll::Ready(Ok(()));
            }
            debug_assert!(
                starved || self.down.pending.is_empty(),
                "bytes would overtake"
            );
            let mut buffer = ReadBuf::new(scratch);
            if let Err(error) =
                ready!(Pin::new(&mut self.app.stream).poll_read(context, &mut buffer))
            {
                if self.is_unserved() || !self.observer.is_answered() {
                    return Poll::Ready(Err(RelayError::App(error)));
                }
                // Such as an app that refused an upload and closed without reading it: its answer is whole, and a
                // reset could take it from the client.
                self.deafen();
                self.down.ended = true;
                continue;
            }
            let bytes = buffer.filled();
            if bytes.is_empty() {
                if self.is_unserved() {
                    return Poll::Ready(Err(RelayError::App(io::ErrorKind::UnexpectedEof.into())));
                }
                self.down.ended = true;
                continue;
            }
            self.awaits_first_byte = false;
            if edits {
                self.down.pending.push(bytes);
                continue;
            }
            let written = match Pin::new(&mut self.client.stream).poll_write(context, bytes) {
                Poll::Ready(written) => written.map_err(RelayError::Client)?,
                Poll::Pending => 0,
            };
            if written > 0 {
                self.observer.server_bytes(&bytes[..written]);
            }
            if written < bytes.len() {
                self.down.pending.push(&bytes[written..]);
            }
        }
    }

    /// Whether bytes to the client take the detour over `pending`, where a head can be waited for and changed, and the end
    /// of a frame be found: only while draining.
    fn edits(&self) -> bool {
        let goes_away = || self.told != Told::GoAway && self.observer.wants_goaway();
        self.is_draining() && (self.observer.is_http1() || goes_away())
    }

    /// Writes what waits for the client. Ready with `true` if what is left is a head that is not whole.
    fn poll_flush_down(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, RelayError>> {
        loop {
            let edits = self.edits();
            if edits && self.observer.takes_frame() {
                // The client may have opened streams that it has not been answered on: none of them is refused.
                self.notice.push(&goaway(MAX_STREAM));
                self.told = Told::GoAway;
            }
            while !self.notice.is_empty() {
                let client = Pin::new(&mut self.client.stream);
                let written = ready!(client.poll_write(context, self.notice.as_slice()))
                    .map_err(RelayError::Client)?;
                self.notice.take(written);
            }
            if self.down.pending.is_empty() {
                return Poll::Ready(Ok(false));
            }
            let mut count = self.down.pending.as_slice().len();
            if edits {
                match self.observer.next_piece(self.down.pending.as_slice()) {
                    Piece::Pass(piece) => count = piece,
                    Piece::LastHead(head) => {
                        let edited = with_close(&self.down.pending.as_slice()[..head]);
                        self.down.pending.replace(head, &edited);
                        self.told = Told::Close;
                        count = edited.len();
                    }
                    Piece::Incomplete if !self.down.ended && count < MAX_HEAD => {
                        return Poll::Ready(Ok(true));
                    }
                    Piece::Incomplete => {}
                }
            }
            let bytes = &self.down.pending.as_slice()[..count];
            let written = ready!(Pin::new(&mut self.client.stream).poll_write(context, bytes))
                .map_err(RelayError::Client)?;
            self.observer.server_bytes(&bytes[..written]);
            self.down.pending.take(written);
        }
    }

    /// Checks, when the app has ended, that the client may take what it got for complete.
    fn check_complete(&self) -> Result<(), RelayError> {
        if self.app_deaf && !self.observer.is_answered() {
            // Its reset came while it was written to, and only the first call is told of it.
            return Err(RelayError::App(io::ErrorKind::ConnectionReset.into()));
        }
        Ok(())
    }
}
