//! The client's socket, shared between what speaks on it and what watches whether the client is still there.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::timeout,
};

/// How long what a client still sends is read and thrown away after the answer.
const LINGER: Duration = Duration::from_secs(1);

/// A client's connection. Clones are the same socket; only one of them may read and only one may write.
#[derive(Clone, Debug)]
pub(crate) struct ClientStream(Arc<TcpStream>);

impl ClientStream {
    /// Takes the connection over.
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(stream))
    }

    /// Copies what has arrived into `buffer` without consuming it; waits for the first byte. 0 means that the client
    /// has sent all it will.
    pub(crate) async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.peek(buffer).await
    }

    /// Returns true if the client has closed its side, or all of the connection, whatever is still unread.
    pub(crate) fn has_left(&self) -> bool {
        // Ready at once when anything is unread or the end is known, and otherwise only when something comes.
        let state = std::pin::pin!(self.0.ready(Interest::READABLE));
        match state.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(state)) => state.is_read_closed(),
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
    }

    /// Returns when the client has left, looking every `interval`.
    ///
    /// Unread bytes of a body would hide the end of the stream from a read, so the socket's state is asked instead, and
    /// it can only be asked, not awaited, while something is unread.
    pub(crate) async fn departure(&self, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.has_left() {
                return;
            }
        }
    }

    /// Reads and throws away what the client still sends, until it closes or a second has passed.
    ///
    /// Closing a socket with unread bytes resets the connection, and a reset can overtake the answer on its way.
    pub(crate) async fn linger(self) {
        let _ = SockRef::from(&*self.0).shutdown(std::net::Shutdown::Write);
        let discard = async {
            while self.0.readable().await.is_ok() {
                // Not in the future, which would be larger by that for as long as the client is held.
                let mut scratch = [MaybeUninit::uninit(); 4096];
                let receive = || SockRef::from(&*self.0).recv(&mut scratch);
                match self.0.try_io(Interest::READABLE, receive) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    _ => return,
                }
            }
        };
        let _ = timeout(LINGER, discard).await;
    }

    /// Writes what the socket takes at once.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    /// Makes the connection end in a reset when its last clone drops.
    pub(crate) fn reset_on_close(&self) {
        // Fails only on a socket that is gone already.
        let _ = self.0.set_zero_linger();
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Ok(length) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_try_write(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try_write(context, |stream| stream.try_write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(std::net::Shutdown::Write))
    }
}

impl ClientStream {
    fn poll_try_write(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match write(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}
