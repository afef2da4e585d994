//! What passes without a byte: how long a flow waits for what, and how it closes both sides.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    time::{Duration, Instant, sleep_until},
};

use super::{Flow, Phase};
use crate::{h2::goaway, relay::RelayError};

/// How often to look whether a client is gone while the app does not take what it sent. Its reset is told only to
/// readers, and reading is what back-pressure forbids.
const BLOCKED_CHECK: Duration = Duration::from_secs(1);

impl Flow {
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
    pub(super) fn begin_linger(&mut self, context: &mut Context<'_>) {
        // Neither waits, and each fails only if its side is gone.
        let _ = Pin::new(&mut self.client.stream).poll_shutdown(context);
        let _ = Pin::new(&mut self.app.stream).poll_shutdown(context);
        self.close();
        self.observer.server_eof();
        self.timer = None;
        self.phase = Phase::Lingering(Instant::now() + self.linger);
    }

    /// Discards what the client still sends. Ready when it has closed.
    pub(super) fn poll_linger(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<()> {
        loop {
            let mut buffer = ReadBuf::new(scratch);
            let read = ready!(Pin::new(&mut self.client.stream).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }

    /// Returns when [`Self::tick`] is due. Cheap when there is nothing to wait for.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        if self.is_draining() && self.observer.is_idle() {
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

    pub(super) fn tick(
        &mut self,
        context: &mut Context<'_>,
        now: Instant,
    ) -> Result<(), RelayError> {
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
    pub(super) fn poll_timer(
        &mut self,
        context: &mut Context<'_>,
        deadline: Option<Instant>,
    ) -> Poll<()> {
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
