//! Strangers at the port for reports: garbage, endless frames, silence, crowds. Good reporters are counted meanwhile.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use stillwake_aggregator::Settings;
use stillwake_proto::report::Role;
use stillwake_runtime::{
    limits::raise_open_files,
    tls::{Acceptor, server_config},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::interval,
};

use crate::harness::{Reporter, Rig, eventually, pod, within};

/// A good reporter that goes on reporting while strangers are at work.
struct Witness {
    reporter: Reporter,
    requests: u64,
}

impl Witness {
    async fn new(rig: &Rig) -> Self {
        rig.aggregator.apply(pod("witness"));
        Self {
            reporter: Reporter::connect(rig, Role::Sidecar, "witness").await,
            requests: 0,
        }
    }

    /// Reports something new, and sees it counted, and nothing else.
    async fn is_counted(&mut self, rig: &Rig) {
        self.requests += 1;
        let in_flight = 1 + self.requests % 7;
        self.reporter.report(in_flight, self.requests).await;
        let counted = async || rig.in_flight();
        eventually(counted, |count| *count == in_flight).await;
    }
}

/// Connects from one of the loopback's many addresses.
async fn connect_from(source: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    within(socket.connect(to)).await.unwrap()
}

async fn is_hung_up_on(stream: &mut TcpStream) {
    let mut scrap = [0; 64];
    // A reset will do too.
    within(async { while !matches!(stream.read(&mut scrap).await, Ok(0) | Err(_)) {} }).await;
}

fn refused(rig: &Rig, reason: &str) -> u64 {
    rig.metric(&format!("connections_refused_total{{reason=\"{reason}\"}}"))
}

#[tokio::test]
async fn what_is_no_frame_ends_its_connection_and_nobody_elses() {
    let rig = Rig::synced(Settings::default()).await;
    let mut witness = Witness::new(&rig).await;
    let zeros = [0; 1_000];
    let first_words: [&[u8]; 7] = [
        // Four gigabytes, a byte above the limit, and nothing.
        &[0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0x40, 1],
        &[0, 0, 0, 0],
        &zeros,
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        // TLS, where there is none.
        &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc],
    ];
    for words in first_words {
        let mut stranger = TcpStream::connect(rig.ingest).await.unwrap();
        stranger.write_all(words).await.unwrap();
        is_hung_up_on(&mut stranger).await;
        witness.is_counted(&rig).await;
    }
    // The same from one who has said a good hello.
    for words in first_words {
        let mut stranger = Reporter::connect(&rig, Role::Sidecar, "stranger").await;
        stranger.frames.get_mut().write_all(words).await.unwrap();
        // An empty frame is one of a kind that a newer reporter may have.
        if words.iter().any(|byte| *byte != 0) {
            stranger.closed().await;
        }
        witness.is_counted(&rig).await;
    }
    let mut activator = Reporter::connect(&rig, Role::Activator, "act").await;
    let above = 1024 * 1024 + 1_u32;
    let stream = activator.frames.get_mut();
    stream.write_all(&above.to_be_bytes()).await.unwrap();
    activator.closed().await;
    witness.is_counted(&rig).await;
}

