use super::*;

const STARTUP_TIMEOUT: Duration = Duration::from_mins(1);

fn seconds(count: f64) -> Duration {
    Duration::from_secs_f64(count)
}

/// A fleet of `count` replicas, all ready.
fn ready(count: u32, now: Instant) -> Fleet {
    let mut fleet = Fleet::new(STARTUP_TIMEOUT);
    fleet.set_desired(count);
    fleet.decide(now);
    for id in 1..=u64::from(count) {
        assert!(fleet.heard_ready(id, true, now));
    }
    fleet
}

#[test]
fn missing_replicas_are_started_once() {
    let now = Instant::now();
    let mut fleet = Fleet::new(STARTUP_TIMEOUT);
    fleet.set_desired(2);
    assert_eq!(fleet.decide(now), [Action::Start(1), Action::Start(2)]);
    assert_eq!(fleet.decide(now), []);
    assert_eq!((fleet.live(), fleet.started()), (2, 2));
}

#[test]
fn the_unready_and_then_the_youngest_leave_first() {
    let now = Instant::now();
    let mut fleet = ready(3, now);
    fleet.set_desired(5);
    fleet.decide(now);
    fleet.heard_ready(5, true, now);
    fleet.set_desired(2);
    assert_eq!(
        fleet.decide(now),
        [Action::Drain(4), Action::Drain(5), Action::Drain(3)]
    );
    assert_eq!(fleet.live(), 2);
    assert_eq!(fleet.decide(now), []);
}

#[test]
fn a_draining_replica_is_not_revived_by_late_news() {
    let now = Instant::now();
    let mut fleet = ready(1, now);
    fleet.set_desired(0);
    assert_eq!(fleet.decide(now), [Action::Drain(1)]);
    assert!(!fleet.heard_ready(1, true, now));
    assert!(!fleet.fell(1, now), "its end was asked for");
    fleet.ended(1);
    fleet.set_desired(1);
    assert_eq!(fleet.decide(now), [Action::Start(2)]);
}

#[test]
fn a_failing_readiness_takes_the_replica_out_without_a_new_deadline() {
    let now = Instant::now();
    let mut fleet = ready(1, now);
    assert!(fleet.heard_ready(1, false, now));
    assert_eq!(fleet.members()[&1].phase, Phase::Starting);
    assert_eq!(fleet.decide(now + STARTUP_TIMEOUT * 2), []);
}

#[test]
fn crashes_in_a_row_are_replaced_ever_more_slowly() {
    let mut now = Instant::now();
    let mut fleet = Fleet::new(STARTUP_TIMEOUT);
    fleet.set_desired(1);
    fleet.decide(now);
    for (id, pause) in [
        (1, 0.0),
        (2, 0.5),
        (3, 1.0),
        (4, 2.0),
        (5, 4.0),
        (6, 8.0),
        (7, 10.0),
        (8, 10.0),
    ] {
        assert!(fleet.fell(id, now));
        fleet.ended(id);
        if pause > 0.0 {
            assert_eq!(fleet.decide(now), []);
            assert_eq!(fleet.next_decision(), Some(now + seconds(pause)));
        }
        now += seconds(pause);
        assert_eq!(fleet.decide(now), [Action::Start(id + 1)]);
    }
}

#[test]
fn a_replica_that_had_settled_ends_the_row() {
    let now = Instant::now();
    let mut fleet = ready(1, now);
    fleet.fell(1, now);
    fleet.decide(now);
    fleet.heard_ready(2, true, now);
    let later = now + SETTLED;
    fleet.fell(2, later);
    assert_eq!(fleet.decide(later), [Action::Start(3)]);
}

#[test]
fn a_replica_that_never_gets_ready_is_given_up_and_replaced() {
    let now = Instant::now();
    let mut fleet = Fleet::new(STARTUP_TIMEOUT);
    fleet.set_desired(1);
    fleet.decide(now);
    assert_eq!(fleet.next_decision(), Some(now + STARTUP_TIMEOUT));
    let late = now + STARTUP_TIMEOUT;
    assert_eq!(fleet.decide(late), [Action::GiveUp(1), Action::Start(2)]);
}

#[test]
fn nothing_is_replaced_that_is_no_longer_wanted() {
    let now = Instant::now();
    let mut fleet = ready(2, now);
    fleet.fell(1, now);
    fleet.set_desired(1);
    assert_eq!(fleet.decide(now), []);
    assert_eq!(fleet.next_decision(), None);
}
