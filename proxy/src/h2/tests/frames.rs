//! What each type of frame does to what is in flight (RFC 9113, section 6).

use super::fixture::*;
use crate::h2::Unparsable;

#[test]
fn sections_6_1_and_6_2_padding_and_priority_are_no_part_of_the_fields() {
    let padded = |before: &[u8]| [b"\x05", before, PROBE, b"\0\0\0\0\0"].concat();
    for (flags, payload) in [
        (PADDED, padded(b"")),
        (PADDED | WITH_PRIORITY, padded(b"\x80\0\0\0\xff")),
        (WITH_PRIORITY, [b"\x80\0\0\0\xff", PROBE].concat()),
    ] {
        let headers = frame(HEADERS, flags | END_HEADERS | END_STREAM, 1, payload);
        let mut whole = Fixture::open();
        assert_eq!(whole.client(&headers), Ok(0));
        assert_eq!(whole.in_flight.snapshot().requests, 0);
        for cut in 1..headers.len() {
            let mut fixture = Fixture::open();
            fixture.client(&headers[..cut]).unwrap();
            assert_eq!(fixture.client(&headers[cut..]), Ok(0), "cut at {cut}");
            assert_eq!(
                fixture.client(frame(HEADERS, END_HEADERS, 3, PROBE_AGAIN)),
                Ok(0)
            );
        }
    }
    let data = frame(DATA, PADDED | END_STREAM, 5, b"\x02x\0\0");
    let mut fixture = Fixture::open();
    assert_eq!(fixture.client(frame(HEADERS, END_HEADERS, 5, GET)), Ok(1));
    assert_eq!(fixture.client(&data), Ok(1));
    assert_eq!(
        fixture.server([frame(HEADERS, END_HEADERS, 5, b"\x88"), data].concat()),
        Ok(0)
    );
}

#[test]
fn section_6_2_padding_that_does_not_fit_is_a_violation() {
    for (flags, payload) in [
        (PADDED, &b""[..]),
        (PADDED, b"\x01"),
        (PADDED | WITH_PRIORITY, b"\x02\0\0\0\0\0x"),
        (WITH_PRIORITY, b"\0\0\0\0"),
    ] {
        let failed = Fixture::open().client(frame(HEADERS, flags | END_HEADERS, 1, payload));
        assert!(
            matches!(failed, Err(Unparsable::FrameSize { .. })),
            "{payload:?}"
        );
    }
}

#[test]
fn section_6_4_a_reset_by_either_side_ends_a_stream() {
    let reset = |stream| frame(RST_STREAM, 0, stream, [0, 0, 0, 8]);
    let mut fixture = Fixture::open();
    assert_eq!(fixture.client([get(1), get(3)].concat()), Ok(2));
    assert_eq!(fixture.client(&reset(1)[..12]), Ok(2));
    assert_eq!(fixture.client(&reset(1)[12..]), Ok(1));
    assert_eq!(
        fixture.server(frame(HEADERS, END_HEADERS, 3, b"\x88")),
        Ok(1)
    );
    assert_eq!(fixture.server(reset(3)), Ok(0));
    let error = Unparsable::FrameSize {
        kind: RST_STREAM,
        length: 5,
    };
    assert_eq!(fixture.client(frame(RST_STREAM, 0, 1, [0; 5])), Err(error));
}

#[test]
fn section_6_6_a_pushed_stream_does_not_count_and_keeps_the_connection_from_being_idle() {
    for promise in [
        frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02\x82"),
        frame(
            PUSH_PROMISE,
            END_HEADERS | PADDED,
            1,
            b"\x02\0\0\0\x02\x82\0\0",
        ),
    ] {
        for cut in 0..promise.len() {
            let mut fixture = Fixture::open();
            assert_eq!(fixture.client(get(1)), Ok(1));
            assert_eq!(fixture.server(&promise[..cut]), Ok(1));
            assert_eq!(fixture.server(&promise[cut..]), Ok(1));
            assert_eq!(fixture.server(ok(1)), Ok(0));
            assert!(!fixture.conversation.is_answered());
            assert_eq!(fixture.server(ok(2)), Ok(0));
            assert!(fixture.conversation.is_idle());
            assert_eq!(fixture.in_flight.snapshot().requests, 1);
        }
    }
    let mut fixture = Fixture::open();
    let promise = frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02\x82");
    fixture.client(get(1)).unwrap();
    fixture.server([promise.clone(), ok(1)].concat()).unwrap();
    // The client refuses it (section 8.4.2).
    assert_eq!(fixture.client(frame(RST_STREAM, 0, 2, [0; 4])), Ok(0));
    assert!(fixture.conversation.is_idle());
    for promised in [0, 7] {
        let promise = frame(PUSH_PROMISE, END_HEADERS, 1, [0, 0, 0, promised]);
        assert!(fixture.server(promise).is_err());
    }
    assert!(
        Fixture::open().client(promise).is_err(),
        "clients do not push"
    );
}

