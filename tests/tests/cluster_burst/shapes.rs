//! Loads of other shapes than a step, all at once, each beside the same under a release without bursts: no replica comes and
//! goes for nothing, looks are asked for seldom, and in the end there are as many replicas as there would have been.

use std::{
    ops::RangeInclusive,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec};
use serde_json::json;
use stillwake_e2e::{
    cluster::{
        self, Failure, Namespace,
        history::History,
        keda,
        scaling::Scaling,
        scene::{Scene, WINDOW},
        stillwake::Stillwake,
        watching,
        web::Web,
    },
    ledger::{Ledger, Verdict},
    load::{AHEAD, Load},
    wait,
};
use tokio::{
    time::{Instant, sleep_until},
    try_join,
};

use crate::{are_asked_for, hpa, opens_streams};

/// Requests in flight for each replica.
const TARGET: &str = "10";

/// Requests in flight before a rise, which one replica takes, and the most there are of any shape.
const LOW: u32 = 5;
const HIGH: u32 = 25;

/// For how long all are played before it is looked how they end.
const PLAYED: Duration = Duration::from_mins(1);

/// The least time between two looks that are asked for.
const APART: Duration = Duration::from_secs(3);

/// What is in flight over time, and what is to come of it.
#[derive(Debug)]
struct Shape {
    name: &'static str,
    /// How many are in flight so long after the beginning; before it as many as then.
    level: fn(Duration) -> u32,
    /// Replicas for the beginning and, on average, for the end, far from one more and one less.
    begins: usize,
    ends: i32,
    /// How often they may go down after up, or up after down.
    turns: usize,
    /// How often the HPA's spec is written.
    writes: RangeInclusive<usize>,
}

static SHAPES: [Shape; 5] = [
    Shape {
        name: "ramp",
        level: |time| HIGH.min(LOW + since(3, time) / 1_000),
        begins: 1,
        ends: 3,
        turns: 0,
        writes: 1..=8,
    },
    Shape {
        name: "sawtooth",
        level: |time| match since(3, time) {
            0 => LOW,
            since => LOW + since % 2_000 * (HIGH - LOW) / 2_000,
        },
        begins: 1,
        ends: 2,
        // The first tooth may be a burst, for all that anybody knows.
        turns: 1,
        writes: 0..=2,
    },
    Shape {
        name: "spike",
        level: |time| match since(1, time) {
            1..=200 => HIGH,
            _ => LOW,
        },
        begins: 1,
        ends: 1,
        turns: 0,
        writes: 0..=1,
    },
    Shape {
        name: "noise",
        level: |time| 14 + noise(time) % 3,
        begins: 2,
        ends: 2,
        turns: 0,
        writes: 0..=0,
    },
    Shape {
        name: "decay",
        level: |time| HIGH - since(0, time).min(60_000) / 3_000,
        begins: 3,
        ends: 1,
        turns: 0,
        writes: 0..=0,
    },
];

/// Returns how many milliseconds of a time come after its first `seconds`.
fn since(seconds: u64, time: Duration) -> u32 {
    let since = time.saturating_sub(Duration::from_secs(seconds));
    u32::try_from(since.as_millis()).unwrap_or(u32::MAX)
}

/// Returns a number that looks random, another one ten times a second.
fn noise(time: Duration) -> u32 {
    let mixed = (since(0, time) / 100 + 1).wrapping_mul(0x9e37_79b9);
    (mixed ^ (mixed >> 15)).wrapping_mul(0x85eb_ca6b) >> 16
}

#[test]
#[ignore = "by hand, on a machine that has nothing else to do: the spike is as short as a look may be soon"]
fn loads_of_all_shapes_make_nothing_flap_and_end_as_without_bursts() -> Result<(), Failure> {
    cluster::run("shapes", async |namespace| {
        // Alone: what others keep the machine busy with would be in the shapes.
        let with = Stillwake::with_values(namespace, &json!({})).await?;
        let home = namespace.another("shapes' release", &[], &[]).await?;
        let apart = namespace.another("shapes without", &[], &[]).await?;
        let off = json!({"aggregator": {"bursts": false}});
        let without = Stillwake::apart(&home, &apart, &off).await?;
        let played = play((namespace, &with), (&apart, &without)).await;
        // Not all of it belongs to a namespace.
        without.uninstall().await?;
        let (with, without) = played?;
        for (with, without) in with.iter().zip(&without) {
            eprintln!(
                "{}: {:?} replicas, {:?} without bursts; written after {:?}; {}",
                with.shape.name, with.replicas, without.replicas, with.written, with.verdict
            );
        }
        for with in &with {
            with.ensure_right(&writes(namespace, with.shape)?)?;
        }
        for without in &without {
            without.ensure_right(&(0..=0))?;
        }
        Ok(())
    })
}

/// Returns how often an HPA's spec may be written where looks are asked for as they are here.
fn writes(namespace: &Namespace, shape: &Shape) -> anyhow::Result<RangeInclusive<usize>> {
    let (least, most) = (*shape.writes.start(), *shape.writes.end());
    Ok(if are_asked_for(namespace)? {
        least..=most
    } else if opens_streams(namespace)? {
        // Nobody follows, which has to be found out.
        0..=most
    } else {
        0..=0
    })
}

