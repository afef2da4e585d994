//! Connections of sidecars and activators: hello, reports in, endpoints out.
//!
//! What a report means is decided in `state`.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use stillwake_proto::{
    frame::{FrameCodec, MAX_FRAME},
    report::{
        AggregatorFrame, Endpoint, Hello, Pace, ReporterFrame, Role, aggregator_frame,
        reporter_frame,
    },
};
use stillwake_runtime::{
    accept::accept,
    tls::{Acceptor, MaybeTls},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{codec::Framed, sync::CancellationToken, task::TaskTracker};

use crate::{
    aggregator::{Aggregator, Inbound},
    history::Rejected,
    identity::{Denied, Identity, check},
    metrics::Refusal,
    state::ConnectionId,
};

/// Longest frame from a sidecar, and from anybody who has not said who they are, in bytes. A hello with a projected
/// token takes about 2 KiB.
const SMALL_FRAME: usize = 16 * 1024;

/// A connection that says nothing for this many idle intervals is closed.
const SILENT_INTERVALS: u32 = 6;

/// How long a reporter may take to read what it is sent.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// Endpoint changes written with one flush.
const WRITE_BATCH: usize = 64;

type Frames = Framed<MaybeTls, FrameCodec<AggregatorFrame, ReporterFrame>>;

/// Reasons why a connection ended that are worth a word to the operator.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("no hello came in time")]
    NoHello,
    #[error("the first frame was not a hello")]
    NotHello,
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("a frame came that a reporter of this role does not send here")]
    Unexpected,
    #[error("nothing came for too long")]
    Silent,
    #[error("it did not read what it was sent")]
    Unread,
    #[error("{0}")]
    Rejected(Rejected),
}

impl ConnectionError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::Io(_) => Refusal::Broken,
            Self::NoHello | Self::Silent | Self::Unread => Refusal::Timeout,
            Self::NotHello | Self::Unexpected => Refusal::Protocol,
            Self::Denied(_) => Refusal::Denied,
            Self::Rejected(_) => Refusal::TooMany,
        }
    }
}

/// Takes connections until `stop` is cancelled; returns when the last one has ended.
pub(crate) async fn serve(
    aggregator: &Aggregator,
    listener: TcpListener,
    acceptor: Acceptor,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(aggregator.settings().max_connections));
    let tasks = TaskTracker::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener) => accepted,
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            aggregator.metrics().refused(Refusal::TooMany);
            tracing::warn!(%peer, "Too many reporters, refusing a connection");
            continue;
        };
        let (aggregator, acceptor, stop) = (aggregator.clone(), acceptor.clone(), stop.clone());
        tasks.spawn(async move {
            let served = serve_connection(&aggregator, stream, &acceptor);
            let ended = tokio::select! {
                () = stop.cancelled() => Ok(()),
                ended = served => ended,
            };
            if let Err(error) = ended {
                aggregator.metrics().refused(error.refusal());
                log(peer, &error);
            }
            drop(place);
        });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

fn log(peer: SocketAddr, error: &ConnectionError) {
    if matches!(error, ConnectionError::Denied(_)) {
        tracing::warn!(%peer, %error, "Refused a reporter");
    } else {
        tracing::debug!(%peer, error = error as &dyn std::error::Error, "A reporter's connection ended");
    }
}

/// Forgets the connection whichever way its task ends.
struct Open<'a> {
    aggregator: &'a Aggregator,
    id: ConnectionId,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.aggregator.closed(self.id);
    }
}

async fn serve_connection(
    aggregator: &Aggregator,
    stream: TcpStream,
    acceptor: &Acceptor,
) -> Result<(), ConnectionError> {
    let patience = aggregator.settings().hello_timeout;
    let begun = timeout(patience, begin(stream, acceptor)).await;
    // Without a hello, somebody looked whether the port is open.
    let Some((mut frames, hello)) = begun.map_err(|_| ConnectionError::NoHello)?? else {
        return Ok(());
    };
    let identity = believe(aggregator, &hello)?;
    if identity.role == Role::Activator {
        frames.codec_mut().set_limit(MAX_FRAME);
    }
    let (id, inbound) = aggregator.open();
    let open = Open { aggregator, id };
    aggregator.update(|state, now| state.hello(id, &identity, &hello, now));
    tracing::debug!(
        namespace = identity.namespace,
        pod = identity.pod,
        "A reporter connected"
    );
    write(&mut frames, [pace(aggregator)]).await?;
    converse(&open, frames, inbound).await
}

