//! The counter under a clock that tests move.

use std::time::Duration;

use tokio::time::{advance, sleep, timeout};

use super::*;

#[tokio::test(start_paused = true)]
async fn the_integral_is_the_area_under_the_count() {
    let in_flight = InFlight::new();
    advance(Duration::from_secs(5)).await;
    let first = in_flight.begin();
    advance(Duration::from_millis(200)).await;
    let second = in_flight.begin();
    advance(Duration::from_millis(30)).await;
    drop(first);
    advance(Duration::from_millis(7)).await;
    let while_one = in_flight.snapshot();
    assert_eq!(while_one.elapsed, Duration::from_millis(5237));
    assert_eq!(while_one.in_flight, 1);
    assert_eq!(
        while_one.in_flight_time,
        Duration::from_millis(200 + 60 + 7)
    );
    assert_eq!(while_one.requests, 2);
    drop(second);
    advance(Duration::from_mins(1)).await;
    let after = in_flight.snapshot();
    assert_eq!(after.in_flight, 0);
    assert_eq!(after.in_flight_time, while_one.in_flight_time);
}

#[tokio::test(start_paused = true)]
async fn the_integral_outlasts_64_bits_of_nanoseconds() {
    let in_flight = InFlight::new();
    let guards: Vec<_> = (0..10_000).map(|_| in_flight.begin()).collect();
    let month = Duration::from_hours(30 * 24);
    advance(month).await;
    assert_eq!(in_flight.snapshot().in_flight_time, month * 10_000);
    drop(guards);
}

#[tokio::test]
async fn only_the_first_and_the_last_request_are_edges() {
    let in_flight = InFlight::new();
    let edge = async || timeout(Duration::ZERO, in_flight.edge()).await.is_ok();
    assert!(!edge().await);
    let first = in_flight.begin();
    assert!(edge().await);
    let second = in_flight.begin();
    drop(first);
    assert!(!edge().await);
    drop(second);
    assert!(edge().await);
    assert!(!edge().await);
}

#[tokio::test]
async fn an_ignored_request_is_taken_out_of_the_total() {
    let in_flight = InFlight::new();
    drop(in_flight.begin());
    in_flight.begin().ignore();
    let snapshot = in_flight.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.requests), (0, 1));
}

#[tokio::test]
async fn a_total_that_was_shown_does_not_decrease_when_a_request_is_ignored() {
    let in_flight = InFlight::new();
    let probe = in_flight.begin();
    assert_eq!(in_flight.snapshot().requests, 1);
    probe.ignore();
    assert_eq!(in_flight.snapshot().requests, 1);
    drop(in_flight.begin());
    assert_eq!(in_flight.snapshot().requests, 1);
    drop(in_flight.begin());
    assert_eq!(in_flight.snapshot().requests, 2);
}

#[tokio::test]
async fn a_guard_dropped_by_a_cancelled_task_ends_its_request() {
    let in_flight = InFlight::new();
    let guard = in_flight.begin();
    let task = tokio::spawn(async move {
        let _guard = guard;
        sleep(Duration::MAX).await;
    });
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(in_flight.snapshot().in_flight, 0);
}
