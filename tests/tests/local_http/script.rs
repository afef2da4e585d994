//! A conversation whose bytes are written down: each step is sent by one side and has to reach the other unchanged, and
//! has to leave a certain number of requests in flight.

use std::time::Duration;

use stillwake_e2e::{raw::shown, sidecar::Sidecar};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Bytes that have not arrived by then don't.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Client,
    App,
}

/// What both sides send, in turns.
#[derive(Debug)]
pub(crate) struct Script {
    name: &'static str,
    steps: Vec<(By, Vec<u8>, u64)>,
}

impl Script {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self {
            name,
            steps: Vec::new(),
        }
    }

    /// The client sends `bytes`, after which `in_flight` requests are.
    pub(crate) fn client(mut self, bytes: impl Into<Vec<u8>>, in_flight: u64) -> Self {
        self.steps.push((By::Client, bytes.into(), in_flight));
        self
    }

    /// The app sends `bytes`, after which `in_flight` requests are.
    pub(crate) fn app(mut self, bytes: impl Into<Vec<u8>>, in_flight: u64) -> Self {
        self.steps.push((By::App, bytes.into(), in_flight));
        self
    }

    /// Follows the script through `sidecar` to the app's `listener`; then both sides close.
    pub(crate) async fn follow(&self, listener: &TcpListener, sidecar: &Sidecar) {
        let mut client = TcpStream::connect(sidecar.address).await.unwrap();
        let (mut app, _) = within(listener.accept(), self.name).await.unwrap();
        for (number, (by, bytes, in_flight)) in self.steps.iter().enumerate() {
            let name = format!("{}, step {number} by the {by:?}", self.name);
            let (from, to) = match by {
                By::Client => (&mut client, &mut app),
                By::App => (&mut app, &mut client),
            };
            let (sent, received) = tokio::join!(
                within(from.write_all(bytes), &name),
                within(read(to, bytes.len()), &name)
            );
            sent.unwrap();
            assert_eq!(shown(&received), shown(bytes), "{name}");
            let counted = sidecar.wait_for_in_flight(*in_flight).await;
            counted.unwrap_or_else(|error| panic!("{name}: {error:#}"));
        }
        self.end(&mut client, &mut app).await;
        self.end(&mut app, &mut client).await;
        let none = sidecar.wait_for_in_flight(0).await;
        none.unwrap_or_else(|error| panic!("{}, closed: {error:#}", self.name));
    }

    /// One side ends, and the other hears of it and of nothing else.
    async fn end(&self, from: &mut TcpStream, to: &mut TcpStream) {
        from.shutdown().await.unwrap();
        let rest = within(read(to, 1), self.name).await;
        assert_eq!(shown(&rest), "", "{}", self.name);
    }
}

async fn within<T>(future: impl Future<Output = T>, what: &str) -> T {
    let result = tokio::time::timeout(PATIENCE, future).await;
    result.unwrap_or_else(|_| panic!("{what} hangs"))
}

/// Reads `length` bytes, or fewer where the other side ends before.
async fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut exactly = stream.take(length as u64);
    exactly.read_to_end(&mut bytes).await.unwrap();
    bytes
}
