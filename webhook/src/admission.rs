//! Answers one admission. Always admits: whatever goes wrong on our side, the pod starts as it came, and people hear of it
//! by a warning, a metric and an Event.
//!
//! Synchronous and in memory; how requests arrive is in `server`.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use prometheus_client::registry::Registry;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::{
    authorities::Authorities,
    inject::{InjectError, Injection, Outcome, inject},
    metrics::{Answered, Metrics},
    policy::Left,
    review::{Answer, Request, Review},
    settings::Settings,
    surroundings::{Cluster, View},
    warning::{Reason, Warning},
};

/// Somewhere to send Events to.
pub trait Notices: Send + Sync + 'static {
    /// Takes a notice. Must not block: an admission waits for it. What cannot be taken in time is dropped.
    fn publish(&self, notice: Notice);
}

/// What an Event should say.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Namespace of what it is about.
    pub namespace: String,
    /// What it is about.
    pub about: About,
    /// What to tell.
    pub warning: Warning,
}

/// What an Event is about. A pod that a controller creates has no name yet, and there is one Event per controller
/// rather than one per replica.
#[derive(Clone, Debug, PartialEq)]
pub enum About {
    /// What controls the pod.
    Owner(OwnerReference),
    /// The pod, by its name.
    Pod(String),
    /// The namespace: the pod has neither an owner nor a name yet.
    Namespace,
}

impl About {
    fn of(metadata: &ObjectMeta, name: &str) -> Self {
        let mut owners = metadata.owner_references.iter().flatten();
        let controller = owners.find(|owner| owner.controller == Some(true));
        let name = metadata.name.as_deref().unwrap_or(name);
        match controller {
            Some(owner) => Self::Owner(owner.clone()),
            None if name.is_empty() => Self::Namespace,
            None => Self::Pod(name.to_owned()),
        }
    }
}

/// Reasons why a pod is admitted as it came although nobody wanted that.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the pod cannot be read: {0}")]
    Pod(#[source] serde_json::Error),
    #[error("namespace {0} is not known yet")]
    Namespace(String),
    #[error(transparent)]
    Inject(#[from] InjectError),
    #[error("injection broke off, which is a mistake in Stillwake")]
    Panic,
}

impl Trouble {
    fn class(&self) -> &'static str {
        match self {
            Self::Pod(_) => "pod_unreadable",
            Self::Namespace(_) => "namespace_unknown",
            Self::Inject(InjectError::Authorities(_)) => "authorities_unknown",
            Self::Inject(_) => "patch",
            Self::Panic => "panic",
        }
    }
}

