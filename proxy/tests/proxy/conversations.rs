//! Properties of counting: exact on everything legal, and harmless on everything else.

use std::{ops::Range, sync::Arc, time::Duration};

use proptest::{collection::vec, prelude::*};
use stillwake_proxy::{
    ignore::IgnoreRules,
    in_flight::InFlight,
    observer::{Counting, Observer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    exchange::{Conversation, cuts, script, socket_cuts},
    rig::{Rig, block_on, eventually, expect_end, pass},
    streams::streams,
};

fn observer(in_flight: &InFlight) -> Observer {
    Observer::new(Counting {
        in_flight: in_flight.clone(),
        ignore: Arc::new(IgnoreRules::default()),
        opaque_idle_window: Duration::from_mins(1),
    })
}

/// The pieces in which `script` passes, cut as `cuts` says: whether the client sends, and from where to where.
fn pieces<'a>(
    script: &'a impl Conversation,
    cuts: &'a [(bool, usize)],
) -> impl Iterator<Item = (bool, Range<usize>)> + 'a {
    let (mut client, mut server) = (0, 0);
    let mut cuts = cuts.iter().cycle();
    std::iter::from_fn(move || {
        if client == script.by_client().len() && server == script.by_server().len() {
            return None;
        }
        let &(prefers_client, size) = cuts.next().expect("cuts are not empty and go round");
        let client_end = script.client_may_send(server).min(client + size);
        let server_end = script.server_may_send(client).min(server + size);
        let from_client = client_end > client && (prefers_client || server_end <= server);
        let (at, end) = if from_client {
            (&mut client, client_end)
        } else {
            (&mut server, server_end)
        };
        assert!(end > *at, "the script is stuck at {at} of {script:?}");
        Some((from_client, std::mem::replace(at, end)..end))
    })
}

/// Passes `script` cut as `cuts` says, and checks the count after every piece.
fn follow(script: &impl Conversation, cuts: &[(bool, usize)]) -> Result<(), TestCaseError> {
    let in_flight = InFlight::new();
    let mut observer = observer(&in_flight);
    let (mut client, mut server) = (0, 0);
    for (from_client, piece) in pieces(script, cuts) {
        if from_client {
            client = piece.end;
            observer.client_bytes(&script.by_client()[piece]);
        } else {
            server = piece.end;
            observer.server_bytes(&script.by_server()[piece]);
        }
        let expected = script.in_flight(client, server);
        let counted = in_flight.snapshot().in_flight;
        prop_assert_eq!(counted, expected, "client {}, server {}", client, server);
        prop_assert!(counted == 0 || !observer.is_idle());
    }
    observer.client_eof();
    observer.server_eof();
    drop(observer);
    let snapshot = in_flight.snapshot();
    prop_assert_eq!(snapshot.in_flight, 0);
    prop_assert!(script.requests().contains(&snapshot.requests));
    Ok(())
}

/// Passes `script` through the relay cut as `cuts` says, and checks bytes and count after every piece.
async fn follow_through_sockets(script: &impl Conversation, cuts: &[(bool, usize)]) {
    let rig = Rig::start().await;
    let (mut client, mut app) = rig.connect().await;
    let (mut client_sent, mut server_sent) = (0, 0);
    for (from_client, piece) in pieces(script, cuts) {
        if from_client {
            client_sent = piece.end;
            pass(&mut client, &mut app, &script.by_client()[piece]).await;
        } else {
            server_sent = piece.end;
            pass(&mut app, &mut client, &script.by_server()[piece]).await;
        }
        let expected = script.in_flight(client_sent, server_sent);
        eventually("the count is right", || rig.count() == expected).await;
    }
    finish(client, app, &rig).await;
}

/// Closes both sides and sees that nothing more arrives and nothing is in flight.
async fn finish(mut client: TcpStream, mut app: TcpStream, rig: &Rig) {
    client.shutdown().await.unwrap();
    expect_end(&mut app).await;
    app.shutdown().await.unwrap();
    expect_end(&mut client).await;
    eventually("nothing is in flight", || rig.count() == 0).await;
}

