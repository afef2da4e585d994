//! What clients are told when a request is not forwarded. Words and heads only.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::Full;
use stillwake_proto::report::Workload;

use crate::{
    Settings,
    breaker::Broken,
    grpc::{is_grpc, percent_encoded},
    metrics::Outcome,
    queue::Refusal,
};

/// gRPC's `UNAVAILABLE`, which clients may try again.
const GRPC_UNAVAILABLE: HeaderValue = HeaderValue::from_static("14");

/// gRPC's `DEADLINE_EXCEEDED`: trying again is in vain, as the client's time is over.
const GRPC_DEADLINE_EXCEEDED: HeaderValue = HeaderValue::from_static("4");

/// Why a request is not forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// No place, or no workload that could be woken.
    Refused(Refusal),
    /// No endpoint took it in this time.
    Expired(Duration),
    /// The time that the client gave its call ended in this time.
    OutOfTime(Duration),
    /// The activator is being stopped.
    Stopping,
    /// The endpoint took it and then failed.
    Failed,
    /// The endpoint does not speak HTTP/2, which the client began with.
    NotHttp2,
}

impl Rejection {
    /// Returns how a request rejected so is counted.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(Refusal::Requests | Refusal::Bytes) => Outcome::Overflow,
            Self::Refused(Refusal::Unavailable(_)) => Outcome::Unavailable,
            Self::Refused(Refusal::Broken(_)) => Outcome::Broken,
            Self::Expired(_) | Self::OutOfTime(_) => Outcome::Deadline,
            Self::Stopping => Outcome::Stopped,
            Self::Failed | Self::NotHttp2 => Outcome::Failed,
        }
    }

    /// Returns the answer to a request with this `content_type`.
    pub(crate) fn answer(
        &self,
        workload: &Workload,
        settings: &Settings,
        content_type: Option<&HeaderValue>,
    ) -> Response<Full<Bytes>> {
        let text = self.text(workload, settings);
        let mut response = Response::new(Full::default());
        let headers = response.headers_mut();
        if let Some(kind) = content_type.filter(|kind| is_grpc(kind)) {
            // The trailers-only form of a gRPC answer: status 200, the outcome among the headers, no body.
            headers.insert(CONTENT_TYPE, kind.clone());
            headers.insert(
                "grpc-status",
                match self {
                    Self::OutOfTime(_) => GRPC_DEADLINE_EXCEEDED,
                    _ => GRPC_UNAVAILABLE,
                },
            );
            headers.insert("grpc-message", percent_encoded(&text));
            return response;
        }
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        if let Some(pause) = self.retry_after(settings) {
            let seconds = pause.as_millis().div_ceil(1000).max(1);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        *response.status_mut() = match self {
            Self::Failed | Self::NotHttp2 => StatusCode::BAD_GATEWAY,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        *response.body_mut() = Full::from(format!("{text}\n"));
        response
    }

    /// Returns one sentence for the person who meets it.
    pub(crate) fn text(&self, workload: &Workload, settings: &Settings) -> String {
        match self {
            Self::Refused(Refusal::Requests) => format!(
                "{workload} is starting and {} requests are held for it already, the most there may be; try again soon",
                settings.max_held
            ),
            Self::Refused(Refusal::Bytes) => format!(
                "{workload} is starting and with this request more than {} bytes would be held for it, the most there \
                 may be; try again soon",
                settings.max_held_bytes
            ),
            Self::Refused(Refusal::Unavailable(reason)) => {
                format!("{workload} has no endpoint and cannot be started: {reason}")
            }
            Self::Refused(Refusal::Broken(Broken { failing, .. })) => format!(
                "{workload} has had no endpoint that accepted a request for {:.0} s, so requests are answered at once until \
                 it has one; see why it does not become ready",
                failing.as_secs_f64()
            ),
            Self::Expired(waited) => format!(
                "{workload} had no endpoint that accepted this request within {:.1} s; see why it does not become ready",
                waited.as_secs_f64()
            ),
            Self::OutOfTime(waited) => format!(
                "{workload} had no endpoint that accepted this call within the {:.1} s that its client gave it",
                waited.as_secs_f64()
            ),
            Self::Stopping => format!(
                "the activator that held this request for {workload} is being stopped; try again"
            ),
            Self::Failed => format!(
                "{workload} accepted this request and closed the connection before it answered; the request is not \
                 sent again because it may have been carried out"
            ),
            Self::NotHttp2 => format!(
                "{workload} accepted a connection and does not speak HTTP/2 on it, as this client does; use HTTP/1.1, or \
                 turn on HTTP/2 without TLS (h2c) there"
            ),
        }
    }

    /// Returns what to advise in `Retry-After`, if there is a sense in trying again.
    fn retry_after(&self, settings: &Settings) -> Option<Duration> {
        match self {
            Self::Refused(Refusal::Unavailable(_))
            | Self::OutOfTime(_)
            | Self::Failed
            | Self::NotHttp2 => None,
            Self::Refused(Refusal::Broken(broken)) => Some(broken.next_probe),
            // Another activator or an endpoint takes it at once.
            Self::Stopping => Some(Duration::from_secs(1)),
            Self::Refused(Refusal::Requests | Refusal::Bytes) | Self::Expired(_) => {
                Some(settings.retry_after)
            }
        }
    }
}

impl From<Arc<str>> for Rejection {
    fn from(reason: Arc<str>) -> Self {
        Self::Refused(Refusal::Unavailable(reason))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    const BROKEN: Broken = Broken {
        failing: Duration::from_secs(181),
        next_probe: Duration::from_millis(4001),
    };

    fn workload() -> Workload {
        Workload {
            namespace: "shop".into(),
            kind: "Deployment".into(),
            name: "cart".into(),
        }
    }

    fn answer(rejection: &Rejection, content_type: Option<&'static str>) -> Response<Full<Bytes>> {
        let content_type = content_type.map(HeaderValue::from_static);
        rejection.answer(&workload(), &Settings::default(), content_type.as_ref())
    }

    async fn body(response: Response<Full<Bytes>>) -> String {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn every_rejection_names_the_workload() {
        for rejection in [
            Rejection::Refused(Refusal::Requests),
            Rejection::Refused(Refusal::Bytes),
            Rejection::from(Arc::from("its ScaledObject is paused")),
            Rejection::Refused(Refusal::Broken(BROKEN)),
            Rejection::Expired(Duration::from_mins(1)),
            Rejection::Stopping,
            Rejection::Failed,
            Rejection::NotHttp2,
            Rejection::OutOfTime(Duration::from_secs(1)),
        ] {
            let response = answer(&rejection, None);
            let text = body(response).await;
            assert!(text.contains("shop/Deployment/cart"), "{text}");
        }
    }

    #[tokio::test]
    async fn overflow_advises_when_to_try_again_and_an_unavailable_workload_why_not() {
        let overflow = answer(&Rejection::Refused(Refusal::Requests), None);
        assert_eq!(overflow.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(overflow.headers()[RETRY_AFTER], "1");
        let broken = answer(&Rejection::Refused(Refusal::Broken(BROKEN)), None);
        assert_eq!(broken.headers()[RETRY_AFTER], "5", "the next probe");
        assert!(body(broken).await.contains("for 181 s"));
        let paused = Rejection::from(Arc::from("its ScaledObject is paused"));
        let paused = answer(&paused, None);
        assert!(!paused.headers().contains_key(RETRY_AFTER));
        assert!(body(paused).await.contains("its ScaledObject is paused"));
    }

    #[tokio::test]
    async fn grpc_gets_its_own_form_of_unavailable() {
        let expired = Rejection::Expired(Duration::from_mins(1));
        let response = answer(&expired, Some("application/grpc+proto"));
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc+proto");
        assert_eq!(response.headers()["grpc-status"], "14");
        assert!(!response.headers()["grpc-message"].is_empty());
        assert_eq!(body(response).await, "");
    }

    #[tokio::test]
    async fn a_call_whose_own_time_is_over_is_not_to_be_tried_again() {
        let late = Rejection::OutOfTime(Duration::from_secs(1));
        let response = answer(&late, Some("application/grpc"));
        assert_eq!(response.headers()["grpc-status"], "4");
        assert!(!answer(&late, None).headers().contains_key(RETRY_AFTER));
    }
}
