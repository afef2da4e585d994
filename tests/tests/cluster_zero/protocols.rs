//! What is not HTTP/1.1 at zero: gRPC, an app with TLS of its own, and a database that speaks first. Their programs are
//! those of this machine, which its nodes share.

use std::{net::SocketAddr, process::Stdio};

use anyhow::{Context, ensure};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use stillwake_e2e::{
    cluster::{self, Failure, IMAGE, Namespace, stillwake::Stillwake, watching, web, zero},
    tools, wait,
};
use tokio::{net::TcpStream, process::Command, time::timeout};

/// The port of all of these apps.
const PORT: u16 = 8080;

/// Whom the certificate names.
const NAME: &str = "app.test";

/// What programs of this machine take to run.
const SYSTEM: [&str; 3] = ["/usr", "/lib", "/lib64"];

/// Puts an app of this machine's to sleep, and returns where its Service answers. `own` is the source of the volume that it
/// finds at `/own`.
async fn asleep(
    namespace: &Namespace,
    stillwake: &Stillwake,
    name: &str,
    command: &[&str],
    own: Option<Value>,
) -> anyhow::Result<SocketAddr> {
    let mut mounts = vec![json!({"name": "data", "mountPath": "/data"})];
    let mut volumes = vec![json!({"name": "data", "emptyDir": {}})];
    let system = SYSTEM.map(|path| (path, json!({"hostPath": {"path": path}})));
    let own = own.map(|source| ("/own", source));
    for (number, (path, mut volume)) in system.into_iter().chain(own).enumerate() {
        let name = format!("volume-{number}");
        mounts.push(json!({"name": name, "mountPath": path, "readOnly": true}));
        volume["name"] = json!(name);
        volumes.push(volume);
    }
    let container = json!({
        "name": "app", "image": IMAGE, "imagePullPolicy": "Never", "command": command,
        "ports": [{"name": "app", "containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "volumeMounts": mounts,
    });
    let labels = json!({"app": name, "stillwake.dev/inject": "enabled"});
    let pod = json!({
        "metadata": {"labels": labels},
        "spec": {"containers": [container], "volumes": volumes, "securityContext": {"fsGroup": 65532}},
    });
    for object in [
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": PORT, "targetPort": "app"}]},
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": pod},
        }),
    ] {
        namespace.apply(&Value::to_string(&object), &[]).await?;
    }
    let scaling = zero::scaling(name, &[("targetConcurrency", "10")]);
    scaling.start(namespace, stillwake).await?;
    zero::until_asleep(namespace, name).await?;
    let service = web::cluster_address(namespace, name).await?;
    // kube-proxy takes its time. Such a connection wakes nobody.
    let connect = || TcpStream::connect(service);
    wait::until("a Service that accepts", watching::PATIENCE, connect).await?;
    zero::ensure_asleep(namespace, name).await?;
    Ok(service)
}

