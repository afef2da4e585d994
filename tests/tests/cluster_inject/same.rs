//! What worked before works as before, byte for byte: beside each app with the sidecar runs the same without it.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use stillwake_e2e::{
    client,
    cluster::{
        self, Failure, Namespace, dns, kubectl,
        pods::{self, INJECT, REDIRECT},
        scaling::{self, Scaling},
        stillwake::Stillwake,
        watching,
        web::{self, By, PORT, Web},
    },
    raw, wait,
};
use tokio::try_join;

/// The first port that a sidecar listens on.
const SIDECAR_PORT: u16 = 15080;

/// So many probes that one each second cannot have been overlooked.
const PROBES: u64 = 5;

/// Requests of a client, each as its parts; a part is sent once the one before was answered.
const CONVERSATIONS: [&[&[u8]]; 9] = [
    &[b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n"],
    &[b"GET /bytes?length=100000 HTTP/1.1\r\nhost: web\r\nx-request-id: 7\r\nconnection: close\r\n\r\n"],
    &[b"HEAD /bytes?length=10 HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n"],
    &[b"GET /bytes?length=3 HTTP/1.0\r\n\r\n"],
    // Two at once, the second of which ends the connection.
    &[b"GET /bytes?length=5 HTTP/1.1\r\nhost: web\r\n\r\n\
        POST /echo-hash HTTP/1.1\r\nhost: web\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
        5;x=y\r\nabcde\r\n1\r\nf\r\n0\r\ntrailer: t\r\n\r\n"],
    &[
        b"POST /echo-hash HTTP/1.1\r\nhost: web\r\nexpect: 100-continue\r\ncontent-length: 3\r\nconnection: close\r\n\r\n",
        b"abc",
    ],
    // A WebSocket: a text of two bytes, and a close; both masked with zeroes.
    &[
        b"GET /ws HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
          sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        b"\x81\x82\0\0\0\0hi",
        b"\x88\x82\0\0\0\0\x03\xe8",
    ],
    // No HTTP at all, and a head that makes no sense.
    &[b"\x16\x03\x01 this is not TLS\r\n\r\n"],
    &[b"GET / HTTP/1.1\r\nhost: web\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"],
];

#[test]
fn services_pods_and_kubectl_answer_byte_for_byte_as_without_the_sidecar() -> Result<(), Failure> {
    cluster::run("same", async |namespace| {
        let _stillwake = Stillwake::with_defaults(namespace).await?;
        let restricted = ("pod-security.kubernetes.io/enforce", "restricted");
        let swapped = namespace.another("swapped", &[restricted], &[]).await?;
        try_join!(compare(&swapped, By::Name), compare(namespace, By::Number))?;
        Ok(())
    })
}

/// Asks the same app with and without the sidecar the same.
async fn compare(home: &Namespace, target: By) -> anyhow::Result<()> {
    let with = Web {
        target,
        ..Web::new("with").label(INJECT, "enabled")
    };
    let without = Web {
        target,
        ..Web::new("without")
    };
    let with = async {
        with.foresee(home, |pod, _| {
            let redirects = pods::init_container(pod, REDIRECT).is_some();
            ensure!(pods::sidecar(pod).is_some(), "no sidecar");
            ensure!(
                redirects == (target == By::Number),
                "redirects: {redirects}"
            );
            Ok(())
        })
        .await?;
        with.start(home).await
    };
    let ((with, with_service), (without, without_service)) = try_join!(with, without.start(home))?;
    let (with, without) = (&with[0], &without[0]);
    ensure!(pods::sidecar(with).is_some(), "no sidecar");
    ensure!(pods::sidecar(without).is_none(), "a sidecar");

    let wanted = conversations(without_service).await?;
    let ways = [
        ("its ClusterIP", with_service),
        ("its name", by_name(home, "with").await?),
        ("the pod's port", own_port(with, PORT)?),
        ("the sidecar's port", own_port(with, SIDECAR_PORT)?),
    ];
    for (way, address) in ways {
        same(&wanted, address)
            .await
            .with_context(|| format!("by {way}"))?;
    }
    for what in ["deployment/with", "service/with"] {
        let port = if what.starts_with("service") {
            80
        } else {
            PORT
        };
        let forwarded = kubectl::forward(home, what, port).await?;
        let compared = same(&wanted, forwarded.address).await;
        compared.with_context(|| format!("by a forwarded port of {what}"))?;
    }
    let exec = async |what| {
        kubectl::run(home, &["exec", what, "--", "/stillwake-e2e-app", "--help"]).await
    };
    let (with, without) = try_join!(exec("deployment/with"), exec("deployment/without"))?;
    ensure!(without.contains("--port"), "kubectl exec says {without:?}");
    ensure!(with == without, "kubectl exec says {with:?}");
    Ok(())
}

async fn conversations(address: SocketAddr) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut answers = Vec::new();
    for parts in CONVERSATIONS {
        answers.push(raw::exchange(address, parts).await?);
    }
    Ok(answers)
}

async fn same(wanted: &[Vec<u8>], address: SocketAddr) -> anyhow::Result<()> {
    let found = conversations(address).await?;
    for ((wanted, found), parts) in wanted.iter().zip(&found).zip(CONVERSATIONS) {
        ensure!(
            wanted == found,
            "to {} the answer was\n{}\nand is\n{}",
            raw::shown(&parts.concat()),
            raw::shown(wanted),
            raw::shown(found)
        );
    }
    Ok(())
}

async fn by_name(home: &Namespace, service: &str) -> anyhow::Result<SocketAddr> {
    let name = format!("{service}.{}.svc.cluster.local", home.name());
    let found = dns::resolve(home.cluster(), &name).await?;
    let address = found
        .first()
        .with_context(|| format!("{name} has no address"))?;
    Ok(SocketAddr::new(*address, 80))
}

fn own_port(pod: &Pod, port: u16) -> anyhow::Result<SocketAddr> {
    let address = pods::address(pod).context("the pod has no address")?;
    Ok(SocketAddr::new(address, port))
}

#[test]
fn probes_of_every_kind_keep_pods_ready_and_are_not_counted() -> Result<(), Failure> {
    cluster::run("probes", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let (name, number) = (By::Name, By::Number);
        let probed = |called: &str, target, startup, readiness, liveness| Web {
            target,
            startup,
            readiness,
            liveness,
            ..Web::new(called).label(INJECT, "enabled")
        };
        let cases = [
            probed(
                "swapped-one",
                name,
                web::http_probe(name),
                web::tcp_probe(name),
                web::http_probe(number),
            ),
            probed(
                "swapped-two",
                name,
                web::tcp_probe(number),
                web::http_probe(name),
                web::exec_probe(),
            ),
            // A bare connection would be answered by the sidecar, so that with such a probe nothing is redirected.
            probed(
                "redirected",
                number,
                web::http_probe(name),
                web::http_probe(number),
                web::grpc_probe(),
            ),
        ];
        let [one, two, three] = cases
            .each_ref()
            .map(|web| are_not_counted(namespace, &stillwake, web));
        try_join!(one, two, three)?;
        Ok(())
    })
}

