//! A served relay with an app and clients that tests play themselves.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use stillwake_proxy::{
    drain::Drain,
    in_flight::InFlight,
    listener::serve,
    relay::{HandoverTotals, Relay, RelaySettings, Upstream},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, yield_now},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Far more than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) app: TcpListener,
    pub(crate) in_flight: InFlight,
    pub(crate) drain: Drain,
    pub(crate) abort: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
    relay: Arc<Relay>,
    /// Keeps others from getting the app's port when nobody listens there any more.
    _reserved: TcpSocket,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(RelaySettings::default()).await
    }

    pub(crate) async fn with(settings: RelaySettings) -> Self {
        Self::of(Relay::new, settings).await
    }

    /// As `with`, for a relay that `make` makes.
    pub(crate) async fn of(
        make: impl FnOnce(RelaySettings, InFlight) -> Relay,
        settings: RelaySettings,
    ) -> Self {
        let reserved = reserved_port();
        let app = unconnected();
        app.bind(reserved.local_addr().unwrap()).unwrap();
        let app = app.listen(128).unwrap();
        let port = app.local_addr().unwrap().port();
        let listener = local_listener().await;
        let address = listener.local_addr().unwrap();
        let in_flight = InFlight::new();
        let relay = Arc::new(make(settings, in_flight.clone()));
        let (drain, abort) = (Drain::default(), CancellationToken::new());
        let upstream = Upstream::SameAddress { port };
        let serving = serve(
            listener,
            upstream,
            Arc::clone(&relay),
            drain.clone(),
            abort.clone(),
        );
        Self {
            address,
            app,
            in_flight,
            drain,
            abort,
            serving: tokio::spawn(serving),
            relay,
            _reserved: reserved,
        }
    }

    /// Serves one more port with the same relay.
    pub(crate) async fn serve_another(&self) -> (SocketAddr, JoinHandle<()>) {
        let listener = local_listener().await;
        let address = listener.local_addr().unwrap();
        let upstream = Upstream::Fixed(self.app.local_addr().unwrap());
        let relay = Arc::clone(&self.relay);
        let serving = serve(
            listener,
            upstream,
            relay,
            self.drain.clone(),
            self.abort.clone(),
        );
        (address, tokio::spawn(serving))
    }

    /// Returns both ends of a new connection: the client's and the app's.
    pub(crate) async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.address).await.unwrap();
        let (app, _) = within("the app accepts", self.app.accept()).await.unwrap();
        (client, app)
    }

    /// Returns what became of connections that were to be handed over.
    pub(crate) fn handovers(&self) -> HandoverTotals {
        self.relay.handovers()
    }

    /// Returns how many connections are open.
    pub(crate) fn open(&self) -> usize {
        *self.relay.open_connections().borrow()
    }

    /// Returns how many requests are in flight.
    pub(crate) fn count(&self) -> u64 {
        self.in_flight.snapshot().in_flight
    }
}

pub(crate) async fn local_listener() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).await.unwrap()
}

/// Returns a socket at a port of its own on which nobody listens; what connects there is refused.
pub(crate) fn reserved_port() -> TcpSocket {
    let socket = unconnected();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    socket
}

/// Returns a socket that may share its port with another of these, of which only one listens.
fn unconnected() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket
}

/// Waits for `future`, but not for ever.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let waited = timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// Waits until `condition` holds, but not for ever.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    within(what, async {
        let mut tries = 0;
        while !condition() {
            // On the test's own thread the relay needs only a turn; what waits for time needs a pause.
            tries += 1;
            if tries < 50 {
                yield_now().await;
            } else {
                sleep(Duration::from_millis(1)).await;
            }
        }
    })
    .await;
}

/// Sends `bytes` one way and checks that just these arrive.
pub(crate) async fn pass(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).await.unwrap();
    expect(to, bytes).await;
}

/// Checks that `bytes` arrive next.
pub(crate) async fn expect(at: &mut TcpStream, bytes: &[u8]) {
    let mut arrived = vec![0; bytes.len()];
    within("bytes arrive", at.read_exact(&mut arrived))
        .await
        .unwrap();
    assert!(
        arrived == bytes,
        "{} arrived instead of {}",
        arrived.escape_ascii(),
        bytes.escape_ascii()
    );
}

/// Checks that the other side has ended without an error and without further bytes.
pub(crate) async fn expect_end(at: &mut TcpStream) {
    let mut rest = Vec::new();
    within("the end arrives", at.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(
        rest.is_empty(),
        "{} arrived before the end",
        rest.escape_ascii()
    );
}

/// Checks that the other side has been reset.
pub(crate) async fn expect_reset(at: &mut TcpStream) {
    let mut rest = Vec::new();
    let read = within("the reset arrives", at.read_to_end(&mut rest)).await;
    assert_eq!(
        read.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
}

/// Runs a future on a runtime of its own, for properties, which are not async.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(within("the case ends", future))
}
