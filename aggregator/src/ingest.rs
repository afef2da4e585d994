//! Connections of sidecars and activators: hello, reports in, endpoints out.
//!
//! What a report means is decided in `state`.

mod error;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use prometheus_client::metrics::gauge::Gauge;
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
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{codec::Framed, sync::CancellationToken, task::TaskTracker};

use self::error::ConnectionError;
use crate::{
    aggregator::{Aggregator, Inbound},
    history::Rejected,
    identity::{Denied, Identity, check},
    shares::{Share, Shares},
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

/// What is held in memory for each direction of a connection, unless a frame is longer. Reports are short, and there are as
/// many connections as pods.
const BUFFER: usize = 512;

/// The same for what an activator is told, which comes in batches.
const ACTIVATOR_BUFFER: usize = 8 * 1024;

type Frames = Framed<MaybeTls, FrameCodec<AggregatorFrame, ReporterFrame>>;

/// Takes connections until `stop` is cancelled; returns when the last one has ended.
pub(crate) async fn serve(
    aggregator: &Aggregator,
    listener: TcpListener,
    acceptor: Acceptor,
    stop: CancellationToken,
) {
    let settings = aggregator.settings();
    let places = Arc::new(Semaphore::new(settings.max_connections));
    let unidentified = Arc::new(Semaphore::new(settings.max_unidentified));
    let shares = Shares::new(settings.max_unidentified_per_address);
    let tasks = TaskTracker::new();
    loop {
        let next = async {
            let (stream, peer) = accept(&listener).await;
            let Some(share) = shares.take(peer.ip()) else {
                ended(aggregator, peer, &ConnectionError::ShareTaken);
                return None;
            };
            // Never closed. Waits no longer than the oldest of them may take for its hello.
            let place = Arc::clone(&unidentified).acquire_owned().await.ok()?;
            let unidentified = Unidentified::new(aggregator, share, place);
            Some((stream, peer, unidentified))
        };
        let next = tokio::select! {
            () = stop.cancelled() => break,
            next = next => next,
        };
        let Some((stream, peer, unidentified)) = next else {
            continue;
        };
        let (aggregator, acceptor, stop) = (aggregator.clone(), acceptor.clone(), stop.clone());
        let places = Arc::clone(&places);
        tasks.spawn(async move {
            let served = serve_connection(&aggregator, stream, &acceptor, unidentified, &places);
            let outcome = tokio::select! {
                () = stop.cancelled() => Ok(()),
                outcome = served => outcome,
            };
            if let Err(error) = outcome {
                ended(&aggregator, peer, &error);
            }
        });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

fn ended(aggregator: &Aggregator, peer: SocketAddr, error: &ConnectionError) {
    let reason = error.reason();
    aggregator.metrics().refused(reason);
    if error.is_refusal() && aggregator.is_news(peer.ip(), "reports", reason) {
        tracing::warn!(%peer, reason, %error, "Refused a reporter; more like this are logged at debug");
    } else {
        tracing::debug!(%peer, reason, %error, "A reporter's connection ended");
    }
}

/// A connection that has not said yet who it is.
struct Unidentified {
    count: Gauge,
    _share: Share,
    _place: OwnedSemaphorePermit,
}

impl Unidentified {
    fn new(aggregator: &Aggregator, share: Share, place: OwnedSemaphorePermit) -> Self {
        let count = aggregator.metrics().unidentified().clone();
        count.inc();
        Self {
            count,
            _share: share,
            _place: place,
        }
    }
}

impl Drop for Unidentified {
    fn drop(&mut self) {
        self.count.dec();
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
    unidentified: Unidentified,
    places: &Arc<Semaphore>,
) -> Result<(), ConnectionError> {
    let patience = aggregator.settings().hello_timeout;
    let begun = timeout(patience, begin(stream, acceptor)).await;
    // Without a hello, somebody looked whether the port is open.
    let Some((mut frames, hello)) = begun.map_err(|_| ConnectionError::NoHello)?? else {
        return Ok(());
    };
    let identity = believe(aggregator, &hello)?;
    let place = Arc::clone(places).try_acquire_owned();
    let _place = place.map_err(|_| ConnectionError::Full)?;
    drop(unidentified);
    if identity.role == Role::Activator {
        frames.codec_mut().set_limit(MAX_FRAME);
        frames.set_backpressure_boundary(ACTIVATOR_BUFFER);
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
    let stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        // As a check whether the port is open does.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(ConnectionError::Handshake(error)),
    };
    let codec = FrameCodec::with_limit(SMALL_FRAME);
    let mut frames: Frames = Framed::with_capacity(stream, codec, BUFFER);
    let Some(frame) = next(&mut frames).await? else {
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
    // Grows for activators alone: nothing is queued for a sidecar.
    let mut queued = Vec::new();
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
            frame = next(&mut frames) => {
                let Some(frame) = frame? else {
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

/// Returns the next frame, none at the end. Cancel safe.
async fn next(frames: &mut Frames) -> Result<Option<ReporterFrame>, ConnectionError> {
    let frame = frames.next().await.transpose();
    frame.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => ConnectionError::NotFrame(error),
        _ => ConnectionError::Io(error),
    })
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
