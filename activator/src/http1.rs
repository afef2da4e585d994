//! HTTP/1 requests: holds each one, hands it to a backend's fresh connection, and streams both ways.
//!
//! Heads are passed on as they came, but for `Connection: close` and the cold-start header in responses. Bodies are not
//! stored: they are read only once a backend has accepted a connection, which is also when a client that asked with
//! `Expect: 100-continue` is told to go on.
//!
//! A request whose backend closes without an answer is held again if nothing of it was written, or once if carrying it out
//! twice does no harm. This is often how a backend looks that has just ended behind a proxy of its own.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, UPGRADE},
    request::Parts,
};
use http_body_util::{Either, Empty, Full};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::http1 as client_http1,
    server::conn::http1 as server_http1,
    service::service_fn,
    upgrade::{OnUpgrade, on as upgrade_of},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpStream;

use crate::{
    answer::Rejection,
    connection::Context,
    holder::{Forward, Hold},
    metrics::Outcome,
    queue::Refusal,
    release::{self, Lost},
    stream::ClientStream,
};

/// How long the request waited, in milliseconds; only on responses to requests that found nothing to take them.
const COLD_START: HeaderName = HeaderName::from_static("x-stillwake-cold-start");

/// Headers that speak of the connection to the backend and not of the one to the client (RFC 9110 §7.6.1).
const OF_THE_CONNECTION: [HeaderName; 3] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Where the read buffer stops growing, in bytes. A request head that does not fit is answered with 431; as the buffer
/// grows by doubling, one of up to twice the size may still fit.
const MAX_BUFFER: usize = 64 * 1024;

/// Most headers in one head.
const MAX_HEADERS: usize = 256;

type Body = Either<Incoming, Full<Bytes>>;

/// A request on its way to a backend. The second time it has no body.
type Upload = Request<Either<Incoming, Empty<Bytes>>>;

/// A backend ended a connection before its answer.
#[derive(Debug)]
struct Unanswered {
    error: hyper::Error,
    /// The request, if nothing of it was written.
    unsent: Option<Upload>,
}

/// The client is gone, so there is nobody to answer.
#[derive(Debug, thiserror::Error)]
#[error("client left while its request was held")]
struct ClientLeft;

/// One client connection.
#[derive(Debug)]
struct Served {
    client: ClientStream,
    context: Context,
    /// The place that the first request has already.
    place: Mutex<Option<Hold>>,
    /// The socket has become a tunnel's.
    tunnelled: AtomicBool,
}

/// Serves the requests of one connection. There is one as a rule, since every answer closes the connection. It takes
/// `place` if the connection was held before its request had come.
pub(crate) async fn serve(client: ClientStream, context: Context, place: Option<Hold>) {
    let served = Arc::new(Served {
        client: client.clone(),
        context,
        place: Mutex::new(place),
        tunnelled: AtomicBool::new(false),
    });
    let service = {
        let served = Arc::clone(&served);
        service_fn(move |request| Arc::clone(&served).answer(request))
    };
    let connection = server_http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(served.context.holder.settings().head_timeout)
        .max_buf_size(MAX_BUFFER)
        .max_headers(MAX_HEADERS)
        .preserve_header_case(true)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(client.clone()), service)
        .with_upgrades();
    let ended = tokio::select! {
        ended = connection => ended,
        () = served.context.aborted() => return,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "Client connection ended early");
    }
    if !served.tunnelled.load(Ordering::Acquire) {
        tokio::select! {
            () = client.linger() => {}
            () = served.context.aborted() => {}
        }
    }
}

impl Served {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, ClientLeft> {
        let (parts, body) = request.into_parts();
        let content_type = parts.headers.get(CONTENT_TYPE).cloned();
        match self.forward(Request::from_parts(parts, body)).await {
            Ok(response) => Ok(response.map(Either::Left)),
            Err(Lost::Rejected(rejection)) => {
                let holder = &self.context.holder;
                let answer =
                    rejection.answer(holder.workload(), holder.settings(), content_type.as_ref());
                Ok(answer.map(Either::Right))
            }
            Err(Lost::ClientLeft) => Err(ClientLeft),
        }
    }

