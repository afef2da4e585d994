//! How many connections one address has, so that no address takes the places of all others.
//!
//! How many there are in all is bounded elsewhere.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use parking_lot::Mutex;

/// Connections by address. Clones share the count.
#[derive(Clone, Debug)]
pub(crate) struct Shares {
    most: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Shares {
    /// Gives each address at most `most` connections.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            taken: Arc::default(),
        }
    }

    /// Counts one more connection of an address for as long as the share is kept; none if it has its share.
    pub(crate) fn take(&self, address: IpAddr) -> Option<Share> {
        let address = address.to_canonical();
        let mut taken = self.taken.lock();
        let count = taken.get(&address).copied().unwrap_or(0);
        if count >= self.most {
            return None;
        }
        taken.insert(address, count + 1);
        Some(Share {
            address,
            shares: self.clone(),
        })
    }
}

/// One connection of an address. Gives its place back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    address: IpAddr,
    shares: Shares,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.lock();
        if let Entry::Occupied(mut count) = taken.entry(self.address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_has_its_share_and_others_have_theirs() {
        let shares = Shares::new(2);
        let (one, other) = (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::UNSPECIFIED.into());
        let first = shares.take(one).unwrap();
        let second = shares.take(IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()));
        assert!(shares.take(one).is_none());
        let third = shares.take(other).unwrap();
        drop(first);
        let again = shares.take(one).unwrap();
        drop((second, third, again));
        assert!(shares.taken.lock().is_empty(), "nothing is left behind");
    }
}