#[test]
fn section_6_8_streams_that_goaway_refuses_do_not_count_any_more() {
    let mut fixture = Fixture::open();
    assert_eq!(fixture.client([get(1), get(3), get(5)].concat()), Ok(3));
    let graceful = frame(GOAWAY, 0, 0, b"\x7f\xff\xff\xff\0\0\0\0");
    assert_eq!(fixture.server(graceful), Ok(3));
    assert_eq!(fixture.client(get(7)), Ok(4));
    let goaway = frame(GOAWAY, 0, 0, b"\x80\0\0\x03\0\0\0\0why");
    assert_eq!(fixture.server(&goaway[..goaway.len() - 1]), Ok(4));
    assert_eq!(fixture.server(&goaway[goaway.len() - 1..]), Ok(2));
    // Opened before the client has heard of it.
    assert_eq!(
        fixture.client([get(9), frame(HEADERS, END_HEADERS, 11, PROBE)].concat()),
        Ok(2)
    );
    assert_eq!(fixture.server([ok(1), ok(3)].concat()), Ok(0));
    assert!(fixture.conversation.is_idle());
}

#[test]
fn section_6_8_a_client_that_goes_away_refuses_only_pushed_streams() {
    let mut fixture = Fixture::open();
    fixture.client(get(5)).unwrap();
    for promised in [2, 4] {
        let promise = frame(PUSH_PROMISE, END_HEADERS, 5, [0, 0, 0, promised]);
        fixture.server(promise).unwrap();
    }
    assert_eq!(
        fixture.client(frame(GOAWAY, 0, 0, [0, 0, 0, 2, 0, 0, 0, 0])),
        Ok(1)
    );
    assert_eq!(fixture.server([ok(5), ok(2)].concat()), Ok(0));
    assert!(fixture.conversation.is_idle());
}

#[test]
fn section_6_10_a_header_block_lasts_over_its_continuations() {
    let mut fixture = Fixture::open();
    let headers = frame(HEADERS, END_STREAM, 1, &PROBE[..1]);
    // Nobody can know yet that it is a probe.
    assert_eq!(fixture.client(headers), Ok(1));
    assert_eq!(
        fixture.client(frame(CONTINUATION, 0, 1, &PROBE[1..9])),
        Ok(1)
    );
    assert!(!fixture.conversation.is_idle());
    assert_eq!(
        fixture.client(frame(CONTINUATION, END_HEADERS, 1, &PROBE[9..])),
        Ok(0)
    );
    assert_eq!(fixture.client(frame(HEADERS, 0, 3, b"")), Ok(1));
    assert_eq!(
        fixture.client(frame(CONTINUATION, END_HEADERS, 3, PROBE_AGAIN)),
        Ok(0)
    );
    assert_eq!(fixture.client(frame(HEADERS, END_STREAM, 5, GET)), Ok(1));
    assert_eq!(
        fixture.client(frame(CONTINUATION, END_HEADERS, 5, b"")),
        Ok(1)
    );
    assert_eq!(fixture.in_flight.snapshot().requests, 1);
    let continued = [
        frame(HEADERS, END_STREAM, 5, b"\x88"),
        frame(CONTINUATION, 0, 5, b""),
    ];
    assert_eq!(fixture.server(continued.concat()), Ok(1));
    assert!(!fixture.conversation.takes_frame());
    assert_eq!(
        fixture.server(frame(CONTINUATION, END_HEADERS, 5, b"")),
        Ok(0)
    );
    assert!(fixture.conversation.takes_frame());
}

#[test]
fn section_6_10_a_header_block_is_contiguous() {
    let begun = frame(HEADERS, 0, 1, b"\x88");
    for next in [
        frame(DATA, 0, 1, b"x"),
        frame(PING, 0, 0, [0; 8]),
        frame(HEADERS, END_HEADERS, 3, GET),
        frame(CONTINUATION, END_HEADERS, 3, b""),
    ] {
        let mut fixture = Fixture::open();
        fixture.client(&begun).unwrap();
        assert_eq!(fixture.client(&next), Err(Unparsable::Fields));
        fixture.server(&begun).unwrap();
        assert_eq!(fixture.server(&next), Err(Unparsable::Fields));
    }
    let unbegun = frame(CONTINUATION, END_HEADERS, 1, b"");
    assert_eq!(Fixture::open().client(unbegun), Err(Unparsable::Fields));
}
