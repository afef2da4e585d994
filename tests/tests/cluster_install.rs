//! The release itself comes, changes and goes while requests are served: none is lost, nothing is left, and pods of another
//! time are known for what they are.
//!
//! Has the release alone, as no other suite could work meanwhile, and leaves none behind.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, ensure};
use k8s_openapi::{
    api::{apps::v1::Deployment, authorization::v1::SubjectAccessReview, core::v1::Pod},
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams, PostParams},
    discovery::{ApiGroup, Discovery, verbs},
};
use serde_json::{Value, json};
use stillwake_e2e::{
    cluster::{
        self, Failure, IMAGE, Namespace, counts, creation,
        pods::{self, INJECT},
        scaling::{self, Scaling},
        scene::{Scene, WEB},
        stillwake::{Component, Stillwake},
        watching,
        web::Web,
    },
    wait,
};

/// Requests in flight per replica.
const TARGET: u32 = 5;

/// Replicas under the load.
const REPLICAS: usize = 2;

#[test]
fn an_upgrade_loses_nothing_an_uninstall_leaves_nothing_and_another_install_knows_whom_it_does_not_know()
-> Result<(), Failure> {
    cluster::run("install", async |namespace| {
        let stillwake = Stillwake::with_values(namespace, &json!({})).await?;
        let target = TARGET.to_string();
        let scaling = Scaling {
            // Whoever took what is unknown for idle would scale to it.
            min: 0,
            ..Scene::scaling(&[("targetConcurrency", &target)], &[])
        };
        let scene = Scene::set(namespace, &stillwake, &scaling).await?;
        scene.load.steady(2 * TARGET - 1, Duration::from_secs(4));
        scene.grown(REPLICAS).await?;
        let metrics = scaling.metrics(namespace).await?;
        let before = scene.replicas.values();

        upgraded(namespace, &stillwake).await?;
        scene.right(&metrics).await?;
        ensure_served(&scene).await?;
        let after = scene.replicas.values();
        ensure!(after == before, "{after:?} replicas");

        stillwake.uninstall().await?;
        until_nothing_is_left(namespace, &stillwake).await?;
        ensure_served(&scene).await?;
        plain(namespace).await?;
        let old = pods::until_ready(namespace, WEB, REPLICAS).await?;
        let replicas = scene.replicas;
        scene.load.finish().await;
        let verdict = scene.ledger.verdict();
        verdict.assert_nothing_lost();
        eprintln!("through an upgrade and an uninstall: {verdict}");

        let watched = json!({"watchNamespaces": [namespace.name()]});
        stillwake.install(namespace, &watched).await?;
        left_alone_elsewhere(namespace, &stillwake).await?;
        strangers_are_active(namespace, &stillwake, &scaling, &old).await?;
        let values = replicas.values();
        ensure!(!values.contains(&0), "{values:?} replicas");
        // Pods of this release are known to do nothing.
        namespace.api::<Deployment>().restart(WEB).await?;
        replicas.until(&0).await?;

        stillwake.uninstall().await?;
        until_nothing_is_left(namespace, &stillwake).await
    })
}

