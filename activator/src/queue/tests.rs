//! What becomes of requests in a queue, event by event.

use stillwake_proto::report::Workload;

use super::*;
use crate::route::TargetPort;

mod failing;
mod routes;

const SECOND: Duration = Duration::from_secs(1);

struct Fixture {
    queue: Queue,
    start: Instant,
    route: Arc<Route>,
}

/// Returns a route to this port of the app.
pub(crate) fn route(app: u16) -> Arc<Route> {
    Arc::new(Route {
        workload: Workload::default(),
        name: app.to_string(),
        target: TargetPort::App(app),
    })
}

impl Fixture {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            max_held: 3,
            max_held_bytes: 1000,
            hold_timeout: 60 * SECOND,
            endpoint_concurrency: 2,
            pacing_limit: SECOND,
            breaker_failures: 3,
            probe_gap: 5 * SECOND,
            probe_gap_limit: 30 * SECOND,
            set_aside: SECOND / 10,
            unanswered_pause: SECOND / 4,
            set_aside_limit: SECOND / 2,
            ..Settings::default()
        };
        change(&mut settings);
        let start = Instant::now();
        let queue = Queue::new(Arc::new(settings), start);
        let route = route(8080);
        Self {
            queue,
            start,
            route,
        }
    }

    fn admit(&mut self, seconds: f64) -> Ticket {
        self.try_admit(10, seconds).unwrap()
    }

    fn try_admit(&mut self, bytes: usize, seconds: f64) -> Result<Ticket, Refusal> {
        self.queue.admit(&self.route, bytes, self.at(seconds))
    }

    fn admit_on(&mut self, route: &Arc<Route>, seconds: f64) -> Ticket {
        self.queue.admit(route, 10, self.at(seconds)).unwrap()
    }

    /// Returns what is listed for the first route.
    fn list(&mut self, endpoints: &[(&str, &str)], seconds: f64) {
        let endpoints = endpoints.iter().map(|(uid, address)| ListedEndpoint {
            uid: (*uid).into(),
            addresses: vec![address.parse().unwrap()],
        });
        let (endpoints, now) = (endpoints.collect(), self.at(seconds));
        self.queue.endpoints_listed(&self.route, endpoints, now);
    }

    fn at(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }

    fn ready(&mut self, uid: &str, seconds: f64) {
        let (address, now) = (IpAddr::from([10, 0, 0, 1]), self.at(seconds));
        let ports = [(15080, 8080), (15081, 9000)];
        let ports = ports.map(|(listen, app)| PortPair { listen, app });
        self.queue
            .endpoint_ready(uid.into(), address, ports.into(), now);
    }

    fn decisions(&mut self, seconds: f64) -> Vec<(Ticket, Decision)> {
        let now = self.at(seconds);
        std::iter::from_fn(|| self.queue.next_decision(now)).collect()
    }

    /// Returns the tickets released at this time; anything else decided is a failure.
    fn released(&mut self, seconds: f64) -> Vec<Ticket> {
        let decisions = self.decisions(seconds).into_iter();
        let release = |(ticket, decision)| {
            assert!(matches!(decision, Decision::Release(_)), "{decision:?}");
            ticket
        };
        decisions.map(release).collect()
    }

    fn unavailable(&mut self, reason: &str) {
        let reason = reason.to_owned();
        self.queue
            .set_availability(Availability::Unavailable { reason });
    }
}

#[test]
fn requests_wait_for_an_endpoint_and_go_in_the_order_they_came() {
    let mut fixture = Fixture::new(|settings| settings.endpoint_concurrency = 10);
    let tickets = [0.0, 1.0, 2.0].map(|seconds| fixture.admit(seconds));
    assert_eq!(fixture.released(3.0), []);
    fixture.ready("a", 4.0);
    assert_eq!(fixture.released(4.0), tickets);
    assert_eq!(fixture.queue.held(), 3, "released is not handed over");
    for ticket in tickets {
        fixture.queue.hand_over(ticket, fixture.at(5.0)).unwrap();
    }
    assert_eq!((fixture.queue.held(), fixture.queue.held_bytes()), (0, 0));
}

#[test]
fn past_a_bound_the_newcomer_is_refused_and_the_held_stay() {
    let mut fixture = Fixture::new(|_| ());
    let first = fixture.admit(0.0);
    let full = fixture.try_admit(991, 0.0);
    assert_eq!(full, Err(Refusal::Bytes));
    fixture.admit(0.0);
    fixture.admit(0.0);
    let full = fixture.try_admit(10, 0.0);
    assert_eq!(full, Err(Refusal::Requests));
    assert_eq!(fixture.queue.held(), 3);
    fixture.queue.leave(first, fixture.at(1.0));
    fixture.admit(1.0);
}

#[test]
fn a_request_that_left_is_not_released() {
    let mut fixture = Fixture::new(|_| ());
    let (first, second) = (fixture.admit(0.0), fixture.admit(0.0));
    fixture.queue.leave(first, fixture.at(1.0));
    fixture.ready("a", 2.0);
    assert_eq!(fixture.released(2.0), [second]);
}

