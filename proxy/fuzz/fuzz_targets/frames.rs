//! Feeds arbitrary frames of both sides of an HTTP/2 connection, cut into pieces, to its observer.
//!
//! Where bytes are arbitrary, most of them never get past the preface or a length; so here the preface has passed and the
//! input is a list of frames. Five bytes each: a control byte, type, flags, stream, and how many of the bytes that follow
//! are the payload. The control byte's highest bit says which side sends, the next one that its length is a lie, and the
//! others where to cut the frame in two. Whatever passes, nothing may panic, what looking ahead says must hold, and
//! nothing is left after it.
#![no_main]

use std::{sync::Arc, time::Duration};

use libfuzzer_sys::fuzz_target;
use stillwake_proxy::{
    h1::Piece,
    h2::MAX_STREAMS,
    ignore::IgnoreRules,
    in_flight::InFlight,
    observer::{Counting, Observer},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

const FROM_SERVER: u8 = 0x80;
const LIES: u8 = 0x40;
const CUT: u8 = 0x3f;

fuzz_target!(|input: &[u8]| {
    let in_flight = InFlight::new();
    let mut observer = Observer::new(Counting {
        in_flight: in_flight.clone(),
        ignore: Arc::new(IgnoreRules {
            path_prefixes: vec!["/healthz".to_owned()],
            ..IgnoreRules::default()
        }),
        opaque_idle_window: Duration::from_secs(60),
    });
    observer.client_bytes(PREFACE);
    observer.server_bytes(SETTINGS);
    assert!(observer.is_idle() && observer.takes_frame());
    let mut rest = input;
    while let Some((&[control, kind, flags, stream, length], after)) = rest.split_first_chunk() {
        let (payload, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        let lie = if control & LIES != 0 { 1 } else { 0 };
        let said = u8::try_from(payload.len()).expect("no longer than its length says") ^ lie;
        let mut frame = vec![0, 0, said, kind % 12, flags, 0, 0, 0, stream];
        frame.extend_from_slice(payload);
        let (first, second) = frame.split_at(usize::from(control & CUT).min(frame.len()));
        for piece in [first, second] {
            if piece.is_empty() {
                continue;
            }
            let before = in_flight.snapshot();
            if control & FROM_SERVER != 0 {
                from_server(&mut observer, piece);
            } else {
                observer.client_bytes(piece);
            }
            let after = in_flight.snapshot();
            assert!(after.in_flight <= MAX_STREAMS as u64);
            assert!(after.requests >= before.requests, "the total decreased");
            if observer.is_idle() {
                assert_eq!(after.in_flight, 0, "something is in flight on an idle connection");
            }
        }
    }
    drop(observer);
    assert_eq!(in_flight.snapshot().in_flight, 0);
});

/// Passes bytes up to each point at which the relay could put a frame of its own.
fn from_server(observer: &mut Observer, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let Piece::Pass(count) = observer.next_piece(bytes) else {
            panic!("this is no head");
        };
        assert!((1..=bytes.len()).contains(&count));
        observer.server_bytes(&bytes[..count]);
        if count < bytes.len() && observer.wants_goaway() {
            assert!(observer.takes_frame(), "a frame was to end here");
        }
        bytes = &bytes[count..];
    }
}