/// A request that cannot be answered, because it does not say what it is.
#[derive(Debug, thiserror::Error)]
#[error(
    "this is no AdmissionReview of admission.k8s.io/v1 with a request that can be answered: {0}"
)]
pub struct Unanswerable(#[source] serde_json::Error);

/// Answers admissions.
#[derive(Clone)]
pub struct Admission {
    settings: Arc<Settings>,
    cluster: Arc<dyn Cluster>,
    authorities: Arc<dyn Authorities>,
    notices: Arc<dyn Notices>,
    metrics: Metrics,
}

impl fmt::Debug for Admission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Admission")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Admission {
    /// Creates it and registers its metrics.
    pub fn new(
        settings: Settings,
        cluster: Arc<dyn Cluster>,
        authorities: Arc<dyn Authorities>,
        notices: Arc<dyn Notices>,
        registry: &mut Registry,
    ) -> Self {
        Self {
            settings: Arc::new(settings),
            cluster,
            authorities,
            notices,
            metrics: Metrics::register(registry),
        }
    }

    /// Answers the review in `body` with one that admits, both as JSON.
    ///
    /// # Errors
    ///
    /// Fails if the request has no uid that could be answered.
    pub(crate) fn answer(&self, body: &[u8]) -> Result<Vec<u8>, Unanswerable> {
        let begun = Instant::now();
        let review: Review<'_> = serde_json::from_slice(body).map_err(Unanswerable)?;
        let answer = self.admit(&review.request);
        let answer = serde_json::to_vec(&answer).map_err(Unanswerable)?;
        self.metrics.took(begun.elapsed());
        Ok(answer)
    }

    /// Counts a request that could not be answered.
    pub(crate) fn unanswerable(&self, why: &'static str) {
        self.metrics.count(Answered::Trouble, why);
    }

    fn admit(&self, request: &Request<'_>) -> Answer {
        if !request.creates_a_pod() {
            self.metrics.count(Answered::Left, "no_pod_creation");
            return Answer::admit(request.uid.clone(), None, Vec::new());
        }
        let (about, decided) = self.decide(request);
        let decided = decided.and_then(|injection| {
            let patch = patch_text(&injection).map_err(InjectError::Json)?;
            Ok((injection, patch))
        });
        let (patch, warnings) = match decided {
            Ok((injection, patch)) => {
                self.count(&injection);
                (patch, injection.warnings)
            }
            Err(trouble) => (None, vec![self.tell(&trouble, request)]),
        };
        if !request.dry_run {
            for warning in &warnings {
                self.notices.publish(Notice {
                    namespace: request.namespace.clone(),
                    about: about.clone(),
                    warning: warning.clone(),
                });
            }
        }
        let warnings = warnings.iter().map(Warning::to_string).collect();
        Answer::admit(request.uid.clone(), patch, warnings)
    }

    /// Returns what an Event would be about too, as far as the pod can be read.
    fn decide(&self, request: &Request<'_>) -> (About, Result<Injection, Trouble>) {
        let object = request.object.map_or("null", RawValue::get);
        let pod: Pod = match serde_json::from_str(object) {
            Ok(pod) => pod,
            Err(error) => {
                let about = About::of(&ObjectMeta::default(), &request.name);
                return (about, Err(Trouble::Pod(error)));
            }
        };
        let about = About::of(&pod.metadata, &request.name);
        // A panic must cost one sidecar and not one pod; nothing that could be left half done is shared.
        let decided = catch_unwind(AssertUnwindSafe(|| self.inject(&request.namespace, pod)));
        (about, decided.unwrap_or(Err(Trouble::Panic)))
    }

    fn inject(&self, namespace: &str, pod: Pod) -> Result<Injection, Trouble> {
        let surroundings = match self.cluster.surroundings(namespace) {
            View::Known(surroundings) => surroundings,
            View::NotYet => return Err(Trouble::Namespace(namespace.to_owned())),
            View::NotOurs => return Ok(Injection::none(Left::NotOurs)),
        };
        let bundle = self.authorities.bundle();
        let injection = inject(&self.settings, bundle.as_ref(), pod, &surroundings)?;
        Ok(injection)
    }

    fn count(&self, injection: &Injection) {
        match &injection.outcome {
            Outcome::Injected => self.metrics.count(Answered::Injected, ""),
            Outcome::Uncounted => self.metrics.count(Answered::Left, "uncounted"),
            Outcome::Left(left) => self.metrics.count(Answered::Left, left.class()),
        }
        for warning in &injection.warnings {
            self.metrics.warned(warning.reason);
        }
    }

    fn tell(&self, trouble: &Trouble, request: &Request<'_>) -> Warning {
        let namespace = &request.namespace;
        tracing::error!(namespace, error = %trouble, "A pod is admitted without its sidecar");
        self.metrics.count(Answered::Trouble, trouble.class());
        self.metrics.warned(Reason::Trouble);
        let message = format!("the pod is admitted as it came, without a sidecar: {trouble}");
        Warning::new(Reason::Trouble, message)
    }
}

fn patch_text(injection: &Injection) -> serde_json::Result<Option<Vec<u8>>> {
    if injection.patch.0.is_empty() {
        return Ok(None);
    }
    serde_json::to_vec(&injection.patch).map(Some)
}

#[cfg(test)]
mod tests;
