//! Endpoints that refuse connections or answers, and what becomes of requests meanwhile.

use super::*;

#[test]
fn after_a_failed_dial_the_request_goes_first_and_elsewhere() {
    let mut fixture = Fixture::new(|settings| settings.endpoint_concurrency = 1);
    fixture.ready("a", 0.0);
    let first = fixture.admit(1.0);
    assert_eq!(fixture.released(1.0), [first]);
    let second = fixture.admit(1.0);
    fixture.queue.dial_failed(first, fixture.at(1.1));
    assert_eq!(fixture.released(1.1), [], "the only endpoint is set aside");
    fixture.ready("b", 1.15);
    assert_eq!(fixture.released(1.15), [first]);
    assert_eq!(fixture.released(1.2), [second], "it is back after 100 ms");
}

#[test]
fn an_endpoint_is_set_aside_for_longer_at_each_failure_up_to_the_limit() {
    let mut fixture = Fixture::new(|_| ());
    let ticket = fixture.admit(0.0);
    fixture.ready("a", 0.0);
    let mut now = fixture.at(0.0);
    for pause in [0.1, 0.2, 0.4, 0.5, 0.5] {
        let decision = fixture.queue.next_decision(now);
        assert!(matches!(decision, Some((_, Decision::Release(_)))));
        fixture.queue.dial_failed(ticket, now);
        let back = fixture.queue.next_wakeup(now).unwrap();
        assert_eq!(back, now + Duration::from_secs_f64(pause));
        now = back;
    }
}

#[test]
fn a_request_past_its_deadline_is_dialled_for_once_more_at_most() {
    let mut fixture = Fixture::new(|_| ());
    fixture.ready("a", 0.0);
    fixture.ready("b", 0.0);
    let ticket = fixture.admit(0.0);
    assert_eq!(fixture.released(0.0), [ticket]);
    fixture.queue.dial_failed(ticket, fixture.at(61.0));
    let expired = (ticket, Decision::Expire(61 * SECOND));
    assert_eq!(fixture.decisions(61.0), [expired]);
}

#[test]
fn what_remained_unanswered_is_held_again_at_its_old_place() {
    let mut fixture = Fixture::new(|settings| settings.endpoint_concurrency = 1);
    fixture.ready("a", 0.0);
    let (first, _) = sent(&mut fixture, 0.0);
    let second = fixture.admit(1.0);
    let handed = fixture.queue.hand_over(first, fixture.at(2.0)).unwrap();
    fixture.queue.unanswered(&handed, fixture.at(3.0));
    let again = fixture.queue.hold_again(handed, fixture.at(3.0));
    assert_eq!(again, Ok(first));
    assert_eq!(fixture.released(3.0), [], "the only endpoint is set aside");
    assert_eq!(fixture.released(3.25), [first], "before who came later");
    let count = fixture.queue.count(fixture.at(3.25));
    assert_eq!((count.held, count.requests), (2, 2), "it is no new request");
    fixture.ready("b", 4.0);
    assert_eq!(fixture.released(4.0), [second]);
}

#[test]
fn what_remained_unanswered_keeps_its_deadline() {
    let mut fixture = Fixture::new(|_| ());
    fixture.ready("a", 0.0);
    let (ticket, _) = sent(&mut fixture, 0.0);
    let handed = fixture.queue.hand_over(ticket, fixture.at(1.0)).unwrap();
    fixture.queue.unanswered(&handed, fixture.at(2.0));
    fixture.queue.endpoint_gone("a");
    fixture.queue.hold_again(handed, fixture.at(2.0)).unwrap();
    let expired = (ticket, Decision::Expire(60 * SECOND));
    assert_eq!(fixture.decisions(59.9), []);
    assert_eq!(fixture.decisions(60.0), [expired]);
}

#[test]
fn bounds_and_availability_hold_for_what_comes_back() {
    let mut fixture = Fixture::new(|settings| settings.max_held = 1);
    fixture.ready("a", 0.0);
    let mut hand_over = |seconds| {
        let (ticket, _) = sent(&mut fixture, seconds);
        let handed = fixture.queue.hand_over(ticket, fixture.at(seconds));
        handed.unwrap()
    };
    let (one, two) = (hand_over(1.0), hand_over(1.0));
    fixture.queue.unanswered(&one, fixture.at(2.0));
    fixture.queue.unanswered(&two, fixture.at(2.0));
    fixture.queue.endpoint_gone("a");
    let held = fixture.admit(2.0);
    let full = fixture.queue.hold_again(one, fixture.at(2.0));
    assert_eq!(full, Err(Refusal::Requests));
    fixture.queue.leave(held, fixture.at(2.0));
    fixture.unavailable("paused");
    let unavailable = fixture.queue.hold_again(two, fixture.at(2.0));
    assert_eq!(unavailable, Err(Refusal::Unavailable("paused".into())));
    assert_eq!((fixture.queue.held(), fixture.queue.held_bytes()), (0, 0));
}

#[test]
fn an_endpoint_that_answers_nothing_is_set_aside_for_longer_each_time() {
    let mut fixture = Fixture::new(|settings| settings.set_aside_limit = SECOND);
    fixture.ready("a", 0.0);
    let mut now = fixture.at(0.0);
    for pause in [0.25, 0.25, 0.4, 0.8, 1.0] {
        let ticket = fixture.queue.admit(&fixture.route, 10, now).unwrap();
        assert!(fixture.queue.next_decision(now).is_some());
        let handed = fixture.queue.hand_over(ticket, now).unwrap();
        fixture.queue.unanswered(&handed, now);
        fixture.queue.hold_again(handed, now).unwrap();
        let back = fixture.queue.next_wakeup(now).unwrap();
        assert_eq!(back, now + Duration::from_secs_f64(pause));
        fixture.queue.leave(ticket, now);
        now = back;
    }
}

