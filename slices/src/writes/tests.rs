//! What is written when, case by case.

use std::time::Duration;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions};
use kube::api::ObjectMeta;

use super::*;

pub(super) fn name(name: &str) -> SliceName {
    SliceName {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
    }
}

/// Returns a slice that differs from others in its address type.
pub(super) fn slice(ready: bool, variant: u8) -> EndpointSlice {
    EndpointSlice {
        address_type: format!("variant {variant}"),
        endpoints: vec![Endpoint {
            conditions: Some(EndpointConditions {
                ready: Some(ready),
                ..EndpointConditions::default()
            }),
            ..Endpoint::default()
        }],
        ..EndpointSlice::default()
    }
}

/// Returns the slice as the watch shows it.
pub(super) fn shown(slice: &EndpointSlice, version: u64) -> Published {
    Published::own(Box::new(EndpointSlice {
        metadata: ObjectMeta {
            uid: Some("u".to_owned()),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        },
        ..slice.clone()
    }))
}

pub(super) fn applied(version: u64) -> Outcome {
    Outcome::Applied(Some(version.to_string()))
}

struct Fixture {
    writes: Writes,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        Self {
            writes: Writes::new(Pace::default()),
            now: Instant::now(),
        }
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
    }

    fn want(&mut self, which: &str, ready: bool, variant: u8) {
        let slice = Arc::new(slice(ready, variant));
        self.writes.want(name(which), slice, self.now);
    }

    fn show(&mut self, which: &str, ready: bool, variant: u8, version: u64) {
        let published = shown(&slice(ready, variant), version);
        self.writes.observe(name(which), Some(published), self.now);
    }

    fn gone(&mut self, which: &str) {
        self.writes.observe(name(which), None, self.now);
    }

    fn done(&mut self, which: &str, outcome: Outcome) {
        self.writes.done(&name(which), outcome, self.now);
    }

    /// Returns what is to be written now: `+a` to apply, `-a` to delete.
    fn next(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(write) = self.writes.next(self.now) {
            let sign = if matches!(write, Write::Apply(..)) {
                '+'
            } else {
                '-'
            };
            all.push(format!("{sign}{}", write.name().name));
        }
        all
    }

    /// Returns after how long there is something to write.
    fn wait(&self) -> Option<Duration> {
        let due = self.writes.next_due()?;
        Some(due.saturating_duration_since(self.now))
    }

    /// Returns what is published as wanted, confirmed by the watch as version 1.
    fn settled() -> Self {
        let mut fixture = Self::new();
        fixture.want("a", true, 0);
        assert_eq!(fixture.next(), ["+a"]);
        fixture.done("a", applied(1));
        fixture.show("a", true, 0, 1);
        assert_eq!(fixture.wait(), None);
        fixture
    }
}

const fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn what_becomes_ready_goes_before_what_ends_and_that_before_the_rest() {
    let mut fixture = Fixture::new();
    fixture.show("b", true, 0, 1);
    fixture.show("c", true, 0, 2);
    fixture.show("d", false, 0, 3);
    fixture.writes.unwant(&name("d"), fixture.now);
    fixture.want("a", false, 0);
    fixture.writes.unwant(&name("b"), fixture.now);
    fixture.want("c", false, 0);
    fixture.want("z", true, 0);
    assert_eq!(fixture.next(), ["+z", "-b", "+c", "+a", "-d"]);
}

#[test]
fn among_equals_whoever_waits_longest_goes_first() {
    let mut fixture = Fixture::new();
    fixture.want("b", true, 0);
    fixture.pass(1);
    fixture.want("a", true, 0);
    fixture.pass(1);
    fixture.want("b", true, 1);
    assert_eq!(fixture.next(), ["+b", "+a"]);
}

#[test]
fn what_is_published_already_is_not_written() {
    let mut fixture = Fixture::new();
    fixture.show("a", true, 0, 1);
    fixture.want("a", true, 0);
    fixture.writes.unwant(&name("b"), fixture.now);
    assert_eq!(fixture.wait(), None);
    assert_eq!(fixture.next(), [""; 0]);
}

