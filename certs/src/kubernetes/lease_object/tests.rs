//! The Lease against a scripted API server.

use super::*;
use crate::{
    kubernetes::scripted::Server,
    lease::Contender,
    testing::{HOUR, at},
};

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/system/leases/certs";
const TERM: Duration = Duration::from_secs(15);

fn contender(server: &Server, name: &str) -> Contender<LeaseObject> {
    let register = LeaseObject::new(server.client(), "system", "certs");
    Contender::new(register, name.to_owned(), TERM)
}

#[tokio::test]
async fn a_lease_goes_from_its_first_holder_to_its_second() {
    let server = Server::default();
    let (mut one, mut other) = (contender(&server, "one"), contender(&server, "other"));
    assert!(one.lead(at(HOUR)).await.unwrap());
    assert!(!other.lead(at(HOUR)).await.unwrap());
    assert!(other.lead(at(HOUR + TERM * 2)).await.unwrap());
    assert!(!one.lead(at(HOUR + TERM * 2)).await.unwrap());

    let lease = &server.object(PATH).unwrap()["spec"];
    assert_eq!(lease["holderIdentity"], "other");
    assert_eq!(lease["leaseDurationSeconds"], 15);
    assert_eq!(lease["leaseTransitions"], 1);
    assert_eq!(lease["renewTime"], "2027-01-15T09:00:30.000000Z");
}

#[tokio::test]
async fn a_record_survives_its_object() {
    let server = Server::default();
    let register = LeaseObject::new(server.client(), "system", "certs");
    let written = LeaseRecord {
        holder: "one".to_owned(),
        duration: TERM,
        acquired: at(HOUR),
        renewed: at(HOUR * 2),
        transitions: 3,
    };
    let (none, absent) = register.read().await.unwrap();
    assert_eq!(none, None);
    register.write(&written, &absent).await.unwrap().unwrap();
    assert_eq!(register.read().await.unwrap().0, Some(written.clone()));
    assert_eq!(register.write(&written, &absent).await.unwrap(), None);
}

#[tokio::test]
async fn of_two_that_take_an_ended_lease_one_gets_it() {
    let server = Server::default();
    let elsewhere = Server::default();
    contender(&server, "old").lead(at(HOUR)).await.unwrap();
    contender(&elsewhere, "rival").lead(at(HOUR)).await.unwrap();

    let mut late = contender(&server, "late");
    assert!(!late.lead(at(HOUR)).await.unwrap());
    server.put_before_next_write(PATH, elsewhere.object(PATH).unwrap());
    assert!(!late.lead(at(HOUR + TERM * 2)).await.unwrap());
    assert_eq!(
        server.object(PATH).unwrap()["spec"]["holderIdentity"],
        "rival"
    );
}

#[tokio::test]
async fn a_lease_that_somebody_else_made_keeps_its_labels() {
    let server = Server::default();
    let lease = serde_json::json!({"metadata": {"name": "certs", "labels": {"owner": "chart"}}});
    server.put(PATH, lease);
    let mut contender = contender(&server, "one");
    assert!(contender.lead(at(HOUR)).await.unwrap());
    assert!(contender.lead(at(HOUR)).await.unwrap());
    let lease = server.object(PATH).unwrap();
    assert_eq!(lease["metadata"]["labels"]["owner"], "chart");
    assert_eq!(lease["spec"]["holderIdentity"], "one");
}
