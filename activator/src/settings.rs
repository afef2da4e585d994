//! The bounds an activator keeps and the patience it has. Values only; nothing here reads configuration.

use std::time::Duration;

/// How much is held for how long, and how it is let go. Every bound is per workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most requests and opaque connections held at once; the next one is answered at once. At least 1.
    pub max_held: usize,
    /// Most bytes of request heads held at once. At least one head, so not below a few KiB.
    pub max_held_bytes: usize,
    /// How long a request is held before it is given up, counted from its arrival.
    pub hold_timeout: Duration,
    /// Most requests of this activator on one endpoint that wait for their response head, over all its ports; the others
    /// stay held, so that what came together does not fall upon the first endpoint together. At least 1.
    pub endpoint_concurrency: usize,
    /// Longest that a request waits for `endpoint_concurrency` while an endpoint is ready; it then goes out anyway, as it
    /// does at its deadline. What endpoints leave unanswered by intent, such as long polls, must not keep the others for
    /// as long as a hold may last.
    pub pacing_limit: Duration,
    /// Hold deadlines in a row, of requests that came one after the other, after which a route without endpoints is taken
    /// for broken: its requests are answered at once. At least 1.
    pub breaker_failures: u32,
    /// Time from a breaker's opening to the first request that is held again as a probe, doubled after each of them. More
    /// than zero.
    pub probe_gap: Duration,
    /// Longest time between two probes. A workload is kept woken by its probes, so this belongs below the cooldown period
    /// of its `ScaledObject`.
    pub probe_gap_limit: Duration,
    /// How long one address may take to accept a connection.
    pub connect_timeout: Duration,
    /// How long an endpoint is left alone after it failed to accept a connection; doubled at each failure in a row.
    pub set_aside: Duration,
    /// How long it is left alone at least after it took a request and closed the connection without an answer: long enough
    /// that its end is known where that was the reason.
    pub unanswered_pause: Duration,
    /// Longest that an endpoint is left alone.
    pub set_aside_limit: Duration,
    /// How long a client may be silent before its connection is taken for one on which the server speaks first.
    pub first_byte_wait: Duration,
    /// How long a client may take to send a request head.
    pub head_timeout: Duration,
    /// How often a held client is looked at for having left.
    pub departure_interval: Duration,
    /// What an overflow answer advises in `Retry-After`; sent in whole seconds, rounded up.
    pub retry_after: Duration,
}

impl Default for Settings {
    /// Returns the design's bounds: 1,000 requests, 16 MiB, 60 s.
    fn default() -> Self {
        Self {
            max_held: 1000,
            max_held_bytes: 16 * 1024 * 1024,
            hold_timeout: Duration::from_mins(1),
            endpoint_concurrency: 100,
            pacing_limit: Duration::from_secs(30),
            breaker_failures: 3,
            probe_gap: Duration::from_secs(5),
            probe_gap_limit: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(1),
            set_aside: Duration::from_millis(25),
            unanswered_pause: Duration::from_millis(250),
            set_aside_limit: Duration::from_secs(1),
            first_byte_wait: Duration::from_millis(200),
            head_timeout: Duration::from_secs(30),
            departure_interval: Duration::from_millis(100),
            retry_after: Duration::from_secs(1),
        }
    }
}
