//! Several routes of one workload, and both sources of endpoints.

use super::*;

#[test]
fn each_route_leads_to_its_own_port() {
    let mut fixture = Fixture::new(|_| ());
    fixture.ready("a", 0.0);
    for (app, address) in [
        (8080, "10.0.0.1:15080"),
        (9000, "10.0.0.1:15081"),
        (7000, "10.0.0.1:7000"),
    ] {
        let ticket = fixture.admit_on(&route(app), 1.0);
        let expected = (ticket, vec![address.to_owned()]);
        assert_eq!(led(&mut fixture, 1.0), expected);
        fixture.queue.leave(ticket, fixture.at(1.0));
    }
}

#[test]
fn either_source_releases_and_what_the_aggregator_told_goes_first() {
    let mut fixture = Fixture::new(|_| ());
    let ticket = fixture.admit(0.0);
    fixture.list(&[("a", "10.0.0.1:8080")], 1.0);
    let listed = (ticket, vec!["10.0.0.1:8080".to_owned()]);
    assert_eq!(led(&mut fixture, 1.0), listed);

    fixture.ready("a", 2.0);
    assert_eq!(fixture.queue.endpoints().iter().count(), 1, "the same pod");
    let ticket = fixture.admit(2.0);
    let addresses = ["10.0.0.1:15080", "10.0.0.1:8080"].map(str::to_owned);
    assert_eq!(led(&mut fixture, 2.0), (ticket, addresses.into()));
}

#[test]
fn an_endpoint_is_there_while_either_source_has_it() {
    let mut fixture = Fixture::new(|settings| settings.max_held = 10);
    fixture.ready("a", 0.0);
    fixture.list(&[("a", "10.0.0.1:8080")], 0.0);
    fixture.queue.endpoint_gone("a");
    let ticket = fixture.admit(1.0);
    assert_eq!(led(&mut fixture, 1.0).0, ticket);
    let other = fixture.admit_on(&route(9000), 1.0);
    assert_eq!(fixture.released(1.0), [], "it is listed for one route only");
    fixture.list(&[], 2.0);
    fixture.admit(2.0);
    assert_eq!(fixture.released(2.0), []);
    fixture.ready("a", 3.0);
    assert!(fixture.released(3.0).contains(&other));
}

#[test]
fn a_route_without_endpoints_keeps_no_other_waiting() {
    let mut fixture = Fixture::new(|_| ());
    let unready = route(9000);
    let stuck = [0.0; 3].map(|seconds| fixture.admit_on(&unready, seconds));
    assert_eq!(fixture.try_admit(10, 0.0), Err(Refusal::Requests));
    fixture.list(&[("a", "10.0.0.1:8080")], 1.0);
    let ticket = fixture.admit(1.0);
    assert_eq!(fixture.released(1.0), [ticket], "past those who wait");
    assert_eq!(
        fixture.queue.admit(&unready, 10, fixture.at(1.0)),
        Err(Refusal::Requests)
    );
    fixture.ready("a", 2.0);
    assert_eq!(fixture.released(2.0).first(), stuck.first());
}

#[test]
fn routes_share_one_wake() {
    let mut fixture = Fixture::new(|_| ());
    let (first, other) = (fixture.admit(0.0), fixture.admit_on(&route(9000), 0.0));
    fixture.ready("a", 1.0);
    assert_eq!(fixture.released(1.0), [first, other], "as they came");
    let now = fixture.at(1.0);
    let mut told = |ticket| fixture.queue.hand_over(ticket, now).unwrap().wake;
    assert!(told(first).is_some());
    assert_eq!(told(other), None);
}

#[test]
fn of_an_unavailable_workload_the_ports_that_run_are_served() {
    let mut fixture = Fixture::new(|_| ());
    fixture.unavailable("paused");
    fixture.list(&[("a", "10.0.0.1:8080")], 0.0);
    fixture.admit(1.0);
    let refused = fixture.queue.admit(&route(9000), 10, fixture.at(1.0));
    assert_eq!(refused, Err(Refusal::Unavailable("paused".into())));
}
