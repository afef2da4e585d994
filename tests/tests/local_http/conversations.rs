//! What HTTP/1 allows and few send.

use stillwake_e2e::sidecar::Sidecar;
use tokio::net::TcpListener;

use crate::script::Script;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Sends `head` and gets an answer on a connection that stays.
fn asked(name: &'static str, head: impl Into<Vec<u8>>) -> Script {
    Script::new(name).client(head, 1).app(OK, 0)
}

fn targets() -> Vec<Script> {
    let long = "a".repeat(60_000);
    let longer = "a".repeat(200_000);
    vec![
        asked("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        asked(
            "absolute-form",
            "GET http://example.test:80/a?b HTTP/1.1\r\nHost: example.test\r\n\r\n",
        ),
        asked(
            "encoded slashes, dots and empty segments",
            "GET /a%2Fb%2f..%5C//c/./../d;e=1?f=%20&&g=?/%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        asked(
            "a target beyond ASCII",
            "GET /grüße/世界 HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        asked(
            "a very long target",
            format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
        ),
        // Longer than any head that is looked at: the connection counts, until it ends.
        Script::new("a longer target than is looked at")
            .client(format!("GET /{longer} HTTP/1.1\r\nHost: a\r\n\r\n"), 1)
            .app(OK, 1),
    ]
}

fn heads() -> Vec<Script> {
    vec![
        asked("a lower-case method", "get / HTTP/1.1\r\nHost: a\r\n\r\n"),
        asked(
            "a method of all that a token may have",
            "M-!#$%&'*+.^_`|~9 / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        asked(
            "an empty line first",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        asked("bare line feeds", "GET / HTTP/1.1\nHost: a\n\n"),
        asked(
            "names and values as they like them",
            b"GET / HTTP/1.1\r\nhOsT:a\r\nX-Empty:\r\nX-Twice: 1\r\nX-Twice: 2\r\n\
              X-Spaces:\t  a  b \t\r\nX-Latin: gr\xfc\xdfe\r\nX_under!score: \"\\\"\"\r\n\r\n"
                .to_vec(),
        ),
        // Its parser refuses this one, so the connection counts, until it ends.
        Script::new("a folded line")
            .client("GET / HTTP/1.1\r\nHost: a\r\nX-Folded: a\r\n b\r\n\r\n", 1)
            .app(OK, 1),
        asked(
            "a body with GET",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
        ),
        asked(
            "the same length twice",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbody",
        ),
    ]
}

fn old() -> Vec<Script> {
    vec![
        Script::new("HTTP/1.0, ended by the close")
            .client("GET / HTTP/1.0\r\n\r\n", 1)
            .app("HTTP/1.0 200 OK\r\n\r\nsome", 1)
            .app(" more", 1),
        Script::new("HTTP/1.0 that is kept alive")
            .client("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 1)
            .app(
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
                0,
            )
            .client("POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", 1)
            .app("HTTP/1.0 204 No Content\r\n\r\n", 0),
        Script::new("an HTTP/1.0 answer to HTTP/1.1")
            .client("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1)
            .app("HTTP/1.0 200 OK\r\n\r\nall of it", 1),
    ]
}

fn bodies() -> Vec<Script> {
    vec![
        Script::new("chunks both ways at once, with extensions and trailers")
            .client(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n",
                1,
            )
            .app(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n",
                1,
            )
            .client("3;name=\"va;l\\\"ue\"\r\nabc\r\n", 1)
            .app("00003 ;x\r\nABC\r\n", 1)
            .client("A\r\n0123456789\r\n", 1)
            .app("a\r\n0123456789\r\n", 1)
            .client("0;last\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n", 1)
            .app("000\r\nX-Sum: 3\r\n\r\n", 0)
            .client("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1)
            .app(OK, 0),
        Script::new("Expect: 100-continue, and it goes on")
            .client(
                "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
                1,
            )
            .app("HTTP/1.1 100 Continue\r\n\r\n", 1)
            .client("body", 1)
            .app(OK, 0),
        Script::new("Expect: 100-continue, and it is refused")
            .client(
                "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
                1,
            )
            .app(
                "HTTP/1.1 417 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                0,
            ),
        Script::new("interim answers of all kinds")
            .client("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1)
            .app("HTTP/1.1 102 Processing\r\n\r\n", 1)
            .app("HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n", 1)
            .app("HTTP/1.1 199 \r\n\r\n", 1)
            .app(OK, 0),
        Script::new("answers that say a length and have no body")
            .client("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 1)
            .app("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 0)
            .client("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1)
            .app("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 0),
        Script::new("pipelined")
            .client("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3), 3)
            .app(OK, 2)
            .app(OK, 1)
            .app(OK, 0),
        Script::new("server-sent events")
            .client("GET / HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n", 1)
            .app(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\r\n",
                1,
            )
            .app(": comment\n\n", 1)
            .app("event: tick\nid: 1\ndata: first\n\n", 1)
            .app("id: 2\ndata: sec", 1)
            .app("ond\ndata: line\n\n", 1),
        Script::new("a tunnel by CONNECT")
            .client("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 1)
            .app("HTTP/1.1 200 Connected\r\n\r\n", 1)
            .app("\0\x01anything", 1)
            .client("GET / HTTP/1.1\r\n\r\n", 1),
        Script::new("an upgrade to anything")
            .client("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: own/1\r\n\r\n", 1)
            .app("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: own/1\r\n\r\n", 1)
            .client("hello", 1)
            .app("hello", 1),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_odd_but_legal_arrives_as_it_was_sent_and_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sidecar = Sidecar::start(listener.local_addr().unwrap())
        .await
        .unwrap();
    for scripts in [targets(), heads(), old(), bodies()] {
        for script in scripts {
            script.follow(&listener, &sidecar).await;
        }
    }
}
