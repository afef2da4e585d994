//! When a replica renews, and what it refuses to do with an old view.

use super::*;
use crate::{
    authority::Authority,
    rotation::{Observed, step},
    testing::{HOUR, MINUTE, at, quick, request},
};

fn shared() -> Arc<Authorities> {
    let lifetime = quick().authority_lifetime;
    Arc::new(Authorities::new(
        Authority::create(lifetime, at(HOUR)).unwrap(),
    ))
}

fn replica(jitter: f64) -> Replica {
    Replica::new(quick(), request(quick().leaf_lifetime), jitter)
}

/// Returns after how many minutes a replica renews that is asked every minute.
fn renewed_after(jitter: f64) -> u32 {
    let (shared, mut replica) = (shared(), replica(jitter));
    let mut renewals = (0..60).filter(|&minute| {
        let now = at(HOUR + MINUTE * minute);
        replica.confirm(shared.clone(), now).unwrap();
        replica.renew(now).unwrap().is_some()
    });
    assert_eq!(renewals.next(), Some(0));
    renewals.next().unwrap()
}

#[test]
fn a_leaf_is_renewed_after_two_thirds_of_its_life_or_a_little_earlier() {
    assert_eq!(renewed_after(0.0), 40);
    assert_eq!(renewed_after(0.5), 37);
    assert_eq!(renewed_after(1.0), 34);
}

#[test]
fn a_leaf_that_its_authority_cut_short_is_renewed_in_time_too() {
    let authority = Authority::create(MINUTE * 30, at(HOUR)).unwrap();
    let shared = Arc::new(Authorities::new(authority));
    let mut replica = replica(0.0);
    let mut renewals = [0, 19, 20].map(|minute| {
        let now = at(HOUR + MINUTE * minute);
        replica.confirm(shared.clone(), now).unwrap();
        replica.renew(now).unwrap().is_some()
    });
    renewals.reverse();
    assert_eq!(renewals, [true, false, true]);
}

#[test]
fn an_old_view_is_not_acted_on() {
    let (shared, mut replica) = (shared(), replica(0.0));
    assert!(replica.renew(at(HOUR)).unwrap().is_none());
    assert!(replica.bundle(at(HOUR)).is_none());
    replica.confirm(shared.clone(), at(HOUR)).unwrap();
    let leaf = replica.renew(at(HOUR)).unwrap().unwrap();
    assert!(replica.bundle(at(HOUR + MINUTE * 5)).is_some());

    let late = at(HOUR + MINUTE * 50);
    assert!(replica.bundle(late).is_none() && replica.authorities(late).is_none());
    assert!(replica.renew(late).unwrap().is_none());
    assert!(Arc::ptr_eq(replica.leaf().unwrap(), &leaf), "it serves on");
    replica.confirm(shared, late).unwrap();
    assert!(replica.renew(late).unwrap().is_some());
}

#[test]
fn a_new_signer_or_link_is_followed_at_once() {
    let shared = shared();
    let mut state = shared.as_ref().clone();
    let mut replica = replica(0.0);
    let retire = Some(state.signer().clone());
    // Begun, announced, trusted, switched, a renewal by age, completed.
    let mut renewed = Vec::new();
    for minute in [0, 1, 2, 8, 60, 76] {
        let now = at(HOUR + MINUTE * minute);
        let observed = Observed {
            published: Some(state.trusted()),
            held: Some(Vec::new()),
            retire: retire.clone().filter(|_| minute > 0),
        };
        let next = step(&quick(), &state, &observed, now).unwrap();
        state = next.map_or(state, |(next, _)| next);
        replica.confirm(Arc::new(state.clone()), now).unwrap();
        renewed.push(replica.renew(now).unwrap().is_some());
        assert_eq!(replica.leaf().unwrap().issuer(), state.signer());
    }
    assert_eq!(renewed, [true, false, false, true, true, true]);
}

#[test]
fn a_leaf_from_the_future_is_replaced() {
    let (shared, mut replica) = (shared(), replica(0.0));
    let ahead = at(HOUR * 6);
    replica.confirm(shared.clone(), ahead).unwrap();
    replica.renew(ahead).unwrap().unwrap();
    let right = at(HOUR * 2);
    replica.confirm(shared, right).unwrap();
    let leaf = replica.renew(right).unwrap().expect("a new leaf");
    assert!(leaf.validity().contains(right));
}