/// Waits for the first frame. Returns none if the connection ends without one.
async fn begin(
    stream: TcpStream,
    acceptor: &Acceptor,
) -> Result<Option<(Frames, Hello)>, ConnectionError> {
    let stream = acceptor.accept(stream).await?;
    let mut frames: Frames = Framed::new(stream, FrameCodec::with_limit(SMALL_FRAME));
    let Some(frame) = frames.next().await.transpose()? else {
        return Ok(None);
    };
    match frame.kind {
        Some(reporter_frame::Kind::Hello(hello)) => Ok(Some((frames, hello))),
        _ => Err(ConnectionError::NotHello),
    }
}

fn believe(aggregator: &Aggregator, hello: &Hello) -> Result<Identity, Denied> {
    check(hello)?;
    aggregator.identify().identify(hello)
}

/// Reads reports and writes endpoints until either side ends it.
async fn converse(
    open: &Open<'_>,
    mut frames: Frames,
    mut inbound: Inbound,
) -> Result<(), ConnectionError> {
    let patience = open.aggregator.settings().idle_interval * SILENT_INTERVALS;
    let silence = tokio::time::sleep(patience);
    tokio::pin!(silence);
    let mut queued = Vec::with_capacity(WRITE_BATCH);
    loop {
        tokio::select! {
            () = inbound.close.cancelled() => return Ok(()),
            () = &mut silence => return Err(ConnectionError::Silent),
            count = inbound.frames.recv_many(&mut queued, WRITE_BATCH) => {
                if count == 0 {
                    return Ok(());
                }
                write(&mut frames, queued.drain(..)).await?;
            }
            frame = frames.next() => {
                let Some(frame) = frame.transpose()? else {
                    return Ok(());
                };
                silence.as_mut().reset(tokio::time::Instant::now() + patience);
                let named = take(open, frame)?;
                if !named.is_empty() {
                    write(&mut frames, named.into_iter().map(endpoint)).await?;
                }
            }
        }
    }
}

/// Hands a report to the state. Returns the endpoints that answer it.
fn take(open: &Open<'_>, frame: ReporterFrame) -> Result<Vec<Endpoint>, ConnectionError> {
    let (aggregator, id) = (open.aggregator, open.id);
    let taken = match frame.kind {
        Some(reporter_frame::Kind::Pod(report)) => aggregator
            .update(|state, now| state.pod_report(id, &report, now))
            .map(|()| Vec::new()),
        Some(reporter_frame::Kind::Held(report)) => {
            aggregator.update(|state, now| state.held_report(id, &report, now))
        }
        Some(reporter_frame::Kind::Hello(_)) => return Err(ConnectionError::Unexpected),
        // A kind that a newer reporter knows.
        None => return Ok(Vec::new()),
    };
    match taken {
        Ok(named) => {
            aggregator.metrics().took_report();
            Ok(named)
        }
        Err(rejected @ Rejected::TooMany) => Err(ConnectionError::Rejected(rejected)),
        Err(rejected) => {
            aggregator.metrics().rejected(rejected);
            Ok(Vec::new())
        }
    }
}

fn pace(aggregator: &Aggregator) -> AggregatorFrame {
    let milliseconds = |interval: Duration| u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
    let settings = aggregator.settings();
    let pace = Pace {
        busy: milliseconds(settings.busy_interval),
        idle: milliseconds(settings.idle_interval),
    };
    AggregatorFrame {
        kind: Some(aggregator_frame::Kind::Pace(pace)),
    }
}

fn endpoint(endpoint: Endpoint) -> AggregatorFrame {
    AggregatorFrame {
        kind: Some(aggregator_frame::Kind::Endpoint(endpoint)),
    }
}

async fn write(
    frames: &mut Frames,
    messages: impl IntoIterator<Item = AggregatorFrame>,
) -> Result<(), ConnectionError> {
    let written = async {
        for message in messages {
            frames.feed(message).await?;
        }
        frames.flush().await
    };
    let written = timeout(WRITE_LIMIT, written).await;
    Ok(written.map_err(|_| ConnectionError::Unread)??)
}
