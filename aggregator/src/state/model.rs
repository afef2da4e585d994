//! The arithmetic against a model that knows the whole truth.
//!
//! The model holds each reporter's requests as intervals and adds up their overlap with the window; it shares nothing
//! with the state's code. Reports are made at random times, lost, repeated, delivered late and over new connections.

use std::time::Duration;

use proptest::prelude::*;
use stillwake_proto::report::{Count, Hello, PodReport, Role, Workload};
use tokio::time::Instant;

use super::*;
use crate::identity::Identity;

/// Milliseconds are the model's grid.
type Millis = u64;

const WINDOW: Millis = 60_000;
const END: Millis = 150_000;

/// How one report travels.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Arrives,
    Lost,
    Repeated,
    Late(Millis),
    OnANewConnection,
}

/// One reporter's truth and what it tells.
#[derive(Clone, Debug)]
struct Script {
    born: Millis,
    /// From when to when each request is served.
    requests: Vec<(Millis, Millis)>,
    reports: Vec<(Millis, Fate)>,
}

impl Script {
    fn in_flight(&self, at: Millis) -> u64 {
        let open = self
            .requests
            .iter()
            .filter(|(from, to)| *from <= at && at < *to);
        open.count() as u64
    }

    /// Request-milliseconds between two times.
    fn served(&self, from: Millis, to: Millis) -> u64 {
        let overlap =
            |(begin, end): &(Millis, Millis)| (*end).min(to).saturating_sub((*begin).max(from));
        self.requests.iter().map(overlap).sum()
    }

    fn begun(&self, from: Millis, to: Millis) -> u64 {
        let begun = self
            .requests
            .iter()
            .filter(|(begin, _)| from <= *begin && *begin < to);
        begun.count() as u64
    }

    fn most_in_flight(&self) -> u64 {
        let edges = self.requests.iter().map(|(from, _)| self.in_flight(*from));
        edges.max().unwrap_or(0)
    }

    fn report(&self, at: Millis) -> PodReport {
        PodReport {
            elapsed: (at - self.born) * 1_000,
            count: Some(Count {
                in_flight: self.in_flight(at),
                in_flight_time: self.served(0, at) * 1_000,
                requests: self.begun(0, at + 1),
            }),
            app_ready: true,
            draining: false,
        }
    }
}

fn workload() -> Workload {
    Workload {
        namespace: "n".to_owned(),
        kind: "Deployment".to_owned(),
        name: "w".to_owned(),
    }
}

/// Feeds the scripts to a state and returns its load at `END`.
fn observe(scripts: &[Script]) -> Load {
    let began = Instant::now();
    let at = |time: Millis| began + Duration::from_millis(time);
    // Averages only; a clear rise at the end is answered with what lasts.
    let settings = Settings {
        bursts: false,
        ..Settings::default()
    };
    let mut state = State::new(settings, began);
    let key = ScaledObjectKey {
        namespace: "n".to_owned(),
        name: "s".to_owned(),
    };
    state.apply(
        MembershipEvent::ScaledObject(ScaledObject {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            workload: workload(),
            polling_interval: Duration::from_secs(5),
            max_replicas: 100,
            paused: false,
        }),
        began,
    );
    state.apply(MembershipEvent::Synced, began);

    let mut next = 0;
    let mut connect = |state: &mut State, uid: &str, time| {
        next += 1;
        let identity = Identity {
            role: Role::Sidecar,
            namespace: "n".to_owned(),
            pod: uid.to_owned(),
            uid: uid.to_owned(),
        };
        let hello = Hello {
            epoch: 1,
            ..Hello::default()
        };
        state.hello(ConnectionId(next), &identity, &hello, at(time));
        ConnectionId(next)
    };
    // (arrival, order, reporter, made, whether over a new connection)
    let mut arrivals = Vec::new();
    for (index, script) in scripts.iter().enumerate() {
        arrivals.push((script.born, index, script.born, true));
        for &(made, fate) in &script.reports {
            match fate {
                Fate::Arrives => arrivals.push((made, index, made, false)),
                Fate::Lost => {}
                Fate::Repeated => {
                    arrivals.push((made, index, made, false));
                    arrivals.push((made + 7, index, made, false));
                }
                Fate::Late(delay) => arrivals.push((made + delay, index, made, false)),
                Fate::OnANewConnection => arrivals.push((made, index, made, true)),
            }
        }
    }
    arrivals.retain(|(arrival, ..)| *arrival <= END);
    arrivals.sort_by_key(|(arrival, ..)| *arrival);
    let mut connections = vec![ConnectionId(0); scripts.len()];
    for (arrival, index, made, anew) in arrivals {
        let uid = format!("u{index}");
        if anew {
            connections[index] = connect(&mut state, &uid, arrival);
            state.apply(
                MembershipEvent::Pod(Pod {
                    uid: uid.clone(),
                    name: uid,
                    workload: workload(),
                    ready: true,
                    terminating: false,
                    reports: true,
                }),
                at(arrival),
            );
        }
        // What is stale is refused; that is part of the test.
        let _ = state.pod_report(
            connections[index],
            &scripts[index].report(made),
            at(arrival),
        );
    }
    state
        .load(&key, Duration::from_millis(WINDOW), at(END))
        .unwrap()
}

