//! Which refusals an operator reads about, so that a stranger who keeps coming does not fill the log.
//!
//! Refuses nobody; metrics count every refusal.

use std::{collections::HashSet, net::IpAddr, time::Duration};

use tokio::time::Instant;

/// How long a refusal is no news after it was told.
const PERIOD: Duration = Duration::from_mins(10);

/// Most refusals that are told in one period; with it the memory is bounded.
const MOST: usize = 1_000;

/// Remembers what was told lately.
#[derive(Debug)]
pub(crate) struct Refusals {
    began: Instant,
    /// Who was refused, at which port, and why.
    told: HashSet<(IpAddr, &'static str, &'static str)>,
}

impl Refusals {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            began: now,
            told: HashSet::new(),
        }
    }

    /// Tells whether a refusal is worth a warning: the first of this reason from this address at this port in a while,
    /// while there are not too many such.
    pub(crate) fn is_news(
        &mut self,
        source: IpAddr,
        port: &'static str,
        reason: &'static str,
        now: Instant,
    ) -> bool {
        if now.saturating_duration_since(self.began) >= PERIOD {
            self.told.clear();
            self.began = now;
        }
        let refusal = (source.to_canonical(), port, reason);
        self.told.len() < MOST && self.told.insert(refusal)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn each_reason_of_each_address_is_told_once_in_a_while() {
        let began = Instant::now();
        let mut refusals = Refusals::new(began);
        assert!(refusals.is_news(address(1), "reports", "hello", began));
        assert!(!refusals.is_news(address(1), "reports", "hello", began + PERIOD / 2));
        assert!(refusals.is_news(address(1), "reports", "token_expired", began));
        assert!(refusals.is_news(address(2), "reports", "hello", began));
        assert!(refusals.is_news(address(1), "scaler", "hello", began));
        let mapped = Ipv6Addr::from(*b"\0\0\0\0\0\0\0\0\0\0\xff\xff\0\0\0\x01");
        assert!(!refusals.is_news(mapped.into(), "reports", "hello", began));
        assert!(refusals.is_news(address(1), "reports", "hello", began + PERIOD));
        assert!(!refusals.is_news(address(1), "reports", "hello", began + PERIOD));
    }

    #[test]
    fn many_addresses_are_told_up_to_a_bound() {
        let began = Instant::now();
        let mut refusals = Refusals::new(began);
        let told = (0..100_000)
            .filter(|number| refusals.is_news(address(*number), "reports", "hello", began));
        assert_eq!(told.count(), MOST);
        assert_eq!(refusals.told.len(), MOST);
        assert!(refusals.is_news(address(7), "reports", "hello", began + PERIOD));
    }
}
