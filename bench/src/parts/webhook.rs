//! The webhook: how many pods it admits, how soon, and what each takes.

use std::{env, net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, ensure};
use futures_util::FutureExt as _;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use stillwake_webhook::server::PATH;
use tokio::{net::TcpStream, process::Command, task::JoinSet, time::Instant};

use crate::{
    admissions::Admissions,
    certificates::Certificate,
    context::Context,
    part::Part,
    process,
    roles::{Role, child::Playing, webhook},
    row::{Row, Unit},
    statistics::{Blocks, Summary},
};

/// Connections of API servers, each with one admission under way.
const CONNECTIONS: usize = 4;

const WEBHOOK: &str = "webhook";

/// What it is compared with.
const BARE: &str = "bare server";

const RATE: &str = "admissions";
const CPU: &str = "CPU per admission";
const MIDDLE: &str = "time, p50";
const HIGH: &str = "time, p99";

/// Its parts.
pub(super) const PARTS: [Part; 1] = [Part {
    name: "webhook",
    measures: "Admissions of the golden pods over TLS on four connections, beside a server that admits all unread; and what \
               each allocates.",
    run: |context| run(context).boxed_local(),
}];

type Body = Full<bytes::Bytes>;

/// What admissions allocate, as `stillwake-bench-allocations` prints it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Allocations {
    /// Pieces of memory taken, or moved to where there is more, for one admission.
    pub pieces: f64,
    /// Bytes in all of them.
    pub bytes: f64,
}

async fn run(context: &Context) -> anyhow::Result<Vec<Row>> {
    let (_folder, certificate) = Certificate::make()?;
    let admissions = Admissions::read()?;
    let case = format!(
        "{} pods in turn, {CONNECTIONS} connections",
        admissions.reviews.len()
    );
    let bodies: Vec<bytes::Bytes> = admissions.reviews.into_iter().map(Into::into).collect();
    let mut servers = Vec::new();
    for (name, is_bare) in [(BARE, true), (WEBHOOK, false)] {
        let settings = webhook::Settings {
            certificate: certificate.clone(),
            is_bare,
        };
        let (server, port) = Playing::start::<u16>(Role::Webhook, &settings).await?;
        servers.push((name, server, port));
    }
    let names = [BARE, WEBHOOK];
    let blocks = Blocks::measure(&names, context.blocks(), async |name| {
        let server = servers.iter().find(|(server, ..)| server == name);
        let (_, server, port) = server.context("no such server")?;
        let before = process::cpu_time(server.pid()?)?;
        let begun = Instant::now();
        let times = load(*port, &certificate, &bodies, context.slice()).await?;
        let took = begun.elapsed().as_secs_f64();
        let used = process::cpu_time(server.pid()?)?.saturating_sub(before);
        let count = times.len() as f64;
        Ok(vec![
            (RATE, count / took),
            (CPU, used.as_secs_f64() / count),
            (MIDDLE, crate::statistics::percentile(&times, 0.5)?),
            (HIGH, crate::statistics::percentile(&times, 0.99)?),
        ])
    })
    .await?;
    let mut rows = Vec::new();
    for (measure, unit) in [
        (RATE, Unit::PerSecond),
        (CPU, Unit::Seconds),
        (MIDDLE, Unit::Seconds),
        (HIGH, Unit::Seconds),
    ] {
        for name in names {
            let mut row = Row::new(&case, name, measure, unit, blocks.summary(name, measure)?);
            if name != BARE {
                row = row.over(BARE, blocks.ratio(name, BARE, measure)?);
            }
            rows.push(row);
        }
    }
    let (_, server, _) = &servers[1];
    let memory = process::memory(server.pid()?)?.resident;
    rows.push(Row::new(
        &case,
        WEBHOOK,
        "memory after it",
        Unit::Bytes,
        Summary::exact(memory as f64),
    ));
    let counted = allocations().await?;
    for (measure, unit, value) in [
        ("allocations per admission", Unit::Count, counted.pieces),
        ("bytes allocated per admission", Unit::Bytes, counted.bytes),
    ] {
        let row = Row::new(&case, WEBHOOK, measure, unit, Summary::exact(value));
        rows.push(row.noting("without TLS and HTTP, counted in a process of its own"));
    }
    Ok(rows)
}

/// Has them counted by the program beside this one that does.
async fn allocations() -> anyhow::Result<Allocations> {
    let program = env::current_exe()?.with_file_name("stillwake-bench-allocations");
    let output = Command::new(&program).output().await;
    let output = output.with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(
        output.status.success(),
        "it failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Posts all bodies in turn for so long. Returns the time of each answer, in seconds.
async fn load(
    port: u16,
    certificate: &Certificate,
    bodies: &[bytes::Bytes],
    time: Duration,
) -> anyhow::Result<Vec<f64>> {
    let mut clients = JoinSet::new();
    let end = Instant::now() + time;
    for first in 0..CONNECTIONS {
        let mut connection = connect(port, certificate).await?;
        let bodies = bodies.to_vec();
        clients.spawn(async move {
            let mut times = Vec::new();
            let mut next = first * bodies.len() / CONNECTIONS;
            while Instant::now() < end {
                let begun = Instant::now();
                admit(&mut connection, bodies[next % bodies.len()].clone()).await?;
                times.push(begun.elapsed().as_secs_f64());
                next += 1;
            }
            anyhow::Ok(times)
        });
    }
    let mut all = Vec::new();
    while let Some(times) = clients.join_next().await {
        all.extend(times??);
    }
    Ok(all)
}

async fn connect(port: u16, certificate: &Certificate) -> anyhow::Result<SendRequest<Body>> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    let stream = certificate.trust()?.connect("127.0.0.1", stream).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn admit(connection: &mut SendRequest<Body>, body: bytes::Bytes) -> anyhow::Result<()> {
    let request = Request::post(format!("{PATH}?timeout=5s"))
        .header(header::HOST, "stillwake-webhook")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))?;
    connection.ready().await?;
    let answer = connection.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    ensure!(
        status == StatusCode::OK,
        "{status}: {}",
        String::from_utf8_lossy(&body)
    );
    Ok(())
}
