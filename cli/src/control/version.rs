//! What the version of Kubernetes decides for pods: whether their hooks may sleep.
//!
//! Asked for again and again, because API servers are replaced under a webhook that runs.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::version::Info;
use kube::Client;
use stillwake_runtime::readiness::Latch;

use super::process::chain;

/// How often the version is asked for.
const INTERVAL: Duration = Duration::from_mins(5);

/// How soon again, after an answer that did not come.
const SOON: Duration = Duration::from_secs(10);

/// The first minor version of Kubernetes 1 with which hooks may sleep.
///
/// 1.30 is the first that either takes such a hook or forgets all of it; 1.29 forgets its sleep and refuses the rest. One
/// more, because API servers may be one minor version apart while a cluster is upgraded, and only one of them is asked.
const FIRST: u32 = 31;

/// Whether hooks may sleep; false while nothing is known. Clones share the answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Sleeps(Arc<AtomicBool>);

impl Sleeps {
    /// Returns what was last known.
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Goes on asking. `latch` is dropped after the first question, whatever became of it.
    pub(super) async fn follow(self, client: Client, latch: Latch) -> Infallible {
        let mut latch = Some(latch);
        let mut told = None;
        loop {
            let pause = match client.apiserver_version().await {
                Ok(version) => {
                    self.learn(&version, &mut told);
                    INTERVAL
                }
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(%error, known = ?told, "The API server does not say its version");
                    SOON
                }
            };
            drop(latch.take());
            tokio::time::sleep(pause).await;
        }
    }

    fn learn(&self, version: &Info, told: &mut Option<bool>) {
        let may = may_sleep(version);
        self.0.store(may, Ordering::Relaxed);
        if told.replace(may) != Some(may) && !may {
            let version = &version.git_version;
            tracing::info!(%version, "Apps get no stop delay, for which Kubernetes has to be 1.{FIRST} or newer");
        }
    }
}

fn may_sleep(version: &Info) -> bool {
    let number = |text: &str| {
        // Some vendors write "31+".
        let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
        digits.parse::<u32>().ok()
    };
    let (major, minor) = (number(&version.major), number(&version.minor));
    matches!((major, minor), (Some(major), Some(minor)) if (major, minor) >= (1, FIRST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: &str, minor: &str) -> Info {
        Info {
            major: major.to_owned(),
            minor: minor.to_owned(),
            ..Info::default()
        }
    }

    #[test]
    fn hooks_sleep_where_no_api_server_can_be_of_1_29() {
        for (major, minor, expected) in [
            ("1", "29", false),
            ("1", "30", false),
            ("1", "30+", false),
            ("1", "31", true),
            ("1", "31+", true),
            ("1", "100", true),
            ("2", "0", true),
            ("1", "", false),
            ("", "37", false),
            ("1", "x31", false),
        ] {
            let version = version(major, minor);
            assert_eq!(may_sleep(&version), expected, "{major}.{minor}");
        }
    }

    #[test]
    fn what_was_last_said_counts() {
        let sleeps = Sleeps::default();
        assert!(!sleeps.get(), "nothing is known yet");
        let mut told = None;
        for (minor, expected) in [("37", true), ("30", false), ("31", true)] {
            sleeps.clone().learn(&version("1", minor), &mut told);
            assert_eq!((sleeps.get(), told), (expected, Some(expected)), "{minor}");
        }
    }
}
