//! HTTP/1 connections: each request is forwarded over a fresh connection of a backend, and both ways are streamed. What
//! becomes of requests is [`crate::request`]'s business.
//!
//! Heads are passed on as they came, but for `Connection: close` and the cold-start header in responses. Bodies are not
//! stored: they are read only once a backend has accepted a connection, and where the client asked with
//! `Expect: 100-continue`, once the backend has told it to go on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{CONNECTION, UPGRADE},
};
use hyper::{
    body::Incoming,
    client::conn::http1 as client_http1,
    server::conn::http1 as server_http1,
    service::service_fn,
    upgrade::{OnUpgrade, on as upgrade_of},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpStream;

use self::interim::{Awaiting, Interjecting, passing_on};
use crate::{
    connection::Context,
    holder::Hold,
    metrics::Outcome,
    queue::{Refusal, Release},
    release::{Reach, Unreached},
    request::{self, Client, Unanswered, Upload},
    stream::ClientStream,
};

mod interim;

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

/// One client connection.
#[derive(Debug)]
struct Served {
    client: ClientStream,
    /// The same connection, for whoever speaks on it.
    speaking: Interjecting,
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
        speaking: Interjecting::new(client.clone()),
        context,
        place: Mutex::new(place),
        tunnelled: AtomicBool::new(false),
    });
    let service = {
        let served = Arc::clone(&served);
        service_fn(move |request| {
            let served = Arc::clone(&served);
            async move { request::answer(&*served, request).await }
        })
    };
    let connection = server_http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(served.context.holder.settings().head_timeout)
        .max_buf_size(MAX_BUFFER)
        .max_headers(MAX_HEADERS)
        .preserve_header_case(true)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(served.speaking.clone()), service)
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

impl Reach for Served {
    type Backend = TcpStream;

    async fn connect(&self, release: &Release, limit: Duration) -> Result<TcpStream, Unreached> {
        self.client.connect(release, limit).await
    }

    async fn departure(&self, interval: Duration) {
        self.client.departure(interval).await;
    }
}

impl Client for Served {
    type Body = Incoming;

    fn context(&self) -> &Context {
        &self.context
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

    fn has_left(&self) -> bool {
        self.client.has_left()
    }

    fn complete(&self, headers: &mut HeaderMap) {
        close_after(headers);
    }

    async fn exchange(
        &self,
        backend: TcpStream,
        upload: Upload<Incoming>,
    ) -> Result<Response<Incoming>, Unanswered<Incoming>> {
        let connects = *upload.method() == Method::CONNECT;
        let client_side = client_side(&upload);
        let connected = client_http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .preserve_header_case(true)
            .handshake(TokioIo::new(backend))
            .await;
        let (mut sender, connection) = match connected {
            Ok(connected) => connected,
            Err(error) => return Err(unanswered(error, Some(upload))),
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
        let upload = passing_on(upload, &self.speaking);
        let mut response = match sender.try_send_request(upload).await {
            Ok(response) => response,
            Err(mut failed) => {
                let unsent = failed.take_message();
                let unsent = unsent.map(|upload| upload.map(Awaiting::into_inner));
                return Err(unanswered(failed.into_error(), unsent));
            }
        };
        let tunnels = response.status() == StatusCode::SWITCHING_PROTOCOLS
            || (connects && response.status().is_success());
        match client_side {
            Some(client_side) if tunnels => {
                let backend_side = upgrade_of(&mut response);
                self.tunnelled.store(true, Ordering::Release);
                tunnel(&self.context, client_side, backend_side);
            }
            _ => close_after(response.headers_mut()),
        }
        Ok(response)
    }
}

fn unanswered(error: hyper::Error, unsent: Option<Upload<Incoming>>) -> Unanswered<Incoming> {
    Unanswered {
        is_garbled: error.is_parse(),
        error: error.into(),
        unsent,
        reset: None,
    }
}

/// Returns the connection to the client if the answer may turn it into a tunnel. The request keeps it, in case it is sent again.
fn client_side(upload: &Upload<Incoming>) -> Option<OnUpgrade> {
    let may_tunnel = *upload.method() == Method::CONNECT || upload.headers().contains_key(UPGRADE);
    let client_side = upload.extensions().get::<OnUpgrade>();
    client_side.filter(|_| may_tunnel).cloned()
}

/// Joins the two connections once the response's head is out.
fn tunnel(context: &Context, client_side: OnUpgrade, backend_side: OnUpgrade) {
    let abort = context.abort.clone();
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
    context.connections.spawn(async move {
        tokio::select! {
            () = tunnel => {}
            () = abort.cancelled() => {}
        }
    });
}

/// Makes the client come anew for its next request, which then finds its way to an endpoint without us.
fn close_after(headers: &mut HeaderMap) {
    for name in OF_THE_CONNECTION {
        headers.remove(name);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}
