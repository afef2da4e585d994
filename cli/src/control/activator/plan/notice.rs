//! What people should be told of their `ScaledObject`s and Services, once it has lasted: objects that belong together are
//! not created at the same moment.

use std::{collections::BTreeMap, time::Duration};

use stillwake_cluster::services::{ScaledObject, Service};
use tokio::time::Instant;

use super::Name;

/// How long something is so before people are told.
const SETTLED: Duration = Duration::from_secs(10);

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Subject {
    /// A `ScaledObject`.
    ScaledObject,
    /// A Service.
    Service,
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Notice {
    pub(in super::super) subject: Subject,
    pub(in super::super) namespace: String,
    pub(in super::super) name: String,
    pub(in super::super) uid: String,
    pub(in super::super) reason: &'static str,
    pub(in super::super) note: String,
}

#[derive(Debug, Default)]
pub(super) struct Notices(BTreeMap<(Subject, Name), Pending>);

#[derive(Debug)]
struct Pending {
    notice: Notice,
    /// When to tell it; none once that is done.
    due: Option<Instant>,
}

impl Notices {
    /// Notes what keeps a `ScaledObject` from being woken by requests.
    pub(super) fn scaled_object(&mut self, object: &ScaledObject, now: Instant) {
        let notice = object.trouble.as_ref().map(|trouble| Notice {
            subject: Subject::ScaledObject,
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            uid: object.uid.clone(),
            reason: "StillwakeNoService",
            note: format!("No request can wake it: {trouble}"),
        });
        let name = (object.namespace.clone(), object.name.clone());
        self.set(Subject::ScaledObject, name, notice, now);
    }

    /// Notes what keeps a Service from being served at zero.
    pub(super) fn service(&mut self, service: &Service, every_node: bool, now: Instant) {
        let notice = |reason, note| Notice {
            subject: Subject::Service,
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            uid: service.uid.clone(),
            reason,
            note,
        };
        let local = |policy: &str| {
            format!(
                "With {policy}: Local, while its workload is at zero, requests are held only on nodes with an activator; \
                 set activator.kind to DaemonSet to have one on each"
            )
        };
        let notice = match &service.refused {
            Some(refusal) => Some(notice(
                "StillwakeNotServed",
                format!("Its requests are not held while its workload is at zero: {refusal}"),
            )),
            None if every_node => None,
            None if service.internal_local => {
                let note = local("internalTrafficPolicy");
                Some(notice("StillwakeLocalTraffic", note))
            }
            None if service.external_local => {
                let note = local("externalTrafficPolicy");
                Some(notice("StillwakeLocalTraffic", note))
            }
            None => None,
        };
        let name = (service.namespace.clone(), service.name.clone());
        self.set(Subject::Service, name, notice, now);
    }

    pub(super) fn gone(&mut self, subject: Subject, name: &Name) {
        self.0.remove(&(subject, name.clone()));
    }

    /// Returns what has lasted, each once.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Notice> {
        let pending = self.0.values_mut();
        let due = pending.filter(|pending| pending.due.is_some_and(|due| due <= now));
        due.map(|pending| {
            pending.due = None;
            pending.notice.clone()
        })
        .collect()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.values().filter_map(|pending| pending.due).min()
    }

    fn set(&mut self, subject: Subject, name: Name, notice: Option<Notice>, now: Instant) {
        let key = (subject, name);
        match notice {
            None => drop(self.0.remove(&key)),
            Some(notice) if self.0.get(&key).is_some_and(|known| known.notice == notice) => {}
            Some(notice) => {
                let due = Some(now + SETTLED);
                self.0.insert(key, Pending { notice, due });
            }
        }
    }
}
