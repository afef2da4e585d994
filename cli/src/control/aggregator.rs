//! The aggregator's process: reports in, KEDA's answers out, by what the cluster says of `ScaledObject`s and pods.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, OnceLock},
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use parking_lot::Mutex;
use stillwake_aggregator::{
    Aggregator, MembershipEvent, Notice, Pod, PodTokens, ScaledObject, ServiceAccount, Settings,
};
use stillwake_certs::{server::acceptor, trust::Bundle, verifier::ClientVerifier};
use stillwake_cluster::{
    Metrics,
    events::{self, Events, Severity},
    keys::{self, Refresh},
    membership::{self, Change, ScalerService},
    scope::Scope,
};
use stillwake_runtime::{accept::bind, metrics::registry, tls::Acceptor};

use super::{
    args::AggregatorArgs,
    certificates::{self, Certificates, Origin},
    process::{Background, Process, RoleError, connect, publish_events},
};

/// Runs until a signal has ended it.
///
/// # Errors
///
/// Fails if a flag is of no use, a port cannot be had, or there is no way to the API server.
pub async fn run(args: AggregatorArgs) -> Result<(), RoleError> {
    let process = Process::begin(&args.process)?;
    let scaler = bind("KEDA", args.scaler)?;
    let reports = bind("reports", args.reports)?;
    let clients = args
        .client_authorities
        .as_deref()
        .map(verifier)
        .transpose()?;
    let client = connect("aggregator").await?;
    let mut registry = registry("aggregator");
    let metrics = Metrics::register(&mut registry);

    let activators = args.activator_account.clone().map(|name| ServiceAccount {
        namespace: args.process.namespace.clone(),
        name,
    });
    let tokens = PodTokens::new(&args.token_audience, activators);
    let settings = Settings {
        bursts: args.bursts,
        ..Settings::default()
    };
    let aggregator = Aggregator::with_identity(settings, tokens.clone());
    aggregator.register_metrics(&mut registry);
    aggregator.ready_when_synced(process.readiness.latch());
    follow_keys(tokens.clone(), &client, &metrics, &process.background);
    let uids = Uids::default();
    follow_membership(
        &args,
        &aggregator,
        uids.clone(),
        &client,
        &metrics,
        &process.background,
    );

    let events = publish_events(
        "aggregator",
        &args.process,
        client.clone(),
        &metrics,
        &process.background,
    );
    process
        .background
        .spawn(publish(aggregator.clone(), uids, events));

    let services = [args.service.as_str(), args.reports_service.as_str()];
    let origin = Origin::new(&args.certificates, &args.process, &services, &client)?;
    let presents = process.readiness.latch();
    let certificates = Arc::<OnceLock<Certificates>>::default();
    let background = process.background.clone();
    let (begun, served) = (Arc::clone(&certificates), aggregator.clone());
    process.background.tasks.spawn(async move {
        let stop = background.stop.clone();
        let certificates = certificates::follow(origin, presents, &background);
        let Some(certificates) = stop.run_until_cancelled(certificates).await else {
            return;
        };
        let acceptors = Acceptors::new(&certificates, clients, args.require_tls);
        // Nobody else sets it.
        let _ = begun.set(certificates);
        match acceptors {
            Ok(Acceptors {
                scaler: of_scaler,
                reports: of_reports,
            }) => {
                // The socket is bound: who comes before the keys waits instead of being turned away.
                let served_reports = async {
                    if stop
                        .run_until_cancelled(tokens.keys_known())
                        .await
                        .is_some()
                    {
                        served.serve_ingest(reports, of_reports, stop.clone()).await;
                    }
                };
                let served_scaler = served.serve_scaler(scaler, of_scaler, stop.clone());
                tokio::join!(served_reports, served_scaler);
            }
            Err(error) => tracing::error!(%error, "Nothing can be served"),
        }
    });
    let state = move || {
        let mut state = aggregator.debug_state();
        state["certificates"] = certificates
            .get()
            .map(Certificates::debug_state)
            .unwrap_or_default();
        state
    };
    process.run(registry, state).await
}