/// Bytes that may begin like something legal.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let fragments = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /x HTTP/1.0\r\n",
        "CONNECT a:1 HTTP/1.1\r\n\r\n",
        "HEAD / HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 101 Up\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.0 204 No\r\n\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 6\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: keep-alive\r\n",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        ":",
        "5\r\n",
        "0\r\n\r\n",
        "ffffffffffffffff\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{16}\u{3}\u{1}",
    ]);
    let piece = prop_oneof![
        3 => fragments.prop_map(|fragment| fragment.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..40),
    ];
    vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

/// Legal bytes with a few of them replaced, or garbage.
fn wrong() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let changes = || vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    let messages = (script(), changes()).prop_map(|(script, changes)| changed(&script, changes));
    let frames = (streams(), changes()).prop_map(|(script, changes)| changed(&script, changes));
    prop_oneof![messages, frames, (garbage(), garbage())]
}

fn changed(
    script: &impl Conversation,
    changes: Vec<(prop::sample::Index, u8)>,
) -> (Vec<u8>, Vec<u8>) {
    let mut client = script.by_client().to_vec();
    let mut server = script.by_server().to_vec();
    for (index, byte) in changes {
        let stream = if byte % 2 == 0 {
            &mut client
        } else {
            &mut server
        };
        let position = index.index(stream.len());
        stream[position] = byte;
    }
    (client, server)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn legal_conversations_are_counted_exactly_after_every_piece(script in script(), cuts in cuts()) {
        follow(&script, &cuts)?;
    }

    #[test]
    fn legal_streams_are_counted_exactly_after_every_piece(script in streams(), cuts in cuts()) {
        follow(&script, &cuts)?;
    }

    #[test]
    fn anything_else_never_panics_and_ends_at_zero(
        (client, server) in wrong(),
        cuts in cuts(),
        eof_first in any::<bool>(),
    ) {
        let in_flight = InFlight::new();
        let mut observer = observer(&in_flight);
        let (mut client, mut server) = (&client[..], &server[..]);
        for (is_client, size) in cuts.iter().cycle() {
            let stream = if *is_client { &mut client } else { &mut server };
            let (piece, rest) = stream.split_at((*size).min(stream.len()));
            *stream = rest;
            if *is_client && !piece.is_empty() {
                observer.client_bytes(piece);
            } else if !piece.is_empty() {
                // Looking ahead must be as robust as following.
                let _ = observer.next_piece(piece);
                observer.server_bytes(piece);
            }
            let ended = |stream: &[u8], side| {
                stream.is_empty() || cuts.iter().all(|(is_client, _)| *is_client != side)
            };
            if ended(client, true) && ended(server, false) {
                break;
            }
        }
        if eof_first {
            observer.client_eof();
        }
        observer.server_eof();
        drop(observer);
        prop_assert_eq!(in_flight.snapshot().in_flight, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_time: 30_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn legal_conversations_pass_a_socket_byte_for_byte(script in script(), cuts in socket_cuts()) {
        block_on(follow_through_sockets(&script, &cuts));
    }

    #[test]
    fn legal_streams_pass_a_socket_byte_for_byte(script in streams(), cuts in socket_cuts()) {
        block_on(follow_through_sockets(&script, &cuts));
    }

    #[test]
    fn anything_else_passes_a_socket_byte_for_byte_as_well((up, down) in wrong()) {
        block_on(async {
            let rig = Rig::start().await;
            let (mut client, mut app) = rig.connect().await;
            client.write_all(&up).await.unwrap();
            client.shutdown().await.unwrap();
            let (mut at_app, mut at_client) = (Vec::new(), Vec::new());
            app.read_to_end(&mut at_app).await.unwrap();
            app.write_all(&down).await.unwrap();
            app.shutdown().await.unwrap();
            client.read_to_end(&mut at_client).await.unwrap();
            assert!(at_app == up, "the app got other bytes");
            assert!(at_client == down, "the client got other bytes");
            eventually("nothing is in flight", || rig.count() == 0).await;
        });
    }
}