/// Runs a client to its end, and returns what it says.
async fn said(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(watching::PATIENCE, output).await;
    let output = output.with_context(|| format!("{command:?} hangs"))??;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {errors}");
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

#[test]
fn a_database_that_speaks_first_wakes_and_sleeps() -> Result<(), Failure> {
    cluster::run("database at zero", async |namespace| {
        let tools = ["mariadbd", "mariadb"];
        if !tools::are_installed(&tools, "a database at zero").await? {
            return Ok(());
        }
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let port = format!("--port={PORT}");
        let command = [
            "/usr/sbin/mariadbd",
            "--no-defaults",
            "--user=root",
            "--datadir=/data",
            &port,
            "--socket=",
            "--pid-file=/data/pid",
            "--tmpdir=/data",
            "--skip-grant-tables",
            "--skip-networking=0",
            "--innodb-buffer-pool-size=8M",
            "--innodb-log-file-size=4M",
        ];
        let service = asleep(namespace, &stillwake, "database", &command, None).await?;
        for what in ["at zero", "warm", "while nothing passes"] {
            // Longer than it takes to sleep.
            let pause = if what == "while nothing passes" {
                12
            } else {
                0
            };
            let answer = said(
                Command::new("mariadb")
                    .arg("--no-defaults")
                    .arg(format!("--host={}", service.ip()))
                    .arg(format!("--port={PORT}"))
                    .args(["--protocol=tcp", "--skip-ssl", "--skip-column-names"])
                    .arg(format!("--execute=select 6 * 7, sleep({pause})")),
            )
            .await
            .with_context(|| what.to_owned())?;
            ensure!(answer == "42\t0", "{what}: {answer}");
        }
        zero::until_asleep(namespace, "database").await
    })
}

#[test]
fn an_app_with_tls_of_its_own_wakes_and_sleeps() -> Result<(), Failure> {
    cluster::run("TLS at zero", async |namespace| {
        if !tools::are_installed(&["node", "curl"], "TLS at zero").await? {
            return Ok(());
        }
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([NAME.to_owned()])?;
        let files = json!({
            "secure.js": include_str!("../servers/secure.js").replace("127.0.0.1", "0.0.0.0"),
            "key": signing_key.serialize_pem(),
            "certificate": cert.pem(),
        });
        let files = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "secure"}, "data": files,
        });
        namespace.apply(&files.to_string(), &[]).await?;
        let folder = tempfile::tempdir()?;
        let certificate = folder.path().join("certificate");
        std::fs::write(&certificate, cert.pem())?;
        let port = PORT.to_string();
        let command = [
            "/usr/bin/node",
            "/own/secure.js",
            &port,
            "/own/key",
            "/own/certificate",
        ];
        let service = asleep(
            namespace,
            &stillwake,
            "secure",
            &command,
            Some(json!({"configMap": {"name": "secure"}})),
        )
        .await?;
        let ask = async |version: &str| {
            said(
                Command::new("curl")
                    .args(["--silent", "--show-error", version, "--data", "hello"])
                    .arg("--cacert")
                    .arg(&certificate)
                    .arg("--resolve")
                    .arg(format!("{NAME}:{PORT}:{}", service.ip()))
                    .arg(format!("https://{NAME}:{PORT}/")),
            )
            .await
        };
        for (version, expected) in [("--http2", "2.0 5"), ("--http1.1", "1.1 5")] {
            let cold = ask(version).await.context("at zero")?;
            ensure!(cold == expected, "at zero: {cold}");
            wait::until("a pod's answer", watching::PATIENCE, async || {
                let warm = ask(version).await?;
                ensure!(warm == expected, "warm: {warm}");
                anyhow::Ok(())
            })
            .await?;
            zero::until_asleep(namespace, "secure").await?;
        }
        Ok(())
    })
}

#[test]
fn grpc_calls_wake_and_sleep() -> Result<(), Failure> {
    cluster::run("gRPC at zero", async |namespace| {
        if !tools::are_installed(&["go"], "gRPC at zero").await? {
            return Ok(());
        }
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let package = |program| format!("google.golang.org/grpc/interop/{program}");
        let client = tools::go_program("grpc", &package("client")).await?;
        let server = tools::go_program("grpc", &package("server")).await?;
        let (folder, name) = (server.parent(), server.file_name());
        let name = name.and_then(|name| name.to_str());
        let program = format!("/own/{}", name.context("the server has no name")?);
        let own = folder.map(|folder| json!({"hostPath": {"path": folder}}));
        let port = format!("--port={PORT}");
        let service = asleep(namespace, &stillwake, "calls", &[&program, &port], own).await?;
        for case in [
            "large_unary",
            "client_streaming",
            "server_streaming",
            "ping_pong",
        ] {
            for what in ["at zero", "warm"] {
                said(
                    Command::new(&client)
                        .arg(format!("--server_host={}", service.ip()))
                        .arg(format!("--server_port={PORT}"))
                        .arg(format!("--test_case={case}")),
                )
                .await
                .with_context(|| format!("{case} {what}"))?;
            }
            zero::until_asleep(namespace, "calls").await?;
        }
        Ok(())
    })
}
