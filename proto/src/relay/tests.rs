//! The preamble's bytes, cut, changed and made up.

use proptest::prelude::*;

use super::*;

const UID: &str = "1d0a6c2e-5f7c-4a53-9f0e-2b8f3f0f7a11";

fn preamble(source: &str, destination: &str) -> Preamble {
    Preamble::new(source.parse().unwrap(), destination.parse().unwrap(), UID).unwrap()
}

/// The header as the specification writes it, with what comes after the length.
fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, rest].concat()
}

/// The addresses 1.2.3.4:5 and 6.7.8.9:80.
const ADDRESSES: [u8; 12] = [1, 2, 3, 4, 6, 7, 8, 9, 0, 5, 0, 80];

#[test]
fn a_preamble_is_what_the_specification_says() {
    let preamble = Preamble::new(
        "1.2.3.4:5".parse().unwrap(),
        "6.7.8.9:80".parse().unwrap(),
        "u-1",
    )
    .unwrap();
    let rest = [&ADDRESSES[..], &[0xE5, 0, 3], b"u-1"].concat();
    assert_eq!(preamble.encode(), header(0x21, 0x11, &rest));
    let rest = [&rest[..], &[0xE6, 0, 0]].concat();
    assert_eq!(preamble.asking().encode(), header(0x21, 0x11, &rest));
    let six = self::preamble("[fd00::1]:5", "[fd00::2]:80").encode();
    assert_eq!((six[13], six.len()), (0x21, 16 + 36 + 3 + UID.len()));
}

#[test]
fn addresses_of_a_socket_for_both_families_are_the_ones_that_are_meant() {
    let mapped = preamble("[::ffff:1.2.3.4]:5", "[::ffff:6.7.8.9]:80");
    assert_eq!(mapped, preamble("1.2.3.4:5", "6.7.8.9:80"));
    let mixed = preamble("1.2.3.4:5", "[fd00::2]:80");
    assert_eq!(Preamble::parse(&mixed.encode()), Ok(Parsed::Whole(mixed)));
}

#[test]
fn who_asks_is_heard() {
    let preamble = preamble("1.2.3.4:5", "6.7.8.9:80");
    assert!(!preamble.asks());
    let asking = preamble.asking();
    assert!(asking.asks());
    assert_eq!(Preamble::parse(&asking.encode()), Ok(Parsed::Whole(asking)));
}

#[test]
fn fields_of_others_are_skipped() {
    let rest = [
        &ADDRESSES[..],
        &[0x04, 0, 2, 9, 9, 0xE5, 0, 1],
        b"u",
        &[0x20, 0, 0],
    ]
    .concat();
    let Ok(Parsed::Whole(read)) = Preamble::parse(&header(0x21, 0x11, &rest)) else {
        panic!("not read");
    };
    assert_eq!((read.pod_uid(), read.destination().port()), ("u", 80));
}

#[test]
fn what_is_no_preamble_is_told_why() {
    let with = |fields: &[u8]| header(0x21, 0x11, &[&ADDRESSES[..], fields].concat());
    let long = 16 + 12 + 3 + MAX_PREAMBLE;
    for (bytes, error) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), PreambleError::Signature),
        (b"\r\n\r\nX".to_vec(), PreambleError::Signature),
        (header(0x20, 0x11, &[]), PreambleError::Command(0x20)),
        (header(0x21, 0x12, &[]), PreambleError::Family(0x12)),
        (header(0x21, 0x00, &[]), PreambleError::Family(0)),
        (
            header(0x21, 0x11, &ADDRESSES[..11]),
            PreambleError::Length(27),
        ),
        (header(0x21, 0x21, &ADDRESSES), PreambleError::Length(28)),
        (with(&[]), PreambleError::NoPod),
        (with(&[0x04, 0, 1, b'u']), PreambleError::NoPod),
        (with(&[0xE5, 0]), PreambleError::Length(30)),
        (with(&[0xE5, 0, 2, b'u']), PreambleError::Length(32)),
        (with(&[0xE5, 0, 0]), PreambleError::PodUid(0)),
        (with(&[0xE5, 0, 1, 0xFF]), PreambleError::PodUid(1)),
        (with(&[0xE5, 0, 1, b'\n']), PreambleError::PodUid(1)),
        (
            with(&[&[0xE5, 4, 0], &[b'u'; MAX_PREAMBLE][..]].concat()),
            PreambleError::Long(long),
        ),
    ] {
        assert_eq!(
            Preamble::parse(&bytes),
            Err(error),
            "{}",
            bytes.escape_ascii()
        );
    }
    let uid = "u".repeat(MAX_POD_UID + 1);
    let address = "1.2.3.4:5".parse().unwrap();
    assert!(Preamble::new(address, address, &uid).is_err());
}

fn addresses() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
    ];
    (ip, any::<u16>()).prop_map(SocketAddr::from)
}

fn preambles() -> impl Strategy<Value = Preamble> {
    (addresses(), addresses(), "[!-~]{1,128}")
        .prop_map(|(source, destination, uid)| Preamble::new(source, destination, &uid).unwrap())
}

/// Reads as much as is missing, again and again; returns how many bytes that took.
fn read(bytes: &[u8]) -> Result<(Option<Preamble>, usize), PreambleError> {
    let mut taken = 0;
    loop {
        match Preamble::parse(&bytes[..taken])? {
            Parsed::Whole(preamble) => return Ok((Some(preamble), taken)),
            Parsed::Missing(0) => panic!("nothing is missing"),
            Parsed::Missing(more) if taken + more > bytes.len() => return Ok((None, taken)),
            Parsed::Missing(more) => taken += more,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_nothing_after_it(
        preamble in preambles(),
        after in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let bytes = preamble.encode();
        prop_assert!(bytes.len() <= MAX_PREAMBLE);
        let stream = [&bytes[..], &after].concat();
        prop_assert_eq!(Preamble::parse(&stream), Ok(Parsed::Whole(preamble.clone())));
        prop_assert_eq!(read(&stream), Ok((Some(preamble), bytes.len())));
    }

    #[test]
    fn cut_anywhere_it_is_missing_no_more_than_there_is(preamble in preambles()) {
        let bytes = preamble.encode();
        for cut in 0..bytes.len() {
            match Preamble::parse(&bytes[..cut]) {
                Ok(Parsed::Missing(more)) => prop_assert!((1..=bytes.len() - cut).contains(&more)),
                other => prop_assert!(false, "cut at {}: {:?}", cut, other),
            }
        }
    }

    #[test]
    fn garbage_is_an_answer_and_takes_no_more_than_is_allowed(
        begin in 0..=FIXED,
        family in prop_oneof![Just(TCP4), Just(TCP6), any::<u8>()],
        garbage in proptest::collection::vec(any::<u8>(), 0..1500),
    ) {
        let whole = header(PROXY, family, &[]);
        let bytes = [&whole[..begin.min(14)], &garbage].concat();
        let _ = Preamble::parse(&bytes);
        if let Ok((_, taken)) = read(&bytes) {
            prop_assert!(taken <= MAX_PREAMBLE);
        }
    }

    #[test]
    fn a_changed_byte_is_an_answer_too(
        preamble in preambles(),
        place in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = preamble.encode();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let _ = read(&bytes);
    }
}
