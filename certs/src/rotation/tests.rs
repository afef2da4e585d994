//! A rotation step by step, and what holds it up.

use super::*;
use crate::testing::{HOUR, MINUTE, at, quick};

fn begun() -> Authorities {
    Authorities::new(Authority::create(quick().authority_lifetime, at(Duration::ZERO)).unwrap())
}

/// Takes the step that must be due.
fn due(state: &Authorities, observed: &Observed, now: Timestamp) -> (Authorities, Change) {
    step(&quick(), state, observed, now)
        .unwrap()
        .expect("a step is due")
}

fn none_due(state: &Authorities, observed: &Observed, now: Timestamp) {
    let next = step(&quick(), state, observed, now).unwrap();
    assert_eq!(next.map(|(_, change)| change), None);
}

/// Everybody holds what the state says, and somebody may hold more.
fn seen(state: &Authorities) -> Observed {
    Observed {
        published: Some(state.trusted()),
        held: Some(vec![state.trusted()]),
        retire: None,
    }
}

fn announced_at(now: Timestamp) -> Authorities {
    let state = begun();
    let observed = Observed {
        retire: Some(state.signer().clone()),
        ..Observed::default()
    };
    due(&state, &observed, now).0
}

fn overlapping_at(now: Timestamp) -> Authorities {
    let state = announced_at(now - quick().settle);
    let (state, _) = due(&state, &seen(&state), now - quick().settle);
    let (state, change) = due(&state, &seen(&state), now);
    assert_eq!(change, Change::Switched);
    state
}

#[test]
fn a_rotation_runs_from_the_middle_of_an_authoritys_life() {
    let state = begun();
    let first = state.signer().clone();
    none_due(&state, &seen(&state), at(HOUR * 3 + MINUTE * 59));

    let (state, change) = due(&state, &seen(&state), at(HOUR * 4));
    assert_eq!(change, Change::Announced);
    assert_eq!(state.signer(), &first, "it is announced and must not sign");
    assert!(state.link().is_none());

    let (state, change) = due(&state, &seen(&state), at(HOUR * 4 + MINUTE));
    assert_eq!(change, Change::Trusted);
    none_due(&state, &seen(&state), at(HOUR * 4 + MINUTE * 5));

    let (state, change) = due(&state, &seen(&state), at(HOUR * 4 + MINUTE * 6));
    assert_eq!(change, Change::Switched);
    assert_ne!(state.signer(), &first);
    assert!(state.trusted().contains(&first));

    // A leaf's life, a settle time and twice the skew later.
    none_due(&state, &seen(&state), at(HOUR * 5 + MINUTE * 13));
    let (state, change) = due(&state, &seen(&state), at(HOUR * 5 + MINUTE * 14));
    assert_eq!(change, Change::Completed);
    assert!(!state.trusted().contains(&first));
    none_due(&state, &seen(&state), at(HOUR * 5 + MINUTE * 14));
}

#[test]
fn nothing_signs_before_it_is_published_and_settled() {
    let state = announced_at(at(HOUR));
    none_due(&state, &Observed::default(), at(HOUR + MINUTE * 30));
    let without = Observed {
        published: Some(begun().trusted()),
        ..Observed::default()
    };
    none_due(&state, &without, at(HOUR + MINUTE * 30));

    let (state, _) = due(&state, &seen(&state), at(HOUR + MINUTE * 30));
    let (state, change) = due(&state, &without, at(HOUR + MINUTE * 31));
    assert_eq!(change, Change::Distrusted);
    let (state, change) = due(&state, &seen(&state), at(HOUR + MINUTE * 32));
    assert_eq!(change, Change::Trusted);
    none_due(&state, &seen(&state), at(HOUR + MINUTE * 36));
    none_due(&state, &Observed::default(), at(HOUR + MINUTE * 38));
    due(&state, &seen(&state), at(HOUR + MINUTE * 38));
}

#[test]
fn a_wish_to_retire_concerns_only_the_authority_it_names() {
    let state = begun();
    let wish = |fingerprint: &Fingerprint| Observed {
        retire: Some(fingerprint.clone()),
        ..seen(&state)
    };
    none_due(&state, &wish(begun().signer()), at(HOUR));
    let (_, change) = due(&state, &wish(state.signer()), at(HOUR));
    assert_eq!(change, Change::Announced);
}

