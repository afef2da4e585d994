//! Does what the publisher's state says: requests to the API server, some at a time, and a word about failures.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future, stream::FuturesUnordered};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use stillwake_cluster::replicas;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Shared, state::Work};
use crate::{
    metrics::{Metrics, Verb},
    orphans::{Answer, Question},
    slice::SliceName,
    writes::{Outcome, Write},
};

/// Who we are to server-side apply.
const FIELD_MANAGER: &str = "stillwake-activator";

/// Most requests at a time, so that one that hangs does not keep the others.
const AT_ONCE: usize = 8;

/// How long the API server may take for one.
const LIMIT: Duration = Duration::from_secs(10);

/// Failures that are told are at least so far apart.
const TELL_AGAIN: Duration = Duration::from_mins(1);

/// Does what the state says.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Client,
    pub(super) installation: String,
    pub(super) metrics: Metrics,
}

/// What came of it.
enum Done {
    Wrote(Write, Result<Outcome, String>),
    Asked(Question, Result<Option<replicas::Replica>, String>),
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl Worker {
    /// Works for ever.
    ///
    /// # Cancel safety
    ///
    /// What was begun may have been done or not.
    pub(super) async fn run(&self) -> Infallible {
        let mut doing = FuturesUnordered::new();
        let mut told = None;
        loop {
            let due = {
                let mut state = self.shared.state.lock();
                while doing.len() < AT_ONCE
                    && let Some(work) = state.next(Instant::now())
                {
                    doing.push(self.perform(work));
                }
                state.next_due()
            };
            self.shared.done.notify_waiters();
            // Where there is no room, whoever is through makes some.
            let due = due.filter(|_| doing.len() < AT_ONCE);
            let time = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                () = self.shared.changed.notified() => {}
                () = time => {}
                Some(done) = doing.next() => self.take(done, &mut told),
            }
        }
    }

    async fn perform(&self, work: Work) -> Done {
        match work {
            Work::Write(write) => {
                let result = self.write(&write).await;
                Done::Wrote(write, result)
            }
            Work::Ask(question) => {
                let client = self.client.clone();
                let asked = replicas::ask(client, &self.installation, &question.pod);
                let answer = within(asked).await;
                Done::Asked(question, answer)
            }
        }
    }

    async fn write(&self, write: &Write) -> Result<Outcome, String> {
        let api = |name: &SliceName| {
            Api::<EndpointSlice>::namespaced(self.client.clone(), &name.namespace)
        };
        match write {
            Write::Apply(name, slice) => {
                let params = PatchParams::apply(FIELD_MANAGER).force();
                let apply = Patch::Apply(slice.as_ref());
                let applied = within(api(name).patch(&name.name, &params, &apply)).await?;
                Ok(Outcome::Applied(applied.metadata.resource_version))
            }
            Write::Delete(name, preconditions) => {
                let params = DeleteParams {
                    preconditions: preconditions.clone(),
                    ..DeleteParams::default()
                };
                let delete = async {
                    match api(name).delete(&name.name, &params).await {
                        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                        other => other.map(drop),
                    }
                };
                within(delete).await?;
                Ok(Outcome::Deleted)
            }
        }
    }

    /// Takes in what came of something.
    fn take(&self, done: Done, told: &mut Option<Instant>) {
        let now = Instant::now();
        match done {
            Done::Wrote(write, result) => {
                let name = write.name();
                let verb = match write {
                    Write::Apply(..) => Verb::Apply,
                    Write::Delete(..) => Verb::Delete,
                };
                self.metrics.wrote(verb, result.is_ok());
                if result.is_ok() && write.is_of_another() {
                    self.metrics.orphan_deleted();
                    tracing::info!(%name, "Deleted an EndpointSlice of a replica that is gone");
                }
                let (outcome, error) = match result {
                    Ok(outcome) => (outcome, None),
                    Err(error) => (Outcome::Failed, Some(error)),
                };
                self.shared.state.lock().wrote(name, outcome, now);
                if let Some(error) = error {
                    tell(now, told, || {
                        tracing::warn!(
                            %name, %error,
                            "An EndpointSlice could not be written, and is tried again; the service account needs the \
                             verbs create, patch and delete on endpointslices of the API group \"discovery.k8s.io\""
                        );
                    });
                }
            }
            Done::Asked(question, result) => {
                let (answer, error) = match result {
                    Ok(Some(pod)) => (Answer::Pod(pod), None),
                    Ok(None) => (Answer::NoPod, None),
                    Err(error) => (Answer::Silence, Some(error)),
                };
                self.shared.state.lock().answered(&question, answer, now);
                if let Some(error) = error {
                    tell(now, told, || {
                        tracing::warn!(
                            pod = question.pod, %error,
                            "It could not be asked whether a pod of the activator still runs, so its EndpointSlices stay; \
                             the service account needs the verb get on pods"
                        );
                    });
                }
            }
        }
    }
}

/// Waits for an answer of the API server, but not for ever.
async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match timeout(LIMIT, request).await {
        Ok(answered) => answered.map_err(|error| error.to_string()),
        Err(late) => Err(late.to_string()),
    }
}

/// Tells of a failure, unless another was told not long ago.
fn tell(now: Instant, told: &mut Option<Instant>, tell: impl FnOnce()) {
    if told.is_none_or(|told| now >= told + TELL_AGAIN) {
        *told = Some(now);
        tell();
    }
}
