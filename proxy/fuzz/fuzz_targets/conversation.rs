//! Feeds arbitrary bytes, cut into pieces of both sides, to the observer of a connection.
//!
//! The input is a list of pieces: a byte whose highest bit says which side sends and whose others say how many of the
//! bytes that follow it sends; 127 and 255 end that side instead. Whatever passes, nothing may panic, a connection has
//! no more in flight than it has begun, looking ahead must agree with following, and nothing is left after it.
#![no_main]

use std::{sync::Arc, time::Duration};

use libfuzzer_sys::fuzz_target;
use stillwake_proxy::{
    h1::{MAX_PIPELINED, Piece},
    ignore::IgnoreRules,
    in_flight::InFlight,
    observer::{Counting, Observer},
};

const FROM_SERVER: u8 = 0x80;
const END: u8 = 0x7f;

fuzz_target!(|input: &[u8]| {
    let in_flight = InFlight::new();
    let mut observer = Observer::new(Counting {
        in_flight: in_flight.clone(),
        ignore: Arc::new(IgnoreRules::default()),
        opaque_idle_window: Duration::from_secs(60),
    });
    let mut rest = input;
    let (mut client_ended, mut server_ended) = (false, false);
    while let Some((&control, after)) = rest.split_first() {
        let from_server = control & FROM_SERVER != 0;
        let size = control & !FROM_SERVER;
        if size == END {
            rest = after;
            if from_server && !server_ended {
                observer.server_eof();
                server_ended = true;
            } else if !from_server && !client_ended {
                observer.client_eof();
                client_ended = true;
            }
            continue;
        }
        let (piece, after) = after.split_at(usize::from(size).min(after.len()));
        rest = after;
        if piece.is_empty() {
            continue;
        }
        let before = in_flight.snapshot();
        if from_server && !server_ended {
            match observer.next_piece(piece) {
                Piece::Pass(count) => assert!((1..=piece.len()).contains(&count)),
                Piece::LastHead(count) => assert!((1..=piece.len()).contains(&count)),
                Piece::Incomplete => {}
            }
            observer.server_bytes(piece);
        } else if !from_server && !client_ended {
            observer.client_bytes(piece);
        }
        let after = in_flight.snapshot();
        assert!(after.in_flight <= MAX_PIPELINED as u64);
        assert!(after.requests >= before.requests, "the total decreased");
        if observer.is_idle() {
            assert_eq!(
                after.in_flight, 0,
                "something is in flight on an idle connection"
            );
        }
        if server_ended && observer.is_http1() {
            assert_eq!(
                after.in_flight, 0,
                "something is in flight though the server is gone"
            );
        }
    }
    drop(observer);
    assert_eq!(in_flight.snapshot().in_flight, 0);
});