async fn are_not_counted(home: &Namespace, stillwake: &Stillwake, web: &Web) -> anyhow::Result<()> {
    web.foresee(home, |pod, _| {
        let redirects = pods::init_container(pod, REDIRECT).is_some();
        ensure!(pods::sidecar(pod).is_some(), "no sidecar");
        ensure!(
            redirects == (web.target == By::Number),
            "redirects: {redirects}"
        );
        Ok(())
    })
    .await?;
    web.apply(home).await?;
    let scaling = Scaling {
        max: 1,
        ..Scaling::new(&web.name, &[("targetRequestRate", "100")])
    };
    let (pods, ()) = try_join!(web.until_ready(home), scaling.start(home, stillwake))?;
    // Comes from the pod itself, past the sidecar.
    let forwarded = kubectl::forward(home, &format!("deployment/{}", web.name), PORT).await?;
    wait::until("more probes", watching::PATIENCE, async || {
        let answer = client::get(forwarded.address, "/probed").await?.text();
        let counts: Vec<u64> = answer
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let all = [&web.startup, &web.readiness, &web.liveness];
        let kinds = ["httpGet", "grpc"].map(|kind| all.iter().any(|probe| probe[kind].is_object()));
        let enough = kinds
            .iter()
            .zip(&counts)
            .all(|(used, count)| !used || *count >= PROBES);
        ensure!(enough, "{answer} over HTTP and gRPC so far");
        anyhow::Ok(())
    })
    .await?;
    let rates = rates(stillwake, home, &web.name).await?;
    ensure!(
        rates.iter().all(|rate| *rate == 0.0),
        "of {}, {rates:?} a second",
        web.name
    );
    let still = web.until_ready(home).await?;
    let restarts = |pods: &[Pod]| -> Vec<i32> {
        let statuses = pods
            .iter()
            .filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref());
        statuses
            .flatten()
            .map(|status| status.restart_count)
            .collect()
    };
    ensure!(
        restarts(&still) == [0],
        "restarts of {}: {:?}",
        web.name,
        restarts(&still)
    );
    ensure!(
        still[0].metadata.uid == pods[0].metadata.uid,
        "{} was replaced",
        web.name
    );

    // What is to be counted is.
    client::get(web::address(home, &web.name).await?, "/").await?;
    wait::until("a request to be counted", watching::PATIENCE, async || {
        let rates = self::rates(stillwake, home, &web.name).await?;
        ensure!(rates.iter().all(|rate| *rate > 0.0), "{rates:?} a second");
        anyhow::Ok(())
    })
    .await
}

/// Returns the requests per second that each aggregator knows of.
async fn rates(stillwake: &Stillwake, home: &Namespace, name: &str) -> anyhow::Result<Vec<f64>> {
    let seen = scaling::seen(stillwake, home, name).await?;
    let rates = seen.iter().map(|object| {
        ensure!(object["known"] == true, "{name} is not known: {object}");
        object["request_rate"].as_f64().context("no request rate")
    });
    rates.collect()
}
