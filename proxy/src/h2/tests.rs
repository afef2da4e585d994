//! What is in flight after each frame of conversations written by hand, by section of RFC 9113. Random ones are in the
//! tests of the crate.

mod fixture;
mod frames;

use self::fixture::*;
use super::*;

#[test]
fn section_3_4_a_side_begins_with_the_preface_and_settings() {
    for (client, error) in [
        (&b"PRI * HTTP/1.1"[..], Unparsable::Preface),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x06\0\0\0\0\0",
            Unparsable::Settings,
        ),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\x01\0\0\0\0",
            Unparsable::Settings,
        ),
    ] {
        for size in 1..client.len() {
            let mut fixture = Fixture::new();
            let failed = client
                .chunks(size)
                .find_map(|piece| fixture.client(piece).err());
            assert_eq!(failed, Some(error), "in pieces of {size}");
        }
    }
    let server = Fixture::new().server("HTTP/1.1 400 Bad Request\r\n");
    assert_eq!(server, Err(Unparsable::Settings));
}

#[test]
fn section_5_1_a_stream_is_in_flight_until_both_sides_have_ended_it() {
    let mut fixture = Fixture::open();
    assert!(fixture.conversation.is_idle());
    assert_eq!(fixture.client(frame(HEADERS, END_HEADERS, 1, GET)), Ok(1));
    assert!(!fixture.conversation.is_answered());
    assert_eq!(
        fixture.server(frame(HEADERS, END_HEADERS, 1, b"\x88")),
        Ok(1)
    );
    assert_eq!(fixture.client(frame(DATA, 0, 1, b"body")), Ok(1));
    let last = frame(DATA, END_STREAM, 1, b"body");
    assert_eq!(fixture.client(&last[..12]), Ok(1));
    assert_eq!(fixture.client(&last[12..]), Ok(1));
    assert_eq!(fixture.server(&last[..12]), Ok(1));
    assert_eq!(fixture.server(&last[12..]), Ok(0));
    assert!(fixture.conversation.is_idle());
    assert_eq!(fixture.in_flight.snapshot().requests, 1);
}

#[test]
fn section_5_1_the_server_may_end_first() {
    let mut fixture = Fixture::open();
    assert_eq!(fixture.client(frame(HEADERS, END_HEADERS, 1, GET)), Ok(1));
    assert_eq!(fixture.server(ok(1)), Ok(1));
    assert_eq!(fixture.client(frame(DATA, 0, 1, b"more")), Ok(1));
    assert_eq!(fixture.client(frame(DATA, END_STREAM, 1, b"")), Ok(0));
}

#[test]
fn section_5_1_1_streams_count_each_for_itself() {
    let mut fixture = Fixture::open();
    assert_eq!(fixture.client([get(1), get(3), get(9)].concat()), Ok(3));
    assert_eq!(fixture.server(ok(3)), Ok(2));
    assert_eq!(fixture.server(ok(9)), Ok(1));
    assert_eq!(fixture.client(get(11)), Ok(2));
    assert_eq!(fixture.server([ok(1), ok(11)].concat()), Ok(0));
    assert_eq!(fixture.in_flight.snapshot().requests, 4);
}

#[test]
fn section_5_1_1_clients_open_odd_streams() {
    for stream in [0, 2] {
        let error = Unparsable::Stream {
            kind: HEADERS,
            stream,
        };
        assert_eq!(Fixture::open().client(get(stream)), Err(error));
    }
}

#[test]
fn section_5_1_frames_on_closed_and_unknown_streams_change_nothing() {
    let mut fixture = Fixture::open();
    assert_eq!(fixture.client([get(5), get(7)].concat()), Ok(2));
    assert_eq!(fixture.server(ok(5)), Ok(1));
    // 1 and 3 are closed by the opening of 5 (section 5.1.1).
    for stream in [1, 3, 5, 99] {
        for late in [
            frame(DATA, END_STREAM, stream, b"late"),
            frame(RST_STREAM, 0, stream, [0; 4]),
            frame(WINDOW_UPDATE, 0, stream, [0, 0, 0, 1]),
        ] {
            assert_eq!(fixture.client(&late), Ok(1));
            assert_eq!(fixture.server(&late), Ok(1));
        }
        assert_eq!(fixture.server(ok(stream)), Ok(1));
    }
    assert_eq!(fixture.client([get(1), get(5)].concat()), Ok(1));
}

