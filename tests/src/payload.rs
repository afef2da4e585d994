//! Bodies that both sides can make from a request's id, and their hashes.
//!
//! Not random: the same id and length give the same bytes in every process.

use std::fmt::Write;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

/// How much of a body goes into one piece.
pub const PIECE: usize = 64 * 1024;

/// Produces the body that belongs to an id, piece by piece.
#[derive(Debug)]
pub struct Payload {
    state: u64,
    left: usize,
}

impl Payload {
    /// Starts a body of `length` bytes for the request `id`.
    pub fn new(id: u64, length: usize) -> Self {
        Self {
            // Odd, so that the generator never starts at its fixed point 0.
            state: id.wrapping_mul(2).wrapping_add(1),
            left: length,
        }
    }

    /// Hash of the whole body.
    pub fn hash(self) -> String {
        let mut hasher = Sha256::new();
        for piece in self {
            hasher.update(&piece);
        }
        hex(&hasher.finalize())
    }
}

impl Iterator for Payload {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let length = self.left.min(PIECE);
        self.left -= length;
        let mut piece = BytesMut::with_capacity(length + 8);
        while piece.len() < length {
            // Xorshift (Marsaglia, 2003): fast, and any lost, doubled or swapped byte changes the hash.
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            piece.extend_from_slice(&self.state.to_le_bytes());
        }
        piece.truncate(length);
        Some(piece.freeze())
    }
}

/// Hash of bytes that are all there.
pub fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_the_length_asked_for_and_is_the_same_each_time() {
        let body = || Payload::new(7, PIECE + 13).flatten().collect::<Vec<u8>>();
        assert_eq!(body().len(), PIECE + 13);
        assert_eq!(body(), body());
    }

    #[test]
    fn two_ids_have_two_bodies() {
        assert_ne!(Payload::new(1, 100).hash(), Payload::new(2, 100).hash());
    }

    #[test]
    fn the_hash_is_sha256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Payload::new(1, 0).hash(), empty);
    }
}
