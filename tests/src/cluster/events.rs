//! Events of Kubernetes, which are written in an older and a newer way.

use k8s_openapi::{api::core::v1::Event, jiff::Timestamp};

/// Returns when what an event tells last happened, in whole seconds if it was written in the older way.
pub fn last_time(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref();
    let observed = series.and_then(|series| series.last_observed_time.as_ref());
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let begun = event.event_time.as_ref().map(|time| time.0);
    let created = event.metadata.creation_timestamp.as_ref();
    let created = created.map(|time| time.0);
    observed.map(|time| time.0).or(last).or(begun).or(created)
}

/// Returns how often it has happened.
pub fn times(event: &Event) -> u64 {
    let series = event.series.as_ref().and_then(|series| series.count);
    let count = event.count.max(series);
    count
        .and_then(|count| u64::try_from(count).ok())
        .unwrap_or(1)
        .max(1)
}