#[test]
fn an_old_authority_is_kept_while_anybody_holds_only_it() {
    let state = overlapping_at(at(HOUR));
    let later = at(HOUR * 4);
    let old: Trusted = match state.phase() {
        Phase::Overlapping(previous) => [previous.certificate.fingerprint().clone()],
        other => panic!("{other:?}"),
    }
    .into_iter()
    .collect();
    let pod = Observed {
        held: Some(vec![state.trusted(), old.clone()]),
        ..seen(&state)
    };
    none_due(&state, &pod, later);
    let configuration = Observed {
        published: Some(old),
        ..seen(&state)
    };
    none_due(&state, &configuration, later);
    due(&state, &seen(&state), later);
}

#[test]
fn what_is_not_known_is_no_reason_to_forget() {
    let state = overlapping_at(at(HOUR));
    for unknown in [
        Observed {
            held: None,
            ..seen(&state)
        },
        Observed {
            published: None,
            ..seen(&state)
        },
    ] {
        none_due(&state, &unknown, at(HOUR * 4));
    }
    // Until the old one has expired: then it serves nobody.
    due(&state, &Observed::default(), at(HOUR * 8 + MINUTE * 2));
}

#[test]
fn a_pod_that_never_ends_does_not_hold_up_the_next_rotation() {
    let young = overlapping_at(at(MINUTE * 10));
    let nobody_knows = Observed::default();
    none_due(&young, &nobody_knows, at(HOUR * 4));
    let (_, change) = due(&young, &nobody_knows, at(HOUR * 4 + MINUTE * 5));
    assert_eq!(change, Change::Completed);
}

#[test]
fn a_successor_that_nobody_publishes_signs_after_a_leafs_life() {
    let state = announced_at(at(HOUR * 4));
    none_due(&state, &Observed::default(), at(HOUR * 4 + MINUTE * 59));
    let (_, change) = due(&state, &Observed::default(), at(HOUR * 5));
    assert_eq!(change, Change::Switched);
}

#[test]
fn a_cluster_that_slept_too_long_begins_anew() {
    for state in [begun(), overlapping_at(at(HOUR))] {
        let (after, change) = due(&state, &seen(&state), at(HOUR * 24));
        assert_eq!(change, Change::Restarted);
        assert!(
            after
                .current()
                .certificate()
                .validity()
                .contains(at(HOUR * 24))
        );
    }
}

#[test]
fn a_clock_that_was_set_back_moves_nothing() {
    let state = announced_at(at(HOUR * 4));
    let (state, _) = due(&state, &seen(&state), at(HOUR * 4));
    none_due(&state, &seen(&state), at(HOUR));
    none_due(&overlapping_at(at(HOUR * 4)), &seen(&state), at(HOUR));
}

#[test]
fn a_switch_that_a_wrong_clock_dated_ahead_is_forgotten_with_its_authority() {
    let mut state = overlapping_at(at(HOUR));
    if let Phase::Overlapping(previous) = &mut state.phase {
        previous.since = at(HOUR * 24 * 365);
    }
    none_due(&state, &seen(&state), at(HOUR * 8));
    let (_, change) = due(&state, &seen(&state), at(HOUR * 8 + MINUTE * 2));
    assert_eq!(change, Change::Completed);
}

#[test]
fn settings_that_leave_a_gap_are_refused_with_what_would_do() {
    Settings::default().validate().unwrap();
    let error = |settings: Settings| settings.validate().unwrap_err().to_string();
    let leaf = error(Settings {
        leaf_lifetime: MINUTE * 18,
        ..quick()
    });
    assert!(leaf.contains("360s"), "{leaf}");
    let authority = error(Settings {
        authority_lifetime: HOUR * 7,
        ..quick()
    });
    assert!(authority.contains("28800s"), "{authority}");
    let skew = error(Settings {
        clock_skew: HOUR * 2,
        leaf_lifetime: HOUR * 9,
        authority_lifetime: HOUR * 900,
        ..quick()
    });
    assert!(skew.contains("7200s"), "{skew}");
}
