//! When a breaker opens, whom it lets through, and when it closes.

use super::*;
use crate::queue::tests::route;

const SECOND: Duration = Duration::from_secs(1);

struct Fixture {
    breakers: Breakers,
    start: Instant,
}

impl Fixture {
    fn new() -> Self {
        let settings = Settings {
            hold_timeout: 60 * SECOND,
            breaker_failures: 3,
            probe_gap: 5 * SECOND,
            probe_gap_limit: 15 * SECOND,
            ..Settings::default()
        };
        Self {
            breakers: Breakers::new(Arc::new(settings)),
            start: Instant::now(),
        }
    }

    /// Returns a fixture whose breaker opened at 180 s.
    fn open() -> Self {
        let mut fixture = Self::new();
        for arrived in [0, 60, 120] {
            fixture.expire(arrived);
        }
        fixture
    }

    fn at(&self, seconds: u32) -> Instant {
        self.start + SECOND * seconds
    }

    /// Has the request that came at this second expire 60 seconds later.
    fn expire(&mut self, arrived: u32) {
        let (arrived, now) = (self.at(arrived), self.at(arrived + 60));
        self.breakers.expired(&route(8080), arrived, now);
    }

    fn admit(&mut self, seconds: u32) -> Result<(), Broken> {
        let now = self.at(seconds);
        self.breakers.admit(&route(8080), now)
    }

    /// Returns the seconds among these at which a request is held.
    fn held(&mut self, seconds: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let mut seconds: Vec<_> = seconds.into_iter().collect();
        seconds.retain(|&second| self.admit(second).is_ok());
        seconds
    }
}

#[test]
fn it_opens_after_so_many_deadlines_in_a_row_and_says_for_how_long_nothing_worked() {
    let mut fixture = Fixture::new();
    fixture.expire(0);
    fixture.expire(60);
    assert_eq!(fixture.admit(121), Ok(()));
    fixture.expire(120);
    let broken = Broken {
        failing: 181 * SECOND,
        next_probe: 4 * SECOND,
    };
    assert_eq!(fixture.admit(181), Err(broken));
}

#[test]
fn requests_that_came_together_fail_once() {
    let mut fixture = Fixture::new();
    for arrived in [0, 0, 1, 30, 59] {
        fixture.expire(arrived);
    }
    assert_eq!(fixture.admit(120), Ok(()));
    let (_, breaker) = fixture.breakers.iter().next().unwrap();
    assert_eq!((breaker.failures(), breaker.is_open()), (1, false));
}

#[test]
fn an_open_one_lets_one_request_through_at_growing_gaps() {
    let mut fixture = Fixture::open();
    let probes = fixture.held(181..=240);
    assert_eq!(probes, [185, 195, 210, 225, 240]);
}

#[test]
fn probes_that_fail_keep_it_open_and_do_not_hasten_the_next() {
    let mut fixture = Fixture::open();
    assert_eq!(fixture.held(181..=245), [185, 195, 210, 225, 240]);
    fixture.expire(185);
    assert_eq!(fixture.held(246..=260), [255]);
}

#[test]
fn after_a_silence_everybody_is_held_until_one_more_deadline() {
    let mut fixture = Fixture::open();
    assert_eq!(fixture.held([239]), [239], "a probe");
    assert_eq!(fixture.held([299, 300, 301]), [299, 300, 301]);
    fixture.expire(299);
    assert!(fixture.admit(360).is_err());
}

#[test]
fn a_closed_one_starts_over() {
    let mut fixture = Fixture::open();
    fixture
        .breakers
        .close_where(|broken| *broken == *route(9000));
    assert!(fixture.admit(181).is_err(), "another route was closed");
    fixture
        .breakers
        .close_where(|broken| *broken == *route(8080));
    assert_eq!(fixture.breakers.iter().count(), 0);
    fixture.expire(181);
    fixture.expire(241);
    assert_eq!(fixture.admit(302), Ok(()));
}

#[test]
fn routes_fail_each_for_themselves() {
    let mut fixture = Fixture::open();
    let now = fixture.at(181);
    assert_eq!(fixture.breakers.admit(&route(9000), now), Ok(()));
    assert!(fixture.admit(181).is_err());
}