type Place<'a> = (&'a Namespace, &'a Stillwake);

/// Plays all shapes at both places. Returns what came of it at each.
async fn play(with: Place<'_>, without: Place<'_>) -> anyhow::Result<(Vec<Played>, Vec<Played>)> {
    let begins = Arc::default();
    let loaded = async |(namespace, stillwake): Place<'_>| {
        let all = SHAPES.iter();
        let loaded = all.map(|shape| Loaded::start(namespace, stillwake, shape, &begins));
        try_join_all(loaded).await
    };
    let (with, without) = try_join!(loaded(with), loaded(without))?;
    let begun = Instant::now() + AHEAD;
    begins.set(begun).ok().context("it begins once")?;
    // What is looked at is what happens meanwhile.
    sleep_until(begun + PLAYED).await;
    let ended = async |all: Vec<Loaded>| {
        let mut played = Vec::new();
        for loaded in all {
            played.push(loaded.end(begun).await?);
        }
        anyhow::Ok(played)
    };
    try_join!(ended(with), ended(without))
}

/// A workload that has its load, and is scaled.
struct Loaded {
    shape: &'static Shape,
    load: Load,
    ledger: Ledger,
    replicas: History<i32>,
    specs: History<HorizontalPodAutoscalerSpec>,
}

impl Loaded {
    /// Starts one that has its replicas and its load before it is scaled, so that it does not begin with a step.
    async fn start(
        namespace: &Namespace,
        stillwake: &Stillwake,
        shape: &'static Shape,
        begins: &Arc<OnceLock<Instant>>,
    ) -> anyhow::Result<Self> {
        let name = shape.name;
        let web = Web {
            name: name.to_owned(),
            replicas: shape.begins,
            ..Scene::web()
        };
        let (_, service) = web.start(namespace).await?;
        let ledger = Ledger::default();
        let load = Load::new(service, ledger.clone());
        let begins = Arc::clone(begins);
        load.follow(HIGH, move |at| {
            let begun = begins.get();
            let time = begun.map(|begun| at.saturating_duration_since(*begun));
            (shape.level)(time.unwrap_or_default())
        });
        let what = format!("a window full of {name}");
        wait::until(&what, watching::PATIENCE, async || {
            ledger.ensure_lasted(WINDOW)
        })
        .await?;
        let replicas = History::of_replicas(namespace, name).await?;
        Scaling {
            name: name.to_owned(),
            ..Scene::scaling(&[("targetConcurrency", TARGET)], &[])
        }
        .start(namespace, stillwake)
        .await?;
        let specs = hpa::specs(namespace, name).await?;
        let hpas = namespace.api::<HorizontalPodAutoscaler>();
        watching::until(&hpas, &keda::hpa_name(name), "the first look", |hpa| {
            let active = hpa.and_then(|hpa| keda::hpa_condition(hpa, "ScalingActive"));
            let has_looked = active.is_some_and(|(status, _)| status == "True");
            has_looked.then_some(()).ok_or(format!("{active:?}"))
        })
        .await?;
        Ok(Self {
            shape,
            load,
            ledger,
            replicas,
            specs,
        })
    }

    /// Waits until there are as many replicas as there are to be, and ends the load.
    async fn end(self, begun: Instant) -> anyhow::Result<Played> {
        let reached = self.replicas.until(&self.shape.ends).await;
        reached.context(self.shape.name)?;
        let replicas = self.replicas.values();
        let written = self.specs.changes().into_iter().skip(1);
        let written = written.map(|change| change.at.saturating_duration_since(begun));
        let written = written.collect();
        self.load.finish().await;
        Ok(Played {
            shape: self.shape,
            replicas,
            written,
            verdict: self.ledger.verdict(),
        })
    }
}

/// What came of a shape.
struct Played {
    shape: &'static Shape,
    /// From the beginning to the end.
    replicas: Vec<i32>,
    /// When the HPA's spec was written, after the beginning.
    written: Vec<Duration>,
    verdict: Verdict,
}

impl Played {
    fn ensure_right(&self, writes: &RangeInclusive<usize>) -> anyhow::Result<()> {
        let Self {
            shape,
            replicas,
            written,
            verdict,
        } = self;
        let name = shape.name;
        verdict.assert_nothing_lost();
        let began = usize::try_from(replicas[0])?;
        ensure!(began == shape.begins, "{name} began with {began} replicas");
        ensure!(
            turns(replicas) <= shape.turns,
            "{name}: {replicas:?} replicas"
        );
        ensure!(
            writes.contains(&written.len()),
            "{name}: written after {written:?} instead of {writes:?} times"
        );
        for (earlier, first) in written.iter().enumerate() {
            for (later, last) in written.iter().enumerate().skip(earlier + 1) {
                let count = u32::try_from(later - earlier)?;
                // Each is told a while after it was asked for.
                ensure!(
                    *last + APART >= *first + APART * count,
                    "{name}: written after {written:?}"
                );
            }
        }
        Ok(())
    }
}

/// Returns how often they went down after up, or up after down.
fn turns(replicas: &[i32]) -> usize {
    let rises = replicas.windows(2).map(|pair| pair[0] < pair[1]);
    let rises: Vec<_> = rises.collect();
    let turned = rises.windows(2).filter(|pair| pair[0] != pair[1]);
    turned.count()
}
