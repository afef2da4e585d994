//! The keys that the API server signs service-account tokens with, for whoever verifies tokens.
//!
//! They are public and asked for at `/openid/v1/jwks`, which every service account may read in a cluster as it comes
//! (by the role `system:service-account-issuer-discovery`). They change rarely: when a cluster's keys are rotated, the
//! new one is there before tokens are signed with it. Fetched at the start, every five minutes, and when a token names a
//! key that is not known. Only the text is handed on; what is in it is for its reader.

use std::{convert::Infallible, sync::Arc, time::Duration};

use kube::Client;
use tokio::{
    sync::Notify,
    time::{Instant, error::Elapsed, sleep, timeout},
};

use crate::{metrics::Metrics, watch::outage::Outage};

const PATH: &str = "/openid/v1/jwks";

/// How old the keys may get.
const PERIOD: Duration = Duration::from_mins(5);

/// How soon they are fetched again when somebody asks, so that made-up key names do not turn into load.
const APART: Duration = Duration::from_secs(10);

/// How long one fetch may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Pauses after failures: the first, and what it doubles up to.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Asks for keys that are not known yet. Clones ask the same.
#[derive(Clone, Debug, Default)]
pub struct Refresh(Arc<Notify>);

impl Refresh {
    /// Has the keys fetched now, or 10 s after the last fetch. Does not wait for it.
    pub fn ask(&self) {
        self.0.notify_one();
    }
}

/// Why the keys could not be fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Late(#[from] Elapsed),
    #[error(transparent)]
    Failed(#[from] kube::Error),
}

/// Fetches for ever, and calls `tell` with the keys (a JSON Web Key Set, RFC 7517) when they are not what they were.
///
/// # Cancel safety
///
/// Dropping the future ends the fetching.
pub async fn follow(
    client: Client,
    refresh: Refresh,
    metrics: Metrics,
    mut tell: impl FnMut(&str),
) -> Infallible {
    let mut told = None;
    let mut outage = Outage::default();
    let mut pause = FIRST_PAUSE;
    loop {
        let due = match fetch(&client).await {
            Ok(keys) => {
                if outage.works() {
                    tracing::info!("The API server's token keys can be fetched again");
                }
                if told.as_ref() != Some(&keys) {
                    tell(&keys);
                    told = Some(keys);
                }
                pause = FIRST_PAUSE;
                PERIOD
            }
            Err(error) => {
                metrics.key_failures.inc();
                if outage.failed(Instant::now()) {
                    tracing::warn!(
                        %error,
                        "The API server's token keys cannot be fetched; this is tried again. The service account needs \
                         the verb get on the non-resource URL {PATH}"
                    );
                }
                let due = pause;
                pause = LONGEST_PAUSE.min(2 * pause);
                due
            }
        };
        let asked = async {
            sleep(APART).await;
            refresh.0.notified().await;
        };
        tokio::select! {
            () = sleep(due) => {}
            () = asked => {}
        }
    }
}

async fn fetch(client: &Client) -> Result<String, FetchError> {
    let request = http::Request::get(PATH).body(Vec::new());
    let request = request.map_err(kube::Error::HttpError)?;
    Ok(timeout(LIMIT, client.request_text(request)).await??)
}

#[cfg(test)]
mod tests;
