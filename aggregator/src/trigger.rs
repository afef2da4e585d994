//! Trigger metadata: the user's whole configuration of one workload.
//!
//! Does not know the workload; the `ScaledObject` names it.

use std::{collections::HashMap, hash::BuildHasher, time::Duration};

/// What averages are taken over unless the trigger says otherwise; Knative's `stable-window`.
pub(crate) const DEFAULT_WINDOW: Duration = Duration::from_mins(1);

/// Requests in flight per replica unless the trigger names a target; Knative's
/// `container-concurrency-target-default`.
const DEFAULT_CONCURRENCY: f64 = 100.0;

const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
const LONGEST_WINDOW: Duration = Duration::from_mins(10);

/// KEDA keeps three decimals of a target.
const LEAST_TARGET: f64 = 0.001;

/// Longest DNS label.
const LONGEST_LABEL: usize = 63;

/// What KEDA itself reads from the metadata and sends along (its external scaler's connection settings).
const KEDAS_KEYS: [&str; 3] = ["scalerAddress", "enableTLS", "unsafeSsl"];

/// A key of a trigger's metadata that is ours.
#[derive(Debug, PartialEq, Eq)]
pub struct MetadataKey {
    /// Its name.
    pub name: &'static str,
    /// What a value looks like; completes "it takes …" and "is not …".
    pub takes: &'static str,
    /// What applies without it.
    pub default: &'static str,
    /// What it is for.
    pub purpose: &'static str,
}

const TARGET_CONCURRENCY: MetadataKey = MetadataKey {
    name: "targetConcurrency",
    takes: "a number of at least 0.001, such as 20",
    default: "100, unless `targetRequestRate` is given",
    purpose: "Requests in flight that one replica should have. What is divided by it is their average over the window, \
              or over the last tenth of it where that is more than a tenth higher, plus what the activator holds. When that \
              sum clearly rises and stays up, it is taken as it is now, and the HPA is asked to look at once.",
};
const TARGET_REQUEST_RATE: MetadataKey = MetadataKey {
    name: "targetRequestRate",
    takes: "a number of at least 0.001, such as 20",
    default: "none",
    purpose: "Requests per second that one replica should get, as an average over the window. With both targets, the \
              one that wants more replicas wins.",
};
const WINDOW: MetadataKey = MetadataKey {
    name: "window",
    takes: "a duration from 1s to 10m, such as 60s",
    default: "60s",
    purpose: "Time over which load is averaged.",
};

const SERVICE: MetadataKey = MetadataKey {
    name: "service",
    takes: "names of Services, separated by commas, such as web or web,web-canary",
    default: "the Services whose selector matches the pods of what is scaled",
    purpose: "Services whose requests wake the workload while no pod of it is ready.",
};

/// Every key of ours, in the order of the reference page.
pub const METADATA_KEYS: [&MetadataKey; 4] =
    [&TARGET_CONCURRENCY, &TARGET_REQUEST_RATE, &WINDOW, &SERVICE];

/// Name of the metric of requests in flight.
pub(crate) const CONCURRENCY: &str = "concurrency";

/// Name of the metric of requests per second.
pub(crate) const REQUEST_RATE: &str = "request-rate";

/// One trigger's configuration. At least one target is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trigger {
    /// Requests in flight per replica.
    pub(crate) concurrency: Option<f64>,
    /// Requests per second per replica.
    pub(crate) request_rate: Option<f64>,
    /// What averages are taken over.
    pub(crate) window: Duration,
}

/// Metadata that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TriggerError {
    /// A value cannot be read.
    #[error("trigger metadata {key}: '{value}' is not {expected}")]
    Value {
        /// Of which key.
        key: &'static str,
        /// What it got.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
    /// A key means nothing to us.
    #[error(
        "trigger metadata has an unknown key '{key}' (value '{value}'); known keys are {}",
        METADATA_KEYS.map(|key| key.name).join(", ")
    )]
    Key {
        /// Which.
        key: String,
        /// What it was set to.
        value: String,
    },
}

impl Trigger {
    /// Reads the metadata of a trigger as KEDA sends it.
    ///
    /// # Errors
    ///
    /// Names the key, what it got and what it takes.
    pub(crate) fn parse<S: BuildHasher>(
        metadata: &HashMap<String, String, S>,
    ) -> Result<Self, TriggerError> {
        let mut trigger = Self {
            concurrency: None,
            request_rate: None,
            window: DEFAULT_WINDOW,
        };
        // In order, so that the same mistake is named each time.
        let mut entries: Vec<_> = metadata.iter().collect();
        entries.sort_unstable();
        for (key, value) in entries {
            match key.as_str() {
                name if name == TARGET_CONCURRENCY.name => {
                    trigger.concurrency = Some(target(&TARGET_CONCURRENCY, value)?);
                }
                name if name == TARGET_REQUEST_RATE.name => {
                    trigger.request_rate = Some(target(&TARGET_REQUEST_RATE, value)?);
                }
                name if name == WINDOW.name => trigger.window = window(value)?,
                // The activator's; here it is only seen to that a mistake does not go unnoticed.
                name if name == SERVICE.name => services(value)?,
                known if KEDAS_KEYS.contains(&known) => {}
                _ => {
                    return Err(TriggerError::Key {
                        key: key.clone(),
                        value: value.clone(),
                    });
                }
            }
        }
        if trigger.concurrency.is_none() && trigger.request_rate.is_none() {
            trigger.concurrency = Some(DEFAULT_CONCURRENCY);
        }
        Ok(trigger)
    }

