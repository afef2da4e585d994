//! A register in this process's memory, for tests and for a control plane of one.

use parking_lot::Mutex;

use super::{Register, StoreError};

/// A value in memory. Its version is the number of writes.
#[derive(Debug)]
pub struct Memory<T> {
    held: Mutex<(Option<T>, u64)>,
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self {
            held: Mutex::new((None, 0)),
        }
    }
}

impl<T: Clone + Send + Sync> Register<T> for Memory<T> {
    type Version = u64;

    async fn read(&self) -> Result<(Option<T>, u64), StoreError> {
        Ok(self.held.lock().clone())
    }

    async fn write(&self, value: &T, expected: &u64) -> Result<Option<u64>, StoreError> {
        let mut held = self.held.lock();
        if held.1 != *expected {
            return Ok(None);
        }
        *held = (Some(value.clone()), expected + 1);
        Ok(Some(held.1))
    }
}