/// How connections of both ports begin.
struct Acceptors {
    scaler: Acceptor,
    reports: Acceptor,
}

impl Acceptors {
    fn new(
        certificates: &Certificates,
        clients: Option<Arc<ClientVerifier>>,
        require_tls: bool,
    ) -> Result<Self, rustls::Error> {
        let resolver = || Arc::clone(&certificates.resolver);
        Ok(Self {
            scaler: acceptor(resolver(), clients, &[b"h2"], require_tls)?,
            // A token must never travel in the clear.
            reports: acceptor(resolver(), None, &[], true)?,
        })
    }
}

/// Reads the authorities of KEDA's client certificates.
fn verifier(path: &Path) -> Result<Arc<ClientVerifier>, RoleError> {
    const FLAG: &str = "--client-authorities";
    let read = std::fs::read_to_string(path);
    let text = read.map_err(|error| {
        let told = format!("cannot read {}: {error}", path.display());
        RoleError::flag(FLAG, io::Error::new(error.kind(), told))
    })?;
    let bundle = Bundle::from_pem(&text, &path.display().to_string());
    let bundle = bundle.map_err(|error| RoleError::flag(FLAG, error))?;
    let verifier = ClientVerifier::new(&bundle);
    Ok(Arc::new(
        verifier.map_err(|error| RoleError::flag(FLAG, error))?,
    ))
}

/// Hands the API server's keys to who verifies tokens, and has them fetched when one is missing.
fn follow_keys(tokens: PodTokens, client: &Client, metrics: &Metrics, background: &Background) {
    let refresh = Refresh::default();
    let wanted = tokens.wants_keys();
    background.spawn({
        let refresh = refresh.clone();
        async move {
            loop {
                wanted.notified().await;
                refresh.ask();
            }
        }
    });
    let (client, metrics) = (client.clone(), metrics.clone());
    background.spawn(async move {
        let take = |keys: &str| {
            if let Err(error) = tokens.set_keys(keys) {
                tracing::error!(%error, "The API server's token keys are of no use");
            }
        };
        match keys::follow(client, refresh, metrics, take).await {}
    });
}

/// The UIDs of the `ScaledObject`s that exist, by namespace and name. People are shown an Event with an object only if it
/// has the object's UID. Clones share it.
#[derive(Clone, Debug, Default)]
struct Uids(Arc<Mutex<HashMap<(String, String), String>>>);

impl Uids {
    fn learn(&self, change: &Change) {
        match change {
            Change::ScaledObject(object) => {
                let name = (object.namespace.clone(), object.name.clone());
                self.0.lock().insert(name, object.uid.clone());
            }
            Change::ScaledObjectGone { namespace, name } => {
                self.0.lock().remove(&(namespace.clone(), name.clone()));
            }
            Change::Pod(_) | Change::PodGone { .. } | Change::Synced => {}
        }
    }

    /// Names a `ScaledObject` for an Event.
    fn regarding(&self, namespace: String, name: String) -> ObjectReference {
        let name = (namespace, name);
        let uid = self.0.lock().get(&name).cloned();
        ObjectReference {
            api_version: Some("keda.sh/v1alpha1".to_owned()),
            kind: Some("ScaledObject".to_owned()),
            namespace: Some(name.0),
            name: Some(name.1),
            uid,
            ..ObjectReference::default()
        }
    }
}

