//! Whether a failure is news.

use std::time::Duration;

use tokio::time::Instant;

/// Failures that are further apart belong to two outages. Attempts of one outage come at most a minute apart (30 s of
/// back-off and as much jitter), each takes up to half a minute to fail, and a watch on which nothing happens says
/// nothing when it works again.
const APART: Duration = Duration::from_mins(3);

/// One watch's trouble, if it has any.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    last: Option<Instant>,
}

impl Outage {
    /// Notes a failure. Returns true if it begins an outage.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        let before = self.last.replace(now);
        before.is_none_or(|before| now.duration_since(before) > APART)
    }

    /// Notes that it works. Returns true if that ends an outage.
    pub(crate) fn works(&mut self) -> bool {
        self.last.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_news_once_until_it_ends_or_has_been_quiet() {
        let start = Instant::now();
        let mut outage = Outage::default();
        assert!(!outage.works());
        assert!(outage.failed(start));
        assert!(!outage.failed(start + APART));
        assert!(outage.works());
        assert!(!outage.works());
        assert!(outage.failed(start + APART));
        assert!(outage.failed(start + 2 * APART + Duration::from_secs(1)));
    }
}