#[test]
fn what_the_watch_shows_late_is_not_written_again() {
    let mut fixture = Fixture::settled();
    fixture.want("a", false, 0);
    assert_eq!(fixture.next(), ["+a"]);
    fixture.show("a", true, 0, 1);
    assert_eq!(fixture.next(), [""; 0], "one write at a time");
    fixture.done("a", applied(2));
    fixture.show("a", true, 0, 1);
    assert_eq!(fixture.next(), [""; 0], "it is shown as it was before");
    fixture.pass(4999);
    assert_eq!(fixture.next(), [""; 0]);
    fixture.show("a", false, 0, 2);
    assert_eq!(fixture.wait(), None);
}

#[test]
fn what_the_watch_never_shows_is_written_again_after_a_while() {
    let mut fixture = Fixture::settled();
    fixture.want("a", false, 0);
    assert_eq!(fixture.next(), ["+a"]);
    fixture.done("a", applied(2));
    assert_eq!(fixture.wait(), Some(milliseconds(5000)));
    fixture.pass(5000);
    assert_eq!(fixture.next(), ["+a"]);
}

#[test]
fn a_deletion_that_the_watch_shows_late_is_not_repeated() {
    let mut fixture = Fixture::settled();
    fixture.writes.unwant(&name("a"), fixture.now);
    assert_eq!(fixture.next(), ["-a"]);
    fixture.done("a", Outcome::Deleted);
    fixture.show("a", true, 0, 2);
    assert_eq!(fixture.next(), [""; 0]);
    assert!(
        !fixture.writes.remain(fixture.now),
        "we know that it is gone"
    );
    fixture.gone("a");
    assert_eq!(fixture.wait(), None);
}

#[test]
fn a_watch_that_does_not_know_the_slice_yet_does_not_show_its_deletion() {
    let mut fixture = Fixture::new();
    for version in [1, 3] {
        fixture.want("a", true, 0);
        assert_eq!(fixture.next(), ["+a"]);
        fixture.done("a", applied(version));
        fixture.writes.unwant(&name("a"), fixture.now);
        assert_eq!(fixture.next(), ["-a"]);
        fixture.done("a", Outcome::Deleted);
    }
    for version in [1, 3] {
        fixture.show("a", true, 0, version);
        assert_eq!(fixture.next(), [""; 0]);
        fixture.gone("a");
        assert_eq!(fixture.next(), [""; 0]);
    }
    fixture.show("a", true, 0, 5);
    assert_eq!(fixture.next(), ["-a"], "somebody has brought it back");
}

#[test]
fn a_deletion_that_the_watch_never_shows_is_doubted_after_a_while() {
    let mut fixture = Fixture::settled();
    fixture.writes.unwant(&name("a"), fixture.now);
    assert_eq!(fixture.next(), ["-a"]);
    fixture.done("a", Outcome::Deleted);
    fixture.pass(5000);
    assert!(fixture.writes.remain(fixture.now));
    assert_eq!(fixture.next(), ["-a"]);
}

#[test]
fn the_watch_may_be_quicker_than_the_answer() {
    let mut fixture = Fixture::settled();
    fixture.want("a", false, 0);
    assert_eq!(fixture.next(), ["+a"]);
    fixture.show("a", false, 0, 2);
    fixture.done("a", applied(2));
    fixture.show("a", true, 0, 3);
    assert_eq!(
        fixture.next(),
        ["+a"],
        "what comes after that is somebody else's doing"
    );
}

#[test]
fn a_change_of_mind_during_a_write_is_written_after_it() {
    let mut fixture = Fixture::settled();
    fixture.want("a", false, 0);
    assert_eq!(fixture.next(), ["+a"]);
    fixture.want("a", true, 0);
    assert_eq!(fixture.next(), [""; 0]);
    fixture.done("a", applied(2));
    assert_eq!(
        fixture.next(),
        ["+a"],
        "although the watch still shows it ready"
    );
    fixture.done("a", applied(3));
    fixture.show("a", false, 0, 2);
    assert_eq!(fixture.next(), [""; 0]);
    fixture.show("a", true, 0, 3);
    assert_eq!(fixture.wait(), None);
}

