//! Random legal HTTP/1.1 conversations and what must be in flight at each point of them.

use std::{fmt::Debug, ops::RangeInclusive};

use proptest::{collection::vec, prelude::*};

/// A conversation that can be passed in pieces, and what is in flight at each point of it.
pub(crate) trait Conversation: Debug {
    /// All that the client sends.
    fn by_client(&self) -> &[u8];

    /// All that the server sends.
    fn by_server(&self) -> &[u8];

    /// How many requests are in flight when this much of both streams has passed.
    fn in_flight(&self, client: usize, server: usize) -> u64;

    /// How many requests may have begun when all has passed. Ignored ones whose heads came in two reads may have been
    /// shown before they were known to be.
    fn requests(&self) -> RangeInclusive<u64>;

    /// How far the client may have sent when the server has sent this much.
    fn client_may_send(&self, server: usize) -> usize;

    /// How far the server may have sent when the client has sent this much.
    fn server_may_send(&self, client: usize) -> usize;
}

/// A conversation as both sides send it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) from_client: Vec<u8>,
    pub(crate) from_server: Vec<u8>,
    marks: Vec<Marks>,
    /// Where the tunnel begins in both directions, if the conversation ends in one.
    tunnel: Option<(usize, usize)>,
    /// Where the head of the last final response ends.
    last_head_end: usize,
}

/// Offsets of one exchange in the two streams.
#[derive(Clone, Debug)]
struct Marks {
    request: usize,
    request_head_end: usize,
    request_end: usize,
    response_end: usize,
    /// The server answers when it has read the head.
    early: bool,
    ignored: bool,
    /// In flight until the server closes.
    until_close: bool,
}

impl Conversation for Script {
    fn by_client(&self) -> &[u8] {
        &self.from_client
    }

    fn by_server(&self) -> &[u8] {
        &self.from_server
    }

    fn in_flight(&self, client: usize, server: usize) -> u64 {
        let counts = |marks: &&Marks| {
            let begun = client > marks.request;
            let ignored = marks.ignored && client >= marks.request_head_end;
            begun && !ignored && (server < marks.response_end || marks.until_close)
        };
        self.marks.iter().filter(counts).count() as u64
    }

    fn requests(&self) -> RangeInclusive<u64> {
        let counted = self.marks.iter().filter(|marks| !marks.ignored).count();
        counted as u64..=self.marks.len() as u64
    }

    fn client_may_send(&self, server: usize) -> usize {
        match self.tunnel {
            Some((client_start, server_start)) if server < server_start => client_start,
            _ => self.from_client.len(),
        }
    }

    fn server_may_send(&self, client: usize) -> usize {
        let mut limit = 0;
        for marks in &self.marks {
            let due = if marks.early {
                marks.request_head_end
            } else {
                marks.request_end
            };
            if client < due {
                return limit;
            }
            limit = marks.response_end;
        }
        self.from_server.len()
    }
}

impl Script {
    /// What the client gets if a drain begins once all requests have been sent: the last head says that the connection
    /// closes, unless it begins a tunnel.
    pub(crate) fn drained(&self) -> Vec<u8> {
        let mut expected = self.from_server.clone();
        if self.tunnel.is_none() {
            let empty_line = self.last_head_end - b"\r\n".len();
            expected.splice(empty_line..empty_line, *b"Connection: close\r\n");
        }
        expected
    }
}

