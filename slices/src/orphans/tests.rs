//! Whose slices go, and when.

use k8s_openapi::api::discovery::v1::EndpointSlice;
use proptest::prelude::*;

use super::*;

fn replica(uid: &str, running: bool, terminating: bool) -> Replica {
    Replica {
        uid: uid.to_owned(),
        name: format!("pod-{uid}"),
        running,
        terminating,
    }
}

fn alive(uid: &str) -> Replica {
    replica(uid, true, false)
}

fn name(name: &str) -> SliceName {
    SliceName {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
    }
}

fn published() -> Published {
    Published::foreign(&EndpointSlice::default())
}

struct Fixture {
    orphans: Orphans,
    now: Instant,
}

impl Fixture {
    /// Returns what one replica, `me`, knows: of `it` too, which has published a slice.
    fn new() -> Self {
        let mut fixture = Self {
            orphans: Orphans::new("me".to_owned()),
            now: Instant::now(),
        };
        fixture.replicas(vec![alive("me"), alive("it")]);
        fixture.publish("web-it", "it");
        fixture
    }

    fn publish(&mut self, slice: &str, uid: &str) {
        let pod = format!("pod-{uid}");
        self.orphans
            .observe(name(slice), (uid, &pod), published(), self.now);
    }

    fn replicas(&mut self, replicas: Vec<Replica>) {
        self.orphans.replicas(replicas, self.now);
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
    }

    fn question(&mut self) -> Option<Question> {
        self.orphans.next_question(self.now)
    }

    /// Whether it is asked about the pod of `it`.
    fn asks(&mut self) -> bool {
        let question = self.question();
        assert!(question.as_ref().is_none_or(|question| *question == it()));
        question.is_some()
    }

    fn answer(&mut self, answer: Option<Replica>) {
        let answer = answer.map_or(Answer::NoPod, Answer::Pod);
        self.orphans.answered(&it(), answer, self.now);
    }

    /// Returns what is decided now: `-x` if it is to be deleted, `=x` if it is not after all.
    fn verdicts(&mut self) -> Vec<String> {
        let verdicts = self.orphans.verdicts(self.now).into_iter();
        let named = verdicts.map(|verdict| match verdict {
            Verdict::Condemned(name, _) => format!("-{}", name.name),
            Verdict::Pardoned(name) => format!("={}", name.name),
        });
        named.collect()
    }

    fn wait(&self) -> Option<Duration> {
        let due = self.orphans.next_due()?;
        Some(due.saturating_duration_since(self.now))
    }
}

fn it() -> Question {
    Question {
        uid: "it".to_owned(),
        pod: "pod-it".to_owned(),
    }
}

#[test]
fn slices_of_who_lives_stay() {
    let mut fixture = Fixture::new();
    assert!(!fixture.asks());
    assert_eq!(fixture.verdicts(), [""; 0]);
    assert_eq!(fixture.wait(), None);
    assert_eq!(fixture.orphans.live().unwrap(), ["it", "me"]);
}

#[test]
fn nobody_is_suspected_before_the_replicas_are_known() {
    let mut orphans = Orphans::new("me".to_owned());
    let now = Instant::now();
    orphans.observe(name("web-it"), ("it", "pod-it"), published(), now);
    assert_eq!(orphans.next_question(now), None);
    assert_eq!(orphans.live(), None);
    orphans.replicas(vec![alive("me")], now);
    assert_eq!(orphans.next_question(now), Some(it()));
}

#[test]
fn slices_of_a_pod_that_is_gone_go_once_the_api_server_has_said_so() {
    let mut fixture = Fixture::new();
    fixture.publish("cart-it", "it");
    fixture.replicas(vec![alive("me")]);
    assert!(fixture.asks());
    assert!(!fixture.asks(), "once");
    assert_eq!(fixture.verdicts(), [""; 0], "not before the answer");
    fixture.answer(None);
    assert_eq!(fixture.verdicts(), ["-cart-it", "-web-it"]);
    assert_eq!(fixture.verdicts(), [""; 0], "once");
    fixture.publish("late-it", "it");
    assert_eq!(
        fixture.verdicts(),
        ["-late-it"],
        "what comes to light later as well"
    );
}