    /// Returns the name and the target of each metric, in a stable order.
    pub(crate) fn targets(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let concurrency = self.concurrency.map(|target| (CONCURRENCY, target));
        let request_rate = self.request_rate.map(|target| (REQUEST_RATE, target));
        concurrency.into_iter().chain(request_rate)
    }
}

fn target(key: &MetadataKey, value: &str) -> Result<f64, TriggerError> {
    let read = value.trim().parse::<f64>().ok();
    let valid = read.filter(|target| target.is_finite() && *target >= LEAST_TARGET);
    valid.ok_or_else(|| key.refuses(value))
}

/// Names are DNS labels (RFC 1123), as the API server has them.
fn services(value: &str) -> Result<(), TriggerError> {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = |name: &str| {
        (1..=LONGEST_LABEL).contains(&name.len())
            && name.bytes().all(is_inner)
            && !name.starts_with('-')
            && !name.ends_with('-')
    };
    let mut names = value.split(',').map(str::trim);
    names
        .all(is_name)
        .then_some(())
        .ok_or_else(|| SERVICE.refuses(value))
}

fn window(value: &str) -> Result<Duration, TriggerError> {
    let read = humantime::parse_duration(value.trim()).ok();
    let valid = read.filter(|window| (SHORTEST_WINDOW..=LONGEST_WINDOW).contains(window));
    valid.ok_or_else(|| WINDOW.refuses(value))
}

impl MetadataKey {
    fn refuses(&self, value: &str) -> TriggerError {
        TriggerError::Value {
            key: self.name,
            value: value.to_owned(),
            expected: self.takes,
        }
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entries: &[(&str, &str)]) -> Result<Trigger, TriggerError> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Trigger::parse(&entries.iter().map(owned).collect::<HashMap<_, _>>())
    }

    #[test]
    fn an_empty_trigger_gets_the_defaults_and_kedas_own_keys_are_left_alone() {
        let trigger = parse(&[("scalerAddress", "here:1"), ("enableTLS", "true")]).unwrap();
        assert_eq!(
            trigger.targets().collect::<Vec<_>>(),
            [(CONCURRENCY, 100.0)]
        );
        assert_eq!(trigger.window, Duration::from_mins(1));
    }

    #[test]
    fn both_targets_make_two_metrics_and_the_rate_alone_makes_one() {
        let both = parse(&[("targetConcurrency", "2.5"), ("targetRequestRate", "7")]).unwrap();
        assert_eq!(
            both.targets().collect::<Vec<_>>(),
            [(CONCURRENCY, 2.5), (REQUEST_RATE, 7.0)]
        );
        let rate = parse(&[("targetRequestRate", "7"), ("window", "10s")]).unwrap();
        assert_eq!(rate.targets().collect::<Vec<_>>(), [(REQUEST_RATE, 7.0)]);
        assert_eq!(rate.window, Duration::from_secs(10));
    }

    #[test]
    fn services_are_named_by_dns_labels() {
        let longest = "a".repeat(LONGEST_LABEL);
        for value in ["web", "web-1,2nd", " web , web-canary ", &longest] {
            parse(&[("service", value)]).unwrap();
        }
        parse(&[("service", &format!("{longest}a"))]).unwrap_err();
    }

    #[test]
    fn a_mistake_is_named_with_what_was_given_and_what_is_taken() {
        for (key, value, expected) in [
            ("targetConcurrency", "many", "a number"),
            ("targetConcurrency", "0", "at least 0.001"),
            ("targetConcurrency", "inf", "a number"),
            ("targetRequestRate", "-1", "a number"),
            ("window", "60", "1s to 10m"),
            ("window", "11m", "1s to 10m"),
            ("targetConcurency", "5", "targetConcurrency"),
            ("service", "", "names of Services"),
            ("service", "web,", "names of Services"),
            ("service", "web.shop", "names of Services"),
            ("service", "Web", "names of Services"),
            ("service", "-web", "names of Services"),
        ] {
            let message = parse(&[(key, value)]).unwrap_err().to_string();
            for part in [key, &format!("'{value}'"), expected] {
                assert!(message.contains(part), "{part} is missing from: {message}");
            }
        }
    }
}
