//! Contenders with clocks of their own.

use std::sync::Arc;

use super::*;
use crate::{
    store::Memory,
    testing::{HOUR, at},
};

const TERM: Duration = Duration::from_secs(15);

fn seconds(seconds: u64) -> Timestamp {
    at(HOUR + Duration::from_secs(seconds))
}

fn contenders() -> [Contender<Arc<Memory<LeaseRecord>>>; 2] {
    let register = Arc::new(Memory::default());
    ["one", "other"].map(|name| Contender::new(register.clone(), name.to_owned(), TERM))
}

#[tokio::test]
async fn one_leads_as_long_as_it_renews() {
    let [mut one, mut other] = contenders();
    for moment in (0..60).step_by(5) {
        assert!(one.lead(seconds(moment)).await.unwrap());
        assert!(!other.lead(seconds(moment)).await.unwrap());
    }
    for (moment, leads) in [(60, false), (70, false), (71, true)] {
        assert_eq!(
            other.lead(seconds(moment)).await.unwrap(),
            leads,
            "{moment}"
        );
    }
    assert!(
        !one.lead(seconds(71)).await.unwrap(),
        "it learns of its end"
    );
    let (record, _) = one.register.read().await.unwrap();
    let record = record.unwrap();
    assert_eq!((record.holder.as_str(), record.transitions), ("other", 1));
}

#[tokio::test]
async fn a_clock_that_is_wrong_gives_nobody_a_lease() {
    let [mut one, mut other] = contenders();
    // An hour apart, in either direction: age is measured from when a change was seen.
    for moment in [0, 5, 10] {
        assert!(one.lead(seconds(moment)).await.unwrap());
        assert!(!other.lead(seconds(moment + 3600)).await.unwrap());
    }
    let [mut one, mut other] = contenders();
    assert!(one.lead(seconds(3600)).await.unwrap());
    assert!(!other.lead(seconds(0)).await.unwrap());
    assert!(other.lead(seconds(16)).await.unwrap());
}

#[tokio::test]
async fn a_leader_that_steps_down_is_followed_at_once() {
    let [mut one, mut other] = contenders();
    assert!(one.lead(seconds(0)).await.unwrap());
    other.step_down(seconds(1)).await.unwrap();
    assert!(!other.lead(seconds(1)).await.unwrap(), "not its to give up");
    one.step_down(seconds(2)).await.unwrap();
    assert!(other.lead(seconds(2)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_of_many_takes_a_free_lease() {
    for _ in 0..50 {
        let register = Arc::new(Memory::default());
        let contests = (0..8).map(|index| {
            let mut contender = Contender::new(register.clone(), index.to_string(), TERM);
            tokio::spawn(async move { contender.lead(seconds(0)).await.unwrap() })
        });
        let mut leaders = 0;
        for contest in contests.collect::<Vec<_>>() {
            leaders += usize::from(contest.await.unwrap());
        }
        assert_eq!(leaders, 1);
    }
}