#[test]
fn a_request_that_leaves_after_its_release_frees_its_place_and_its_endpoint() {
    let mut fixture = Fixture::new(|settings| settings.endpoint_concurrency = 1);
    let (first, second) = (fixture.admit(0.0), fixture.admit(0.0));
    fixture.ready("a", 1.0);
    assert_eq!(fixture.released(1.0), [first]);
    fixture.queue.leave(first, fixture.at(1.1));
    assert_eq!(fixture.released(1.1), [second]);
    assert_eq!(fixture.queue.hand_over(first, fixture.at(1.2)), None);
    assert_eq!(fixture.queue.held(), 1);
}

#[test]
fn at_the_deadline_a_request_expires_with_the_time_it_waited() {
    let mut fixture = Fixture::new(|_| ());
    let ticket = fixture.admit(1.0);
    assert_eq!(
        fixture.queue.next_wakeup(fixture.at(1.0)),
        Some(fixture.at(61.0))
    );
    assert_eq!(fixture.decisions(60.9), []);
    let expired = (ticket, Decision::Expire(60 * SECOND));
    assert_eq!(fixture.decisions(61.0), [expired]);
    assert_eq!(fixture.queue.held(), 0);
}

#[test]
fn an_unavailable_workload_refuses_what_comes_and_what_is_held() {
    let mut fixture = Fixture::new(|_| ());
    let ticket = fixture.admit(0.0);
    fixture.unavailable("paused");
    let refused = (ticket, Decision::Refuse("paused".into()));
    assert_eq!(fixture.decisions(1.0), [refused]);
    let next = fixture.try_admit(10, 1.0);
    assert_eq!(next, Err(Refusal::Unavailable("paused".into())));
    fixture.queue.set_availability(Availability::Available);
    fixture.admit(2.0);
}

#[test]
fn an_unavailable_workload_that_runs_is_forwarded_to() {
    let mut fixture = Fixture::new(|_| ());
    fixture.unavailable("paused");
    fixture.ready("a", 0.0);
    let ticket = fixture.admit(1.0);
    assert_eq!(fixture.released(1.0), [ticket]);
}

#[test]
fn an_endpoint_gets_no_more_than_its_share_until_it_answers() {
    let mut fixture = Fixture::new(|_| ());
    let tickets = [0.0; 3].map(|seconds| fixture.admit(seconds));
    fixture.ready("a", 1.0);
    assert_eq!(fixture.released(1.0), tickets[..2]);
    let handed = fixture
        .queue
        .hand_over(tickets[0], fixture.at(1.1))
        .unwrap();
    assert_eq!(fixture.released(1.1), []);
    fixture.queue.answered(&handed);
    assert_eq!(fixture.released(1.2), tickets[2..]);
}

#[test]
fn pacing_keeps_nobody_for_longer_than_its_limit() {
    let mut fixture = Fixture::new(|_| ());
    let tickets = [0.0; 3].map(|seconds| fixture.admit(seconds));
    fixture.ready("a", 10.0);
    assert_eq!(fixture.released(10.0), tickets[..2]);
    assert_eq!(
        fixture.queue.next_wakeup(fixture.at(10.0)),
        Some(fixture.at(11.0))
    );
    assert_eq!(fixture.released(10.9), []);
    assert_eq!(fixture.released(11.0), tickets[2..]);
}

#[test]
fn pacing_lets_nobody_expire() {
    let mut fixture = Fixture::new(|settings| settings.endpoint_concurrency = 1);
    let tickets = [0.0; 2].map(|seconds| fixture.admit(seconds));
    fixture.ready("a", 59.9);
    assert_eq!(fixture.released(59.9), tickets[..1]);
    assert_eq!(fixture.released(60.0), tickets[1..]);
}

#[test]
fn pacing_refuses_nobody() {
    let mut fixture = Fixture::new(|_| ());
    let tickets = [0.0; 3].map(|seconds| fixture.admit(seconds));
    fixture.ready("a", 1.0);
    assert_eq!(fixture.released(1.0), tickets[..2]);
    fixture.admit(1.1);
    assert_eq!(fixture.released(1.1), tickets[2..], "makes room by going");
}

#[test]
fn requests_spread_over_endpoints() {
    let mut fixture = Fixture::new(|settings| settings.max_held = 4);
    fixture.ready("a", 0.0);
    fixture.ready("b", 0.0);
    for _ in 0..4 {
        fixture.admit(1.0);
    }
    let mut endpoints: Vec<_> = fixture
        .decisions(1.0)
        .into_iter()
        .map(|(_, decision)| match decision {
            Decision::Release(release) => release.endpoint,
            other => panic!("{other:?}"),
        })
        .collect();
    endpoints.dedup();
    assert_eq!(endpoints.len(), 4, "no two in a row went to the same");
}

#[test]
fn an_endpoint_that_is_gone_gets_nothing() {
    let mut fixture = Fixture::new(|_| ());
    fixture.ready("a", 0.0);
    fixture.queue.endpoint_gone("a");
    fixture.admit(1.0);
    assert_eq!(fixture.released(1.0), []);
}