#[derive(Clone, Debug)]
enum Body {
    None,
    Length(Vec<u8>),
    Chunked(Vec<(Vec<u8>, &'static str)>, Vec<&'static str>),
}

impl Body {
    fn fields(&self, newline: &str) -> String {
        match self {
            Self::None => String::new(),
            Self::Length(bytes) => format!("content-LENGTH: {}{newline}", bytes.len()),
            Self::Chunked(..) => format!("Transfer-Encoding: gzip, Chunked{newline}"),
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::None => {}
            Self::Length(bytes) => to.extend_from_slice(bytes),
            Self::Chunked(chunks, trailers) => {
                for (bytes, extension) in chunks {
                    to.extend_from_slice(format!("{:X}{extension}\r\n", bytes.len()).as_bytes());
                    to.extend_from_slice(bytes);
                    to.extend_from_slice(b"\r\n");
                }
                to.extend_from_slice(b"0\r\n");
                for trailer in trailers {
                    to.extend_from_slice(format!("{trailer}\r\n").as_bytes());
                }
                to.extend_from_slice(b"\r\n");
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Exchange {
    empty_lines: &'static str,
    method: &'static str,
    fields: Vec<&'static str>,
    agent: Option<&'static str>,
    newline: &'static str,
    request_body: Body,
    interim: Vec<&'static str>,
    status: u16,
    response_body: Body,
    early: bool,
}

/// How the last exchange of a conversation ends.
#[derive(Clone, Debug)]
enum Ending {
    LikeTheOthers,
    UntilClose(Vec<u8>),
    Upgrade(Vec<u8>, Vec<u8>),
    Connect(Vec<u8>, Vec<u8>),
}

/// Bytes that try to be taken for something else.
fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(any::<u8>(), 1..80),
        1 => vec(any::<u8>(), 1000..3000),
        1 => Just(b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        1 => Just(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec()),
        1 => Just(b"0\r\n\r\n\r\n\r\n".to_vec()),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    let extension = prop::sample::select(vec!["", "", ";a", ";a=\"b;c\"", " ; x=y"]);
    let trailer = prop::sample::select(vec![
        "Checksum: abc",
        "X:",
        "Long-Trailer: 0123456789abcdef",
    ]);
    prop_oneof![
        3 => Just(Body::None),
        3 => vec(content(), 0..2).prop_map(|parts| Body::Length(parts.concat())),
        3 => (vec((content(), extension), 0..4), vec(trailer, 0..3))
            .prop_map(|(chunks, trailers)| Body::Chunked(chunks, trailers)),
    ]
}

prop_compose! {
    fn exchange()(
        empty_lines in prop::sample::select(vec!["", "", "", "\r\n", "\n", "\r\n\r\n"]),
        method in prop::sample::select(vec!["GET", "POST", "HEAD", "PUT", "OPTIONS", "PURGE"]),
        fields in vec(prop::sample::select(vec![
            "Host: example.com", "Accept: */*", "Cookie: a=b; c=d", "Expect: 100-continue",
            "X-Transfer-Encoding: chunked", "X-Content-Length: 7", "Connection: keep-alive",
        ]), 0..5),
        agent in prop::sample::select(vec![None, None, Some("curl/8.5.0"), Some("kube-probe/1.33")]),
        newline in prop::sample::select(vec!["\r\n", "\r\n", "\n"]),
        request_body in body(),
        interim in vec(prop::sample::select(vec![
            "100 Continue\r\n\r\n", "103 Early Hints\r\nLink: </style.css>\r\n\r\n",
            "102 Processing\r\nContent-Length: 9\r\n\r\n",
        ]), 0..3),
        status in prop::sample::select(vec![200, 200, 201, 204, 301, 304, 404, 417, 500]),
        response_body in body(),
        early in any::<bool>(),
    ) -> Exchange {
        Exchange {
            empty_lines, method, fields, agent, newline, request_body, interim, status,
            response_body, early,
        }
    }
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        3 => Just(Ending::LikeTheOthers),
        1 => content().prop_map(Ending::UntilClose),
        1 => (content(), content()).prop_map(|(up, down)| Ending::Upgrade(up, down)),
        1 => (content(), content()).prop_map(|(up, down)| Ending::Connect(up, down)),
    ]
}

/// Up to eight exchanges and an ending.
pub(crate) fn script() -> impl Strategy<Value = Script> {
    (vec(exchange(), 1..8), ending()).prop_map(|(exchanges, ending)| {
        let mut script = Script::default();
        for exchange in exchanges {
            script.add(&exchange);
        }
        script.end(ending);
        script
    })
}

/// Which side sends next, and how many bytes at most.
pub(crate) fn cuts() -> impl Strategy<Value = Vec<(bool, usize)>> {
    vec(
        (
            any::<bool>(),
            prop_oneof![1..4_usize, 1..64_usize, 1..5000_usize],
        ),
        1..60,
    )
}

/// As [`cuts`], with fewer tiny pieces: each costs a trip through the sockets.
pub(crate) fn socket_cuts() -> impl Strategy<Value = Vec<(bool, usize)>> {
    let sizes = prop_oneof![1 => 1..8_usize, 2 => 1..200_usize, 3 => 500..5000_usize];
    vec((any::<bool>(), sizes), 10..60)
}

impl Script {
    fn add(&mut self, exchange: &Exchange) {
        let Exchange {
            newline, method, ..
        } = exchange;
        let client = &mut self.from_client;
        client.extend_from_slice(exchange.empty_lines.as_bytes());
        let request = client.len();
        client.extend_from_slice(format!("{method} /path?q=1 HTTP/1.1{newline}").as_bytes());
        for field in &exchange.fields {
            client.extend_from_slice(format!("{field}{newline}").as_bytes());
        }
        if let Some(agent) = exchange.agent {
            client.extend_from_slice(format!("User-Agent: {agent}{newline}").as_bytes());
        }
        client.extend_from_slice(exchange.request_body.fields(newline).as_bytes());
        client.extend_from_slice(newline.as_bytes());
        let request_head_end = client.len();
        exchange.request_body.write(client);
        let request_end = client.len();

        let server = &mut self.from_server;
        for interim in &exchange.interim {
            server.extend_from_slice(format!("HTTP/1.1 {interim}").as_bytes());
        }
        server.extend_from_slice(format!("HTTP/1.1 {} Reason\r\n", exchange.status).as_bytes());
        let bodiless = *method == "HEAD" || matches!(exchange.status, 204 | 304);
        let fields = match &exchange.response_body {
            Body::None if !bodiless => "Content-Length: 0\r\n".to_owned(),
            body => body.fields("\r\n"),
        };
        server.extend_from_slice(format!("{fields}\r\n").as_bytes());
        self.last_head_end = server.len();
        if !bodiless {
            exchange.response_body.write(server);
        }
        self.marks.push(Marks {
            request,
            request_head_end,
            request_end,
            response_end: server.len(),
            early: exchange.early,
            ignored: exchange
                .agent
                .is_some_and(|agent| agent.starts_with("kube-probe/")),
            until_close: false,
        });
    }

    fn end(&mut self, ending: Ending) {
        let (head, answer, up, down) = match ending {
            Ending::LikeTheOthers => return,
            Ending::UntilClose(down) => (
                "GET / HTTP/1.1\r\n\r\n",
                "HTTP/1.1 200 OK\r\n\r\n",
                None,
                down,
            ),
            Ending::Upgrade(up, down) => (
                "GET /chat HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
                Some(up),
                down,
            ),
            Ending::Connect(up, down) => (
                "CONNECT example.com:443 HTTP/1.1\r\n\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
                Some(up),
                down,
            ),
        };
        let request = self.from_client.len();
        self.from_client.extend_from_slice(head.as_bytes());
        let request_end = self.from_client.len();
        self.from_server.extend_from_slice(answer.as_bytes());
        self.last_head_end = self.from_server.len();
        if let Some(up) = up {
            self.tunnel = Some((request_end, self.from_server.len()));
            self.from_client.extend_from_slice(&up);
        }
        self.from_server.extend_from_slice(&down);
        self.marks.push(Marks {
            request,
            request_head_end: request_end,
            request_end,
            response_end: self.from_server.len(),
            early: true,
            ignored: false,
            until_close: true,
        });
    }
}