#[test]
fn section_4_1_frames_of_other_types_and_flags_of_other_meaning_are_passed_over() {
    let mut fixture = Fixture::open();
    assert_eq!(fixture.client(frame(HEADERS, END_HEADERS, 1, GET)), Ok(1));
    for kind in [PRIORITY, SETTINGS, PING, WINDOW_UPDATE, 0x0a, 0x10, 0xff] {
        // To an unknown frame the flag of END_STREAM means nothing.
        let other = frame(kind, 0xff, 1, [0; 8]);
        assert_eq!(fixture.client(&other), Ok(1));
        assert_eq!(fixture.server(&other), Ok(1));
    }
    // The highest bit of the stream is reserved.
    assert_eq!(
        fixture.client(frame(DATA, END_STREAM, 1 << 31 | 1, b"")),
        Ok(1)
    );
    assert_eq!(fixture.server(ok(1)), Ok(0));
}

#[test]
fn section_4_2_a_frame_of_any_length_is_one_frame() {
    let mut fixture = Fixture::open();
    let oversize = frame(DATA, END_STREAM, 1, vec![0x01; (1 << 24) - 1]);
    assert_eq!(fixture.client(frame(HEADERS, END_HEADERS, 1, GET)), Ok(1));
    for piece in oversize.chunks(65_000) {
        assert_eq!(fixture.client(piece), Ok(1));
    }
    assert_eq!(fixture.server(ok(1)), Ok(0));
}

