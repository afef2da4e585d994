//! One stream: answered as a request, and reset where either side resets it. The connection that it is of is
//! [`super`]'s concern.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, client::ResponseFuture, server::SendResponse};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header::CONTENT_LENGTH};
use hyper::body::Body as _;
use tokio::sync::{mpsc, watch};

use super::{
    Served,
    body::{Received, send},
    upstream::Sender,
};
use crate::{
    connection::Context,
    holder::Hold,
    queue::{Refusal, Release},
    release::{Reach, Unreached},
    request::{self, Body, Client, Unanswered, Unserved, Upload},
};

/// Most interim answers that wait to be passed on. More are lost, as they may be.
const MOST_INTERIM: usize = 16;

/// A stream of a client's.
#[derive(Debug)]
struct Stream {
    served: Arc<Served>,
    /// Takes what the backend says before its answer.
    interim: mpsc::Sender<Response<()>>,
    /// With what the client has reset the stream.
    reset: watch::Sender<Option<Reason>>,
}

/// Serves a stream to its end.
pub(super) async fn serve(
    open: Open,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let wants_body = *request.method() != Method::HEAD;
    let (interim, mut interims) = mpsc::channel(MOST_INTERIM);
    let stream = Stream {
        served: Arc::clone(&open.0),
        interim,
        reset: watch::Sender::new(None),
    };
    let answer = {
        let mut answer = pin!(request::answer(&stream, request.map(Received)));
        loop {
            tokio::select! {
                biased;
                Some(interim) = interims.recv() => inform(&mut respond, interim),
                answer = &mut answer => break answer,
                // All that waits for it is dropped with the answer.
                reset = poll_fn(|context| respond.poll_reset(context)) => {
                    stream.was_reset(reset.ok());
                    return;
                }
            }
        }
    };
    drop(open);
    while let Ok(interim) = interims.try_recv() {
        inform(&mut respond, interim);
    }
    match answer {
        Ok(response) => stream.respond(response, wants_body, respond).await,
        Err(Unserved::Reset(reason)) => respond.send_reset(reason),
        Err(Unserved::ClientLeft) => respond.send_reset(Reason::CANCEL),
    }
}

fn inform(respond: &mut SendResponse<Bytes>, interim: Response<()>) {
    if let Err(error) = respond.send_informational(interim) {
        tracing::debug!(%error, "Interim answer lost");
    }
}

impl Stream {
    async fn respond(
        &self,
        response: Response<Body<Received>>,
        wants_body: bool,
        mut respond: SendResponse<Bytes>,
    ) {
        let (mut head, body) = response.into_parts();
        let ends = !wants_body || body.is_end_stream();
        // Known of our own answers alone.
        if let Some(length) = body.size_hint().exact().filter(|_| !body.is_end_stream()) {
            head.headers
                .insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        match respond.send_response(Response::from_parts(head, ()), ends) {
            Ok(_) if ends => {}
            Ok(mut writing) => {
                let reset = send(body, &mut writing, Reason::INTERNAL_ERROR).await;
                self.was_reset(reset);
            }
            Err(error) => {
                tracing::debug!(%error, "Answer cannot be sent");
                respond.send_reset(Reason::INTERNAL_ERROR);
            }
        }
    }

    fn was_reset(&self, reason: Option<Reason>) {
        self.reset.send_replace(reason);
    }

    /// Sends the body of a request beside all else, for longer than the answer takes if need be.
    fn upload(&self, body: request::UploadBody<Received>, mut writing: h2::SendStream<Bytes>) {
        let mut reset = self.reset.subscribe();
        self.served.tasks.spawn(async move {
            let told = async {
                let told = reset.wait_for(Option::is_some).await.ok();
                told.and_then(|reason| *reason)
            };
            tokio::select! {
                biased;
                // Also where the backend takes nothing, so that nothing is read.
                Some(reason) = told => writing.send_reset(reason),
                _ = send(body, &mut writing, Reason::CANCEL) => {}
            }
        });
    }

    /// Returns the answer, and passes on what is said before it.
    async fn answer(
        &self,
        mut response: ResponseFuture,
    ) -> Result<Response<RecvStream>, h2::Error> {
        poll_fn(|context| {
            while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(context) {
                if let Err(error) = self.interim.try_send(interim) {
                    tracing::debug!(%error, "Interim answer lost");
                }
            }
            Pin::new(&mut response).poll(context)
        })
        .await
    }
}

impl Reach for Stream {
    type Backend = Sender;

    async fn connect(&self, release: &Release, limit: Duration) -> Result<Sender, Unreached> {
        self.served.upstreams.reach(release, limit).await
    }

    /// Never returns: a stream whose client leaves is dropped with all that waits for it.
    async fn departure(&self, _: Duration) {
        std::future::pending::<()>().await;
    }
}

impl Client for Stream {
    type Body = Received;

    fn context(&self) -> &Context {
        &self.served.context
    }

    fn hold(&self, bytes: usize) -> Result<Hold, Refusal> {
        self.served.context.hold(bytes)
    }

    fn has_left(&self) -> bool {
        false
    }

    fn complete(&self, _: &mut HeaderMap) {}

    /// A tunnel is a stream like others, with a body on either way.
    async fn exchange(
        &self,
        mut backend: Sender,
        upload: Upload<Received>,
    ) -> Result<Response<Received>, Unanswered<Received>> {
        self.served.moving.cancel();
        let (mut head, body) = upload.into_parts();
        if head.uri.scheme().is_none() && head.method != Method::CONNECT {
            // It has no `:authority`, which HTTP/2 leaves to the client where it sends `Host` (RFC 9113 §8.3.1). Only of
            // requests that came over HTTP/1.1 does the library believe that this can be.
            head.version = Version::HTTP_11;
        }
        if let Err(error) = poll_fn(|context| backend.poll_ready(context)).await {
            return Err(Unanswered {
                unsent: Some(Request::from_parts(head, body)),
                ..unanswered(error)
            });
        }
        let ends = body.is_end_stream();
        let (response, writing) = backend
            .send_request(Request::from_parts(head, ()), ends)
            .map_err(unanswered)?;
        if !ends {
            self.upload(body, writing);
        }
        let response = self.answer(response).await.map_err(unanswered)?;
        Ok(response.map(Received))
    }
}

fn unanswered(error: h2::Error) -> Unanswered<Received> {
    Unanswered {
        reset: reset_of(&error),
        error: error.into(),
        is_garbled: false,
        unsent: None,
    }
}

/// Returns with what the backend ended the stream, if it did. A stream that it will not look at any more, as its GOAWAY
/// says, is as good as refused (RFC 9113 §6.8).
fn reset_of(error: &h2::Error) -> Option<Reason> {
    if !error.is_remote() {
        return None;
    }
    if error.is_reset() {
        return error.reason();
    }
    let unseen = error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
    unseen.then_some(Reason::REFUSED_STREAM)
}

/// A stream that has no answer yet.
pub(super) struct Open(Arc<Served>);

impl Open {
    pub(super) fn new(served: &Arc<Served>) -> Self {
        served.streams.fetch_add(1, Ordering::Relaxed);
        served.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(served))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
