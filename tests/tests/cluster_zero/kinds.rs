//! Services of all kinds in front of a workload that sleeps: each leads to it, by each of its ports.

use std::net::SocketAddr;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Node, Service};
use serde_json::json;
use stillwake_e2e::{
    client,
    cluster::{
        self, Failure, IMAGE, Namespace, scaling::Scaling, scene::WEB, stillwake::Stillwake,
        watching, web, zero,
    },
    wait,
};

#[test]
fn every_service_and_every_port_of_it_wakes_the_workload() -> Result<(), Failure> {
    cluster::run("kinds of services", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let others = format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: outside}}
spec:
  type: NodePort
  sessionAffinity: ClientIP
  selector: {{app: {WEB}}}
  ports: [{{port: 80, targetPort: http}}]
---
apiVersion: v1
kind: Service
metadata: {{name: two-ports}}
spec:
  selector: {{app: {WEB}}}
  ports:
  - {{name: by-name, port: 80, targetPort: http}}
  - {{name: by-number, port: 81, targetPort: 8080}}"
        );
        namespace.apply(&others, &[]).await?;
        let scaling = zero::scaling(WEB, &[("targetConcurrency", "10")]);
        let web = zero::app(WEB);
        let service = zero::put_to_sleep(namespace, &stillwake, &web, &scaling).await?;
        let two_ports = web::cluster_address(namespace, "two-ports").await?;
        let by_number = SocketAddr::new(two_ports.ip(), 81);
        let outside = node_port(namespace, "outside").await?;
        for (what, address) in [
            ("the ClusterIP", service),
            ("a port by name", two_ports),
            ("a port by number", by_number),
            ("a node's port", outside),
        ] {
            zero::until_served(namespace, "outside", true).await?;
            zero::until_served(namespace, "two-ports", true).await?;
            let answer = client::get(address, "/bytes?length=100").await;
            let answer = answer.with_context(|| what.to_owned())?;
            zero::ensure_waited(&answer).context(what)?;
            zero::until_asleep(namespace, WEB).await?;
        }
        Ok(())
    })
}

async fn node_port(namespace: &Namespace, service: &str) -> anyhow::Result<SocketAddr> {
    let found = namespace.api::<Service>().get(service).await?;
    let ports = found.spec.and_then(|spec| spec.ports).unwrap_or_default();
    let port = ports.first().and_then(|port| port.node_port);
    let nodes = kube::Api::<Node>::all(namespace.cluster().client());
    let node = nodes.list(&kube::api::ListParams::default()).await?;
    let addresses = node
        .items
        .into_iter()
        .next()
        .and_then(|node| node.status?.addresses);
    let mut addresses = addresses.unwrap_or_default().into_iter();
    let internal = addresses.find(|address| address.type_ == "InternalIP");
    let internal = internal.context("the node has no address")?.address;
    Ok(SocketAddr::new(
        internal.parse()?,
        u16::try_from(port.context("the Service has no node port")?)?,
    ))
}

#[test]
fn a_stateful_set_wakes_by_its_service() -> Result<(), Failure> {
    cluster::run("stateful set at zero", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let manifest = format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: store}}
spec: {{selector: {{app: store}}, ports: [{{port: 80, targetPort: http}}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: store}}
spec:
  replicas: 1
  serviceName: store
  selector: {{matchLabels: {{app: store}}}}
  template:
    metadata: {{labels: {{app: store, stillwake.dev/inject: enabled}}}}
    spec:
      securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
      - name: app
        image: {IMAGE}
        imagePullPolicy: Never
        args: [--address=0.0.0.0, --port=8080]
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
        securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}"
        );
        namespace.apply(&manifest, &[]).await?;
        let scaling = Scaling {
            kind: "StatefulSet".to_owned(),
            ..zero::scaling("store", &[("targetConcurrency", "10")])
        };
        scaling.start(namespace, &stillwake).await?;
        zero::until_served(namespace, "store", true).await?;
        let service = web::cluster_address(namespace, "store").await?;
        wait::until("an answer that waited", watching::PATIENCE, async || {
            let answer = client::get(service, "/").await?;
            zero::ensure_waited(&answer)
        })
        .await
    })
}

#[test]
fn with_an_activator_on_each_node_local_traffic_wakes_the_workload() -> Result<(), Failure> {
    cluster::run("local traffic", async |namespace| {
        let values = json!({"activator": {"kind": "DaemonSet"}});
        let stillwake = Stillwake::with_values(namespace, &values).await?;
        let local = format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: local}}
spec: {{internalTrafficPolicy: Local, selector: {{app: {WEB}}}, ports: [{{port: 80, targetPort: http}}]}}"
        );
        namespace.apply(&local, &[]).await?;
        let scaling = zero::scaling(WEB, &[("targetConcurrency", "10")]);
        zero::put_to_sleep(namespace, &stillwake, &zero::app(WEB), &scaling).await?;
        zero::until_served(namespace, "local", true).await?;
        let service = web::cluster_address(namespace, "local").await?;
        let answer = client::get(service, "/bytes?length=100").await?;
        zero::ensure_waited(&answer)
    })
}
