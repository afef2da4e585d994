//! Waiting for a condition, with a deadline that is for what hangs, not for what is slow.

use std::{thread, time::Duration};

use anyhow::bail;

/// The clock of this program.
#[expect(
    clippy::disallowed_types,
    reason = "there is no tokio here, and no test that pauses time"
)]
pub(crate) type Clock = std::time::Instant;

/// Tries `attempt` every `interval` until it succeeds. After `patience`, its last error is the reason.
pub(crate) fn until<T>(
    what: &str,
    patience: Duration,
    interval: Duration,
    mut attempt: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let deadline = Clock::now() + patience;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Clock::now() >= deadline => {
                bail!("waited {patience:?} for {what}; last seen: {error:#}")
            }
            Err(_) => thread::sleep(interval),
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn waiting_ends_with_the_first_success_or_with_the_last_failure() {
        let mut attempts = 0;
        let value = until(
            "a third look",
            Duration::from_hours(1),
            Duration::ZERO,
            || {
                attempts += 1;
                if attempts == 3 {
                    Ok(attempts)
                } else {
                    Err(anyhow!("not yet"))
                }
            },
        );
        assert_eq!(value.unwrap(), 3);
        let error = until("rain", Duration::ZERO, Duration::ZERO, || {
            anyhow::Result::<()>::Err(anyhow!("a clear sky"))
        });
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("rain") && error.contains("a clear sky"),
            "{error}"
        );
    }
}
