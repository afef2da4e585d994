//! Reads blocks that another implementation wrote, and ones that are wrong.

use httlib_hpack::Encoder;
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

fn rules() -> Arc<IgnoreRules> {
    Arc::new(IgnoreRules {
        path_prefixes: vec!["/healthz".to_owned(), "/index.html".to_owned()],
        ..IgnoreRules::default()
    })
}

/// Reads whole blocks one after another.
fn read(blocks: &[&[u8]]) -> Result<Vec<bool>, Unreadable> {
    let mut reader = HeaderBlocks::new(rules());
    let read = blocks.iter().map(|block| {
        reader.add(block, true)?;
        reader.end()
    });
    read.collect()
}

#[test]
fn the_examples_of_the_rfc_are_followed_and_a_reference_to_an_entry_of_theirs_is_right() {
    // RFC 7541, appendix C.4: three requests, the last of which indexes `custom-key: custom-value`.
    let first = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
    let second = b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf";
    let third = b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf";
    // The third asks for `/index.html`, by the static table.
    assert_eq!(read(&[first, second, third]), Ok(vec![false, false, true]));
    let mut table = Table::default();
    for block in [&first[..], second, third] {
        table.read(block, &rules()).unwrap();
    }
    // What the appendix says of the table then.
    let sizes: Vec<u32> = table
        .entries
        .iter()
        .map(|entry| ENTRY + entry.text)
        .collect();
    assert_eq!((table.size, sizes), (164, vec![54, 53, 57]));
}

#[test]
fn an_entry_that_was_evicted_cannot_be_referred_to() {
    let agent = b"\x7a\x0bkube-probe/";
    assert_eq!(read(&[agent, b"\xbe"]), Ok(vec![true, true]));
    // A table of 0 bytes, then again of 4096.
    assert_eq!(
        read(&[agent, b"\x20\x3f\xe1\x1f\xbe"]),
        Err(Unreadable::Index)
    );
    // Larger than the table: it empties it.
    let large = [&b"\x40\x01a\x7f\xa1\x1f"[..], &[b'x'; 4128]].concat();
    assert_eq!(read(&[agent, &large, b"\xbe"]), Err(Unreadable::Index));
}

#[test]
fn what_is_malformed_or_too_large_is_refused() {
    for (block, error) in [
        (&b"\x80"[..], Unreadable::Index),
        (b"\xbe", Unreadable::Index),
        (b"\x7e\x01x", Unreadable::Index),
        (b"\xff", Unreadable::Cut),
        (b"\x40\x01", Unreadable::Cut),
        (b"\x40", Unreadable::Cut),
        (b"\x04\x05abcd", Unreadable::Cut),
        (b"\xff\xff\xff\xff\xff\x7f", Unreadable::Integer),
        (b"\xff\xff\xff\xff\xff\xff\xff", Unreadable::Integer),
        (b"\x40\x84\xff\xff\xff\xff\x01x", Unreadable::Huffman),
        (b"\x44\x84\xff\xff\xff\xff", Unreadable::Huffman),
        (b"\x3f\xe2\xff\x03", Unreadable::Table),
    ] {
        assert_eq!(read(&[block]), Err(error), "{}", block.escape_ascii());
    }
    // As large as a table may be.
    assert_eq!(read(&[b"\x3f\xe1\xff\x03\x84"]), Ok(vec![false]));
}

/// Fields of many a size, and how each is to be encoded.
fn field() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, u8)> {
    let name = select(vec![
        ":path",
        ":path",
        ":method",
        ":authority",
        "user-agent",
        "user-agent",
        "cookie",
        "accept",
        "te",
        "x-request-id",
        "x-a-rather-long-name-that-is-in-no-table-of-anyone",
    ]);
    let value = prop_oneof![
        12 => select(vec!["/healthz", "/", "/index.html", "/a/healthz", "kube-probe/1.33", "curl/8.5", "GET", ""])
            .prop_map(|value| value.as_bytes().to_vec()),
        6 => vec(any::<u8>(), 0..300),
        1 => vec(0x20..0x7f_u8, 0..5000),
    ];
    let flags = (
        any::<bool>(),
        any::<bool>(),
        select(vec![0, Encoder::WITH_INDEXING, Encoder::NEVER_INDEXED]),
    );
    (name, value, flags).prop_map(|(name, value, (huffman_name, huffman_value, indexing))| {
        let huffman_name = if huffman_name {
            Encoder::HUFFMAN_NAME
        } else {
            0
        };
        let huffman_value = if huffman_value {
            Encoder::HUFFMAN_VALUE
        } else {
            0
        };
        let best = if indexing == Encoder::NEVER_INDEXED {
            0
        } else {
            Encoder::BEST_FORMAT
        };
        (
            name.as_bytes().to_vec(),
            value,
            huffman_name | huffman_value | indexing | best,
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn another_implementation_writes_what_is_read(
        blocks in vec((vec(field(), 1..12), prop::option::weighted(0.1, 0..8000_u32)), 1..12),
        cuts in vec(any::<prop::sample::Index>(), 1..4),
    ) {
        let rules = rules();
        let mut encoder = Encoder::with_dynamic_size(4096);
        let mut reader = HeaderBlocks::new(Arc::clone(&rules));
        for (number, (fields, resize)) in blocks.into_iter().enumerate() {
            let mut block = Vec::new();
            if let Some(size) = resize {
                encoder.update_max_dynamic_size(size, &mut block).unwrap();
            }
            let mut expected = false;
            for (name, value, flags) in fields {
                expected |= match &name[..] {
                    b":path" => rules.ignores_target(&value.iter().copied()),
                    b"user-agent" => rules.ignores_user_agent(&value.iter().copied()),
                    _ => false,
                };
                encoder.encode((name, value, flags), &mut block).unwrap();
            }
            // Every other block comes in pieces.
            if number % 2 == 0 {
                reader.add(&block, true).unwrap();
            } else {
                let cut = cuts[number % cuts.len()].index(block.len() + 1);
                reader.add(&block[..cut], false).unwrap();
                reader.add(&block[cut..], false).unwrap();
            }
            prop_assert_eq!(reader.end(), Ok(expected));
            prop_assert!(reader.table.size <= reader.table.limit);
            prop_assert_eq!(reader.partial.capacity(), 0);
        }
    }

    #[test]
    fn anything_else_is_read_or_refused(blocks in vec(vec(any::<u8>(), 0..100), 1..20)) {
        let mut reader = HeaderBlocks::new(rules());
        for block in blocks {
            if reader.add(&block, true).and_then(|()| reader.end()).is_err() {
                break;
            }
            prop_assert!(reader.table.size <= reader.table.limit);
            prop_assert!(reader.table.limit <= MAX_TABLE);
        }
    }
}