/// Tells the aggregator who exists.
fn follow_membership(
    args: &AggregatorArgs,
    aggregator: &Aggregator,
    uids: Uids,
    client: &Client,
    metrics: &Metrics,
    background: &Background,
) {
    let scope = Scope::of(args.process.watch_namespaces.iter().cloned());
    let service = ScalerService {
        name: args.service.clone(),
        namespace: args.process.namespace.clone(),
        cluster_domain: args.process.cluster_domain.clone(),
    };
    let aggregator = aggregator.clone();
    let (client, metrics) = (client.clone(), metrics.clone());
    background.spawn(async move {
        let tell = |change| {
            uids.learn(&change);
            aggregator.apply(told(change));
        };
        match membership::follow(client, scope, service, metrics, tell).await {}
    });
}

/// Publishes what users should be told, as Events on their `ScaledObject`s.
async fn publish(aggregator: Aggregator, uids: Uids, events: Events) {
    loop {
        for notice in aggregator.notices().await {
            let note = notice.to_string();
            let (severity, reason, namespace, name) = match notice {
                Notice::Uncounted {
                    namespace, name, ..
                } => (Severity::Warning, "StillwakeUncountedPods", namespace, name),
                Notice::Counted {
                    namespace, name, ..
                } => (Severity::Normal, "StillwakeAllCounted", namespace, name),
                Notice::Refused {
                    namespace, name, ..
                } => (Severity::Warning, "StillwakeBadTrigger", namespace, name),
            };
            events.publish(events::Notice {
                regarding: uids.regarding(namespace, name),
                severity,
                reason: reason.to_owned(),
                action: "Count".to_owned(),
                note,
            });
        }
    }
}

/// Returns a change as the aggregator takes it.
fn told(change: Change) -> MembershipEvent {
    match change {
        Change::ScaledObject(object) => MembershipEvent::ScaledObject(ScaledObject {
            namespace: object.namespace,
            name: object.name,
            workload: object.workload,
            polling_interval: object.polling_interval,
            max_replicas: object.max_replicas,
            paused: object.paused.entirely || object.paused.scale_out,
        }),
        Change::ScaledObjectGone { namespace, name } => {
            MembershipEvent::ScaledObjectGone { namespace, name }
        }
        Change::Pod(pod) => MembershipEvent::Pod(Pod {
            uid: pod.uid,
            name: pod.name,
            workload: pod.workload,
            ready: pod.ready,
            terminating: pod.terminating,
            reports: pod.injection.sidecar,
        }),
        Change::PodGone { uid } => MembershipEvent::PodGone { uid },
        Change::Synced => MembershipEvent::Synced,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stillwake_cluster::membership::{Paused, names as read};
    use stillwake_proto::report::Workload;
    use stillwake_webhook::names as written;

    use super::*;

    #[test]
    fn what_the_webhook_writes_on_pods_is_what_is_read() {
        assert_eq!(read::INJECT, written::INJECT);
        assert_eq!(read::COUNTED_PORTS, written::COUNTED_PORTS);
        assert_eq!(read::UNCOUNTED_PORTS, written::UNCOUNTED_PORTS);
        assert_eq!(read::SIDECAR, written::SIDECAR);
    }

    #[test]
    fn an_event_names_the_scaled_object_that_exists_now() {
        let exists = |uid: &str| {
            Change::ScaledObject(membership::ScaledObject {
                namespace: "shop".to_owned(),
                name: "web".to_owned(),
                uid: uid.to_owned(),
                workload: Workload {
                    namespace: "shop".to_owned(),
                    kind: "Deployment".to_owned(),
                    name: "web".to_owned(),
                },
                polling_interval: Duration::from_secs(30),
                max_replicas: 100,
                paused: Paused::default(),
            })
        };
        let uids = Uids::default();
        let named = || uids.regarding("shop".to_owned(), "web".to_owned()).uid;
        assert_eq!(named(), None);
        uids.learn(&exists("first"));
        uids.learn(&exists("second"));
        assert_eq!(named().as_deref(), Some("second"));
        uids.learn(&Change::ScaledObjectGone {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
        });
        assert_eq!(named(), None);
        assert!(uids.0.lock().is_empty());
    }
}