/// Sends the words one at a time, each before patience could run out for the one before, until it is hung up on.
async fn trickle<S: AsyncRead + AsyncWrite>(stream: S, words: &[u8], pause: Duration) {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let trickled = async {
        let mut pauses = interval(pause);
        for word in words.iter().cycle() {
            pauses.tick().await;
            if writing.write_all(&[*word]).await.is_err() {
                return;
            }
        }
    };
    let mut scrap = [0; 64];
    let hung_up = async { while !matches!(reading.read(&mut scrap).await, Ok(0) | Err(_)) {} };
    within(async {
        tokio::select! {
            () = trickled => {}
            () = hung_up => {}
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_trickles_is_hung_up_on() {
    let pause = Duration::from_millis(10);
    let rig = Rig::synced(Settings {
        hello_timeout: Duration::from_millis(200),
        // After six of these without a whole frame.
        idle_interval: Duration::from_millis(50),
        ..Settings::default()
    })
    .await;
    // 16,000 bytes of a hello that would take minutes.
    let mut stranger = TcpStream::connect(rig.ingest).await.unwrap();
    stranger.write_all(&16_000_u32.to_be_bytes()).await.unwrap();
    trickle(&mut stranger, b"a", pause).await;
    assert_eq!(refused(&rig, "no_hello"), 1);
    let mut silent = TcpStream::connect(rig.ingest).await.unwrap();
    is_hung_up_on(&mut silent).await;
    assert_eq!(refused(&rig, "no_hello"), 2);

    let mut stranger = Reporter::connect(&rig, Role::Sidecar, "stranger").await;
    let stream = stranger.frames.get_mut();
    stream.write_all(&16_000_u32.to_be_bytes()).await.unwrap();
    trickle(stream, b"a", pause).await;
    assert_eq!(refused(&rig, "timeout"), 1);
    Witness::new(&rig).await.is_counted(&rig).await;
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_hung_up_on() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let config = Arc::new(server_config(&chain, &key).unwrap());
    let settings = Settings {
        hello_timeout: Duration::from_millis(200),
        ..Settings::default()
    };
    let rig = Rig::start(settings, Acceptor::tls(config, false)).await;
    // The head of a record with 512 bytes of a ClientHello, of which all but a few are missing.
    let begun = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc];
    let mut waits = TcpStream::connect(rig.ingest).await.unwrap();
    waits.write_all(&begun).await.unwrap();
    let mut trickles = TcpStream::connect(rig.ingest).await.unwrap();
    trickles.write_all(&begun).await.unwrap();
    tokio::join!(
        is_hung_up_on(&mut waits),
        trickle(&mut trickles, &[3], Duration::from_millis(10)),
    );
    assert_eq!(refused(&rig, "no_hello"), 2);
    let mut garbage = TcpStream::connect(rig.ingest).await.unwrap();
    let words = [0x16; 5_000];
    // It may hang up before it has read all.
    garbage.write_all(&words).await.ok();
    is_hung_up_on(&mut garbage).await;
    eventually(async || refused(&rig, "handshake"), |count| *count == 1).await;
    Witness::new(&rig).await.is_counted(&rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_silent_connections_from_one_address_are_nothing_to_others() {
    const CROWD: u64 = 10_000;
    raise_open_files();
    let settings = Settings {
        // None of them leaves by itself.
        hello_timeout: Duration::from_mins(10),
        ..Settings::default()
    };
    let most = settings.max_unidentified_per_address as u64;
    let rig = Rig::synced(settings).await;
    let mut witness = Witness::new(&rig).await;
    let mut crowd = Vec::new();
    for count in 0..CROWD {
        crowd.push(connect_from([127, 0, 0, 2], rig.ingest).await);
        if count % 1_000 == 0 {
            witness.is_counted(&rig).await;
            let unidentified = rig.metric("unidentified_connections");
            assert!(unidentified <= most, "{unidentified}");
        }
    }
    let turned_away = async || refused(&rig, "address");
    eventually(turned_away, |count| *count == CROWD - most).await;
    assert_eq!(rig.metric("unidentified_connections"), most);
    witness.is_counted(&rig).await;
    // There are places for newcomers, whatever the crowd does.
    for number in 0..200 {
        Reporter::connect(&rig, Role::Sidecar, &format!("new-{number}")).await;
    }
    witness.is_counted(&rig).await;
    drop(crowd);
    let unidentified = async || rig.metric("unidentified_connections");
    eventually(unidentified, |count| *count == 0).await;
    // Its address is welcome again.
    drop(connect_from([127, 0, 0, 2], rig.ingest).await);
}

#[tokio::test]
async fn silence_from_many_addresses_delays_others_and_keeps_nobody_out() {
    let rig = Rig::synced(Settings {
        hello_timeout: Duration::from_millis(300),
        max_unidentified: 20,
        max_unidentified_per_address: 2,
        ..Settings::default()
    })
    .await;
    let mut witness = Witness::new(&rig).await;
    let mut crowd = Vec::new();
    for address in 1..=100 {
        crowd.push(connect_from([127, 0, 1, address], rig.ingest).await);
    }
    // They are more than there are places; who is behind them in the queue still gets in.
    let mut late = Reporter::connect(&rig, Role::Sidecar, "late").await;
    rig.aggregator.apply(pod("late"));
    late.report(0, 1).await;
    witness.is_counted(&rig).await;
    assert_eq!(refused(&rig, "address"), 0);
    assert!(rig.metric("unidentified_connections") <= 20);
}

#[tokio::test]
async fn places_are_for_those_who_have_said_who_they_are() {
    let rig = Rig::synced(Settings {
        max_connections: 2,
        max_unidentified_per_address: 50,
        ..Settings::default()
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(connect_from([127, 0, 0, 2], rig.ingest).await);
    }
    let mut witness = Witness::new(&rig).await;
    let second = Reporter::connect(&rig, Role::Sidecar, "second").await;
    witness.is_counted(&rig).await;
    let third = crate::harness::hello(Role::Sidecar, "third");
    assert!(!Reporter::is_taken(&rig, third.clone()).await);
    assert_eq!(refused(&rig, "too_many"), 1);
    drop(second);
    let again = async || Reporter::is_taken(&rig, third.clone()).await;
    eventually(again, |taken| *taken).await;
    witness.is_counted(&rig).await;
}