/// Returns the widest gap between samples that the state can have at a time, in milliseconds: what it was told, thinned
/// to a sixtieth of the window.
fn gap_around(script: &Script, edge: Millis) -> Millis {
    let thinned = WINDOW / 60;
    let told: Vec<_> = std::iter::once(script.born)
        .chain(script.reports.iter().filter_map(|(made, fate)| {
            let arrives = !matches!(fate, Fate::Lost)
                && !matches!(fate, Fate::Late(delay) if made + delay > END);
            arrives.then_some(*made)
        }))
        .collect();
    let before = told
        .iter()
        .filter(|made| **made <= edge)
        .max()
        .copied()
        .unwrap_or(0);
    let after = told
        .iter()
        .filter(|made| **made >= edge)
        .min()
        .copied()
        .unwrap_or(END);
    // A late frame may have been overtaken and refused, which joins the gaps on both sides of it.
    after - before + 2 * thinned
}

fn script() -> impl Strategy<Value = Script> {
    let request = (0..END, 1..30_000_u64);
    let fate = prop_oneof![
        6 => Just(Fate::Arrives),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Repeated),
        1 => (1..400_u64).prop_map(Fate::Late),
        1 => Just(Fate::OnANewConnection),
    ];
    // Gaps above the longest delay, so that a late frame is late but not overtaken; that has tests of its own.
    let reports = prop::collection::vec((500..4_000_u64, fate), 5..120);
    (
        0..END - 10_000,
        prop::collection::vec(request, 0..60),
        reports,
    )
        .prop_map(|(born, requests, gaps)| {
            let lived = |(from, length): &(Millis, Millis)| {
                (*from >= born).then_some((*from, from + length))
            };
            let requests = requests.iter().filter_map(lived).collect();
            let mut made = born;
            let reports = gaps.into_iter().map(|(gap, fate)| {
                made += gap;
                (made, fate)
            });
            let mut reports: Vec<_> = reports.take_while(|(made, _)| *made < END).collect();
            // The newest knowledge is as of now; staleness has tests of its own.
            reports.push((END, Fate::Arrives));
            Script {
                born,
                requests,
                reports,
            }
        })
}

/// Average over a window as the model has it.
fn truth(scripts: &[Script], window: Millis) -> f64 {
    let served: u64 = scripts
        .iter()
        .map(|script| script.served(END - window, END))
        .sum();
    served as f64 / window as f64
}

/// The average over the window, or the one over its last tenth where that is more by a tenth; either where the error
/// that is allowed decides.
fn is_right(concurrency: f64, long: f64, short: f64, allowed: f64) -> bool {
    let is_near = |expected: f64| (concurrency - expected).abs() <= allowed;
    let burst = short - 1.1 * long;
    let unsure = 2.1 * allowed;
    (burst <= unsure && is_near(long)) || (burst >= -unsure && is_near(short))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// The totals are exact at each sample and interpolated between two. So the average can be wrong only at the
    /// window's far edge, by at most the gap between the samples around it times the most that was in flight; the rate
    /// by at most what began in that gap.
    #[test]
    fn averages_equal_the_truth_within_what_sampling_can_hide(
        scripts in prop::collection::vec(script(), 1..5)
    ) {
        let load = observe(&scripts);
        // A clock is estimated by the fastest frame, which is instant here, and may drift by 200 parts in a million.
        let drift = 2;
        let slack = |window: Millis| -> f64 {
            let errors = scripts.iter().map(|script| {
                (gap_around(script, END - window) + drift) * script.most_in_flight()
            });
            errors.sum::<u64>() as f64 / window as f64
        };
        let (long, short) = (truth(&scripts, WINDOW), truth(&scripts, WINDOW / 10));
        let allowed = slack(WINDOW).max(slack(WINDOW / 10)) + 1e-6;
        prop_assert!(
            is_right(load.concurrency, long, short, allowed),
            "{} of {long} and lately {short}, allowed {allowed}", load.concurrency
        );

        let begun: u64 = scripts.iter().map(|script| script.begun(END - WINDOW, END)).sum();
        let hidden: u64 = scripts.iter().map(|script| {
            let gap = gap_around(script, END - WINDOW) + drift;
            script.begun((END - WINDOW).saturating_sub(gap), END - WINDOW + gap) + script.begun(END, END + 1)
        }).sum();
        let seconds = WINDOW as f64 / 1_000.0;
        prop_assert!(
            (load.request_rate - begun as f64 / seconds).abs() <= hidden as f64 / seconds + 1e-6,
            "{} instead of {}, {hidden} may hide", load.request_rate, begun as f64 / seconds
        );
        let in_flight: u64 = scripts.iter().map(|script| script.in_flight(END)).sum();
        prop_assert_eq!(load.in_flight, in_flight);
        prop_assert!(load.active || in_flight == 0);
    }

    /// With a sample at each edge of both windows nothing is interpolated, whatever was reported in between.
    #[test]
    fn averages_are_exact_when_the_edges_are_sampled(
        mut scripts in prop::collection::vec(script(), 1..5)
    ) {
        let edges = [END - WINDOW, END - WINDOW / 10];
        // Samples nearer than a sixtieth of the window may be thinned out, births included.
        let apart = |time: Millis| edges.iter().all(|edge| time.abs_diff(*edge) > 2 * WINDOW / 60);
        scripts.retain(|script| apart(script.born));
        for script in &mut scripts {
            script.reports.retain(|(made, fate)| apart(*made) && !matches!(fate, Fate::Late(_)));
            let lived = edges.into_iter().filter(|edge| *edge > script.born);
            script.reports.extend(lived.map(|edge| (edge, Fate::Arrives)));
            script.reports.sort_by_key(|(made, _)| *made);
        }
        let load = observe(&scripts);
        let (long, short) = (truth(&scripts, WINDOW), truth(&scripts, WINDOW / 10));
        prop_assert!(
            is_right(load.concurrency, long, short, 1e-3 * (1.0 + long.max(short))),
            "{} of {long} and lately {short}", load.concurrency
        );
    }
}
