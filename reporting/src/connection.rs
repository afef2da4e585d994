//! Keeps one aggregator address told: connects, introduces the reporter, sends what is due, and starts over.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use socket2::{SockRef, TcpKeepalive};
use stillwake_proto::{
    REPORT_VERSION,
    frame::FrameCodec,
    report::{
        AggregatorFrame, Endpoint, Hello, ReporterFrame, aggregator_frame, reporter_frame::Kind,
    },
};
use stillwake_runtime::tls::{ConnectError, MaybeTls};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{
    codec::{FramedRead, FramedWrite},
    sync::CancellationToken,
};

use crate::{
    ReportingConfig, Session, Source,
    backoff::{self, Backoff},
    schedule::{Intervals, Schedule},
    status::Entry,
};

type Codec = FrameCodec<ReporterFrame, AggregatorFrame>;

/// How long a connection attempt may take, until TLS stands where it is used.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// How long a frame may take to be handed to the kernel; reached when the aggregator has stopped reading.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// How long the kernel waits for the aggregator's machine to acknowledge a report. Reports are small: without this a
/// machine that vanished would look connected until the send buffer is full, which is hours.
const ACKNOWLEDGE_LIMIT: Duration = Duration::from_secs(15);

/// How long the aggregator gets to close its side after the last report.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// What is held in memory for each direction of a connection, unless a frame is longer. Frames are short, most of the time
/// none is under way, and there is a connection to every aggregator.
const BUFFER: usize = 512;

/// A connection that stood this long did so for other reasons than luck, and the back-off begins anew after it.
const LIVED: Duration = backoff::MAXIMUM;

/// Why a connection ended or could not be made.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("cannot read the token file {}: {source}", path.display())]
    Token { path: PathBuf, source: io::Error },
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("no TLS connection as {host}: {source}")]
    Tls {
        host: String,
        #[source]
        source: ConnectError,
    },
    #[error("no answer to the connection attempt within {CONNECT_LIMIT:?}")]
    ConnectLimit,
    #[error("cannot send: {0}")]
    Send(#[source] io::Error),
    #[error("the aggregator has not read for {WRITE_LIMIT:?}")]
    SendLimit,
    #[error("cannot receive: {0}")]
    Receive(#[source] io::Error),
    #[error("the aggregator closed the connection")]
    Closed,
}

/// One aggregator address, for as long as it is to be told.
pub(crate) struct Connection {
    pub(crate) address: SocketAddr,
    /// Who the aggregator has to prove that it is.
    pub(crate) host: String,
    pub(crate) config: Arc<ReportingConfig>,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) endpoints: mpsc::Sender<Endpoint>,
    pub(crate) entry: Entry,
    pub(crate) stop: CancellationToken,
}

