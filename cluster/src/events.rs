//! Kubernetes Events to tell people what happened to their objects.
//!
//! Publishing never waits: notices queue, and past the queue's bound they are dropped and counted. One is published at a
//! time and a few a second at most, so that a rollout of a thousand pods with the same mistake leaves the API server to
//! others. Repeats within some minutes become one Event that counts them.

use std::{convert::Infallible, time::Duration};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::{metrics::Metrics, watch::outage::Outage};

/// How many notices wait.
const QUEUE: usize = 256;

/// Time from one Event to the next.
const APART: Duration = Duration::from_millis(100);

/// How long the API server may take for one.
const LIMIT: Duration = Duration::from_secs(10);

/// Most bytes of a note that the API server takes (`NoteLengthLimit` of its validation of events.k8s.io).
const LONGEST_NOTE: usize = 1024;

/// What an Event should say.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// What it is about. Its namespace is the Event's; without one, as for a Namespace object, the Event goes to
    /// `default`.
    pub regarding: ObjectReference,
    /// Whether it is a warning.
    pub severity: Severity,
    /// Why, as a word for machines, such as `PortNotCounted`.
    pub reason: String,
    /// What was done or tried, as a word for machines, such as `Inject`.
    pub action: String,
    /// What to tell people. What is past 1024 bytes is cut off.
    pub note: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Good to know.
    Normal,
    /// Somebody should look.
    Warning,
}

/// Where notices are handed in. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<Notice>,
    metrics: Metrics,
}

/// The other end of the queue.
#[derive(Debug)]
pub struct Publisher {
    queue: mpsc::Receiver<Notice>,
    metrics: Metrics,
}

/// Creates a queue of notices and what publishes them.
pub fn events(metrics: &Metrics) -> (Events, Publisher) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let events = Events {
        queue: sender,
        metrics: metrics.clone(),
    };
    let publisher = Publisher {
        queue: receiver,
        metrics: metrics.clone(),
    };
    (events, publisher)
}

impl Events {
    /// Hands in a notice. Never waits; when too many wait already, the notice is dropped and counted.
    pub fn publish(&self, notice: Notice) {
        if self.queue.try_send(notice).is_err() {
            self.metrics.events_lost("full").inc();
        }
    }
}

impl Publisher {
    /// Publishes for ever, in the name of `component` (such as `stillwake-webhook`) and its `pod`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the notices that wait.
    pub async fn run(mut self, client: Client, component: String, pod: String) -> Infallible {
        let reporter = Reporter {
            controller: component,
            instance: Some(pod),
        };
        let recorder = Recorder::new(client, reporter);
        let refused = self.metrics.events_lost("refused");
        let mut outage = Outage::default();
        let mut ticks = interval(APART);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let Some(notice) = self.queue.recv().await else {
                // Nobody is left who could hand one in.
                return std::future::pending().await;
            };
            ticks.tick().await;
            let (event, regarding) = notice.into_event();
            let error = match timeout(LIMIT, recorder.publish(&event, &regarding)).await {
                Ok(Ok(())) => {
                    outage.works();
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(late) => late.to_string(),
            };
            refused.inc();
            if outage.failed(Instant::now()) {
                let namespace = regarding.namespace.as_deref().unwrap_or("default");
                tracing::warn!(
                    %error, namespace,
                    "Events are not published; the service account needs the verbs create and patch on events of the API \
                     group \"events.k8s.io\""
                );
            }
        }
    }
}

impl Notice {
    fn into_event(self) -> (Event, ObjectReference) {
        let mut note = self.note;
        note.truncate(note.floor_char_boundary(LONGEST_NOTE));
        let event = Event {
            type_: match self.severity {
                Severity::Normal => EventType::Normal,
                Severity::Warning => EventType::Warning,
            },
            reason: self.reason,
            note: Some(note),
            action: self.action,
            secondary: None,
        };
        (event, self.regarding)
    }
}

#[cfg(test)]
mod tests;