/// Upgrades to values with which all pods are replaced and sidecars get other resources. Every pod that is created
/// meanwhile gets its sidecar.
async fn upgraded(namespace: &Namespace, stillwake: &Stillwake) -> anyhow::Result<()> {
    let values = json!({
        "log": {"filter": "info"},
        "sidecar": {"resources": {"requests": {"cpu": "7m", "memory": "9Mi"}}},
    });
    let asking = asking();
    let mut admitted = 0;
    let admissions = async {
        loop {
            let created = creation::try_out(namespace, &asking).await?;
            let pod: Pod = serde_json::from_value(created.object)?;
            ensure!(
                stillwake.has_injected(&pod),
                "no sidecar after {admitted} pods: {:?}",
                created.warnings
            );
            admitted += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let never: anyhow::Result<()> = tokio::select! {
        upgraded = stillwake.install(namespace, &values) => upgraded,
        failed = admissions => failed,
    };
    never?;
    eprintln!("{admitted} pods were admitted during the upgrade");
    let what = "a sidecar with the new resources";
    wait::until(what, watching::PATIENCE, async || {
        let created = creation::try_out(namespace, &asking).await?;
        let pod: Pod = serde_json::from_value(created.object)?;
        let sidecar = pods::sidecar(&pod).context("there is no sidecar")?;
        let resources = json!(sidecar.resources);
        ensure!(
            resources["requests"] == json!({"cpu": "7m", "memory": "9Mi"}),
            "{resources}"
        );
        anyhow::Ok(())
    })
    .await
}

/// Sees to it that requests go on being answered, and that none was lost so far.
async fn ensure_served(scene: &Scene) -> anyhow::Result<()> {
    let begun = scene.ledger.verdict().answered();
    let what = "more answers";
    wait::until(what, watching::PATIENCE, async || {
        let answered = scene.ledger.verdict().answered() - begun;
        ensure!(answered > 20, "{answered} answers");
        anyhow::Ok(())
    })
    .await?;
    let verdict = scene.ledger.verdict();
    ensure!(
        verdict.is_lossless_so_far(),
        "requests were lost: {verdict}"
    );
    Ok(())
}

/// Without the release, a label means nothing.
async fn plain(namespace: &Namespace) -> anyhow::Result<()> {
    let web = Web::new("late").label(INJECT, "enabled");
    let (pods, _) = web.start(namespace).await?;
    ensure!(
        pods.iter().all(|pod| pods::init_containers(pod).is_empty()),
        "somebody injects"
    );
    Ok(())
}

/// Waits until no object of any kind is the release's, by its label or its name, or is in its namespace.
async fn until_nothing_is_left(namespace: &Namespace, stillwake: &Stillwake) -> anyhow::Result<()> {
    let client = namespace.cluster().client();
    let discovery = Discovery::new(client.clone());
    // They name metrics there, and no objects.
    let discovery = discovery
        .exclude(&["external.metrics.k8s.io"])
        .run()
        .await?;
    let kinds = discovery.groups().flat_map(ApiGroup::recommended_resources);
    let listed = kinds.filter(|(kind, can)| {
        // Kubernetes forgets what happened in its own time.
        can.supports_operation(verbs::LIST) && kind.kind != "Event"
    });
    let listed: Vec<_> = listed.map(|(kind, _)| kind).collect();
    let required = [
        "Pod",
        "Secret",
        "Lease",
        "EndpointSlice",
        "PriorityClass",
        "ClusterRole",
    ];
    for kind in required {
        ensure!(
            listed.iter().any(|listed| listed.kind == kind),
            "objects of kind {kind} were not looked for"
        );
    }
    let name = stillwake.name();
    let made_by_kubernetes = ["default", "kube-root-ca.crt"];
    wait::until("nothing to be left", watching::PATIENCE, async || {
        let mut left = BTreeSet::new();
        for kind in &listed {
            let all = Api::<DynamicObject>::all_with(client.clone(), kind);
            for object in all.list_metadata(&ListParams::default()).await? {
                let own_name = object.name_any();
                let place = object.namespace().unwrap_or_default();
                let labels = object.labels();
                let instance = labels.get("app.kubernetes.io/instance");
                // Other suites call things of theirs by this name.
                let is_others = place.starts_with("e2e-") && place != namespace.name();
                let is_named = own_name == name || own_name.starts_with(&format!("{name}-"));
                let is_inside = place == stillwake.namespace()
                    && !made_by_kubernetes.contains(&own_name.as_str());
                // That of the release was there before it.
                let is_home = kind.kind == "Namespace" && own_name == stillwake.namespace();
                let is_ours = instance.is_some_and(|instance| instance == name)
                    || (is_named && !is_others)
                    || is_inside;
                if is_ours && !is_home {
                    left.insert(format!("{} {place}/{own_name}", kind.kind));
                }
            }
        }
        ensure!(left.is_empty(), "{left:?}");
        anyhow::Ok(())
    })
    .await
}

/// Where it does not watch, it neither changes a pod nor may look.
async fn left_alone_elsewhere(namespace: &Namespace, stillwake: &Stillwake) -> anyhow::Result<()> {
    let elsewhere = namespace
        .another("elsewhere", &[(INJECT, "enabled")], &[])
        .await?;
    let web = Web::new("left").label(INJECT, "enabled");
    let (pods, _) = web.start(&elsewhere).await?;
    ensure!(
        pods.iter().all(|pod| pods::init_containers(pod).is_empty()),
        "a sidecar where nothing is watched"
    );
    let reviews = Api::<SubjectAccessReview>::all(namespace.cluster().client());
    let everywhere = "";
    for (component, group, resource) in [
        (Component::Webhook, "", "pods"),
        (Component::Webhook, "", "services"),
        (Component::Webhook, "networking.k8s.io", "networkpolicies"),
        (Component::Aggregator, "", "pods"),
        (Component::Aggregator, "apps", "replicasets"),
        (Component::Aggregator, "keda.sh", "scaledobjects"),
    ] {
        for (place, wanted) in [
            (namespace.name(), true),
            (elsewhere.name(), false),
            (everywhere, false),
        ] {
            let account = stillwake.deployment(component);
            let user = format!("system:serviceaccount:{}:{account}", stillwake.namespace());
            let review: SubjectAccessReview =
                serde_json::from_value(json!({"metadata": {}, "spec": {
                    "user": user,
                    "resourceAttributes": {
                        "namespace": place, "verb": "list", "group": group, "resource": resource,
                    },
                }}))?;
            let answer = reviews.create(&PostParams::default(), &review).await?;
            let allowed = answer.status.is_some_and(|status| status.allowed);
            ensure!(
                allowed == wanted,
                "{account} may list {resource} in {place:?}: {allowed}"
            );
        }
    }
    // Where it does, it works.
    let watched = Web::new("watched").label(INJECT, "enabled");
    let (pods, _) = watched.start(namespace).await?;
    counts::until_in_flight(stillwake, &pods, 0).await
}

/// Pods of the release before trust its authority and no other, so that nobody hears of them: for all anyone knows they
/// work, and KEDA is told so for as long as they are there.
async fn strangers_are_active(
    namespace: &Namespace,
    stillwake: &Stillwake,
    scaling: &Scaling,
    old: &[Pod],
) -> anyhow::Result<()> {
    let old: BTreeSet<_> = old.iter().map(ResourceExt::name_any).collect();
    let held = async || {
        for seen in scaling::seen(stillwake, namespace, WEB).await? {
            let unknown: BTreeSet<String> = serde_json::from_value(seen["unknown_pods"].clone())?;
            // The HPA leaves one of them, as there is nothing in flight.
            let is_meant = !unknown.is_empty() && unknown.is_subset(&old);
            ensure!(
                is_meant && seen["active"] == true && seen["known"] == true,
                "{seen}"
            );
        }
        anyhow::Ok(())
    };
    let what = "pods that nobody knows to be active";
    wait::until(what, watching::PATIENCE, held).await?;
    // One that is idle would be at 0 by then.
    let since =
        Timestamp::now() + SignedDuration::try_from(scaling.cooldown + 2 * scaling.polling)?;
    let what = "KEDA to find them active again and again";
    wait::until(what, watching::PATIENCE, async || {
        let object = namespace.scaled_objects().get(WEB).await?;
        let active = object.data["status"]["lastActiveTime"].as_str();
        let active: Timestamp = active.context("it was never active")?.parse()?;
        ensure!(active > since, "last active at {active}, before {since}");
        anyhow::Ok(())
    })
    .await?;
    held().await
}

/// A pod that asks for the sidecar.
fn asking() -> Value {
    json!({
        "metadata": {"generateName": "asking-", "labels": {INJECT: "enabled"}},
        "spec": {"containers": [{
            "name": "app",
            "image": IMAGE,
            "ports": [{"name": "http", "containerPort": 8080}],
        }]},
    })
}