impl Connection {
    /// Reports until told to stop, through as many connections as it takes.
    pub(crate) async fn keep(self) {
        let mut backoff = Backoff::default();
        let mut failing = false;
        loop {
            let attempt = async {
                let hello = self.hello()?;
                Ok((self.connect().await?, hello))
            };
            let attempted = tokio::select! {
                attempted = attempt => attempted,
                () = self.stop.cancelled() => return,
            };
            let outcome = match attempted {
                Ok((stream, hello)) => {
                    let began = Instant::now();
                    self.entry.connected();
                    tracing::info!(address = %self.address, "Reporting");
                    let (reading, writing) = tokio::io::split(stream);
                    let outcome = self.converse(reading, writing, hello).await;
                    if began.elapsed() >= LIVED {
                        backoff.reset();
                        failing = false;
                    }
                    outcome
                }
                Err(error) => Err(error),
            };
            let Err(error) = outcome else { return };
            let delay = backoff.next_delay(&mut rand::rng());
            // The first failure is news. That it goes on is not, and an aggregator can be away for long.
            if failing {
                tracing::debug!(address = %self.address, %error, ?delay, "Cannot report");
            } else {
                tracing::warn!(address = %self.address, %error, ?delay, "Cannot report, trying again");
            }
            failing = true;
            self.entry.failed(error.to_string());
            tokio::select! {
                () = sleep(delay) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn connect(&self) -> Result<MaybeTls, ConnectionError> {
        let attempt = async {
            let stream = self
                .connect_plain()
                .await
                .map_err(ConnectionError::Connect)?;
            let Some(trust) = &self.config.trust else {
                return Ok(MaybeTls::Plain(stream));
            };
            let secured = trust.connect(&self.host, stream).await;
            secured.map_err(|source| ConnectionError::Tls {
                host: self.host.clone(),
                source,
            })
        };
        timeout(CONNECT_LIMIT, attempt)
            .await
            .map_err(|_| ConnectionError::ConnectLimit)?
    }

    async fn connect_plain(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        // An edge must not wait for the acknowledgement of the report before it.
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_user_timeout(Some(ACKNOWLEDGE_LIMIT))?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(ACKNOWLEDGE_LIMIT))?;
        Ok(stream)
    }

    fn hello(&self) -> Result<Hello, ConnectionError> {
        let mut hello = self.config.hello.clone();
        hello.version = REPORT_VERSION;
        if let Some(path) = &self.config.token_file {
            hello.token = token(path)?;
        }
        Ok(hello)
    }

    /// Returns `Ok` once told to stop, with the last report delivered as far as the aggregator lets us know.
    async fn converse<R, W>(
        &self,
        reading: R,
        writing: W,
        hello: Hello,
    ) -> Result<(), ConnectionError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut frames = FramedRead::with_capacity(reading, Codec::default(), BUFFER);
        let mut writing = FramedWrite::with_capacity(writing, Codec::default(), BUFFER);
        let (asked, intervals) = watch::channel(Intervals::default());
        tokio::select! {
            ended = self.listen(&mut frames, asked) => return Err(ended),
            sent = self.speak(&mut writing, hello, intervals) => sent?,
        }
        // Closing with bytes unread would make the kernel reset the connection, and the last report could be lost.
        let mut reading = frames.into_inner();
        let finish = async {
            writing.get_mut().shutdown().await?;
            let mut scrap = [0; 1024];
            while reading.read(&mut scrap).await? > 0 {}
            io::Result::Ok(())
        };
        // Whatever comes of it, there is nothing more to say.
        let _ = timeout(CLOSE_LIMIT, finish).await;
        Ok(())
    }

    /// Takes what the aggregator says, until it says no more.
    async fn listen<R: AsyncRead + Unpin>(
        &self,
        frames: &mut FramedRead<R, Codec>,
        asked: watch::Sender<Intervals>,
    ) -> ConnectionError {
        while let Some(frame) = frames.next().await {
            match frame.map(|frame| frame.kind) {
                Ok(Some(aggregator_frame::Kind::Pace(pace))) => {
                    asked.send_replace(pace.into());
                }
                Ok(Some(aggregator_frame::Kind::Endpoint(endpoint))) => {
                    // Waits while the receiver is busy; reports go on meanwhile. A reporter without interest in
                    // endpoints has dropped the receiver.
                    let _ = self.endpoints.send(endpoint).await;
                }
                // From a newer aggregator.
                Ok(None) => {}
                // TLS without its own goodbye: the aggregator's process has ended.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return ConnectionError::Receive(error),
            }
        }
        ConnectionError::Closed
    }

    /// Sends the hello, then what is due when it is due, and one last report when told to stop.
    async fn speak<W: AsyncWrite + Unpin>(
        &self,
        writing: &mut FramedWrite<W, Codec>,
        hello: Hello,
        mut intervals: watch::Receiver<Intervals>,
    ) -> Result<(), ConnectionError> {
        send(writing, Kind::Hello(hello)).await?;
        let mut edges = self.source.edges();
        let mut session = self.source.session();
        let mut schedule = Schedule::new(self.config.minimum_gap);
        loop {
            let due = schedule.due();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                // Once an edge waits for the gap to end, more of them change nothing: a busy sidecar with one client has
                // two for each request, and must not pay for each.
                Ok(()) = edges.changed(), if !schedule.awaits_edge() => schedule.edge(),
                Ok(()) = intervals.changed() => schedule.set_intervals(*intervals.borrow_and_update()),
                () = wait_until(due) => {
                    // Before the state is taken: an edge after this line is one that the report may not have.
                    edges.mark_unchanged();
                    let now = Instant::now();
                    let requests = self.report(writing, &mut *session).await?;
                    schedule.sent(now, requests);
                }
            }
        }
        self.report(writing, &mut *session).await.map(drop)
    }

    async fn report<W: AsyncWrite + Unpin>(
        &self,
        writing: &mut FramedWrite<W, Codec>,
        session: &mut dyn Session,
    ) -> Result<u64, ConnectionError> {
        let report = session.report();
        send(writing, report.kind).await?;
        self.entry.reported();
        Ok(report.requests)
    }
}

async fn wait_until(due: Option<Instant>) {
    if let Some(due) = due {
        sleep_until(due).await;
    }
}

async fn send<W: AsyncWrite + Unpin>(
    writing: &mut FramedWrite<W, Codec>,
    kind: Kind,
) -> Result<(), ConnectionError> {
    let frame = ReporterFrame { kind: Some(kind) };
    timeout(WRITE_LIMIT, writing.send(frame))
        .await
        .map_err(|_| ConnectionError::SendLimit)?
        .map_err(ConnectionError::Send)
}

/// Reads the token. The file is a few kilobytes in memory, not worth a thread.
fn token(path: &Path) -> Result<String, ConnectionError> {
    match std::fs::read_to_string(path) {
        Ok(token) => Ok(token.trim().to_owned()),
        Err(source) => Err(ConnectionError::Token {
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests;
