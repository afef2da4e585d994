//! What is in flight after each piece of conversations written by hand. Random ones are in the tests of the crate.

use super::*;

struct Fixture {
    in_flight: InFlight,
    conversation: Conversation,
}

impl Fixture {
    fn new() -> Self {
        let in_flight = InFlight::new();
        let rules = Arc::new(IgnoreRules::default());
        Self {
            conversation: Conversation::new(in_flight.clone(), rules),
            in_flight,
        }
    }

    fn count(&self) -> u64 {
        self.in_flight.snapshot().in_flight
    }

    /// Takes bytes from the client and returns what is in flight then.
    fn client(&mut self, bytes: impl AsRef<[u8]>) -> Result<u64, Unparsable> {
        self.conversation.client_bytes(bytes.as_ref())?;
        Ok(self.count())
    }

    /// Takes bytes to the client and returns what is in flight then.
    fn server(&mut self, bytes: impl AsRef<[u8]>) -> Result<u64, Unparsable> {
        self.conversation.server_bytes(bytes.as_ref())?;
        Ok(self.count())
    }
}

#[test]
fn a_request_is_in_flight_from_its_first_byte_to_the_last_of_its_response() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.client("\r\n\r\n"), Ok(0));
    assert_eq!(fixture.client("P"), Ok(1));
    assert_eq!(
        fixture.client("OST / HTTP/1.1\r\nContent-Length: 2\r\n\r"),
        Ok(1)
    );
    assert_eq!(fixture.client("\nab"), Ok(1));
    assert_eq!(fixture.server("HTTP/1.1 100 Continue\r\n\r\n"), Ok(1));
    assert_eq!(
        fixture.server("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r"),
        Ok(1)
    );
    assert_eq!(fixture.server("\n"), Ok(0));
    assert!(fixture.conversation.is_idle());
}

#[test]
fn an_early_answer_ends_the_request_and_the_rest_of_its_body_is_no_request() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.client("POST / HTTP/1.1\r\nContent-Length: 18\r\n\r\n"),
        Ok(1)
    );
    assert_eq!(
        fixture.server("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
        Ok(0)
    );
    assert!(!fixture.conversation.is_idle());
    assert_eq!(fixture.client("GET / HTTP/1.1\r\n\r\n"), Ok(0));
    assert!(fixture.conversation.is_idle());
    assert_eq!(fixture.client("GET / HTTP/1.1\r\n\r\n"), Ok(1));
}

#[test]
fn an_answer_to_half_a_head_ends_the_request() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.client("HEAD / HTTP/1.1\r\nUser-Agent: kube-pr"),
        Ok(1)
    );
    assert_eq!(
        fixture.server("HTTP/1.1 408 Timeout\r\nContent-Length: 7\r\n\r\n"),
        Ok(0)
    );
    assert_eq!(fixture.client("obe/1.33\r\n\r\n"), Ok(0));
    assert!(fixture.conversation.is_idle());
}

#[test]
fn a_probe_cut_in_two_is_counted_only_until_it_is_known() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.client("GET / HTTP/1.1\r\nUser-Agent: kube-probe"),
        Ok(1)
    );
    assert_eq!(fixture.client("/1.33\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Ok(1));
    let response = "HTTP/1.1 204 No Content\r\n\r\n";
    assert_eq!(fixture.server(response), Ok(1));
    assert_eq!(fixture.server(response), Ok(0));
}

#[test]
fn pipelined_requests_end_one_by_one_each_by_its_own_method() {
    let mut fixture = Fixture::new();
    let requests = "HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\nG";
    assert_eq!(fixture.client(requests), Ok(4));
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(fixture.server(response), Ok(3));
    assert_eq!(fixture.server(response), Ok(3));
    assert_eq!(fixture.server(format!("abc{response}abc")), Ok(1));
}

#[test]
fn a_refused_connect_leaves_http_unless_bytes_were_sent_ahead() {
    let refused = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    let mut fixture = Fixture::new();
    assert_eq!(fixture.client("CONNECT a:443 HTTP/1.1\r\n\r\n"), Ok(1));
    assert_eq!(fixture.server(refused), Ok(0));
    assert_eq!(fixture.client("GET / HTTP/1.1\r\n\r\n"), Ok(1));

    let mut ahead = Fixture::new();
    assert_eq!(
        ahead.client("CONNECT a:443 HTTP/1.1\r\n\r\n\x16\x03"),
        Ok(1)
    );
    assert_eq!(ahead.server(refused), Err(Unparsable::Framing));
}

#[test]
fn a_tunnel_is_one_request_whatever_passes_and_whoever_stops() {
    let mut fixture = Fixture::new();
    fixture
        .client("GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n")
        .unwrap();
    assert_eq!(
        fixture.server("HTTP/1.1 101 Switching\r\n\r\nHTTP/1.1 200 OK\r\n"),
        Ok(1)
    );
    assert_eq!(fixture.client("GET / HTTP/1.1\r\n\r\n\0"), Ok(1));
    fixture.conversation.client_eof();
    fixture.conversation.server_eof();
    assert_eq!(fixture.count(), 1);
    assert!(fixture.conversation.is_tunnel());
    drop(fixture.conversation);
    assert_eq!(fixture.in_flight.snapshot().in_flight, 0);
}

#[test]
fn nothing_is_in_flight_once_the_server_has_closed() {
    let mut fixture = Fixture::new();
    fixture
        .client("GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\nG")
        .unwrap();
    assert_eq!(fixture.server("HTTP/1.0 200 OK\r\n\r\nto the end"), Ok(3));
    fixture.conversation.server_eof();
    assert_eq!(fixture.count(), 0);
    assert_eq!(fixture.client("ET / HTTP/1.0\r\n\r\n"), Ok(0));
}

#[test]
fn requests_that_contradict_themselves_are_not_guessed_at() {
    for (head, error) in [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            Unparsable::Framing,
        ),
        (
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            Unparsable::Framing,
        ),
        ("Content-Length: 5, 6\r\n", Unparsable::Framing),
        ("Content-Length: +5\r\n", Unparsable::Framing),
        (
            "Content-Length: 18446744073709551616\r\n",
            Unparsable::Framing,
        ),
        ("Transfer-Encoding: chunked, gzip\r\n", Unparsable::Framing),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Unparsable::Framing,
        ),
        ("Transfer-Encoding: identity\r\n", Unparsable::Framing),
        (
            "No colon\r\n",
            Unparsable::Head(httparse::Error::HeaderName),
        ),
    ] {
        let mut fixture = Fixture::new();
        let request = format!("POST / HTTP/1.1\r\n{head}\r\n");
        assert_eq!(fixture.client(&request), Err(error), "{head}");
    }
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(Fixture::new().client(old), Err(Unparsable::Framing));
    let same = "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1, 1\r\n\r\nx";
    assert_eq!(Fixture::new().client(same), Ok(1));
}

