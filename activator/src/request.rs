//! The way of one request, in either version of HTTP: held, handed to a backend, and answered. Speaks on no socket itself.
//!
//! A request whose backend closes without an answer is held again if nothing of it was written, or once if carrying it out
//! twice does no harm. This is often how a backend looks that has just ended behind a proxy of its own.

use std::{error::Error, future::Future};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderName, Request, Response, header::CONTENT_TYPE, request::Parts};
use http_body_util::{Either, Empty, Full};
use hyper::body::Body as _;
use tokio::time::Instant;

use crate::{
    answer::Rejection,
    connection::Context,
    grpc,
    holder::Hold,
    queue::Refusal,
    release::{self, Lost, OwnDeadline, Reach},
};

/// How long the request waited, in milliseconds; only on responses to requests that found nothing to take them.
const COLD_START: HeaderName = HeaderName::from_static("x-stillwake-cold-start");

/// The body of an answer: a backend's, or our own.
pub(crate) type Body<B> = Either<B, Full<Bytes>>;

/// The body of a request on its way to a backend. The second time there is none.
pub(crate) type UploadBody<B> = Either<B, Empty<Bytes>>;

/// A request on its way to a backend.
pub(crate) type Upload<B> = Request<UploadBody<B>>;

/// A backend took a request and ended its connection, or the request's stream, before the answer.
#[derive(Debug)]
pub(crate) struct Unanswered<B> {
    pub(crate) error: Box<dyn Error + Send + Sync>,
    /// There was an answer, in something else than HTTP.
    pub(crate) is_garbled: bool,
    /// The request, if nothing of it was written.
    pub(crate) unsent: Option<Upload<B>>,
    /// With what it ended the stream, if only that. `REFUSED_STREAM` says that nothing was carried out (RFC 9113 §8.7).
    pub(crate) reset: Option<Reason>,
}

/// A request is ended without an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unserved {
    /// There is nobody to answer.
    #[error("client left while its request was held")]
    ClientLeft,
    /// Its backend has ended it so.
    #[error("backend ended the stream: {0}")]
    Reset(Reason),
}

/// The client's side of requests in one version of HTTP.
pub(crate) trait Client: Reach {
    /// What a request's or a response's body is read from.
    type Body: hyper::body::Body + Send;

    /// Returns what its connection has in common with others.
    fn context(&self) -> &Context;

    /// Gives a request with a head of so many bytes a place.
    fn hold(&self, bytes: usize) -> Result<Hold, Refusal>;

    /// Returns true if the client is known to be gone.
    fn has_left(&self) -> bool;

    /// Completes the head of an answer of our own.
    fn complete(&self, headers: &mut HeaderMap);

    /// Sends the request over `backend` and returns the head of its response, with the body to follow.
    fn exchange(
        &self,
        backend: Self::Backend,
        upload: Upload<Self::Body>,
    ) -> impl Future<Output = Result<Response<Self::Body>, Unanswered<Self::Body>>> + Send;
}

/// Holds and forwards the request, and returns what to answer.
pub(crate) async fn answer<C: Client>(
    client: &C,
    request: Request<C::Body>,
) -> Result<Response<Body<C::Body>>, Unserved> {
    let content_type = request.headers().get(CONTENT_TYPE).cloned();
    match forward(client, request).await {
        Ok(response) => Ok(response.map(Either::Left)),
        Err(Lost::Rejected(rejection)) => {
            let holder = &client.context().holder;
            let mut answer =
                rejection.answer(holder.workload(), holder.settings(), content_type.as_ref());
            client.complete(answer.headers_mut());
            Ok(answer.map(Either::Right))
        }
        Err(Lost::Reset(reason)) => Err(Unserved::Reset(reason)),
        Err(Lost::ClientLeft) => Err(Unserved::ClientLeft),
    }
}

async fn forward<C: Client>(
    client: &C,
    request: Request<C::Body>,
) -> Result<Response<C::Body>, Lost> {
    let rejected = |refusal| Lost::Rejected(Rejection::Refused(refusal));
    let context = client.context();
    let (parts, body) = request.into_parts();
    let deadline = own_deadline(&parts, context);
    let mut hold = client.hold(head_size(&parts)).map_err(rejected)?;
    // A method that only asks may be carried out twice (RFC 9110 §9.2.1, §9.2.2). A body would be gone.
    let is_safe = parts.method.is_safe();
    let mut spare = body.is_end_stream().then(|| parts.clone());
    let mut upload = Request::from_parts(parts, Either::Left(body));
    loop {
        let (backend, held) = release::wait(hold, deadline, client, context).await?;
        let mut forward = held.hand_over();
        let unanswered = match client.exchange(backend, upload).await {
            Ok(mut response) => {
                forward.answered();
                if let Some(waited) = forward.waited() {
                    let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
                    response.headers_mut().insert(COLD_START, waited.into());
                }
                return Ok(response);
            }
            Err(unanswered) => unanswered,
        };
        let Unanswered {
            error,
            is_garbled,
            unsent,
            reset,
        } = unanswered;
        let refused = reset == Some(Reason::REFUSED_STREAM);
        if let Some(reason) = reset.filter(|_| !refused) {
            forward.answered();
            return Err(Lost::Reset(reason));
        }
        if client.has_left() {
            return Err(Lost::ClientLeft);
        }
        forward.unanswered();
        let workload = context.holder.workload();
        // One that answers with something else than HTTP has carried the request out. One that took longer than a hold may
        // last would do so again.
        let once_more = (refused || (is_safe && !is_garbled)) && forward.has_time();
        let spared = spare.take().filter(|_| once_more);
        let spared = || spared.map(|parts| Request::from_parts(parts, Either::Right(Empty::new())));
        let Some(again) = unsent.or_else(spared) else {
            tracing::warn!(%workload, %error, "Endpoint took a request and gave no answer");
            return Err(match reset {
                // The client may well send it again.
                Some(reason) => Lost::Reset(reason),
                None => Lost::Rejected(Rejection::Failed),
            });
        };
        tracing::debug!(%workload, %error, "Endpoint gave no answer; holding the request again");
        hold = forward.hold_again().map_err(rejected)?;
        upload = again;
    }
}

/// Returns when the client gives the request up, if that is before we would.
fn own_deadline(parts: &Parts, context: &Context) -> Option<OwnDeadline> {
    let given = grpc::timeout(&parts.headers)?;
    (given < context.holder.settings().hold_timeout).then(|| OwnDeadline {
        at: Instant::now() + given,
        given,
    })
}

/// Returns the bytes that the head takes in HTTP/1, give or take spaces.
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
