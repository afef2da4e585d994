//! The shared state's text form, and what a replica makes of each phase.

use super::*;
use crate::{
    rotation::{Change, Observed, step},
    testing::{HOUR, MINUTE, at, quick, request, verify},
};

/// One state of each phase, in their order.
fn phases() -> Vec<Authorities> {
    let mut states = vec![Authorities::new(
        Authority::create(HOUR * 8, at(HOUR)).unwrap(),
    )];
    let retire = Some(states[0].signer().clone());
    for minute in [0, 1, 7] {
        let state = states.last().unwrap();
        let observed = Observed {
            published: Some(state.trusted()),
            retire: retire.clone(),
            ..Observed::default()
        };
        let next = step(&quick(), state, &observed, at(HOUR + MINUTE * minute));
        states.push(next.unwrap().unwrap().0);
    }
    states
}

#[test]
fn every_phase_survives_its_text_form() {
    for state in phases() {
        let text = state.to_json().unwrap();
        let read = Authorities::from_json(&text).unwrap();
        assert_eq!(read.to_json().unwrap(), text);
        assert_eq!(read.trusted(), state.trusted());
        let leaf = read.issue(&request(HOUR), at(HOUR * 2)).unwrap();
        verify(leaf.chain(), &state.bundle().unwrap(), at(HOUR * 2)).unwrap();
    }
}

#[test]
fn the_bundle_holds_what_is_said_to_be_trusted() {
    let sizes = phases()
        .iter()
        .map(|state| {
            let bundle = state.bundle().unwrap();
            assert_eq!(bundle.trusted(), state.trusted());
            bundle.roots().unwrap().len()
        })
        .collect::<Vec<_>>();
    assert_eq!(sizes, [1, 2, 2, 2]);
}

#[test]
fn the_old_key_is_gone_once_the_new_one_signs() {
    let states = phases();
    let key = states[0].current().key_pem();
    let secret = key.lines().nth(1).unwrap();
    assert!(states[2].to_json().unwrap().contains(secret));
    assert!(!states[3].to_json().unwrap().contains(secret));
}

#[test]
fn the_link_is_shown_only_while_the_old_one_is_trusted() {
    let states = phases();
    let shown = |state: &Authorities| {
        let leaf = state.issue(&request(HOUR), at(HOUR * 2)).unwrap();
        leaf.chain().len()
    };
    assert_eq!(states.iter().map(shown).collect::<Vec<_>>(), [1, 1, 1, 2]);
    let observed = Observed {
        published: Some(states[3].trusted()),
        held: Some(Vec::new()),
        retire: None,
    };
    let (last, change) = step(&quick(), &states[3], &observed, at(HOUR * 3))
        .unwrap()
        .unwrap();
    assert_eq!((shown(&last), change), (1, Change::Completed));
}

#[test]
fn a_text_that_is_no_state_is_refused_with_the_reason() {
    let states = phases();
    let both = {
        let announced: serde_json::Value =
            serde_json::from_str(&states[1].to_json().unwrap()).unwrap();
        let mut both: serde_json::Value =
            serde_json::from_str(&states[3].to_json().unwrap()).unwrap();
        both["announced"] = announced["announced"].clone();
        both.to_string()
    };
    let other = Authority::create(HOUR, at(HOUR)).unwrap();
    let mismatched = states[0].to_json().unwrap().replace(
        &states[0]
            .current()
            .key_pem()
            .replace('\n', "\\n")
            .replace('\r', "\\r"),
        &other.key_pem().replace('\n', "\\n").replace('\r', "\\r"),
    );
    let cases = [
        ("{}".to_owned(), "missing field `current`"),
        (both, "only one replacement"),
        (mismatched, "something unusable"),
    ];
    for (text, expected) in cases {
        let error = Authorities::from_json(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
