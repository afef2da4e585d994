//! Bytes that were read and could not be written yet.
//!
//! Holds memory only while there are any; how many there may be is up to the one who reads.

/// A queue of bytes.
#[derive(Debug, Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    /// How many of `bytes` have been taken.
    taken: usize,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Removes the first `count` bytes, and gives the memory back with the last one.
    pub(super) fn take(&mut self, count: usize) {
        self.taken += count;
        if self.taken >= self.bytes.len() {
            *self = Self::default();
        }
    }

    /// Returns all bytes.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.drain(..self.taken);
        self.bytes
    }

    /// Puts `bytes` in the place of the first `count` ones.
    pub(super) fn replace(&mut self, count: usize, bytes: &[u8]) {
        self.bytes
            .splice(self.taken..self.taken + count, bytes.iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_held_only_while_there_are_bytes() {
        let mut pending = Pending::default();
        pending.push(b"head rest");
        pending.take(1);
        pending.replace(3, b"HEAD!");
        assert_eq!(pending.as_slice(), b"HEAD! rest");
        let mut copy = Pending::default();
        copy.push(b"xHEAD! rest");
        copy.take(1);
        assert_eq!(copy.into_bytes(), pending.as_slice());
        pending.take(10);
        assert!(pending.is_empty());
        assert_eq!(pending.bytes.capacity(), 0);
    }
}
