//! The app behind all proxies: fixed answers over HTTP/1.1 and HTTP/2, and an echo, from one thread.
//!
//! `/N` answers with N bytes at once, `/stream` with [`PIECES`] pieces of [`PIECE`] bytes that are sent one by one.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use stillwake_e2e::{
    sidecar::free_address,
    wait::{self, PATIENCE},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Child,
    task::yield_now,
};

use crate::{peers::Around, process};

/// How many pieces a streamed answer has.
pub const PIECES: usize = 64;

/// The length of each.
pub const PIECE: usize = 1024;

/// The longest answer.
const LONGEST: usize = 1 << 20;

static ZEROS: [u8; LONGEST] = [b'0'; LONGEST];

/// The backend as a process of its own. Dropped, it ends.
#[derive(Debug)]
pub struct Backend {
    /// Where it answers HTTP.
    pub http: SocketAddr,
    /// Where it sends back what it is sent.
    pub echo: SocketAddr,
    child: Child,
}

impl Backend {
    /// Starts it and waits until it accepts.
    ///
    /// # Errors
    ///
    /// When it does not in time.
    pub async fn start(around: &Around) -> anyhow::Result<Self> {
        let (http, echo) = (free_address()?, free_address()?);
        let program = std::env::current_exe()?;
        let child = crate::peers::wrapped(around, &program)
            .arg("backend")
            .arg(http.port().to_string())
            .arg(echo.port().to_string())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        for address in [http, echo] {
            wait::until("the backend", PATIENCE, || TcpStream::connect(address)).await?;
        }
        Ok(Self { http, echo, child })
    }

    /// Its process.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn pid(&self) -> anyhow::Result<i32> {
        process::id(&self.child)
    }
}

/// Serves on both ports until the process is ended.
///
/// # Errors
///
/// When a port is taken.
pub fn serve(http: u16, echo: u16) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let http = bind(http).await?;
        let echo = bind(echo).await?;
        tokio::join!(accept(http, answer_all), accept(echo, echo_all));
        Ok(())
    })
}

async fn bind(port: u16) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    listener.with_context(|| format!("port {port}"))
}

async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    serve: fn(TcpStream) -> F,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without it the pieces of a streamed answer would wait for each other.
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream));
            }
            // No file descriptor is left, until a connection ends.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn answer_all(stream: TcpStream) {
    let server = auto::Builder::new(TokioExecutor::new());
    // Ends when the client does.
    let _ = server
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await;
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
    let path = &request.uri().path()[1..];
    if path == "stream" {
        let pieces = stream::iter(0..PIECES).then(|_| async {
            // Returns to the connection, which sends what it has.
            yield_now().await;
            Ok(Frame::data(Bytes::from_static(&ZEROS[..PIECE])))
        });
        return Ok(Response::new(StreamBody::new(pieces).boxed_unsync()));
    }
    let length = path.parse::<usize>().unwrap_or(0).min(LONGEST);
    let body = Full::new(Bytes::from_static(&ZEROS[..length]));
    Ok(Response::new(body.boxed_unsync()))
}

async fn echo_all(mut stream: TcpStream) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}
