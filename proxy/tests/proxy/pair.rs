//! A real client and a real server of HTTP/2 with a served relay between them, and the bytes of the plainest call.

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
    server::SendResponse,
};
use http::{Request, Response};
use stillwake_proxy::relay::RelaySettings;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::rig::{Rig, eventually, within};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// `GET /` on the first stream, and its answer.
pub(crate) const GET: &[u8] = b"\0\0\x03\x01\x05\0\0\0\x01\x82\x86\x84";
pub(crate) const OK: &[u8] = b"\0\0\x01\x01\x05\0\0\0\x01\x88";

/// A client and a server with the relay between them.
pub(crate) struct Pair {
    pub(crate) rig: Rig,
    pub(crate) requests: SendRequest<Bytes>,
    pub(crate) client: JoinHandle<Result<(), h2::Error>>,
    pub(crate) server: Server,
}

pub(crate) struct Server {
    pub(crate) arrived: mpsc::Receiver<(Request<RecvStream>, SendResponse<Bytes>)>,
    pub(crate) goes_away: oneshot::Sender<()>,
    pub(crate) ended: JoinHandle<Result<(), h2::Error>>,
}

/// A request as both sides see it.
pub(crate) struct Exchange {
    pub(crate) upload: SendStream<Bytes>,
    pub(crate) response: ResponseFuture,
    pub(crate) request: Request<RecvStream>,
    pub(crate) answer: SendResponse<Bytes>,
}

impl Pair {
    pub(crate) async fn start() -> Self {
        Self::with(RelaySettings::default()).await
    }

    pub(crate) async fn with(settings: RelaySettings) -> Self {
        let rig = Rig::with(settings).await;
        let (client, app) = rig.connect().await;
        let server = Server::start(app);
        let (requests, connection) = h2::client::handshake(client).await.unwrap();
        let client = tokio::spawn(connection);
        Self {
            rig,
            requests,
            client,
            server,
        }
    }

    pub(crate) async fn count_is(&self, count: u64) {
        eventually("the count is right", || self.rig.count() == count).await;
    }

    /// Sends a request, whose body is empty if it `ends`, and takes it at the server.
    pub(crate) async fn request(&mut self, request: Request<()>, ends: bool) -> Exchange {
        let requests = self.requests.clone();
        let mut requests = within("the client may send", requests.ready())
            .await
            .unwrap();
        let (response, upload) = requests.send_request(request, ends).unwrap();
        let (request, answer) = within("the request arrives", self.server.arrived.recv())
            .await
            .unwrap();
        Exchange {
            upload,
            response,
            request,
            answer,
        }
    }
}

impl Server {
    pub(crate) fn start(app: TcpStream) -> Self {
        let (arrive, arrived) = mpsc::channel(1000);
        let (goes_away, mut go_away) = oneshot::channel();
        let ended = tokio::spawn(async move {
            let mut connection = h2::server::handshake(app).await?;
            let mut going = false;
            loop {
                let accepted = tokio::select! {
                    accepted = connection.accept() => accepted,
                    Ok(()) = &mut go_away, if !going => {
                        going = true;
                        connection.graceful_shutdown();
                        continue;
                    }
                };
                let Some(request) = accepted else {
                    return Ok(());
                };
                // Whoever does not take it has ended the test.
                let _ = arrive.send(request?).await;
            }
        });
        Self {
            arrived,
            goes_away,
            ended,
        }
    }
}

impl Exchange {
    /// Answers, and returns what the client gets.
    pub(crate) async fn respond(
        &mut self,
        ends: bool,
    ) -> (SendStream<Bytes>, Response<RecvStream>) {
        let stream = self.answer.send_response(Response::new(()), ends).unwrap();
        let response = within("the response arrives", &mut self.response).await;
        (stream, response.unwrap())
    }
}

pub(crate) fn get() -> Request<()> {
    Request::get("http://example.com/").body(()).unwrap()
}
