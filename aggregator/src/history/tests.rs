//! Placing, reading, thinning and forgetting samples.

use super::*;

const SECOND: i64 = 1_000_000;
const WINDOW: Duration = Duration::from_mins(1);

fn count(in_flight: u64, seconds_in_flight: u64, requests: u64) -> Count {
    Count {
        in_flight,
        in_flight_time: seconds_in_flight * 1_000_000,
        requests,
    }
}

fn at(seconds: u64) -> u64 {
    seconds * 1_000_000
}

#[track_caller]
fn assert_near(value: f64, expected: f64) {
    assert!(
        (value - expected).abs() < 0.001,
        "{value} instead of {expected}"
    );
}

fn seconds(history: &History, from: i64, to: i64) -> f64 {
    history.between(from * SECOND, to * SECOND).in_flight_time / 1e6
}

#[test]
fn between_two_samples_totals_grow_evenly_and_after_the_last_requests_go_on() {
    let mut history = History::new(at(10), &count(2, 0, 4), 10 * SECOND, true).unwrap();
    history
        .record(at(20), &count(3, 20, 8), 20 * SECOND, WINDOW)
        .unwrap();
    assert_near(seconds(&history, 10, 15), 10.0);
    assert_near(seconds(&history, 20, 24), 12.0);
    assert_near(history.between(0, 15 * SECOND).requests, 6.0);
}

#[test]
fn a_late_frame_is_placed_when_it_was_made() {
    let mut history = History::new(at(1), &count(0, 0, 0), SECOND, true).unwrap();
    // One request from second 2 to second 3, whose report took 5 s longer than the first.
    history
        .record(at(2), &count(1, 0, 1), 2 * SECOND, WINDOW)
        .unwrap();
    history
        .record(at(3), &count(0, 1, 1), 8 * SECOND, WINDOW)
        .unwrap();
    // But for the drift of 200 parts in a million that 6 s allow.
    assert!((seconds(&history, 2, 3) - 1.0).abs() < 0.002);
    assert!(seconds(&history, 4, 8) < 0.002);
}

#[test]
fn a_delay_of_the_first_frame_is_corrected_by_a_faster_one() {
    let mut history = History::new(at(10), &count(0, 10, 1), 15 * SECOND, true).unwrap();
    history
        .record(at(11), &count(0, 10, 1), 11 * SECOND, WINDOW)
        .unwrap();
    assert!((seconds(&history, 0, 10) - 10.0).abs() < 0.001);
}

#[test]
fn a_clock_that_stood_still_is_anchored_anew() {
    let mut history = History::new(at(10), &count(1, 0, 1), 10 * SECOND, true).unwrap();
    history
        .record(at(11), &count(1, 1, 1), 500 * SECOND, WINDOW)
        .unwrap();
    assert!((seconds(&history, 499, 500) - 1.0).abs() < 0.001);
    // A queue of late frames anchors back as it drains.
    history
        .record(at(499), &count(1, 489, 1), 500 * SECOND, WINDOW)
        .unwrap();
    assert_eq!(history.last_moment(), 500 * SECOND);
}

#[test]
fn older_and_repeated_reports_are_stale_and_falling_totals_inconsistent() {
    let mut history = History::new(at(10), &count(1, 5, 3), 10 * SECOND, true).unwrap();
    let mut record = |elapsed, count| history.record(elapsed, &count, 11 * SECOND, WINDOW);
    assert_eq!(record(at(10), count(9, 9, 9)), Err(Rejected::Stale));
    assert_eq!(record(at(9), count(9, 9, 9)), Err(Rejected::Stale));
    assert_eq!(record(at(11), count(1, 4, 3)), Err(Rejected::Inconsistent));
    assert_eq!(record(at(11), count(1, 5, 2)), Err(Rejected::Inconsistent));
    assert_eq!(
        record(u64::MAX, count(1, 5, 3)),
        Err(Rejected::Inconsistent)
    );
    assert_eq!((history.in_flight(), history.requests()), (1, 3));
}

#[test]
fn samples_are_thinned_and_forgotten_and_the_window_stays_readable() {
    let mut history = History::new(0, &count(1, 0, 0), 0, true).unwrap();
    for tick in 1..=100_000_u64 {
        let count = Count {
            in_flight: 1,
            in_flight_time: tick * 10_000,
            requests: tick,
        };
        let arrival = i64::try_from(tick * 10_000).unwrap();
        history
            .record(tick * 10_000, &count, arrival, WINDOW)
            .unwrap();
    }
    assert!(
        history.samples.len() <= 64,
        "{} samples",
        history.samples.len()
    );
    assert!((seconds(&history, 940, 1_000) - 60.0).abs() < 0.001);
    assert!(history.covered_since(0) <= 940 * SECOND);
}

#[test]
fn the_last_sample_before_a_silence_stays() {
    let mut history = History::new(at(10), &count(0, 0, 0), 10 * SECOND, true).unwrap();
    let mut record = |milliseconds: u64, count: Count| {
        let arrival = i64::try_from(milliseconds * 1_000).unwrap();
        history
            .record(milliseconds * 1_000, &count, arrival, WINDOW)
            .unwrap();
    };
    record(10_500, count(0, 0, 0));
    record(40_000, count(0, 29, 1));
    assert_near(history.between(0, 10_500_000).in_flight_time, 0.0);
}

#[test]
fn what_came_before_the_first_report_of_an_old_process_is_not_counted() {
    let history = History::new(at(1_000), &count(2, 5_000, 900), 0, false).unwrap();
    assert_eq!(history.between(-500 * SECOND, 0), Totals::default());
    assert_eq!(history.covered_since(-500 * SECOND), 0);
}

#[test]
fn an_ended_epoch_counts_until_its_end_and_no_further() {
    let mut history = History::new(at(1), &count(2, 0, 2), SECOND, true).unwrap();
    history.end(4 * SECOND);
    assert_near(seconds(&history, 0, 4), 6.0);
    assert_near(seconds(&history, 4, 60), 0.0);
}
