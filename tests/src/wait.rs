//! Waits for a condition, never for a time.
//!
//! The deadlines are for what hangs, not for what is slow: they are far above what a loaded machine needs.

use std::{fmt::Display, future::Future, time::Duration};

use anyhow::bail;
use tokio::time::Instant;

/// Enough for anything that happens once, on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// Polls `look` until it returns `Ok`.
///
/// # Errors
///
/// After `patience`, with what was waited for and the last observation that `look` gave as its error.
pub async fn until<T, E, F>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, E>>,
    E: Display,
{
    let deadline = Instant::now() + patience;
    loop {
        match look().await {
            Ok(value) => return Ok(value),
            Err(seen) if Instant::now() >= deadline => {
                bail!("waited {patience:?} for {what}; last seen: {seen:#}")
            }
            Err(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_comes_true_ends_the_wait_with_its_value() {
        let mut looks = 0;
        let value = until("a third look", PATIENCE, || {
            looks += 1;
            std::future::ready(if looks == 3 { Ok("there") } else { Err(looks) })
        });
        assert_eq!(value.await.unwrap(), "there");
    }

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_never_comes_true_is_reported_with_the_last_observation() {
        let error = until("rain", PATIENCE, || {
            std::future::ready(Err::<(), _>("a clear sky"))
        })
        .await
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("rain") && error.contains("a clear sky"),
            "{error}"
        );
    }
}