#[test]
fn what_somebody_keeps_changing_is_put_right_more_slowly_each_time() {
    let mut fixture = Fixture::settled();
    let mut waits = Vec::new();
    for round in 0..12 {
        fixture.show("a", false, 0, 100 + 2 * round);
        let wait = fixture.wait().unwrap();
        waits.push(wait.as_secs());
        fixture.now += wait;
        assert_eq!(fixture.next(), ["+a"]);
        fixture.done("a", applied(101 + 2 * round));
        fixture.show("a", true, 0, 101 + 2 * round);
    }
    assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    fixture.show("a", false, 0, 200);
    fixture.want("a", true, 1);
    assert_eq!(fixture.next(), ["+a"], "what is new is written at once");
    fixture.done("a", applied(201));
    fixture.show("a", true, 1, 201);
    fixture.pass(600_000);
    fixture.show("a", false, 1, 202);
    assert_eq!(fixture.next(), ["+a"]);
    fixture.done("a", applied(203));
    fixture.show("a", false, 1, 204);
    fixture.pass(5000);
    assert_eq!(fixture.next(), ["+a"], "after a quiet time it begins anew");
}

#[test]
fn what_is_shown_otherwise_than_it_was_written_is_a_conflict_as_well() {
    let mut fixture = Fixture::settled();
    // Somebody changes every write on its way in, so that it does not differ from what is there.
    fixture.show("a", false, 0, 2);
    for wait in [0, 1, 2, 4] {
        assert_eq!(fixture.wait(), Some(milliseconds(wait * 1000)));
        fixture.pass(wait * 1000);
        assert_eq!(fixture.next(), ["+a"]);
        fixture.done("a", applied(2));
    }
}

#[test]
fn a_slice_that_somebody_deletes_comes_back() {
    let mut fixture = Fixture::settled();
    fixture.gone("a");
    assert_eq!(fixture.next(), ["+a"]);
}

#[test]
fn a_slice_that_somebody_brings_back_is_deleted_more_slowly_each_time() {
    let mut fixture = Fixture::settled();
    fixture.writes.unwant(&name("a"), fixture.now);
    for wait in [0, 0, 1, 2] {
        assert_eq!(fixture.wait(), Some(milliseconds(wait * 1000)));
        fixture.pass(wait * 1000);
        assert_eq!(fixture.next(), ["-a"]);
        fixture.done("a", Outcome::Deleted);
        fixture.gone("a");
        fixture.show("a", true, 0, 5);
    }
}

#[test]
fn what_fails_waits_and_holds_up_nothing_else() {
    let mut fixture = Fixture::new();
    fixture.want("a", true, 0);
    for wait in [250, 500, 1000, 2000, 4000, 8000, 15000, 15000] {
        assert_eq!(fixture.next(), ["+a"]);
        fixture.done("a", Outcome::Failed);
        assert_eq!(fixture.wait(), Some(milliseconds(wait)));
        fixture.pass(wait - 1);
        assert_eq!(fixture.next(), [""; 0]);
        fixture.pass(1);
    }
    fixture.want("b", false, 0);
    assert_eq!(fixture.next(), ["+a", "+b"]);
    fixture.done("a", applied(1));
    fixture.want("a", false, 0);
    assert_eq!(fixture.next(), ["+a"], "a success ends it");
}

#[test]
fn an_apply_that_failed_may_have_been_done_and_is_deleted_then() {
    let mut fixture = Fixture::new();
    fixture.want("a", true, 0);
    assert_eq!(fixture.next(), ["+a"]);
    fixture.done("a", Outcome::Failed);
    fixture.writes.unwant(&name("a"), fixture.now);
    assert!(fixture.writes.remain(fixture.now));
    fixture.pass(250);
    assert_eq!(fixture.next(), ["-a"]);
    fixture.done("a", Outcome::Deleted);
    assert!(!fixture.writes.remain(fixture.now));
    assert_eq!(fixture.wait(), None);
}