#[test]
fn another_pod_of_that_name_is_not_the_same() {
    let mut fixture = Fixture::new();
    fixture.replicas(vec![alive("me")]);
    assert!(fixture.asks());
    fixture.answer(Some(alive("new")));
    assert_eq!(fixture.verdicts(), ["-web-it"]);
}

#[test]
fn a_pod_that_lives_after_all_is_asked_about_again_and_again() {
    let mut fixture = Fixture::new();
    fixture.replicas(vec![alive("me")]);
    for wait in [1, 2, 4, 8, 16, 30, 30] {
        assert!(fixture.asks());
        fixture.answer(Some(alive("it")));
        assert_eq!(fixture.verdicts(), [""; 0]);
        assert!(!fixture.asks());
        assert_eq!(fixture.wait(), Some(Duration::from_secs(wait)));
        fixture.pass(wait * 1000);
    }
    fixture.replicas(vec![alive("me"), alive("it")]);
    assert!(!fixture.asks());
    assert_eq!(fixture.wait(), None);
}

#[test]
fn without_an_answer_nothing_goes() {
    let mut fixture = Fixture::new();
    fixture.replicas(vec![alive("me")]);
    assert!(fixture.asks());
    fixture
        .orphans
        .answered(&it(), Answer::Silence, fixture.now);
    assert_eq!(fixture.verdicts(), [""; 0]);
    assert!(!fixture.asks());
    fixture.pass(1000);
    assert!(fixture.asks());
    fixture.answer(None);
    assert_eq!(fixture.verdicts(), ["-web-it"]);
}

#[test]
fn a_container_that_ended_may_start_again_in_a_moment() {
    let mut fixture = Fixture::new();
    fixture.replicas(vec![alive("me"), replica("it", false, false)]);
    assert_eq!(fixture.orphans.live().unwrap(), ["me"]);
    assert!(!fixture.asks());
    assert_eq!(fixture.wait(), Some(STOPPED));
    fixture.pass(900);
    fixture.replicas(vec![alive("me"), alive("it")]);
    fixture.pass(10_000);
    assert!(!fixture.asks());
    fixture.replicas(vec![alive("me"), replica("it", false, false)]);
    fixture.pass(1000);
    assert!(fixture.asks());
    fixture.answer(Some(replica("it", false, false)));
    assert_eq!(fixture.verdicts(), ["-web-it"]);
    fixture.replicas(vec![alive("me"), alive("it")]);
    assert_eq!(fixture.verdicts(), ["=web-it"]);
}

#[test]
fn a_pod_that_is_being_deleted_has_time_to_withdraw_its_slices_itself() {
    let mut fixture = Fixture::new();
    fixture.replicas(vec![alive("me"), replica("it", true, true)]);
    assert_eq!(fixture.orphans.live().unwrap(), ["me"]);
    fixture.pass(29_999);
    assert!(!fixture.asks());
    fixture.pass(1);
    assert!(fixture.asks());
    fixture.answer(Some(replica("it", true, true)));
    assert_eq!(fixture.verdicts(), ["-web-it"]);
}

#[test]
fn that_it_is_being_deleted_does_not_bear_out_that_it_is_gone() {
    let mut fixture = Fixture::new();
    fixture.replicas(vec![alive("me")]);
    assert!(fixture.asks());
    fixture.answer(Some(replica("it", true, true)));
    assert_eq!(fixture.verdicts(), [""; 0]);
}

#[test]
fn when_it_ends_while_it_is_being_deleted_nobody_waits_any_longer() {
    let mut fixture = Fixture::new();
    fixture.replicas(vec![alive("me"), replica("it", true, true)]);
    fixture.pass(5000);
    fixture.replicas(vec![alive("me")]);
    assert!(fixture.asks());
}

#[test]
fn a_slice_that_was_written_meanwhile_is_asked_about_again() {
    let mut fixture = Fixture::new();
    fixture.replicas(vec![alive("me")]);
    assert!(fixture.asks());
    fixture.answer(None);
    assert_eq!(fixture.verdicts(), ["-web-it"]);
    fixture.publish("web-it", "it");
    assert_eq!(fixture.verdicts(), ["=web-it"]);
    assert!(!fixture.asks());
    fixture.pass(1000);
    assert!(fixture.asks());
}

