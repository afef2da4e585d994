//! What a real API server and helm make of the chart's objects. The programs in them do not run here.

use std::process::Stdio;

use anyhow::{Context, ensure};
use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::MutatingWebhookConfiguration,
        coordination::v1::Lease,
        core::v1::{ConfigMap, Secret},
    },
};
use kube::Api;
use serde_json::{Value, json};
use stillwake_e2e::{
    chart::{Chart, cases, folder},
    cluster::{self, Failure, Namespace, stillwake::helm},
};
use stillwake_test_cluster::Tool;
use tokio::{io::AsyncWriteExt, process::Command};

/// Whom the webhook writes as.
const FIELD_MANAGER: &str = "stillwake-certs";

/// Runs kubectl in the namespace, with this on its standard input, and returns what it said, warnings included.
async fn kubectl(namespace: &Namespace, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let mut command = Command::from(namespace.cluster().running()?.command(Tool::Kubectl));
    let mut child = command
        .args(["--namespace", namespace.name()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("there is no standard input")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    ensure!(output.status.success(), "kubectl {arguments:?}: {said}");
    Ok(said)
}

#[test]
fn an_api_server_takes_every_object_as_it_is_and_runs_the_pods_where_they_are_restricted()
-> Result<(), Failure> {
    cluster::run("chart dry run", async |namespace| {
        // A Deployment is never refused for its pods; there is a warning.
        let label = "pod-security.kubernetes.io/warn=restricted";
        kubectl(
            namespace,
            &["label", "namespace", namespace.name(), label],
            "",
        )
        .await?;
        let chart = Chart::find()?;
        let kubernetes = namespace.cluster().running()?.kubernetes().to_owned();
        for mut case in cases(namespace.name()) {
            if case.needs_other_kinds {
                continue;
            }
            case.release.kubernetes.clone_from(&kubernetes);
            // What belongs to no namespace may be there already, of the release that other suites share.
            namespace.name().clone_into(&mut case.release.name);
            let manifest = chart.manifest(&case.release)?;
            let strictly = [
                "create",
                "--dry-run=server",
                "--validate=strict",
                "--filename=-",
            ];
            let said = kubectl(namespace, &strictly, &manifest)
                .await
                .context(case.name)?;
            ensure!(!said.contains("Warning"), "{}: {said}", case.name);
        }
        Ok(())
    })
}

/// What the webhook's leader writes into the chart's objects, with the rights of the webhook.
async fn fill_in(namespace: &Namespace, fullname: &str) -> anyhow::Result<()> {
    let account = format!(
        "--as=system:serviceaccount:{}:{fullname}-webhook",
        namespace.name()
    );
    let authorities = format!("{fullname}-authorities");
    let data = json!({"data": {"authorities.json": "e30=", "ca.crt": "YQ=="}}).to_string();
    let patch = [
        "patch",
        "secret",
        &authorities,
        &account,
        "--type=merge",
        "--patch",
        &data,
    ];
    kubectl(namespace, &patch, "").await?;

    let held = json!({"spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}}).to_string();
    let patch = [
        "patch",
        "lease",
        &authorities,
        &account,
        "--type=merge",
        "--patch",
        &held,
    ];
    kubectl(namespace, &patch, "").await?;

    // Any certificate will do, and this one is in every namespace.
    let root = namespace.api::<ConfigMap>().get("kube-root-ca.crt").await?;
    let root = root.data.unwrap_or_default().remove("ca.crt");
    let bundle = ByteString(root.context("there is no certificate")?.into_bytes());
    let entry = |name: &str| json!({"name": name, "clientConfig": {"caBundle": bundle}});
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": fullname},
        "webhooks": [entry("pods.inject.stillwake.dev"), entry("namespaces.inject.stillwake.dev")],
    });
    let manager = format!("--field-manager={FIELD_MANAGER}");
    let apply = ["apply", &account, "--server-side", &manager, "--filename=-"];
    kubectl(namespace, &apply, &configuration.to_string()).await?;
    Ok(())
}

/// What of that is there.
async fn filled_in(namespace: &Namespace, fullname: &str) -> anyhow::Result<Value> {
    let authorities = format!("{fullname}-authorities");
    let secret = namespace.api::<Secret>().get(&authorities).await?;
    let lease = namespace.api::<Lease>().get(&authorities).await?;
    let configurations = Api::<MutatingWebhookConfiguration>::all(namespace.cluster().client());
    let webhooks = configurations.get(fullname).await?.webhooks;
    let bundles = webhooks.unwrap_or_default().into_iter();
    let bundles: Vec<_> = bundles
        .map(|webhook| webhook.client_config.ca_bundle)
        .collect();
    Ok(json!([secret.data, lease.spec, bundles]))
}

#[test]
fn an_upgrade_keeps_what_the_webhook_filled_in_and_an_uninstall_leaves_nothing()
-> Result<(), Failure> {
    cluster::run("chart upgrade", async |namespace| {
        let release = namespace.name();
        let fullname = format!("{release}-stillwake");
        let folder = folder();
        let folder = folder.to_str().context("the checkout's path is no text")?;
        let helm = async |arguments: &[&str]| {
            let arguments = [&["--namespace", release], arguments].concat();
            helm(namespace.cluster(), &arguments, "").await
        };

        // Without programs: what they would write is written here.
        let idle = format!("watchNamespaces={{{release}}},image.tag=none,image.pullPolicy=Never");
        helm(&["install", release, folder, "--set", &idle]).await?;
        let empty = filled_in(namespace, &fullname).await?;
        assert_eq!(empty, json!([null, {}, [null, null]]));
        fill_in(namespace, &fullname).await?;
        let filled = filled_in(namespace, &fullname).await?;
        for part in 0..3 {
            assert_ne!(filled[part], empty[part]);
        }

        let others =
            "webhook.replicas=1,webhook.timeoutSeconds=5,commonLabels.a=b,priorityClass.value=5";
        helm(&["upgrade", release, folder, "--set", &idle, "--set", others]).await?;
        assert_eq!(filled_in(namespace, &fullname).await?, filled);
        helm(&["rollback", release, "1"]).await?;
        assert_eq!(filled_in(namespace, &fullname).await?, filled);

        let manifest = helm(&["get", "manifest", release]).await?;
        helm(&["uninstall", release, "--wait"]).await?;
        let get = ["get", "--filename=-", "--ignore-not-found", "--output=name"];
        assert_eq!(kubectl(namespace, &get, &manifest).await?, "");
        Ok(())
    })
}
