//! The activator's process: takes the connections of Services at zero, by what the cluster says of `ScaledObject`s,
//! Services and their endpoints.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use stillwake_activator::{Activator, Settings};
use stillwake_cluster::{
    Metrics,
    events::{self, Severity},
    membership::ScalerService,
    scope::Scope,
    services,
};
use stillwake_runtime::{accept::bind, metrics::registry, readiness::Latch, shutdown::Shutdown};
use stillwake_slices::{Handle, Publisher, slice::Replica};
use tokio::{
    sync::mpsc,
    time::{Duration, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{
    coordinator::Coordinator,
    listeners::Listeners,
    plan::{Notice, Plan, Subject},
    reports::Reports,
};
use super::{
    args::ActivatorArgs,
    process::{Background, Process, RoleError, connect, publish_events},
};

mod coordinator;
mod listeners;
mod owner;
mod plan;
mod reports;

/// Endpoints that aggregators may name before the first is looked at.
const ENDPOINTS: usize = 256;

/// How long the API server may take to hear that nothing is published any more.
const WITHDRAW_LIMIT: Duration = Duration::from_secs(30);

/// How long connections may take to end once all that was held has been answered.
const LAST: Duration = Duration::from_secs(5);

/// Runs until a signal has ended it.
///
/// # Errors
///
/// Fails if a flag is of no use, a port cannot be had, or there is no way to the API server.
pub async fn run(args: ActivatorArgs) -> Result<(), RoleError> {
    let mut process = Process::begin(&args.process)?;
    process.finish_limit = WITHDRAW_LIMIT + args.hold_timeout + LAST;
    let relay = bind("sidecars that leave", args.relay)?;
    let client = connect("activator").await?;
    let mut registry = registry("activator");
    let metrics = Metrics::register(&mut registry);
    let activator = Activator::new(settings(&args));
    activator.register_metrics(&mut registry);

    let scope = Scope::of(args.process.watch_namespaces.iter().cloned());
    let publisher = Publisher::new(
        client.clone(),
        stillwake_slices::Settings {
            scope: scope.clone(),
            replica: replica(&args),
            replica_labels: args.replica_labels.clone(),
            ..stillwake_slices::Settings::default()
        },
        metrics.clone(),
        &mut registry,
    );
    let slices = publisher.handle();
    let plan = Plan::new(plan::Settings {
        replica: args.pod_uid.clone(),
        copies: args.copies,
        every_node: args.every_node,
    });
    let listeners = Listeners::new(activator.clone(), any(&args.pod_ips), args.ports.clone());
    let (drain, abort) = (listeners.drain.clone(), listeners.abort.clone());
    let coordinator = Coordinator::new(
        activator.clone(),
        slices.clone(),
        plan,
        listeners,
        process.readiness.latch(),
    );

    // Goes on until nothing is held any more: whoever waits has to be woken for, also by a replica that is about to end.
    let lasting = Background {
        stop: CancellationToken::new(),
        tasks: process.background.tasks.clone(),
    };
    lasting.spawn(async move { match publisher.run().await {} });
    watch(
        &args,
        scope,
        &client,
        &metrics,
        &coordinator,
        &slices,
        &lasting,
    );
    tell(&args, client, &metrics, &coordinator, &lasting);
    report(
        &args,
        &activator,
        &coordinator,
        process.readiness.latch(),
        &lasting,
    );
    process.background.tasks.spawn({
        let activator = activator.clone();
        async move { activator.serve_handovers(relay, drain, abort).await }
    });
    let signals = process.shutdown.clone();
    process.background.tasks.spawn(leave(
        coordinator.clone(),
        slices,
        signals,
        process.background.stop.clone(),
        args.hold_timeout,
        lasting.stop,
    ));
    process
        .run(registry, move || coordinator.debug_state())
        .await
}

/// Follows what the cluster says.
fn watch(
    args: &ActivatorArgs,
    scope: Scope,
    client: &Client,
    metrics: &Metrics,
    coordinator: &Coordinator,
    slices: &Handle,
    lasting: &Background,
) {
    let service = ScalerService {
        name: args.service.clone(),
        namespace: args.process.namespace.clone(),
        cluster_domain: args.process.cluster_domain.clone(),
    };
    lasting.spawn({
        let (client, metrics, coordinator) = (client.clone(), metrics.clone(), coordinator.clone());
        async move {
            let tell = |change| coordinator.changed(change);
            match services::follow(client, scope, service, metrics, tell).await {}
        }
    });
    lasting.spawn(owner::follow(
        client.clone(),
        args.owner.clone(),
        slices.clone(),
    ));
    let (coordinator, mut replicas) = (coordinator.clone(), slices.live_replicas());
    lasting.spawn(async move {
        loop {
            let known = replicas.borrow_and_update().clone();
            if let Some(known) = known {
                coordinator.replicas(known);
            }
            if replicas.changed().await.is_err() {
                return;
            }
        }
    });
}

/// Does what falls due, and publishes what people should be told.
fn tell(
    args: &ActivatorArgs,
    client: Client,
    metrics: &Metrics,
    coordinator: &Coordinator,
    lasting: &Background,
) {
    let events = publish_events("activator", &args.process, client, metrics, lasting);
    let coordinator = coordinator.clone();
    lasting.spawn(async move {
        coordinator
            .keep_time(|notice| events.publish(event(notice)))
            .await;
    });
}

/// Reports what is held, and takes in what aggregators say of endpoints.
fn report(
    args: &ActivatorArgs,
    activator: &Activator,
    coordinator: &Coordinator,
    unconnected: Latch,
    lasting: &Background,
) {
    let (endpoints, mut heard) = mpsc::channel(ENDPOINTS);
    let coordinator = coordinator.clone();
    lasting.spawn(async move {
        while let Some(endpoint) = heard.recv().await {
            coordinator.heard(endpoint);
        }
    });
    // Ends by itself, after a last report.
    let (source, end) = (activator.source(), lasting.stop.clone());
    let reports = Reports::new(args).run(source, endpoints, unconnected, end);
    lasting.tasks.spawn(reports);
}

/// Told to drain: first nobody is led here any more, then what is held comes to its end, then everything else.
async fn leave(
    coordinator: Coordinator,
    slices: Handle,
    signals: Shutdown,
    stop: CancellationToken,
    hold_timeout: Duration,
    end: CancellationToken,
) {
    signals.drain.cancelled().await;
    coordinator.withdraw();
    if timeout(WITHDRAW_LIMIT, slices.drained()).await.is_err() {
        tracing::warn!("The API server was not told in time that nothing is served here any more");
    }
    stop.cancelled().await;
    coordinator
        .finish(hold_timeout, signals.abort.cancelled())
        .await;
    end.cancel();
}

fn settings(args: &ActivatorArgs) -> Settings {
    Settings {
        max_held: args.max_held,
        max_held_bytes: args.max_held_bytes,
        hold_timeout: args.hold_timeout,
        ..Settings::default()
    }
}

fn replica(args: &ActivatorArgs) -> Replica {
    Replica {
        namespace: args.process.namespace.clone(),
        pod: args.process.name.clone(),
        uid: args.pod_uid.clone(),
        addresses: args.pod_ips.clone(),
        node: args.node.clone(),
        zone: None,
        owner: None,
    }
}

/// Returns the address that stands for all of them: of IPv6, which takes IPv4 as well, only where the pod has one, because
/// elsewhere the kernel may know none.
fn any(pod_ips: &[IpAddr]) -> IpAddr {
    if pod_ips.iter().any(IpAddr::is_ipv6) {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

fn event(notice: Notice) -> events::Notice {
    let (api_version, kind) = match notice.subject {
        Subject::ScaledObject => ("keda.sh/v1alpha1", "ScaledObject"),
        Subject::Service => ("v1", "Service"),
    };
    events::Notice {
        regarding: ObjectReference {
            api_version: Some(api_version.to_owned()),
            kind: Some(kind.to_owned()),
            namespace: Some(notice.namespace),
            name: Some(notice.name),
            uid: Some(notice.uid),
            ..ObjectReference::default()
        },
        severity: Severity::Warning,
        reason: notice.reason.to_owned(),
        action: "Serve".to_owned(),
        note: notice.note,
    }
}
