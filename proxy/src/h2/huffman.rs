//! Decodes strings in the Huffman code of HPACK (RFC 7541, section 5.2 and appendix B), byte by byte and without memory.
//!
//! The code is canonical: codes of one length are consecutive numbers, and so it is told by how many codes there are of
//! each length and by the order of their symbols.

/// The code of the end of a string, which is never sent whole: 30 ones.
const END_LENGTH: u32 = 30;

/// For each length of codes, in bits: the symbols whose codes have it, in the order of their codes.
const SYMBOLS: [(u32, &[u8]); 21] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, b"\\\xc3\xd0"),
    (20, b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2"),
    (
        21,
        b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6",
    ),
    (
        22,
        b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9",
    ),
    (
        23,
        b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef",
    ),
    (24, b"\x09\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed"),
    (25, b"\xc7\xcf\xea\xeb"),
    (
        26,
        b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff",
    ),
    (
        27,
        b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe",
    ),
    (
        28,
        b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9",
    ),
    // The fourth is the end of a string.
    (END_LENGTH, b"\n\r\x16"),
];

/// A string that ends in the middle of a code, or holds the code of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The bytes of a string in the Huffman code. After an error there are none.
#[derive(Clone, Debug)]
pub(super) struct Decoded<'a> {
    encoded: std::slice::Iter<'a, u8>,
    /// Bits that were taken and not decoded, from the lowest on.
    bits: u64,
    /// How many of them there are.
    count: u32,
}

impl<'a> Decoded<'a> {
    pub(super) fn new(encoded: &'a [u8]) -> Self {
        Self {
            encoded: encoded.iter(),
            bits: 0,
            count: 0,
        }
    }
}

impl Iterator for Decoded<'_> {
    type Item = Result<u8, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.count < END_LENGTH
            && let Some(byte) = self.encoded.next()
        {
            self.bits = self.bits << 8 | u64::from(*byte);
            self.count += 8;
        }
        let ones = (1 << self.count) - 1;
        let bits = self.bits & ones;
        // Padded to a whole byte with the beginning of the end's code.
        if self.count < 8 && bits == ones {
            return None;
        }
        // The first code of the length in question.
        let (mut first, mut before) = (0, 0);
        for (length, symbols) in SYMBOLS {
            first <<= length - before;
            before = length;
            if length > self.count {
                break;
            }
            let code = bits >> (self.count - length);
            let offset = usize::try_from(code - first).unwrap_or(usize::MAX);
            if let Some(symbol) = symbols.get(offset) {
                self.count -= length;
                return Some(Ok(*symbol));
            }
            first += symbols.len() as u64;
        }
        self.encoded = [].iter();
        self.count = 0;
        Some(Err(Malformed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(encoded: &[u8]) -> Result<Vec<u8>, Malformed> {
        Decoded::new(encoded).collect()
    }

    #[test]
    fn the_examples_of_the_rfc_are_decoded() {
        // RFC 7541, appendices C.4 and C.6.
        for (encoded, decoded) in [
            (
                &b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..],
                &b"www.example.com"[..],
            ),
            (b"\xa8\xeb\x10\x64\x9c\xbf", b"no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", b"custom-key"),
            (b"\x64\x02", b"302"),
            (
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
                b"Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (b"", b""),
        ] {
            assert_eq!(decode(encoded).as_deref(), Ok(decoded));
        }
    }

    #[test]
    fn every_byte_has_a_code_and_no_two_the_same() {
        let mut symbols: Vec<u8> = SYMBOLS
            .iter()
            .flat_map(|(_, symbols)| *symbols)
            .copied()
            .collect();
        assert_eq!(symbols.len(), 256);
        symbols.sort_unstable();
        symbols.dedup();
        assert_eq!(symbols.len(), 256);
        // Together with the end's, the codes leave no sequence of bits without a meaning.
        let shares = SYMBOLS
            .iter()
            .map(|(length, symbols)| (symbols.len() as u64) << (END_LENGTH - length));
        assert_eq!(shares.sum::<u64>() + 1, 1 << END_LENGTH);
    }

    #[test]
    fn a_cut_code_and_the_end_within_a_string_are_malformed() {
        for encoded in [&b"\xfe"[..], b"\xff\xff\xff\xff", b"\xff", b"\x07\xff"] {
            assert_eq!(decode(encoded), Err(Malformed), "{encoded:?}");
        }
    }
}