    async fn forward(&self, mut request: Request<Incoming>) -> Result<Response<Incoming>, Lost> {
        let rejected = |refusal| Lost::Rejected(Rejection::Refused(refusal));
        let client_side = may_tunnel(&request).then(|| upgrade_of(&mut request));
        let (parts, body) = request.into_parts();
        let mut hold = self.hold(head_size(&parts)).map_err(rejected)?;
        let mut spare = is_repeatable(&parts, &body).then(|| parts.clone());
        let mut upload = Request::from_parts(parts, Either::Left(body));
        loop {
            let (backend, held) = release::wait(hold, &self.client, &self.context).await?;
            let mut forward = held.hand_over();
            let exchange = self.exchange(backend, upload, client_side.clone(), &mut forward);
            let Unanswered { error, unsent } = match exchange.await {
                Ok(response) => return Ok(response),
                Err(unanswered) => unanswered,
            };
            if self.client.has_left() {
                return Err(Lost::ClientLeft);
            }
            forward.unanswered();
            let workload = self.context.holder.workload();
            // One that answers with something else than HTTP has carried the request out. One that took longer than a
            // hold may last would do so again.
            let once_more = !error.is_parse() && forward.has_time();
            let spared = spare.take().filter(|_| once_more);
            let spared =
                || spared.map(|parts| Request::from_parts(parts, Either::Right(Empty::new())));
            let Some(again) = unsent.or_else(spared) else {
                tracing::warn!(%workload, %error, "Endpoint took a request and gave no answer");
                return Err(Lost::Rejected(Rejection::Failed));
            };
            tracing::debug!(%workload, %error, "Endpoint gave no answer; holding the request again");
            hold = forward.hold_again().map_err(rejected)?;
            upload = again;
        }
    }

    fn hold(&self, bytes: usize) -> Result<Hold, Refusal> {
        let Some(mut hold) = self.place.lock().take() else {
            return self.context.hold(bytes);
        };
        match hold.charge(bytes) {
            Ok(()) => Ok(hold),
            Err(refusal) => {
                hold.end(Outcome::Overflow);
                Err(refusal)
            }
        }
    }

    /// Sends the request over `backend` and returns the head of its response, with the body to follow. `client_side` is the
    /// connection to the client if the response may turn both into a tunnel.
    async fn exchange(
        &self,
        backend: TcpStream,
        upload: Upload,
        client_side: Option<OnUpgrade>,
        forward: &mut Forward,
    ) -> Result<Response<Incoming>, Unanswered> {
        let connects = *upload.method() == Method::CONNECT;
        let connected = client_http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .preserve_header_case(true)
            .handshake(TokioIo::new(backend))
            .await;
        let (mut sender, connection) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                let unsent = Some(upload);
                return Err(Unanswered { error, unsent });
            }
        };
        let context = self.context.clone();
        self.context.connections.spawn(async move {
            tokio::select! {
                ended = connection.with_upgrades() => if let Err(error) = ended {
                    tracing::debug!(%error, "Backend connection ended early");
                },
                () = context.aborted() => {}
            }
        });
        let mut response = match sender.try_send_request(upload).await {
            Ok(response) => response,
            Err(mut failed) => {
                let unsent = failed.take_message();
                let error = failed.into_error();
                return Err(Unanswered { error, unsent });
            }
        };
        forward.answered();
        if let Some(waited) = forward.waited() {
            let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
            response.headers_mut().insert(COLD_START, waited.into());
        }
        let tunnels = response.status() == StatusCode::SWITCHING_PROTOCOLS
            || (connects && response.status().is_success());
        match client_side {
            Some(client_side) if tunnels => {
                let backend_side = upgrade_of(&mut response);
                self.tunnel(client_side, backend_side);
            }
            _ => close_after(&mut response),
        }
        Ok(response)
    }

    /// Joins the two connections once the response's head is out.
    fn tunnel(&self, client_side: OnUpgrade, backend_side: OnUpgrade) {
        self.tunnelled.store(true, Ordering::Release);
        let abort = self.context.abort.clone();
        let tunnel = async move {
            let (client, backend) = match tokio::try_join!(client_side, backend_side) {
                Ok(sides) => sides,
                Err(error) => {
                    tracing::debug!(%error, "Tunnel was not opened");
                    return;
                }
            };
            let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
            // How either side ended is theirs to know: the end has been passed on.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut backend).await;
        };
        self.context.connections.spawn(async move {
            tokio::select! {
                () = tunnel => {}
                () = abort.cancelled() => {}
            }
        });
    }
}

/// Returns true if the answer may turn the connection into a tunnel.
fn may_tunnel(request: &Request<Incoming>) -> bool {
    *request.method() == Method::CONNECT || request.headers().contains_key(UPGRADE)
}

/// Returns true if the request may be sent once more although a backend may have carried it out: its method only asks
/// (RFC 9110 §9.2.1, §9.2.2), and there is no body, which would be gone.
fn is_repeatable(parts: &Parts, body: &Incoming) -> bool {
    parts.method.is_safe() && body.is_end_stream()
}

/// Makes the client come anew for its next request, which then finds its way to an endpoint without us.
fn close_after(response: &mut Response<Incoming>) {
    for name in OF_THE_CONNECTION {
        response.headers_mut().remove(name);
    }
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}

/// Returns the bytes that the head took on the wire, give or take spaces.
fn head_size(parts: &Parts) -> usize {
    let line = parts.method.as_str().len()
        + parts
            .uri
            .path_and_query()
            .map_or(1, |path| path.as_str().len())
        + " HTTP/1.1\r\n\r\n ".len();
    let headers = parts.headers.iter();
    let sizes = headers.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    line + sizes.sum::<usize>()
}
