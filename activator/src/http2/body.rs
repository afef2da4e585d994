//! Bodies on HTTP/2 streams: as they come, and how they are sent on. Whose they are is not its concern.

use std::{
    error::Error,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use hyper::body::{Body, Frame};

/// A body that comes on a stream. What is read may be sent again by the other side: nothing piles up here.
#[derive(Debug)]
pub(super) struct Received(pub(super) RecvStream);

impl Body for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        Poll::Ready(match ready!(self.0.poll_data(context)) {
            Some(Ok(data)) => {
                // Fails only on a stream that has ended, of which no more will come.
                let _ = self.0.flow_control().release_capacity(data.len());
                Some(Ok(Frame::data(data)))
            }
            Some(Err(error)) => Some(Err(error)),
            None => {
                let trailers = ready!(self.0.poll_trailers(context));
                trailers.transpose().map(|told| told.map(Frame::trailers))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// What comes next while a body is sent.
enum Step<E> {
    Frame(Option<Result<Frame<Bytes>, E>>),
    /// The receiver takes no more of it.
    Over(Option<Reason>),
}

/// Sends `body` as fast as the receiver takes it, and returns with what the receiver has reset the stream, if it has.
///
/// A body that ends in a reset resets the stream with the same code, and one whose connection is lost with `lost`. Dropping
/// the future leaves the rest unsent.
pub(super) async fn send<B>(
    body: B,
    writing: &mut SendStream<Bytes>,
    lost: Reason,
) -> Option<Reason>
where
    B: Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>>,
{
    let mut body = pin!(body);
    loop {
        // Room first: what is not read yet stays with its sender.
        writing.reserve_capacity(1);
        let step = poll_fn(|context| {
            if let Poll::Ready(reset) = writing.poll_reset(context) {
                return Poll::Ready(Step::Over(reset.ok()));
            }
            while writing.capacity() == 0 {
                if !matches!(ready!(writing.poll_capacity(context)), Some(Ok(_))) {
                    return Poll::Ready(Step::Over(None));
                }
            }
            body.as_mut().poll_frame(context).map(Step::Frame)
        });
        let sent = match step.await {
            Step::Over(reset) => return reset,
            Step::Frame(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    let ends = body.is_end_stream();
                    let sent = writing.send_data(data, ends);
                    if sent.is_ok() && !ends {
                        continue;
                    }
                    sent
                }
                Err(other) => writing.send_trailers(other.into_trailers().unwrap_or_default()),
            },
            Step::Frame(None) => writing.send_data(Bytes::new(), true),
            Step::Frame(Some(Err(error))) => {
                let reset = error.downcast_ref().and_then(h2::Error::reason);
                writing.send_reset(reset.unwrap_or(lost));
                Ok(())
            }
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "Stream ended before its body");
        }
        return None;
    }
}