#[test]
fn a_wake_knows_its_first_report() {
    let mut fixture = Fixture::new(|_| ());
    fixture.queue.report(fixture.at(0.0));
    let ticket = fixture.admit(1.0);
    fixture.queue.report(fixture.at(1.25));
    fixture.queue.report(fixture.at(2.0));
    fixture.ready("a", 3.0);
    assert_eq!(fixture.released(3.0), [ticket]);
    let handed = fixture.queue.hand_over(ticket, fixture.at(3.0)).unwrap();
    let wake = handed.wake.unwrap();
    assert_eq!(wake.signalled, Some(fixture.at(1.25)));
}

#[test]
fn the_count_is_exact_over_time() {
    let mut fixture = Fixture::new(|_| ());
    let first = fixture.admit(0.0);
    fixture.admit(1.0);
    fixture.queue.leave(first, fixture.at(3.0));
    let expected = HeldCount {
        held: 1,
        held_time: 6 * SECOND,
        requests: 2,
    };
    assert_eq!(fixture.queue.count(fixture.at(4.0)), expected);
}

#[test]
fn only_the_first_of_a_wake_tells_of_it_and_all_that_found_nothing_are_cold() {
    let mut fixture = Fixture::new(|settings| settings.endpoint_concurrency = 10);
    let gone = fixture.admit(0.0);
    let tickets = [1.0, 2.0].map(|seconds| fixture.admit(seconds));
    fixture.queue.leave(gone, fixture.at(2.0));
    fixture.ready("a", 3.0);
    let late = fixture.admit(3.0);
    assert_eq!(fixture.released(3.0).len(), 3);
    let now = fixture.at(4.0);
    let mut told = |ticket| {
        let handed = fixture.queue.hand_over(ticket, now).unwrap();
        (handed.is_cold(), handed.wake.is_some())
    };
    assert_eq!(told(tickets[0]), (true, true));
    assert_eq!(told(tickets[1]), (true, false));
    assert_eq!(told(late), (false, false));
}

#[test]
fn a_held_request_that_grows_is_charged_and_refused_past_the_bound() {
    let mut fixture = Fixture::new(|_| ());
    let ticket = fixture.admit(0.0);
    assert_eq!(fixture.queue.charge(ticket, 990), Ok(()));
    assert_eq!(fixture.queue.charge(ticket, 1), Err(Refusal::Bytes));
    assert_eq!(fixture.queue.held_bytes(), 1000);
    fixture.queue.leave(ticket, fixture.at(1.0));
    assert_eq!(fixture.queue.held_bytes(), 0);
}

/// Returns the endpoint that a request admitted now is released to.
fn sent(fixture: &mut Fixture, seconds: f64) -> (Ticket, EndpointId) {
    let ticket = fixture.admit(seconds);
    match fixture.decisions(seconds).pop() {
        Some((released, Decision::Release(release))) if released == ticket => {
            (ticket, release.endpoint)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_endpoint_with_less_to_do_is_chosen() {
    let mut fixture = Fixture::new(|settings| settings.max_held = 4);
    fixture.ready("a", 0.0);
    let (_, busy) = sent(&mut fixture, 1.0);
    sent(&mut fixture, 1.0);
    fixture.ready("b", 2.0);
    let (_, third) = sent(&mut fixture, 2.0);
    let (_, fourth) = sent(&mut fixture, 2.0);
    assert!(third != busy && fourth != busy);
}

#[test]
fn idle_endpoints_take_turns() {
    let mut fixture = Fixture::new(|_| ());
    fixture.ready("a", 0.0);
    fixture.ready("b", 0.0);
    let mut turn = || {
        let (ticket, endpoint) = sent(&mut fixture, 1.0);
        fixture.queue.leave(ticket, fixture.at(1.0));
        endpoint
    };
    let (first, second, third) = (turn(), turn(), turn());
    assert_ne!(first, second);
    assert_eq!(first, third);
}

#[test]
fn the_wake_is_told_by_whoever_gets_through_first() {
    let mut fixture = Fixture::new(|settings| settings.endpoint_concurrency = 1);
    let tickets = [0.0; 3].map(|seconds| fixture.admit(seconds));
    fixture.ready("a", 1.0);
    assert_eq!(fixture.released(1.0), tickets[..1]);
    fixture.queue.leave(tickets[0], fixture.at(1.1));
    assert_eq!(fixture.released(1.1), tickets[1..2]);
    fixture.queue.dial_failed(tickets[1], fixture.at(1.2));
    assert_eq!(fixture.released(1.3), tickets[1..2]);
    let handed = fixture.queue.hand_over(tickets[1], fixture.at(1.4));
    assert!(handed.unwrap().wake.is_some());
}

/// Returns where the only decision of this moment leads.
fn led(fixture: &mut Fixture, seconds: f64) -> (Ticket, Vec<String>) {
    match &fixture.decisions(seconds)[..] {
        [(ticket, Decision::Release(release))] => {
            let addresses = release.addresses.iter().map(ToString::to_string);
            (*ticket, addresses.collect())
        }
        other => panic!("{other:?}"),
    }
}