#[test]
fn a_response_without_framing_lasts_until_the_close() {
    for head in ["", "Transfer-Encoding: gzip\r\n"] {
        let mut fixture = Fixture::new();
        fixture.client("GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(
            fixture.server(format!("HTTP/1.1 200 OK\r\n{head}\r\nbody")),
            Ok(1)
        );
        fixture.conversation.server_eof();
        assert_eq!(fixture.count(), 0);
    }
}

#[test]
fn an_answer_that_nobody_asked_for_is_unparsable() {
    let answer = "HTTP/1.1 408 Request Timeout\r\n\r\n";
    assert_eq!(Fixture::new().server(answer), Err(Unparsable::Unsolicited));
}

#[test]
fn heads_and_pipelines_are_bounded() {
    let mut long = Fixture::new();
    long.client("GET / HTTP/1.1\r\nX: ").unwrap();
    let filler = [b'x'; 1000];
    let failed = (0..100).find_map(|_| long.client(filler).err());
    assert_eq!(failed, Some(Unparsable::LongHead));

    let mut many = Fixture::new();
    let request = "GET / HTTP/1.1\r\n\r\n";
    assert_eq!(
        many.client(request.repeat(MAX_PIPELINED)),
        Ok(MAX_PIPELINED as u64)
    );
    assert_eq!(many.client(request), Err(Unparsable::Pipelined));
    assert!(many.conversation.into_guard().is_some());
    assert_eq!(many.in_flight.snapshot().in_flight, 0);

    let fields = "A: b\r\n".repeat(head::MAX_HEADERS + 1);
    let wide = format!("GET / HTTP/1.1\r\n{fields}\r\n");
    let error = Unparsable::Head(httparse::Error::TooManyHeaders);
    assert_eq!(Fixture::new().client(wide), Err(error));
}

#[test]
fn garbage_after_a_method_is_found_out_long_before_it_is_too_long_for_a_head() {
    let mut fixture = Fixture::new();
    fixture.client("GET ").unwrap();
    let failed = (0..64).position(|_| fixture.client("\0").is_err());
    assert!(failed.is_some());
}

#[test]
fn a_last_head_is_a_final_one_that_no_other_request_follows() {
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    let last = Piece::LastHead(response.len());
    let mut fixture = Fixture::new();
    fixture.client("GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(fixture.conversation.next_piece(response), last);
    assert_eq!(
        fixture.conversation.next_piece(&response[..20]),
        Piece::Incomplete
    );
    let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200";
    assert_eq!(fixture.conversation.next_piece(interim), Piece::Pass(25));
    let upgraded = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
    assert_eq!(
        fixture.conversation.next_piece(upgraded),
        Piece::Pass(upgraded.len())
    );
    fixture.client("G").unwrap();
    assert_eq!(
        fixture.conversation.next_piece(response),
        Piece::Pass(response.len())
    );
    fixture.server(response).unwrap();
    assert_eq!(
        fixture.conversation.next_piece(b"hiHTTP/1.1 204"),
        Piece::Pass(2)
    );
    fixture.server(b"hiHTTP").unwrap();
    let rest = b"/1.1 204 No Content\r\n\r\n";
    assert_eq!(
        fixture.conversation.next_piece(rest),
        Piece::Pass(rest.len())
    );
}

#[test]
fn a_partial_head_costs_memory_only_while_it_is_partial() {
    let mut fixture = Fixture::new();
    fixture.client("GET / HTTP/1.1\r\n").unwrap();
    fixture.client("\r\n").unwrap();
    fixture.server("HTTP/1.1 204").unwrap();
    fixture.server(" No Content\r\n\r\n").unwrap();
    assert_eq!(fixture.conversation.client_head.bytes.capacity(), 0);
    assert_eq!(fixture.conversation.server_head.bytes.capacity(), 0);
}
