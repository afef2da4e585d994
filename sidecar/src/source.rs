//! What the sidecar reports: its count, and whether the app takes requests.

use std::{pin::pin, sync::Arc, time::Duration};

use stillwake_proto::report::{Count, PodReport, reporter_frame::Kind};
use stillwake_proxy::{drain::Drain, in_flight::InFlight};
use stillwake_reporting::{MINIMUM_GAP, Report, Session, Source, microseconds};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

/// The sidecar's knowledge.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) in_flight: InFlight,
    pub(crate) app_ready: watch::Receiver<bool>,
    pub(crate) drain: Drain,
}

impl State {
    /// Returns the state of this moment, from which the next edges are measured.
    pub(crate) fn report(&self) -> PodReport {
        let snapshot = self.in_flight.report();
        let count = Count {
            in_flight: snapshot.in_flight,
            in_flight_time: microseconds(snapshot.in_flight_time),
            requests: snapshot.requests,
        };
        PodReport {
            elapsed: microseconds(snapshot.elapsed),
            count: Some(count),
            app_ready: *self.app_ready.borrow(),
            draining: self.drain.is_draining(),
        }
    }
}

/// The state as a [`Source`] of reports.
#[derive(Debug)]
pub(crate) struct SidecarSource {
    state: State,
    edges: watch::Sender<u64>,
}

impl SidecarSource {
    pub(crate) fn new(state: State) -> Arc<Self> {
        Arc::new(Self {
            state,
            edges: watch::Sender::new(0),
        })
    }

    /// Turns what happens to the parts of the state into edges of the whole; must run for as long as reports are sent.
    ///
    /// After an edge of the count it looks away for the least time between two reports: none could go out sooner, and
    /// a single busy client makes two edges with each request.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut app_ready = self.state.app_ready.clone();
        let mut rest = pin!(sleep(Duration::ZERO));
        let (mut resting, mut draining) = (false, false);
        loop {
            tokio::select! {
                () = self.state.in_flight.edge(), if !resting => {
                    rest.as_mut().reset(Instant::now() + MINIMUM_GAP);
                    resting = true;
                }
                () = &mut rest, if resting => {
                    resting = false;
                    continue;
                }
                Ok(()) = app_ready.changed() => {}
                () = self.state.drain.draining(), if !draining => draining = true,
            }
            self.edges
                .send_modify(|edges| *edges = edges.wrapping_add(1));
        }
    }
}

impl Source for SidecarSource {
    fn session(&self) -> Box<dyn Session> {
        Box::new(SidecarSession(self.state.clone()))
    }

    fn edges(&self) -> watch::Receiver<u64> {
        self.edges.subscribe()
    }
}

/// A report always says everything, so that one session is like another.
#[derive(Debug)]
struct SidecarSession(State);

impl Session for SidecarSession {
    fn report(&mut self) -> Report {
        let pod = self.0.report();
        Report {
            requests: pod.count.map_or(0, |count| count.in_flight),
            kind: Kind::Pod(pod),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    fn pod(report: &Report) -> PodReport {
        match &report.kind {
            Kind::Pod(pod) => *pod,
            other => panic!("not a sidecar's report: {other:?}"),
        }
    }

    /// Returns a state that has seen nothing, and what makes its app ready.
    fn unready() -> (watch::Sender<bool>, State) {
        let (ready, app_ready) = watch::channel(false);
        let state = State {
            in_flight: InFlight::new(),
            app_ready,
            drain: Drain::default(),
        };
        (ready, state)
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_says_everything_in_microseconds() {
        let (ready, state) = unready();
        let source = SidecarSource::new(state.clone());
        let mut session = source.session();
        let before = session.report();
        assert_eq!(before.requests, 0);
        assert_eq!(
            (pod(&before).app_ready, pod(&before).draining),
            (false, false)
        );

        let first = state.in_flight.begin();
        let second = state.in_flight.begin();
        advance(Duration::from_millis(3)).await;
        drop(first);
        ready.send_replace(true);
        state.drain.begin();
        let after = session.report();
        assert_eq!(after.requests, 1);
        let expected = PodReport {
            elapsed: 3000,
            count: Some(Count {
                in_flight: 1,
                in_flight_time: 6000,
                requests: 2,
            }),
            app_ready: true,
            draining: true,
        };
        assert_eq!(pod(&after), expected);
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn each_change_of_a_part_is_an_edge() {
        let (ready, state) = unready();
        let source = SidecarSource::new(state.clone());
        let mut edges = source.edges();
        let following = tokio::spawn(Arc::clone(&source).follow());
        let mut edge = async || {
            let edge = timeout(Duration::from_secs(1), edges.changed()).await;
            edge.map(Result::unwrap)
        };
        assert!(edge().await.is_err());
        let guard = state.in_flight.begin();
        edge().await.unwrap();
        let inner = state.in_flight.begin();
        assert!(edge().await.is_err());
        drop(inner);
        drop(guard);
        edge().await.unwrap();
        ready.send_replace(true);
        edge().await.unwrap();
        state.drain.begin();
        edge().await.unwrap();
        assert!(edge().await.is_err());
        following.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_clear_rise_since_the_last_report_is_an_edge() {
        let (_ready, state) = unready();
        let source = SidecarSource::new(state.clone());
        let (mut edges, mut session) = (source.edges(), source.session());
        let following = tokio::spawn(Arc::clone(&source).follow());
        let mut edge = async || timeout(Duration::from_secs(1), edges.changed()).await;
        let begun = |count: u64| {
            (0..count)
                .map(|_| state.in_flight.begin())
                .collect::<Vec<_>>()
        };
        let first = begun(5);
        edge().await.unwrap().unwrap();
        session.report();
        let few = begun(4);
        edge().await.unwrap_err();
        let many = begun(6);
        edge().await.unwrap().unwrap();
        drop((first, few, many));
        following.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn many_edges_of_the_count_are_one_in_each_gap_and_the_last_is_never_lost() {
        let (ready, state) = unready();
        let source = SidecarSource::new(state.clone());
        let edges = source.edges();
        let following = tokio::spawn(Arc::clone(&source).follow());
        // From 0 to 195 ms: seen at 0, 50, 100, 150 and, the last ones, at 200.
        for _ in 0..40 {
            drop(state.in_flight.begin());
            sleep(MINIMUM_GAP / 10).await;
        }
        sleep(MINIMUM_GAP * 2).await;
        assert_eq!(*edges.borrow(), 5);

        let moment = Duration::from_millis(1);
        drop(state.in_flight.begin());
        sleep(moment).await;
        assert_eq!(*edges.borrow(), 6);
        // Readiness waits for no gap.
        ready.send_replace(true);
        drop(state.in_flight.begin());
        sleep(moment).await;
        assert_eq!(*edges.borrow(), 7);
        sleep(MINIMUM_GAP).await;
        assert_eq!(*edges.borrow(), 8);
        following.abort();
    }
}