#[test]
fn a_slice_that_is_gone_is_nobodys_business() {
    let mut fixture = Fixture::new();
    fixture.replicas(vec![alive("me")]);
    assert!(fixture.asks());
    fixture.answer(None);
    assert_eq!(fixture.verdicts(), ["-web-it"]);
    fixture.orphans.forget(&name("web-it"));
    assert_eq!(fixture.verdicts(), ["=web-it"]);
    fixture.pass(10_000);
    assert!(!fixture.asks());
    assert_eq!(fixture.wait(), None);
    assert_eq!(fixture.orphans.suspects().count(), 0);
}

#[test]
fn an_answer_does_not_count_for_ever() {
    let mut fixture = Fixture::new();
    fixture.replicas(vec![alive("me")]);
    assert!(fixture.asks());
    fixture.answer(None);
    assert_eq!(fixture.verdicts(), ["-web-it"]);
    assert_eq!(fixture.wait(), Some(COUNTS));
    fixture.pass(10_000);
    assert!(fixture.asks());
    assert_eq!(fixture.verdicts(), ["=web-it"]);
}

#[test]
fn a_slice_that_does_not_name_its_pod_goes_after_long() {
    let mut fixture = Fixture::new();
    let unnamed = ("it", "");
    fixture
        .orphans
        .observe(name("web-it"), unnamed, published(), fixture.now);
    fixture.replicas(vec![alive("me")]);
    fixture.pass(59_999);
    assert!(!fixture.asks());
    assert_eq!(fixture.verdicts(), [""; 0]);
    fixture.pass(1);
    assert_eq!(fixture.verdicts(), ["-web-it"]);
}

/// One of those who are left, with its own view.
fn survivor(uid: &str, survivors: &[String], now: Instant) -> Fixture {
    let mut fixture = Fixture {
        orphans: Orphans::new(uid.to_owned()),
        now,
    };
    for number in 0..30 {
        fixture.publish(&format!("web-{number}"), "it");
    }
    fixture.replicas(survivors.iter().map(|uid| alive(uid)).collect());
    fixture
}

#[test]
fn the_survivors_share_and_each_takes_over_from_the_one_before() {
    let survivors = ["a", "b", "c"].map(ToOwned::to_owned);
    let now = Instant::now();
    let mut all = BTreeMap::new();
    for uid in &survivors {
        let mut fixture = survivor(uid, &survivors, now);
        let mut counts = Vec::new();
        for round in 0..3 {
            if fixture.asks() {
                fixture.answer(None);
            }
            let verdicts = fixture.verdicts();
            counts.push(verdicts.len());
            for verdict in verdicts {
                all.entry((round, verdict))
                    .or_insert_with(Vec::new)
                    .push(uid);
            }
            fixture.pass(1000);
        }
        assert!(counts.iter().all(|count| *count > 3), "{uid}: {counts:?}");
        assert_eq!(counts.iter().sum::<usize>(), 30);
    }
    // In each round another one begins with a slice.
    assert_eq!(all.len(), 3 * 30);
    assert!(all.values().all(|who| who.len() == 1));
}

proptest! {
    /// Some of the survivors may be dead as well without anybody knowing; their part is done in time all the same.
    #[test]
    fn all_slices_go_in_time_if_one_is_left_who_can(
        survivors in 1..4_usize, dead in proptest::collection::vec(any::<bool>(), 3), stopped in any::<bool>()
    ) {
        let survivors: Vec<_> = (0..survivors).map(|number| format!("uid-{number}")).collect();
        let mut able: Vec<_> = survivors.iter().zip(&dead).filter(|(_, dead)| !**dead).collect();
        if able.is_empty() {
            able.push((&survivors[0], &false));
        }
        let end = stopped.then(|| replica("it", false, false));
        let now = Instant::now();
        let mut condemned = BTreeSet::new();
        for (uid, _) in able {
            let mut fixture = survivor(uid, &survivors, now);
            let seen = survivors.iter().map(|uid| alive(uid)).chain(end.clone()).collect();
            fixture.replicas(seen);
            // One second of the five is for the watch, the answer and the write.
            while fixture.now <= now + Duration::from_secs(4) {
                if fixture.asks() {
                    fixture.answer(end.clone());
                }
                condemned.extend(fixture.verdicts());
                let Some(wait) = fixture.wait() else {
                    break;
                };
                fixture.now += wait.max(Duration::from_millis(1));
            }
        }
        let condemned = condemned.iter().filter(|verdict| verdict.starts_with('-')).count();
        prop_assert_eq!(condemned, 30);
    }
}
