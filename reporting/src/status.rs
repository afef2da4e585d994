//! What became of the connections, for metrics and debug pages.
//!
//! Nothing is decided by it.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Tells how the reporting goes. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    next_entry: u64,
    addresses: BTreeMap<u64, AddressStatus>,
    unresolved: BTreeMap<String, String>,
    totals: Totals,
}

/// One aggregator address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressStatus {
    /// Where the connection goes.
    pub address: SocketAddr,
    /// The connection stands.
    pub connected: bool,
    /// When `connected` took its value.
    pub since: Instant,
    /// Why the last connection or attempt ended, even if there is a newer one.
    pub last_error: Option<String>,
}

/// Counts since the reporter was created, over all addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections established.
    pub connections: u64,
    /// Connections and attempts that ended in an error.
    pub failures: u64,
    /// Reports written.
    pub reports: u64,
}

impl Status {
    /// Returns every address that is reported to.
    pub fn addresses(&self) -> Vec<AddressStatus> {
        self.0.lock().addresses.values().cloned().collect()
    }

    /// Returns the names that could not be resolved the last time, with the reason.
    pub fn unresolved(&self) -> Vec<(String, String)> {
        let shared = self.0.lock();
        let pairs = shared.unresolved.iter();
        pairs
            .map(|(name, error)| (name.clone(), error.clone()))
            .collect()
    }

    /// Returns how many connections stand.
    pub fn connected(&self) -> usize {
        let shared = self.0.lock();
        shared
            .addresses
            .values()
            .filter(|address| address.connected)
            .count()
    }

    /// Returns the counts so far.
    pub fn totals(&self) -> Totals {
        self.0.lock().totals
    }

    /// Adds an address, for as long as the entry lives.
    pub(crate) fn entry(&self, address: SocketAddr) -> Entry {
        let mut shared = self.0.lock();
        let key = shared.next_entry;
        shared.next_entry += 1;
        let status = AddressStatus {
            address,
            connected: false,
            since: Instant::now(),
            last_error: None,
        };
        shared.addresses.insert(key, status);
        Entry {
            status: self.clone(),
            key,
        }
    }

    /// Notes that `name` was resolved.
    pub(crate) fn resolved(&self, name: &str) {
        self.0.lock().unresolved.remove(name);
    }

    /// Notes why `name` could not be resolved, and returns whether it could before.
    pub(crate) fn unresolvable(&self, name: &str, error: String) -> bool {
        let mut shared = self.0.lock();
        shared.unresolved.insert(name.to_owned(), error).is_none()
    }
}

/// The place of one address in the status; dropping it takes the address out.
#[derive(Debug)]
pub(crate) struct Entry {
    status: Status,
    key: u64,
}

impl Entry {
    /// The connection stands.
    pub(crate) fn connected(&self) {
        self.change(|status, totals| {
            status.connected = true;
            status.since = Instant::now();
            totals.connections += 1;
        });
    }

    /// The connection or the attempt ended.
    pub(crate) fn failed(&self, error: String) {
        self.change(|status, totals| {
            if status.connected {
                status.connected = false;
                status.since = Instant::now();
            }
            status.last_error = Some(error);
            totals.failures += 1;
        });
    }

    /// A report was written.
    pub(crate) fn reported(&self) {
        self.change(|_, totals| totals.reports += 1);
    }

    fn change(&self, apply: impl FnOnce(&mut AddressStatus, &mut Totals)) {
        let shared = &mut *self.status.0.lock();
        if let Some(status) = shared.addresses.get_mut(&self.key) {
            apply(status, &mut shared.totals);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.status.0.lock().addresses.remove(&self.key);
    }
}
