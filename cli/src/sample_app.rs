//! The sample app of the demo: a small web server with a start-up time and a working time to choose.
//!
//! Knows nothing of Stillwake; any server would do.

use std::{convert::Infallible, io, net::Ipv4Addr};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use stillwake_runtime::accept;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::args::SampleAppArgs;

/// Serves until SIGTERM, then finishes what it has.
///
/// # Errors
///
/// Fails if it cannot listen on the port.
pub async fn serve(args: SampleAppArgs) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        () = tokio::time::sleep(args.startup_delay) => {}
        _ = terminate.recv() => return Ok(()),
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).await?;
    let (connections, stop) = (TaskTracker::new(), CancellationToken::new());
    loop {
        let stream = tokio::select! {
            (stream, _) = accept::accept(&listener) => stream,
            _ = terminate.recv() => break,
        };
        let (args, stop) = (args.clone(), stop.clone());
        connections.spawn(async move {
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(
                    TokioIo::new(stream),
                    service_fn(|request| answer(request, args.clone())),
                );
            let mut served = std::pin::pin!(served);
            // A client that breaks off is its own affair.
            let _ = tokio::select! {
                ended = &mut served => ended,
                () = stop.cancelled() => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            };
        });
    }
    drop(listener);
    stop.cancel();
    connections.close();
    connections.wait().await;
    Ok(())
}

async fn answer(
    request: Request<Incoming>,
    args: SampleAppArgs,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    // Read to its end so that the connection can be used again.
    let _ = request.into_body().collect().await;
    tokio::time::sleep(args.work).await;
    let page = format!(
        "Hello from process {} after {} of work on {path}\n",
        std::process::id(),
        humantime::format_duration(args.work)
    );
    let mut response = Response::new(Full::from(page));
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    Ok(response)
}
