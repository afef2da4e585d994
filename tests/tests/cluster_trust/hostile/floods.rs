//! Frames that never end, bytes that mean nothing, and connections without number.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use stillwake_e2e::{
    cluster::{
        stillwake::{Component, Stillwake},
        watching,
    },
    wait,
};
use stillwake_runtime::tls::{MaybeTls, Trust};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    refusals,
    sources::Sources,
    speech::{Reception, TRICKLE, hello, introduce},
    tokens::Tokens,
};
use crate::ports;

/// Connections of a flood.
const MANY: usize = 10_000;

/// Addresses of one that comes from several.
const ADDRESSES: u8 = 100;

/// As the aggregator has it: connections of one address that have not said who they are, and of all addresses together.
const SHARE: usize = 100;
const STRANGERS: u64 = 1_000;

/// What no aggregator may come to need.
const MEMORY: f64 = 128.0 * 1024.0 * 1024.0;

/// Connections that do the same.
const SOME: usize = 20;

/// How long a flood lasts once all of it has come.
const FLOOD: Duration = Duration::from_secs(5);

/// Whom to attack and how.
struct Attack<'a> {
    stillwake: &'a Stillwake,
    sources: &'a Sources,
    trust: Trust,
    host: String,
}

/// Does all of it, one after the other, and sees to it that memory stays bounded and real reporters get in.
pub(super) async fn attack(
    stillwake: &Stillwake,
    tokens: &Tokens,
    stranger: &Pod,
    sources: &Sources,
) -> anyhow::Result<()> {
    let attack = Attack {
        stillwake,
        sources,
        trust: Trust::from_pem(&stillwake.authorities().await?)?,
        host: stillwake.reports_host(),
    };
    let some = SOME as u64;
    let refused = async |reason, counted| {
        wait::until("what was refused", watching::PATIENCE, async || {
            let found = refusals(stillwake, &tokens.namespace, reason).await?;
            let found = found.get(&sources.name).context("the victim is gone")?;
            let is_so = found.0 >= counted && found.1 == 1;
            ensure!(is_so, "{reason} was counted and told {found:?} times");
            anyhow::Ok(())
        })
        .await
    };
    let attacked = async {
        attack.endless_frames(tokens, stranger).await?;
        refused("protocol", 2 * some).await?;
        attack.garbage().await?;
        refused("protocol", 3 * some).await?;
        refused("handshake", 2 * some).await?;
        attack.trickles().await?;
        refused("no_hello", some).await?;
        let real = || attack.gets_in(tokens, stranger);
        attack.flood(&[1], real).await?;
        // While the first ones wait for the end of their patience, there is no place for another.
        refused("address", MANY as u64 / 2).await?;
        let all: Vec<_> = (1..=ADDRESSES).collect();
        attack.flood(&all, async || Ok(())).await?;
        // They are gone.
        wait::until("room for a real reporter", watching::PATIENCE, real).await
    };
    tokio::select! {
        done = attacked => done,
        grown = attack.stays_small() => match grown? {},
    }
}

