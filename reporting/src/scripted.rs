//! A source that says what a test tells it to.

use std::sync::Arc;

use parking_lot::Mutex;
use stillwake_proto::report::{Count, PodReport, reporter_frame::Kind};
use tokio::sync::watch;

use crate::{Report, Session, Source};

/// Reports the number it was last given as its requests, and as busy if it is odd.
#[derive(Debug)]
pub(crate) struct Scripted {
    requests: Arc<Mutex<u64>>,
    edges: watch::Sender<u64>,
}

struct ScriptedSession {
    requests: Arc<Mutex<u64>>,
    first: bool,
}

impl Scripted {
    pub(crate) fn new(requests: u64) -> Arc<Self> {
        Arc::new(Self {
            requests: Arc::new(Mutex::new(requests)),
            edges: watch::Sender::new(0),
        })
    }

    /// Changes the number without an edge.
    pub(crate) fn set(&self, requests: u64) {
        *self.requests.lock() = requests;
    }

    /// Changes the number and announces it.
    pub(crate) fn edge(&self, requests: u64) {
        self.set(requests);
        self.edges.send_modify(|edges| *edges += 1);
    }
}

impl Source for Scripted {
    fn session(&self) -> Box<dyn Session> {
        Box::new(ScriptedSession {
            requests: Arc::clone(&self.requests),
            first: true,
        })
    }

    fn edges(&self) -> watch::Receiver<u64> {
        self.edges.subscribe()
    }
}

impl Session for ScriptedSession {
    /// Tells the first report of a session from the others by `app_ready`.
    fn report(&mut self) -> Report {
        let requests = *self.requests.lock();
        let count = Count {
            requests,
            ..Count::default()
        };
        let pod = PodReport {
            count: Some(count),
            app_ready: self.first,
            ..PodReport::default()
        };
        self.first = false;
        Report {
            kind: Kind::Pod(pod),
            requests: requests % 2,
        }
    }
}

/// Returns the number that a report carries, and whether it is the first of its session.
pub(crate) fn told(kind: &Kind) -> (u64, bool) {
    match kind {
        Kind::Pod(pod) => (pod.count.unwrap().requests, pod.app_ready),
        other => panic!("not a report: {other:?}"),
    }
}