#[test]
fn so_many_come_at_once_and_so_many_a_second() {
    let mut fixture = Fixture::new();
    for number in 0..300 {
        fixture.want(&format!("a{number}"), false, 0);
    }
    assert_eq!(fixture.next().len(), 100);
    assert_eq!(fixture.wait(), Some(milliseconds(25)));
    let mut written = 0;
    for _ in 0..40 {
        fixture.pass(25);
        written += fixture.next().len();
    }
    assert_eq!(written, 40);
    fixture.want("b", true, 0);
    fixture.pass(25);
    assert_eq!(fixture.next(), ["+b"], "goes before those that wait");
}

#[test]
fn deletions_are_not_kept_by_what_is_applied_and_are_bounded_themselves() {
    let mut fixture = Fixture::new();
    for number in 0..1000 {
        fixture.show(&format!("a{number}"), true, 0, 1);
    }
    for number in 0..200 {
        fixture.want(&format!("b{number}"), true, 0);
    }
    assert_eq!(fixture.next().len(), 100);
    for number in 0..1000 {
        let leaving = name(&format!("a{number}"));
        fixture.writes.unwant(&leaving, fixture.now);
    }
    assert_eq!(fixture.next().len(), 600);
    fixture.pass(25);
    let written = fixture.next();
    let deleted = written.iter().filter(|write| write.starts_with('-'));
    assert_eq!((deleted.count(), written.len()), (6, 7), "{written:?}");
}

#[test]
fn a_slice_of_another_is_deleted_only_as_it_was_seen() {
    let mut fixture = Fixture::new();
    let seen = EndpointSlice {
        metadata: ObjectMeta {
            uid: Some("u".to_owned()),
            resource_version: Some("7".to_owned()),
            ..ObjectMeta::default()
        },
        ..slice(true, 0)
    };
    let condemn = |fixture: &mut Fixture| {
        let seen = Published::foreign(&seen);
        fixture.writes.condemn(name("x"), seen, fixture.now);
    };
    condemn(&mut fixture);
    let Some(Write::Delete(_, Some(untouched))) = fixture.writes.next(fixture.now) else {
        panic!("nothing is deleted");
    };
    assert_eq!(untouched.uid.as_deref(), Some("u"));
    assert_eq!(untouched.resource_version.as_deref(), Some("7"));
    assert!(!fixture.writes.remain(fixture.now), "it is not ours");
    assert_eq!(fixture.writes.standing(fixture.now).count(), 0);
    fixture.writes.pardon(&name("x"), fixture.now);
    fixture.done("x", Outcome::Failed);
    assert_eq!(fixture.wait(), None, "nothing is wished of it any more");
    condemn(&mut fixture);
    fixture.writes.pardon(&name("x"), fixture.now);
    assert_eq!(fixture.next(), [""; 0]);
}

#[test]
fn what_is_left_over_stays_until_it_is_not_wanted() {
    let mut fixture = Fixture::new();
    fixture.show("a", true, 0, 1);
    fixture.show("b", true, 0, 2);
    fixture.want("b", true, 0);
    assert_eq!(fixture.next(), [""; 0]);
    assert_eq!(fixture.writes.ready(&name("a"), fixture.now), Some(true));
    fixture.writes.unwant_leftovers(fixture.now);
    assert_eq!(fixture.next(), ["-a"]);
}

#[test]
fn what_is_long_gone_is_forgotten() {
    let mut fixture = Fixture::settled();
    fixture.writes.unwant(&name("a"), fixture.now);
    assert_eq!(fixture.next(), ["-a"]);
    fixture.done("a", Outcome::Deleted);
    fixture.gone("a");
    fixture.pass(600_000);
    fixture.next();
    assert!(fixture.writes.records.is_empty());
}
