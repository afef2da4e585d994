//! What users should be told about their `ScaledObject`s, for whoever can write Events.
//!
//! Decides nothing; when something is said is in `state/uncounted.rs`.

use std::fmt;

use stillwake_proto::report::Workload;

/// Something that began or ended, to be told once on a `ScaledObject`. Its text is one for people.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// Ready pods have no sidecar, so that their load is not known and the workload is kept active.
    Uncounted {
        /// Namespace of the `ScaledObject`.
        namespace: String,
        /// Its name.
        name: String,
        /// What it scales.
        workload: Workload,
        /// Names of the first of these pods, in order.
        pods: Vec<String>,
        /// How many there are.
        total: usize,
    },
    /// After [`Uncounted`](Self::Uncounted): no ready pod is without a sidecar any more.
    Counted {
        /// Namespace of the `ScaledObject`.
        namespace: String,
        /// Its name.
        name: String,
        /// What it scales.
        workload: Workload,
    },
    /// The metadata of its trigger make no sense, so KEDA is given no metrics.
    Refused {
        /// Namespace of the `ScaledObject`.
        namespace: String,
        /// Its name.
        name: String,
        /// The key, what it got and what it takes.
        why: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uncounted {
                workload,
                pods,
                total,
                ..
            } => write!(
                formatter,
                "Ready pods of {}/{} without a sidecar: {total}, such as {}. Their requests are not counted, and the \
                 workload stays active. A pod gets its sidecar when it is created: label the pod template or the \
                 namespace stillwake.dev/inject: enabled and restart the workload",
                workload.kind,
                workload.name,
                pods.join(", ")
            ),
            Self::Counted { workload, .. } => write!(
                formatter,
                "No ready pod of {}/{} is without a sidecar any more",
                workload.kind, workload.name
            ),
            Self::Refused { why, .. } => write!(formatter, "KEDA is given no metrics: {why}"),
        }
    }
}
