//! Moves bytes between a client and an app, both ways in one task.
//!
//! Written as polls and not as `async` code, for two reasons. The buffer is shared by all connections of a thread and
//! may not be held across a wait. And `poll_read` of tokio knows that a short read has emptied the socket (edge-triggered
//! epoll will tell of more), which saves the read that finds nothing: a request costs two waits, two reads, two writes.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    net::TcpStream,
    time::{Duration, Instant, Sleep, sleep_until},
};

use super::{RelayError, RelaySettings, ResetOnDrop, handover::Unserved, pending::Pending};
use crate::{
    h1::{MAX_HEAD, Piece, with_close},
    h2::{MAX_STREAM, goaway},
    observer::Observer,
};

/// Most bytes that are read at once, and so most that wait for a slow peer in one direction.
const CHUNK: usize = 64 * 1024;

/// How often to look whether a client is gone while the app does not take what it sent. Its reset is told only to
/// readers, and reading is what back-pressure forbids.
const BLOCKED_CHECK: Duration = Duration::from_secs(1);

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
    /// Somebody else may take the connection for as long as the app has neither taken nor sent a byte.
    awaits_first_byte: bool,
    draining: bool,
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

/// What the client has been told of the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// That the connection closes after the response under way.
    Close,
    /// That it should open no more streams.
    GoAway,
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
            awaits_first_byte: false,
            draining: false,
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

    /// Has the flow fail, and keep what the client has sent, if the app ends while draining and has got nothing of it.
    pub(super) fn await_first_byte(&mut self) {
        self.awaits_first_byte = true;
    }

    /// Whether the flow, which has failed, has left the connection as the app had never seen it.
    pub(super) fn is_unserved(&self) -> bool {
        self.draining && self.awaits_first_byte
    }

    /// Returns the client and all that it has sent; the app's side is reset.
    pub(super) fn into_unserved(self) -> Unserved {
        Unserved {
            client: self.client,
            sent: self.up.pending.into_bytes(),
            observer: self.observer,
            accepted: true,
        }
    }

    pub(super) fn begin_drain(&mut self) {
        self.draining = true;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Moves what can be moved. Ready when both sides are closed or one is broken.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), RelayError>> {
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                if let Phase::Lingering(until) = self.phase {
                    let gone = self.poll_linger(context, scratch).is_ready();
                    if gone || self.poll_timer(context, Some(until)).is_ready() {
                        return Poll::Ready(Ok(()));
                    }
                    return Poll::Pending;
                }
                if self.is_unserved() {
                    // An app that has ended would take the first bytes and drop them: it is asked before.
                    let _ = self.poll_down(context, scratch)?;
                }
                if self.poll_up(context, scratch)?.is_ready() && self.down.shut {
                    self.close();
                    return Poll::Ready(Ok(()));
                }
                let down = self.poll_down(context, scratch)?;
                if down.is_ready() && self.up.shut {
                    self.close();
                    return Poll::Ready(Ok(()));
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

    /// From client to app. Ready when the client has ended and the app knows.
    fn poll_up(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<(), RelayError>> {
        loop {
            while !self.up.pending.is_empty() {
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
                return Poll::Ready(Ok(()));
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
                Poll::Ready(Err(error)) if self.is_unserved() => {
                    self.up.pending.push(bytes);
                    return Poll::Ready(Err(RelayError::App(error)));
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
        self.draining && (self.observer.is_http1() || goes_away())
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

    /// Tells a client of HTTP/2 which streams the app was not asked for, so that it may ask elsewhere (RFC 9113, section
    /// 6.8). One that does not read is not waited for.
    fn say_last_stream(&mut self, context: &mut Context<'_>) {
        if self.notice.is_empty()
            && self.down.pending.is_empty()
            && let Some(last) = self.observer.last_stream()
        {
            let _ = Pin::new(&mut self.client.stream).poll_write(context, &goaway(last));
        }
    }

    /// Closes both sides, the client's in a way that loses nothing of what it was sent.
    fn begin_linger(&mut self, context: &mut Context<'_>) {
        // Neither waits, and each fails only if its side is gone.
        let _ = Pin::new(&mut self.client.stream).poll_shutdown(context);
        let _ = Pin::new(&mut self.app.stream).poll_shutdown(context);
        self.close();
        self.observer.server_eof();
        self.timer = None;
        self.phase = Phase::Lingering(Instant::now() + self.linger);
    }

    /// Discards what the client still sends. Ready when it has closed.
    fn poll_linger(&mut self, context: &mut Context<'_>, scratch: &mut [u8]) -> Poll<()> {
        loop {
            let mut buffer = ReadBuf::new(scratch);
            let read = ready!(Pin::new(&mut self.client.stream).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }

    /// Returns when [`Self::tick`] is due. Cheap when there is nothing to wait for.
    fn deadline(&mut self) -> Option<Instant> {
        if self.draining && self.observer.is_idle() {
            let idle = || Instant::now() + self.drain_idle;
            self.idle_until = Some(self.idle_until.unwrap_or_else(idle));
        } else {
            self.idle_until = None;
        }
        if self.up.pending.is_empty() {
            self.check_at = None;
        } else {
            let check = || Instant::now() + BLOCKED_CHECK;
            self.check_at = Some(self.check_at.unwrap_or_else(check));
        }
        let deadlines = [self.observer.deadline(), self.idle_until, self.check_at];
        deadlines.into_iter().flatten().min()
    }

    fn tick(&mut self, context: &mut Context<'_>, now: Instant) -> Result<(), RelayError> {
        self.observer.tick(now);
        if self.check_at.is_some_and(|at| at <= now) {
            self.check_at = None;
            let error = self.client.stream.take_error().unwrap_or_else(Some);
            if let Some(error) = error {
                return Err(RelayError::Client(error));
            }
        }
        if self.idle_until.is_some_and(|until| until <= now) {
            self.say_last_stream(context);
            self.begin_linger(context);
        }
        Ok(())
    }

    /// Ready when `deadline` has come; the timer may be found to have been set for an earlier one.
    fn poll_timer(&mut self, context: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else {
            self.timer = None;
            return Poll::Pending;
        };
        loop {
            // A later deadline leaves the timer as it is: moving it for every byte would cost more than waking once.
            let timer = match &mut self.timer {
                Some(timer) if timer.deadline() <= deadline => timer,
                timer => timer.insert(Box::pin(sleep_until(deadline))),
            };
            ready!(timer.as_mut().poll(context));
            self.timer = None;
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
        }
    }
}