#[test]
fn section_8_1_interim_answers_and_trailers_are_part_of_a_stream() {
    let mut fixture = Fixture::open();
    assert_eq!(fixture.client(frame(HEADERS, END_HEADERS, 1, GET)), Ok(1));
    // 100, 103, then the final one, its body and its trailers.
    assert_eq!(
        fixture.server(frame(HEADERS, END_HEADERS, 1, b"\x48\x03100")),
        Ok(1)
    );
    assert_eq!(fixture.client(frame(DATA, 0, 1, b"body")), Ok(1));
    assert_eq!(
        fixture.server(frame(HEADERS, END_HEADERS, 1, b"\x48\x03103")),
        Ok(1)
    );
    assert_eq!(
        fixture.client(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\0\x01a\x01b")),
        Ok(1)
    );
    assert_eq!(
        fixture.server(frame(HEADERS, END_HEADERS, 1, b"\x88")),
        Ok(1)
    );
    assert_eq!(fixture.server(frame(DATA, 0, 1, b"body")), Ok(1));
    assert_eq!(
        fixture.server(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\0\x01a\x01b")),
        Ok(0)
    );
    assert_eq!(fixture.in_flight.snapshot().requests, 1);
}

#[test]
fn rfc_8441_an_extended_connect_is_in_flight_until_the_tunnel_ends() {
    let mut fixture = Fixture::open();
    let connect = b"\x42\x07CONNECT\0\x09:protocol\x09websocket\x86\x84";
    assert_eq!(
        fixture.client(frame(HEADERS, END_HEADERS, 1, connect)),
        Ok(1)
    );
    assert_eq!(
        fixture.server(frame(HEADERS, END_HEADERS, 1, b"\x88")),
        Ok(1)
    );
    for _ in 0..3 {
        assert_eq!(fixture.client(frame(DATA, 0, 1, b"ping")), Ok(1));
        assert_eq!(fixture.server(frame(DATA, 0, 1, b"pong")), Ok(1));
    }
    assert_eq!(fixture.client(frame(DATA, END_STREAM, 1, b"")), Ok(1));
    assert_eq!(fixture.server(frame(DATA, END_STREAM, 1, b"")), Ok(0));
}

#[test]
fn rfc_7540_section_3_2_an_upgraded_request_is_the_first_stream() {
    let in_flight = InFlight::new();
    let rules = Arc::new(IgnoreRules::default());
    let guard = in_flight.begin();
    let mut fixture = Fixture {
        conversation: Conversation::upgraded(in_flight.clone(), rules, Some(guard)),
        in_flight,
    };
    let settings = frame(SETTINGS, 0, 0, b"");
    assert_eq!(fixture.server(&settings), Ok(1));
    assert_eq!(fixture.client([HTTP2_PREFACE, &settings].concat()), Ok(1));
    assert_eq!(fixture.client(get(3)), Ok(2));
    assert_eq!(fixture.server(ok(1)), Ok(1));
    assert_eq!(fixture.server(ok(3)), Ok(0));
    assert!(fixture.conversation.is_idle());
}

#[test]
fn the_end_of_a_side_ends_what_only_it_could_end() {
    let mut fixture = Fixture::open();
    assert_eq!(fixture.client(frame(HEADERS, END_HEADERS, 1, GET)), Ok(1));
    assert_eq!(fixture.client(frame(HEADERS, END_HEADERS, 3, GET)), Ok(2));
    assert_eq!(fixture.client(get(5)), Ok(3));
    assert_eq!(fixture.server(ok(1)), Ok(3));
    fixture.conversation.client_eof();
    assert_eq!(fixture.count(), 2);
    assert_eq!(fixture.server(ok(3)), Ok(1));
    fixture.conversation.server_eof();
    assert_eq!(fixture.count(), 0);
    // Nobody will answer it.
    assert_eq!(fixture.client(get(7)), Ok(0));
}

#[test]
fn what_cannot_be_followed_leaves_one_guard_for_the_connection() {
    let mut fixture = Fixture::open();
    assert_eq!(fixture.client([get(1), get(3)].concat()), Ok(2));
    let guard = fixture.conversation.into_guard();
    assert_eq!(fixture.in_flight.snapshot().in_flight, 1);
    drop(guard);
    assert_eq!(fixture.in_flight.snapshot().in_flight, 0);
    assert!(Fixture::open().conversation.into_guard().is_none());
}

#[test]
fn header_blocks_that_cannot_be_read_ignore_nothing_and_count_on() {
    let mut fixture = Fixture::open();
    // An entry that the table does not have.
    assert_eq!(
        fixture.client(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\0")),
        Ok(1)
    );
    assert_eq!(
        fixture.client(frame(HEADERS, END_HEADERS | END_STREAM, 3, PROBE)),
        Ok(2)
    );
    assert_eq!(fixture.server([ok(1), ok(3)].concat()), Ok(0));

    let mut long = Fixture::open();
    assert_eq!(long.client(frame(HEADERS, END_STREAM, 1, GET)), Ok(1));
    for _ in 0..5 {
        assert_eq!(
            long.client(frame(CONTINUATION, 0, 1, vec![0; 16 * 1024])),
            Ok(1)
        );
    }
    assert!(long.conversation.blocks.is_none(), "memory is bounded");
    assert_eq!(long.client(frame(CONTINUATION, END_HEADERS, 1, b"")), Ok(1));
    assert_eq!(long.server(ok(1)), Ok(0));
}

#[test]
fn a_frame_may_be_put_only_between_frames_and_blocks_after_the_settings() {
    let mut fixture = Fixture::new();
    assert!(!fixture.conversation.takes_frame());
    let settings = frame(SETTINGS, 0, 0, b"\0\x03\0\0\0\x64");
    let block = [
        frame(HEADERS, 0, 1, b"\x88"),
        frame(CONTINUATION, END_HEADERS, 1, b""),
    ]
    .concat();
    let data = frame(DATA, 0, 1, b"body");
    let all = [&settings[..], &block, &data].concat();
    let ends = [settings.len(), settings.len() + block.len(), all.len()];
    for at in 0..all.len() {
        assert_eq!(
            fixture.conversation.takes_frame(),
            ends.contains(&at),
            "at {at}"
        );
        let next = ends.iter().find(|end| **end > at).unwrap() - at;
        assert_eq!(
            fixture.conversation.until_takes_frame(&all[at..]),
            next,
            "at {at}"
        );
        assert_eq!(fixture.conversation.until_takes_frame(&all[at..=at]), 1);
        fixture.server(&all[at..=at]).unwrap();
    }
    assert!(fixture.conversation.takes_frame());
}

#[test]
fn inside_a_frame_or_the_preface_a_connection_is_not_idle() {
    let mut fixture = Fixture::open();
    let ping = frame(PING, 0, 0, [0; 8]);
    fixture.client(&ping[..16]).unwrap();
    assert!(!fixture.conversation.is_idle());
    assert!(fixture.conversation.is_answered());
    fixture.client(&ping[16..]).unwrap();
    assert!(fixture.conversation.is_idle());
    fixture.server(&ping[..5]).unwrap();
    assert!(!fixture.conversation.is_idle());
    assert!(!fixture.conversation.is_answered());

    let mut fixture = Fixture::new();
    assert!(fixture.conversation.is_idle());
    fixture.client("PRI * HTTP").unwrap();
    assert!(!fixture.conversation.is_idle());
}

#[test]
fn the_last_stream_is_the_highest_that_is_served() {
    let mut fixture = Fixture::open();
    assert_eq!(fixture.conversation.last_stream(), 0);
    fixture.client([get(1), get(7)].concat()).unwrap();
    assert_eq!(fixture.conversation.last_stream(), 7);
    fixture.server(goaway(3)).unwrap();
    assert_eq!(fixture.conversation.last_stream(), 3);
    assert_eq!(fixture.conversation.last_served(), Some(3));
}