impl Attack<'_> {
    async fn secured(&self) -> anyhow::Result<MaybeTls> {
        ports::connect(&self.trust, &self.host, self.sources.target).await
    }

    /// Fails once an aggregator has taken too much memory, or has more strangers than it may have.
    async fn stays_small(&self) -> anyhow::Result<std::convert::Infallible> {
        let mut most = (0.0, 0);
        loop {
            for (replica, page) in self.stillwake.metrics(Component::Aggregator).await? {
                let memory = page.sum("process_resident_memory_bytes", &[])?;
                let strangers = page.count("stillwake_aggregator_unidentified_connections", &[])?;
                ensure!(memory < MEMORY, "{replica} has {memory} bytes");
                ensure!(
                    strangers <= STRANGERS,
                    "{replica} has {strangers} strangers"
                );
                let now = (f64::max(most.0, memory), u64::max(most.1, strangers));
                if now != most {
                    most = now;
                    eprintln!(
                        "at most {} MiB, {} strangers",
                        now.0 / 1024.0 / 1024.0,
                        now.1
                    );
                }
            }
            sleep(TRICKLE).await;
        }
    }

    /// A real reporter that comes now is believed.
    async fn gets_in(&self, tokens: &Tokens, pod: &Pod) -> anyhow::Result<()> {
        // From an address of its own, as pods have.
        let stream = self.sources.connect(u8::MAX - 1).await?;
        let hello = hello(pod, &tokens.right)?;
        let received = introduce(&self.trust, &self.host, stream, hello).await?;
        let is_believed = matches!(received, Reception::Believed(_));
        ensure!(is_believed, "a real reporter is refused");
        Ok(())
    }

    /// Announces frames of 4 GiB, as a stranger and as somebody who was believed, and goes on sending.
    async fn endless_frames(&self, tokens: &Tokens, pod: &Pod) -> anyhow::Result<()> {
        let announce = async |mut stream: MaybeTls| {
            let mut sent = stream.write_all(&u32::MAX.to_be_bytes()).await;
            let piece = vec![0; 64 * 1024];
            while sent.is_ok() {
                sent = stream.write_all(&piece).await;
            }
            closed(stream).await
        };
        for _ in 0..SOME {
            announce(self.secured().await?).await?;
            let stream = TcpStream::connect(self.sources.target).await?;
            let hello = hello(pod, &tokens.right)?;
            match introduce(&self.trust, &self.host, stream, hello).await? {
                Reception::Believed(frames) => announce(frames.into_inner()).await?,
                Reception::Refused => anyhow::bail!("a real reporter is refused"),
            }
        }
        Ok(())
    }

    /// Sends bytes that are neither TLS nor frames.
    async fn garbage(&self) -> anyhow::Result<()> {
        let noise = || -> Vec<u8> { (0..4096).map(|_| rand::random()).collect() };
        for _ in 0..SOME {
            let mut plain = TcpStream::connect(self.sources.target).await?;
            // It may be closed before all of it is sent.
            let _ = plain.write_all(&noise()).await;
            closed(plain).await?;
            let mut begun = TcpStream::connect(self.sources.target).await?;
            let _ = begun
                .write_all(&[&[0x16, 3, 1, 2, 0], &noise()[..]].concat())
                .await;
            closed(begun).await?;
            let mut inside = self.secured().await?;
            // A short frame that is no message, whatever comes behind it.
            let _ = inside
                .write_all(&[&[0, 0, 0, 8], &[0xff; 8][..], &noise()].concat())
                .await;
            closed(inside).await?;
        }
        Ok(())
    }

    /// Says things so slowly that they never end: a handshake, and a hello. Both have to be cut off.
    async fn trickles(&self) -> anyhow::Result<()> {
        let trickle = async |mut stream: MaybeTls, first: &[u8]| {
            let slowly = async {
                stream.write_all(first).await?;
                stream.flush().await?;
                loop {
                    sleep(TRICKLE).await;
                    stream.write_all(&[1]).await?;
                    stream.flush().await?;
                }
            };
            let cut: Result<std::io::Result<()>, _> = timeout(watching::PATIENCE, slowly).await;
            cut.context("it is listened to for ever").map(drop)
        };
        let each = stream::iter(0..SOME).map(async |index| {
            if index % 2 == 0 {
                let stream = TcpStream::connect(self.sources.target).await?;
                trickle(MaybeTls::Plain(stream), &[0x16, 3, 1, 2, 0]).await
            } else {
                // The length of a hello.
                trickle(self.secured().await?, &[0, 0, 4, 0]).await
            }
        });
        let done: Vec<_> = each.buffer_unordered(SOME).collect().await;
        done.into_iter().collect()
    }

    /// Opens many connections from these addresses and says nothing on any of them; `meanwhile` has to go well.
    async fn flood(
        &self,
        addresses: &[u8],
        meanwhile: impl AsyncFn() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let opened = stream::iter((0..MANY).zip(addresses.iter().cycle()))
            .map(|(_, address)| timeout(FLOOD, self.sources.connect(*address)))
            .buffer_unordered(MANY)
            .filter_map(async |opened| opened.ok()?.ok())
            .collect::<Vec<_>>()
            .await;
        let (count, from) = (opened.len(), addresses.len());
        eprintln!("{count} of {MANY} connections from {from} addresses");
        ensure!(count > SHARE, "only {count} connections");
        meanwhile().await?;
        let cut = stream::iter(opened).map(closed).buffer_unordered(MANY);
        let cut: Vec<_> = cut.collect().await;
        cut.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        Ok(())
    }
}

/// Waits until the other side has closed a connection.
async fn closed(mut stream: impl AsyncRead + Unpin) -> anyhow::Result<()> {
    let mut scrap = [0; 256];
    let read = async { while matches!(stream.read(&mut scrap).await, Ok(1..)) {} };
    let closed = timeout(watching::PATIENCE, read).await;
    closed.context("it was not closed")
}