#[test]
fn after_deadlines_in_a_row_requests_are_refused_but_for_probes() {
    let mut fixture = Fixture::new(|_| ());
    for arrived in [0.0, 60.0, 120.0] {
        let ticket = fixture.admit(arrived);
        let expired = (ticket, Decision::Expire(60 * SECOND));
        assert_eq!(fixture.decisions(arrived + 60.0), [expired]);
    }
    let refused = fixture.try_admit(10, 181.0);
    assert!(matches!(refused, Err(Refusal::Broken(_))), "{refused:?}");
    assert_eq!(fixture.queue.held(), 0, "and nothing is reported of it");
    let probe = fixture.admit(185.0);
    assert!(fixture.try_admit(10, 186.0).is_err());
    assert_eq!(fixture.queue.held(), 1);

    fixture.ready("a", 190.0);
    assert_eq!(fixture.released(190.0), [probe]);
    fixture.queue.endpoint_gone("a");
    assert_eq!(fixture.queue.breakers().iter().count(), 0);
    fixture.admit(191.0);
}

#[test]
fn a_breaker_stays_open_while_the_only_endpoint_refuses_and_closes_when_one_accepts() {
    let mut fixture = Fixture::new(|settings| settings.breaker_failures = 1);
    let ticket = fixture.admit(0.0);
    fixture.ready("a", 59.9);
    assert_eq!(fixture.released(59.9), [ticket]);
    fixture.queue.dial_failed(ticket, fixture.at(59.95));
    assert_eq!(fixture.decisions(60.0).len(), 1, "expires");
    assert!(fixture.try_admit(10, 60.01).is_err());
    let (try_again, _) = sent(&mut fixture, 60.05);
    let is_open = |fixture: &Fixture| {
        let mut breakers = fixture.queue.breakers().iter();
        breakers.any(|(_, breaker)| breaker.is_open())
    };
    assert!(is_open(&fixture));
    let handed = fixture.queue.hand_over(try_again, fixture.at(60.06));
    assert!(handed.is_some() && !is_open(&fixture));
}

#[test]
fn a_workload_that_becomes_available_again_is_tried_again() {
    let mut fixture = Fixture::new(|settings| settings.breaker_failures = 1);
    fixture.admit(0.0);
    assert_eq!(fixture.decisions(60.0).len(), 1, "expires");
    assert!(fixture.try_admit(10, 61.0).is_err());
    fixture.queue.set_availability(Availability::Available);
    assert!(fixture.try_admit(10, 61.0).is_err(), "as it was");
    fixture.unavailable("paused");
    fixture.queue.set_availability(Availability::Available);
    fixture.admit(61.0);
}

#[test]
fn an_endpoint_that_is_ready_again_is_no_longer_set_aside() {
    let mut fixture = Fixture::new(|_| ());
    fixture.ready("a", 0.0);
    let (ticket, _) = sent(&mut fixture, 0.0);
    fixture.queue.dial_failed(ticket, fixture.at(1.0));
    assert_eq!(fixture.released(1.01), []);
    fixture.ready("a", 1.02);
    assert_eq!(fixture.released(1.02), [ticket]);
}

#[test]
fn an_endpoint_that_answered_starts_over_with_the_shortest_pause() {
    let mut fixture = Fixture::new(|_| ());
    fixture.ready("a", 0.0);
    let (ticket, _) = sent(&mut fixture, 0.0);
    fixture.queue.dial_failed(ticket, fixture.at(1.0));
    assert_eq!(fixture.released(1.1), [ticket]);
    let handed = fixture.queue.hand_over(ticket, fixture.at(1.1)).unwrap();
    fixture.queue.answered(&handed);
    let (next, _) = sent(&mut fixture, 2.0);
    fixture.queue.dial_failed(next, fixture.at(2.0));
    assert_eq!(fixture.released(2.1), [next]);
}

#[test]
fn a_port_that_fails_says_nothing_about_another() {
    let mut fixture = Fixture::new(|_| ());
    fixture.ready("a", 0.0);
    let ticket = fixture.admit(0.0);
    assert_eq!(fixture.released(0.0), [ticket]);
    fixture.queue.dial_failed(ticket, fixture.at(1.0));
    assert_eq!(fixture.released(1.0), []);
    let other = fixture.admit_on(&route(9000), 1.0);
    assert_eq!(fixture.released(1.0), [other]);
}

#[test]
fn being_listed_again_unchanged_does_not_end_being_set_aside() {
    let mut fixture = Fixture::new(|_| ());
    fixture.list(&[("a", "10.0.0.1:8080")], 0.0);
    let ticket = fixture.admit(0.0);
    assert_eq!(fixture.released(0.0), [ticket]);
    fixture.queue.dial_failed(ticket, fixture.at(1.0));
    fixture.list(&[("a", "10.0.0.1:8080"), ("b", "[fd00::2]:1")], 1.01);
    let elsewhere = (ticket, vec!["[fd00::2]:1".to_owned()]);
    assert_eq!(led(&mut fixture, 1.01), elsewhere);
    fixture.list(&[("a", "10.0.0.1:8081")], 1.02);
    let next = fixture.admit(1.02);
    assert_eq!(fixture.released(1.02), [next], "it has another address");
}
