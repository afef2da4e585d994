use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// A server that greets each connection with `greeting`, then echoes until the end and closes.
async fn greeter(greeting: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                stream.write_all(greeting.as_bytes()).await.unwrap();
                let mut received = Vec::new();
                stream.read_to_end(&mut received).await.unwrap();
                stream.write_all(&received).await.unwrap();
            });
        }
    });
    address
}

/// An address that refuses connections.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

struct Fixture {
    service: Service,
    address: SocketAddr,
    drain: CancellationToken,
    abort: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

async fn serve(activator: SocketAddr) -> Fixture {
    // No test lasts as long.
    let suspicion = Duration::from_hours(1);
    let service = Service::with_suspicion(activator, Metrics::default(), suspicion);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
    let (serving, draining, aborting) = (service.clone(), drain.clone(), abort.clone());
    let served = tokio::spawn(async move {
        serving
            .serve(listener, draining, CancellationToken::new(), aborting)
            .await;
    });
    Fixture {
        service,
        address,
        drain,
        abort,
        served,
    }
}

async fn greeting(stream: &mut TcpStream) -> String {
    let mut greeting = [0; 1];
    let read = tokio::time::timeout(DEADLINE, stream.read_exact(&mut greeting))
        .await
        .unwrap();
    read.map_or_else(
        |error| error.kind().to_string(),
        |_| char::from(greeting[0]).to_string(),
    )
}

async fn greeted(address: SocketAddr) -> String {
    greeting(&mut TcpStream::connect(address).await.unwrap()).await
}

#[tokio::test]
async fn connections_go_to_the_activator_exactly_while_no_replica_is_ready() {
    let fixture = serve(greeter("A").await).await;
    assert_eq!(greeted(fixture.address).await, "A");
    fixture.service.add("one", greeter("R").await);
    assert_eq!(greeted(fixture.address).await, "R");
    fixture.service.remove("one");
    assert_eq!(greeted(fixture.address).await, "A");
}

#[tokio::test]
async fn connections_are_spread_evenly() {
    let fixture = serve(nobody().await).await;
    fixture.service.add("one", greeter("1").await);
    fixture.service.add("two", greeter("2").await);
    let mut open = Vec::new();
    let mut ones = 0;
    for _ in 0..10 {
        let mut stream = TcpStream::connect(fixture.address).await.unwrap();
        ones += usize::from(greeting(&mut stream).await == "1");
        open.push(stream);
    }
    assert_eq!(ones, 5);
}

#[tokio::test]
async fn a_refusal_leads_to_another_replica_and_at_last_to_the_activator() {
    let fixture = serve(greeter("A").await).await;
    fixture.service.add("dead", nobody().await);
    assert_eq!(greeted(fixture.address).await, "A");
    fixture.service.add("alive", greeter("R").await);
    for _ in 0..8 {
        assert_eq!(greeted(fixture.address).await, "R");
    }
}

#[tokio::test]
async fn with_nobody_there_the_client_is_reset() {
    let fixture = serve(nobody().await).await;
    assert_eq!(
        greeted(fixture.address).await,
        std::io::ErrorKind::ConnectionReset.to_string()
    );
}

#[tokio::test]
async fn an_end_in_one_direction_leaves_the_other_open() {
    let fixture = serve(greeter("A").await).await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer, "Ahello");
}

#[tokio::test]
async fn draining_refuses_new_connections_and_waits_for_open_ones_until_aborted() {
    let fixture = serve(greeter("A").await).await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    assert_eq!(greeting(&mut stream).await, "A");
    fixture.drain.cancel();
    while TcpStream::connect(fixture.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!fixture.served.is_finished());
    fixture.abort.cancel();
    tokio::time::timeout(DEADLINE, fixture.served)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        greeting(&mut stream).await,
        std::io::ErrorKind::ConnectionReset.to_string()
    );
}

#[tokio::test]
async fn a_replica_that_cuts_connections_draws_no_others() {
    let fixture = serve(nobody().await).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    fixture.service.add("dying", listener.local_addr().unwrap());
    let mut cut = TcpStream::connect(fixture.address).await.unwrap();
    reset(&listener.accept().await.unwrap().0);
    assert_eq!(
        greeting(&mut cut).await,
        std::io::ErrorKind::ConnectionReset.to_string()
    );
    fixture.service.add("well", greeter("R").await);
    let mut open = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(fixture.address).await.unwrap();
        assert_eq!(greeting(&mut stream).await, "R");
        open.push(stream);
    }
}
