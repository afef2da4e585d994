//! The two streams of KEDA's external push scaler, kept open.
//!
//! What follows from what they say is the scaler's.

use std::time::Duration;

use stillwake_proto::scaler::{MetricSpec, ScaledObjectRef};
use tokio::sync::{mpsc, watch};
use tonic::{Code, Status};

use super::Client;

/// First and longest pause before a stream is opened again, as in KEDA (`pkg/scalers/external_scaler.go`).
/// An end with OK brings the pause back to the first, for `StreamMetricSpec` any spec that was heard too.
pub(super) const STREAM_PAUSES: (Duration, Duration) =
    (Duration::from_secs(2), Duration::from_mins(1));

/// Keeps `StreamMetricSpec` open and passes each spec on. Returns when the aggregator does not have it.
pub(super) async fn follow_specs(
    mut client: Client,
    scaled_object: ScaledObjectRef,
    told: watch::Sender<Vec<MetricSpec>>,
) {
    let (first, longest) = STREAM_PAUSES;
    let mut pause = first;
    loop {
        let mut heard = false;
        let ended = async {
            let stream = client.stream_metric_spec(scaled_object.clone()).await?;
            let mut stream = stream.into_inner();
            while let Some(specs) = stream.message().await? {
                heard = true;
                told.send_replace(specs.metric_specs);
            }
            Ok::<_, Status>(())
        };
        let ended = ended.await;
        if let Err(status) = &ended {
            if status.code() == Code::Unimplemented {
                return;
            }
            tracing::debug!(%status, ?pause, "The stream of specs failed");
        }
        if heard || ended.is_ok() {
            pause = first;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// Keeps `StreamIsActive` open and passes each `true` on. Never returns.
pub(super) async fn listen(
    mut client: Client,
    scaled_object: ScaledObjectRef,
    pushes: mpsc::Sender<()>,
) {
    let (first, longest) = STREAM_PAUSES;
    let mut pause = first;
    loop {
        let ended = async {
            let mut stream = client
                .stream_is_active(scaled_object.clone())
                .await?
                .into_inner();
            while let Some(answer) = stream.message().await? {
                // KEDA ignores `false` since 2.18. One that does not fit in is like one that waits already.
                if answer.result {
                    let _ = pushes.try_send(());
                }
            }
            Ok::<_, Status>(())
        };
        let ended = ended.await;
        if let Err(status) = &ended {
            tracing::debug!(%status, ?pause, "The push stream failed");
        }
        tokio::time::sleep(pause).await;
        pause = if ended.is_ok() {
            first
        } else {
            (pause * 2).min(longest)
        };
    }
}
