//! A workload of a kind that nobody knows: a custom resource with `/scale`, and the suite as its controller.

use std::pin::pin;

use anyhow::Context;
use futures_util::StreamExt;
use k8s_openapi::{
    api::core::v1::Pod,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    runtime::watcher,
};
use serde_json::{Value, json};
use stillwake_e2e::{
    client,
    cluster::{
        self, Failure, IMAGE, Namespace, pods::INJECT, stillwake::Stillwake, watching, web, zero,
    },
};
use tokio_util::task::AbortOnDropHandle;

/// What the resource, its Service and its `ScaledObject` are called.
const NAME: &str = "gadget";

const MANIFEST: &str = "
apiVersion: v1
kind: Service
metadata: {name: gadget}
spec: {selector: {app: gadget}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: gadget}
spec:
  scaleTargetRef: {apiVersion: ${group}/v1, kind: Gadget, name: gadget}
  minReplicaCount: 0
  pollingInterval: 1
  cooldownPeriod: 2
  triggers:
  - type: external-push
    metadata: {scalerAddress: ${scaler}, targetConcurrency: '10', service: gadget}
";

#[test]
fn a_custom_resource_wakes_by_the_service_that_its_trigger_names() -> Result<(), Failure> {
    cluster::run("custom resource", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        // It belongs to no namespace, and others may try the same.
        let group = format!("e2e-{:08x}.stillwake.dev", rand::random::<u32>());
        let definitions = Api::<CustomResourceDefinition>::all(namespace.cluster().client());
        let definition = definition(&group)?;
        definitions
            .create(&PostParams::default(), &definition)
            .await?;
        let outcome = sleeps_and_wakes(namespace, &stillwake, &group).await;
        let name = definition.name_any();
        definitions.delete(&name, &DeleteParams::default()).await?;
        outcome
    })
}

async fn sleeps_and_wakes(
    namespace: &Namespace,
    stillwake: &Stillwake,
    group: &str,
) -> anyhow::Result<()> {
    let definitions = Api::<CustomResourceDefinition>::all(namespace.cluster().client());
    let name = format!("gadgets.{group}");
    watching::until(&definitions, &name, "a place in the API", |definition| {
        let status = definition.and_then(|definition| definition.status.as_ref());
        let mut conditions = status
            .into_iter()
            .flat_map(|status| status.conditions.iter().flatten());
        let is_there = conditions
            .any(|condition| condition.type_ == "Established" && condition.status == "True");
        is_there.then_some(()).ok_or("not established")
    })
    .await?;
    let controller = Controller::start(namespace, group).await?;
    let values = [("group", group), ("scaler", &stillwake.scaler_address())];
    namespace.apply(MANIFEST, &values).await?;
    controller.until_asleep(namespace).await?;
    zero::until_served(namespace, NAME, true).await?;
    let service = web::cluster_address(namespace, NAME).await?;
    let answer = client::get(service, "/bytes?length=100").await?;
    zero::ensure_waited(&answer)?;
    controller.until_asleep(namespace).await?;
    zero::until_served(namespace, NAME, true).await
}

fn definition(group: &str) -> anyhow::Result<CustomResourceDefinition> {
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let version = json!({
        "name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
            "status": anything,
        }}},
        "subresources": {"status": {}, "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }},
    });
    let definition = json!({
        "metadata": {"name": format!("gadgets.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget"},
            "versions": [version],
        },
    });
    Ok(serde_json::from_value(definition)?)
}

/// Sees to it that there are as many pods as the resource says, which are none or one.
struct Controller {
    gadgets: Api<DynamicObject>,
    _following: AbortOnDropHandle<()>,
}

impl Controller {
    async fn start(namespace: &Namespace, group: &str) -> anyhow::Result<Self> {
        let client = namespace.cluster().client();
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", "Gadget"));
        let gadgets = Api::<DynamicObject>::namespaced_with(client, namespace.name(), &resource);
        let gadget = DynamicObject::new(NAME, &resource).data(json!({"spec": {"replicas": 1}}));
        let gadget = gadgets.create(&PostParams::default(), &gadget).await?;
        let owner = json!({
            "apiVersion": format!("{group}/v1"), "kind": "Gadget", "name": NAME,
            "uid": gadget.metadata.uid.context("a resource without a UID")?, "controller": true,
        });
        let pods = namespace.api::<Pod>();
        let followed = gadgets.clone();
        let following = tokio::spawn(async move {
            let mut views = pin!(watching::follow(&followed, watching::named(NAME)));
            let mut pod = None;
            while let Some(view) = views.next().await {
                // A watch that breaks is taken up again.
                let Ok(gadgets) = view else { continue };
                let wanted = gadgets.get(NAME).map(replicas);
                if let Err(error) = become_so_many(&pods, &owner, wanted, &mut pod).await {
                    eprintln!("the pods of {NAME} are not as they should be: {error:#}");
                }
                let status =
                    json!({"status": {"replicas": pod.iter().len(), "selector": "app=gadget"}});
                let (parameters, patch) = (PatchParams::default(), Patch::Merge(&status));
                let _ = followed.patch_status(NAME, &parameters, &patch).await;
            }
        });
        Ok(Self {
            gadgets,
            _following: AbortOnDropHandle::new(following),
        })
    }

    /// Waits until none is wanted and the last pod is gone.
    async fn until_asleep(&self, namespace: &Namespace) -> anyhow::Result<()> {
        watching::until(&self.gadgets, NAME, "sleep", |gadget| {
            let gadget = gadget.ok_or("there is none")?;
            let is_asleep = replicas(gadget) == 0 && gadget.data["status"]["replicas"] == 0;
            is_asleep.then_some(()).ok_or("it is awake")
        })
        .await?;
        let selected = watcher::Config::default().labels("app=gadget");
        let what = "the end of the pods";
        watching::until_all::<Pod, _, _>(&namespace.api(), selected, what, |pods| {
            pods.is_empty()
                .then_some(())
                .ok_or_else(|| watching::phases(pods))
        })
        .await
    }
}

fn replicas(gadget: &DynamicObject) -> u64 {
    gadget.data["spec"]["replicas"].as_u64().unwrap_or(0)
}

/// Creates the pod that is wanted, or deletes the one that is not.
async fn become_so_many(
    pods: &Api<Pod>,
    owner: &Value,
    wanted: Option<u64>,
    known: &mut Option<String>,
) -> anyhow::Result<()> {
    match (wanted, known.take()) {
        (Some(1..), None) => {
            let pod = pods.create(&PostParams::default(), &pod(owner)?).await?;
            *known = Some(pod.name_any());
        }
        (Some(0) | None, Some(name)) => {
            pods.delete(&name, &DeleteParams::default()).await?;
        }
        (_, name) => *known = name,
    }
    Ok(())
}

fn pod(owner: &Value) -> anyhow::Result<Pod> {
    let container = json!({
        "name": "app",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "args": ["--address=0.0.0.0", "--port=8080"],
        "ports": [{"name": "http", "containerPort": web::PORT}],
        "readinessProbe": web::http_probe(web::By::Number),
    });
    let labels = json!({"app": NAME, INJECT: "enabled"});
    Ok(serde_json::from_value(json!({
        "metadata": {"generateName": "gadget-", "labels": labels, "ownerReferences": [owner]},
        "spec": {"containers": [container]},
    }))?)
}
