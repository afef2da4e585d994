//! The webhook's process: admissions over TLS, by what the cluster says around each pod.

use std::sync::{Arc, OnceLock};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use rustls::server::ResolvesServerCert;
use stillwake_certs::kubernetes::LeaseObject;
use stillwake_cluster::{
    Metrics,
    events::{self, Events, Severity},
    scope::Scope,
    surroundings::{Answer, Surroundings},
};
use stillwake_runtime::{accept::bind, metrics::registry};
use stillwake_webhook::{
    admission::{About, Admission, Notice, Notices},
    server::{router, serve},
    surroundings::{self, Cluster, View},
};

use super::{
    args::WebhookArgs,
    certificates::{self, Certificates, Configuration, Keeping, Origin},
    held::Held,
    process::{Process, RoleError, connect, publish_events},
    version::Sleeps,
};

/// Runs until a signal has ended it.
///
/// # Errors
///
/// Fails if a flag is of no use, a port cannot be had, or there is no way to the API server.
pub async fn run(args: WebhookArgs) -> Result<(), RoleError> {
    let process = Process::begin(&args.process)?;
    let listener = bind("admissions", args.listen)?;
    let client = connect("webhook").await?;
    let mut registry = registry("webhook");
    let metrics = Metrics::register(&mut registry);

    let scope = Scope::of(args.process.watch_namespaces.iter().cloned());
    let surroundings = Surroundings::new(scope);
    let synced = process.readiness.latch();
    process.background.spawn({
        let surroundings = surroundings.clone();
        async move {
            surroundings.synced().await;
            drop(synced);
        }
    });
    process.background.spawn({
        let (surroundings, client) = (surroundings.clone(), client.clone());
        let metrics = metrics.clone();
        async move { match surroundings.follow(client, metrics).await {} }
    });
    let sleeps = Sleeps::default();
    process.background.spawn({
        let (sleeps, client) = (sleeps.clone(), client.clone());
        let asked = process.readiness.latch();
        async move { match sleeps.follow(client, asked).await {} }
    });
    let events = publish_events(
        "webhook",
        &args.process,
        client.clone(),
        &metrics,
        &process.background,
    );

    let certificates = Arc::<OnceLock<Certificates>>::default();
    let bundle = {
        let certificates = Arc::clone(&certificates);
        move || certificates.get()?.bundle()
    };
    let admission = Admission::new(
        args.injection(),
        Arc::new(Around {
            surroundings: surroundings.clone(),
            sleeps: sleeps.clone(),
        }),
        Arc::new(bundle),
        Arc::new(Told(events)),
        &mut registry,
    );
    let services = [args.service.as_str()];
    let origin = Origin::new(&args.certificates, &args.process, &services, &client)?;
    let keeping = keeping(&args, &client);
    let held = Held::new(&client, &args.process.watch_namespaces);
    let published = process.readiness.latch();
    let background = process.background.clone();
    let begun = Arc::clone(&certificates);
    process.background.tasks.spawn(async move {
        let stop = background.stop.clone();
        let certificates = certificates::keep(
            origin,
            keeping,
            args.publish_authorities,
            held,
            published,
            &background,
        );
        // Once in a process' life, and too large for the stack of a task.
        let certificates = Box::pin(certificates);
        let Some(certificates) = stop.run_until_cancelled(certificates).await else {
            return;
        };
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&certificates.resolver) as _;
        // Nobody else sets it.
        let _ = begun.set(certificates);
        if let Err(error) = serve(listener, resolver, router(admission), stop).await {
            tracing::error!(%error, "Admissions cannot be served");
        }
    });
    let state = move || {
        serde_json::json!({
            "synced": surroundings.is_synced(),
            "hooks_may_sleep": sleeps.get(),
            "certificates": certificates.get().map(Certificates::debug_state),
        })
    };
    process.run(registry, state).await
}

fn keeping(args: &WebhookArgs, client: &Client) -> Keeping {
    let namespace = &args.process.namespace;
    Keeping {
        lease: LeaseObject::new(client.clone(), namespace, args.lease().unwrap_or_default()),
        name: args.process.name.clone(),
        configuration: Configuration::new(
            client.clone(),
            args.webhook_configuration.as_deref().unwrap_or_default(),
        ),
    }
}

/// What the cluster says around a pod, as the webhook asks.
struct Around {
    surroundings: Surroundings,
    sleeps: Sleeps,
}

impl Cluster for Around {
    fn surroundings(&self, namespace: &str) -> View {
        match self.surroundings.namespace(namespace) {
            Answer::Known(around) => View::Known(surroundings::Surroundings {
                labels: around.labels,
                annotations: around.annotations,
                services: around.services,
                network_policies: around.network_policies,
                limit_ranges: around.limit_ranges,
                resource_quotas: around.resource_quotas,
                sleeps: self.sleeps.get(),
            }),
            Answer::NotYet => View::NotYet,
            Answer::OutOfScope => View::NotOurs,
        }
    }
}

/// What the webhook tells, as Events.
struct Told(Events);

impl Notices for Told {
    fn publish(&self, notice: Notice) {
        self.0.publish(events::Notice {
            regarding: regarding(&notice.namespace, notice.about),
            severity: Severity::Warning,
            reason: notice.warning.reason.as_str().to_owned(),
            action: "Inject".to_owned(),
            note: notice.warning.message,
        });
    }
}

fn regarding(namespace: &str, about: About) -> ObjectReference {
    let of = |api_version: &str, kind: &str, name: String| ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(name),
        namespace: Some(namespace.to_owned()),
        ..ObjectReference::default()
    };
    match about {
        About::Owner(owner) => ObjectReference {
            uid: Some(owner.uid),
            ..of(&owner.api_version, &owner.kind, owner.name)
        },
        About::Pod(name) => of("v1", "Pod", name),
        // An Event has to be in the namespace of what it is about, and a Namespace is in none.
        About::Namespace => ObjectReference {
            namespace: None,
            ..of("v1", "Namespace", namespace.to_owned())
        },
    }
}
