//! Account of every request: sent, answered rightly once, or failed and why.
//!
//! The client's side only; what reached the app is in the [`crate::journal`].

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::ensure;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::client::Answer;

/// Shared by all clients of one load.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    entries: Arc<Mutex<BTreeMap<u64, Entry>>>,
}

/// What is known of one request.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What kind of request it was, as the load named it.
    pub kind: &'static str,
    /// When it was about to be sent.
    pub sent: Instant,
    /// Whether the connection that was kept for it was closed before a byte of it was written, so that it took another.
    pub closed_before: bool,
    /// When it ended; `None` while it has not.
    pub ended: Option<Instant>,
    /// How it ended; `None` while it has not.
    pub outcome: Option<Outcome>,
}

impl Entry {
    /// Says what became of it, and when: logs and events are of the same clock.
    fn told(&self, what: &str) -> String {
        let sent = humantime::format_rfc3339_millis(SystemTime::now() - self.sent.elapsed());
        let time = self.ended.unwrap_or_else(Instant::now) - self.sent;
        format!("{} at {sent}, after {time:?}: {what}", self.kind)
    }
}

/// How a request ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// With an answer that was checked and right. A WebSocket has no [`Answer`] of its own.
    Answered(Option<Answer>),
    /// Otherwise.
    Failed(String),
}

impl Ledger {
    /// Opens the account of the next request and returns its id, from 1 upwards.
    pub fn open(&self, kind: &'static str) -> u64 {
        let mut entries = self.entries.lock();
        let id = entries.last_key_value().map_or(1, |(last, _)| last + 1);
        entries.insert(
            id,
            Entry {
                kind,
                sent: Instant::now(),
                closed_before: false,
                ended: None,
                outcome: None,
            },
        );
        id
    }

    /// Notes that a request found the connection closed that was kept for it, and takes another.
    pub fn note_closed_before(&self, id: u64) {
        if let Some(entry) = self.entries.lock().get_mut(&id) {
            entry.closed_before = true;
        }
    }

    /// Closes the account of a request.
    ///
    /// # Panics
    ///
    /// If it was closed before or never opened: the load itself is then wrong.
    pub fn close(&self, id: u64, outcome: Outcome) {
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(&id).expect("a request is opened first");
        assert!(entry.outcome.is_none(), "request {id} ended twice");
        entry.outcome = Some(outcome);
        entry.ended = Some(Instant::now());
    }

    /// Returns how many requests were in flight on average in the `window` until `end`.
    pub fn concurrency(&self, window: Duration, end: Instant) -> f64 {
        let begin = end - window;
        let entries = self.entries.lock();
        let times = entries.values().map(|entry| {
            let until = entry.ended.map_or(end, |ended| ended.min(end));
            until.saturating_duration_since(entry.sent.max(begin))
        });
        times.sum::<Duration>().as_secs_f64() / window.as_secs_f64()
    }

    /// Returns how many requests per second were sent in the `window` until `end`.
    pub fn rate(&self, window: Duration, end: Instant) -> f64 {
        let entries = self.entries.lock();
        let sent = entries
            .values()
            .filter(|entry| (end - window..end).contains(&entry.sent));
        sent.count() as f64 / window.as_secs_f64()
    }

    /// Returns how many requests were sent so far.
    pub fn sent(&self) -> u64 {
        self.entries.lock().len() as u64
    }

    /// Fails until the load has lasted for `window`: before that, averages of it and of a sudden rise are not the same.
    ///
    /// # Errors
    ///
    /// While it has not.
    pub fn ensure_lasted(&self, window: Duration) -> anyhow::Result<()> {
        let entries = self.entries.lock();
        let first = entries.first_key_value().map(|(_, entry)| entry.sent);
        ensure!(
            first.is_some_and(|first| first.elapsed() > window),
            "the load has not lasted for {window:?} yet"
        );
        Ok(())
    }

    /// All entries so far.
    pub fn entries(&self) -> BTreeMap<u64, Entry> {
        self.entries.lock().clone()
    }

    /// Sums up.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::default();
        for (id, entry) in &*self.entries.lock() {
            let kind = verdict.kinds.entry(entry.kind).or_default();
            kind.0 += 1;
            verdict.closed_before += u64::from(entry.closed_before);
            match &entry.outcome {
                Some(Outcome::Answered(_)) => kind.1 += 1,
                Some(Outcome::Failed(reason)) => {
                    verdict.failed.insert(*id, entry.told(reason));
                }
                None => {
                    verdict.unended += 1;
                    verdict.failed.insert(*id, entry.told("never ended"));
                }
            }
        }
        verdict
    }
}

/// Sum of a ledger.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Requests sent and requests answered, by kind.
    pub kinds: BTreeMap<&'static str, (u64, u64)>,
    /// Why each of the others was not answered.
    pub failed: BTreeMap<u64, String>,
    /// How many found the connection closed that was kept for them.
    pub closed_before: u64,
    /// How many of those that failed have not ended.
    unended: usize,
}

impl Verdict {
    /// Requests sent.
    pub fn sent(&self) -> u64 {
        self.kinds.values().map(|(sent, _)| sent).sum()
    }

    /// Requests answered rightly.
    pub fn answered(&self) -> u64 {
        self.kinds.values().map(|(_, answered)| answered).sum()
    }

    /// Returns whether every request that has ended was answered.
    pub fn is_lossless_so_far(&self) -> bool {
        self.failed.len() == self.unended
    }

    /// Panics unless every request was answered.
    ///
    /// # Panics
    ///
    /// With the requests that were not.
    pub fn assert_nothing_lost(&self) {
        assert!(self.failed.is_empty(), "requests were lost: {self}");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of {} answered", self.answered(), self.sent())?;
        for (kind, (sent, answered)) in &self.kinds {
            write!(formatter, "; {kind} {answered} of {sent}")?;
        }
        if self.closed_before > 0 {
            let count = self.closed_before;
            write!(
                formatter,
                "; {count} took a new connection, the kept one was closed in that moment"
            )?;
        }
        for (id, reason) in self.failed.iter().take(20) {
            write!(formatter, "\n  request {id}, {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ended_is_lost() {
        let ledger = Ledger::default();
        let (first, _second) = (ledger.open("slow"), ledger.open("slow"));
        ledger.close(first, Outcome::Answered(None));
        let verdict = ledger.verdict();
        assert_eq!((verdict.sent(), verdict.answered()), (2, 1));
        assert_eq!(verdict.failed.len(), 1);
        assert!(verdict.is_lossless_so_far());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_in_flight_and_what_was_sent_is_taken_over_the_window_alone() {
        let ledger = Ledger::default();
        let (first, _second) = (ledger.open("slow"), ledger.open("slow"));
        tokio::time::advance(Duration::from_secs(3)).await;
        ledger.close(first, Outcome::Answered(None));
        ledger.open("slow");
        tokio::time::advance(Duration::from_secs(1)).await;
        let (window, end) = (Duration::from_secs(2), Instant::now());
        let seen = (ledger.concurrency(window, end), ledger.rate(window, end));
        assert_eq!(seen, (2.0, 0.5));
    }

    #[test]
    #[should_panic(expected = "ended twice")]
    fn a_request_that_ends_twice_is_caught() {
        let ledger = Ledger::default();
        let id = ledger.open("slow");
        ledger.close(id, Outcome::Answered(None));
        ledger.close(id, Outcome::Answered(None));
    }
}
