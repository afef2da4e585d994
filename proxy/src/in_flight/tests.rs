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

/// Whether there has been an edge since it was asked last.
async fn edge(in_flight: &InFlight) -> bool {
    timeout(Duration::ZERO, in_flight.edge()).await.is_ok()
}

fn begun(in_flight: &InFlight, count: u64) -> Vec<InFlightGuard> {
    (0..count).map(|_| in_flight.begin()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_count_that_doubles_after_a_report_is_an_edge_and_so_is_its_end() {
    let in_flight = InFlight::new();
    let mut guards = begun(&in_flight, 5);
    assert!(edge(&in_flight).await);
    assert_eq!(in_flight.report().in_flight, 5);
    guards.extend(begun(&in_flight, 4));
    assert!(!edge(&in_flight).await);
    guards.extend(begun(&in_flight, 1));
    assert!(edge(&in_flight).await, "10 are twice as many");
    guards.extend(begun(&in_flight, 70));
    assert!(!edge(&in_flight).await, "until it is reported");

    assert_eq!(in_flight.report().in_flight, 80);
    advance(Duration::from_millis(50)).await;
    assert_eq!(in_flight.report().in_flight, 80);
    guards.truncate(40);
    assert!(!edge(&in_flight).await);
    guards.truncate(39);
    assert!(edge(&in_flight).await);
    guards.truncate(1);
    assert!(!edge(&in_flight).await, "the end is told once");
    guards.clear();
    assert!(edge(&in_flight).await);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_rise_that_is_told_in_parts_is_that_of_all_of_it() {
    let in_flight = InFlight::new();
    let mut guards = begun(&in_flight, 5);
    assert!(edge(&in_flight).await);
    in_flight.report();
    guards.extend(begun(&in_flight, 5));
    assert!(edge(&in_flight).await);
    for (more, rises) in [(35, true), (35, false)] {
        in_flight.report();
        advance(Duration::from_millis(50)).await;
        guards.extend(begun(&in_flight, more));
        assert_eq!(edge(&in_flight).await, rises);
    }
    assert_eq!(in_flight.report().in_flight, 80);
    guards.truncate(40);
    assert!(!edge(&in_flight).await);
    guards.truncate(39);
    assert!(edge(&in_flight).await);
}

#[tokio::test(start_paused = true)]
async fn a_count_that_goes_up_and_down_makes_no_edges_until_the_high_is_forgotten() {
    let in_flight = InFlight::new();
    let mut guards = begun(&in_flight, 10);
    assert!(edge(&in_flight).await);
    in_flight.report();
    guards.truncate(2);
    assert!(edge(&in_flight).await, "the end of the first rise");
    for _ in 0..100 {
        in_flight.report();
        guards.truncate(2);
        guards.extend(begun(&in_flight, 9));
        assert!(!edge(&in_flight).await);
        guards.truncate(2);
        advance(Duration::from_millis(30)).await;
    }
    for _ in 0..3 {
        in_flight.report();
        advance(HIGH_INTERVAL).await;
    }
    in_flight.report();
    guards.extend(begun(&in_flight, 4));
    assert!(edge(&in_flight).await);
}

#[tokio::test(start_paused = true)]
async fn a_few_requests_are_no_rise() {
    let in_flight = InFlight::new();
    let mut guards = begun(&in_flight, 1);
    assert!(edge(&in_flight).await);
    in_flight.report();
    guards.extend(begun(&in_flight, 3));
    assert!(!edge(&in_flight).await);
    guards.extend(begun(&in_flight, 1));
    assert!(edge(&in_flight).await);
}
