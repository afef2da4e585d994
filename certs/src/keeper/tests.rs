//! Several keepers on one memory, with a clock that the test moves.

use parking_lot::Mutex;

use super::*;
use crate::{
    authorities::Phase,
    store::Memory,
    testing::{HOUR, MINUTE, NAME, at, quick, request, verify},
};
use std::time::Duration;

/// A webhook configuration in memory.
#[derive(Default)]
struct Configuration {
    bundle: Mutex<Option<Bundle>>,
    publications: Mutex<usize>,
    owned_by_others: Mutex<bool>,
}

impl Publisher for Arc<Configuration> {
    async fn published(&self) -> Result<Option<Trusted>, StoreError> {
        Ok(self.bundle.lock().as_ref().map(Bundle::trusted))
    }

    async fn publish(&self, bundle: &Bundle) -> Result<(), StoreError> {
        if *self.owned_by_others.lock() {
            return Err(StoreError::Unavailable {
                action: "publish the bundle in",
                object: "the test".to_owned(),
                source: "somebody else owns it".into(),
            });
        }
        *self.publications.lock() += 1;
        *self.bundle.lock() = Some(bundle.clone());
        Ok(())
    }
}

type Clock = Box<dyn Fn() -> Timestamp + Send + Sync>;
type Parts =
    Surroundings<Arc<Memory<Authorities>>, Arc<Memory<LeaseRecord>>, Arc<Configuration>, Clock>;

/// What all replicas share.
#[derive(Default)]
struct Cluster {
    authorities: Arc<Memory<Authorities>>,
    lease: Arc<Memory<LeaseRecord>>,
    configuration: Arc<Configuration>,
    passed: Arc<Mutex<Duration>>,
}

impl Cluster {
    fn parts(&self, name: &str) -> Parts {
        let passed = self.passed.clone();
        Surroundings {
            authorities: self.authorities.clone(),
            lease: Contender::new(self.lease.clone(), name.to_owned(), MINUTE),
            publisher: self.configuration.clone(),
            clock: Box::new(move || at(HOUR + *passed.lock())),
        }
    }

    async fn begin(
        &self,
        name: &str,
    ) -> Keeper<Arc<Memory<Authorities>>, Arc<Memory<LeaseRecord>>, Arc<Configuration>, Clock> {
        let request = request(quick().leaf_lifetime);
        Keeper::begin(quick(), request, self.parts(name))
            .await
            .unwrap()
    }

    fn pass(&self, duration: Duration) {
        *self.passed.lock() += duration;
    }

    fn bundle(&self) -> Bundle {
        self.configuration.bundle.lock().clone().unwrap()
    }
}

#[tokio::test]
async fn keepers_lead_publish_and_rotate_together() {
    let cluster = Cluster::default();
    let mut keepers = [
        cluster.begin("one").await,
        cluster.begin("other").await,
        cluster.begin("third").await,
    ];
    let mut changes = Vec::new();
    let mut injected: Option<Bundle> = None;
    let mut first: Option<Fingerprint> = None;
    while changes.last() != Some(&Change::Completed) {
        let mut leaders = 0;
        for keeper in &mut keepers {
            let held = injected.iter().map(Bundle::trusted).collect();
            let turn = keeper.turn(Some(held), first.clone()).await.unwrap();
            leaders += usize::from(turn.leads);
            changes.extend(turn.changed);
        }
        assert_eq!(leaders, 1);
        let injected = injected.get_or_insert_with(|| cluster.bundle());
        first.get_or_insert_with(|| keepers[0].replica().read().leaf().unwrap().issuer().clone());
        for keeper in &keepers {
            let chain = keeper.resolver().presented();
            let now = keeper.now();
            verify(&chain.cert, injected, now).unwrap();
            verify(&chain.cert, &cluster.bundle(), now).unwrap();
        }
        if changes.contains(&Change::Switched) {
            // The pod is replaced.
            *injected = cluster.bundle();
        }
        cluster.pass(MINUTE / 2);
    }
    assert_eq!(
        changes,
        [
            Change::Announced,
            Change::Trusted,
            Change::Switched,
            Change::Completed
        ]
    );
    for keeper in &mut keepers {
        keeper.turn(None, None).await.unwrap();
    }
    assert!(!cluster.bundle().trusted().contains(&first.unwrap()));
}

#[tokio::test]
async fn a_bundle_is_published_by_the_leader_when_it_differs() {
    let cluster = Cluster::default();
    let mut leader = cluster.begin("one").await;
    let mut other = cluster.begin("other").await;
    let publications = || *cluster.configuration.publications.lock();

    assert!(leader.turn(None, None).await.unwrap().published);
    for keeper in [&mut leader, &mut other] {
        assert!(keeper.turn(None, None).await.unwrap().published);
    }
    assert_eq!(publications(), 1, "it was right already");

    *cluster.configuration.bundle.lock() = None;
    assert!(!other.turn(None, None).await.unwrap().published);
    assert_eq!(publications(), 1, "not its to publish");
    assert!(leader.turn(None, None).await.unwrap().published);
    assert_eq!(publications(), 2);
}

#[tokio::test]
async fn a_bundle_that_cannot_be_published_is_told_and_holds_up_no_rotation_for_ever() {
    let cluster = Cluster::default();
    let mut keeper = cluster.begin("one").await;
    assert!(keeper.turn(None, None).await.unwrap().published);
    let first = keeper.resolver().presented();
    *cluster.configuration.owned_by_others.lock() = true;
    cluster.pass(HOUR * 4);
    let changed = keeper.turn(None, None).await.unwrap().changed;
    assert_eq!(changed, Some(Change::Announced));
    // After a leaf's life it signs anyway.
    cluster.pass(HOUR);
    keeper.turn(None, None).await.unwrap_err();
    let (state, _) = cluster.authorities.read().await.unwrap();
    assert!(matches!(state.unwrap().phase(), Phase::Overlapping(_)));
    let error = keeper.turn(None, None).await.unwrap_err();
    let error = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.contains("cannot publish the bundle"), "{error}");
    let now = keeper.resolver().presented();
    assert_ne!(now.cert, first.cert);
    verify(&now.cert, &cluster.bundle(), keeper.now()).unwrap();
}

#[tokio::test]
async fn a_published_copy_without_the_signer_is_not_enough() {
    let cluster = Cluster::default();
    let elsewhere = Cluster::default();
    let mut leader = cluster.begin("one").await;
    let mut other = cluster.begin("other").await;
    assert!(leader.turn(None, None).await.unwrap().published);
    assert!(other.turn(None, None).await.unwrap().published);
    elsewhere
        .begin("foreign")
        .await
        .turn(None, None)
        .await
        .unwrap();
    *cluster.configuration.bundle.lock() = Some(elsewhere.bundle());
    assert!(!other.turn(None, None).await.unwrap().published);
}

#[tokio::test]
async fn a_leader_that_ends_is_followed_at_once() {
    let cluster = Cluster::default();
    let mut one = cluster.begin("one").await;
    let mut other = cluster.begin("other").await;
    assert!(one.turn(None, None).await.unwrap().leads);
    assert!(!other.turn(None, None).await.unwrap().leads);
    one.step_down().await.unwrap();
    assert!(other.turn(None, None).await.unwrap().leads);
}

#[tokio::test]
async fn a_leaf_is_renewed_in_time_and_presented() {
    let cluster = Cluster::default();
    let mut keeper = cluster.begin("one").await;
    let before = keeper.resolver().presented();
    assert!(!keeper.turn(None, None).await.unwrap().renewed);
    cluster.pass(MINUTE * 40);
    assert!(keeper.turn(None, None).await.unwrap().renewed);
    assert_ne!(keeper.resolver().presented().cert, before.cert);
}

/// An authority store that takes its time.
struct Slow(Arc<Memory<Authorities>>, Arc<Mutex<Duration>>);

impl Register<Authorities> for Slow {
    type Version = u64;

    async fn read(&self) -> Result<(Option<Authorities>, u64), StoreError> {
        let read = self.0.read().await;
        *self.1.lock() += HOUR;
        read
    }

    async fn write(&self, value: &Authorities, expected: &u64) -> Result<Option<u64>, StoreError> {
        self.0.write(value, expected).await
    }
}

#[tokio::test]
async fn what_took_too_long_to_read_is_not_acted_on() {
    let cluster = Cluster::default();
    let parts = cluster.parts("one");
    let slow = Surroundings {
        authorities: Slow(cluster.authorities.clone(), cluster.passed.clone()),
        lease: parts.lease,
        publisher: parts.publisher,
        clock: parts.clock,
    };
    let begun = Keeper::begin(quick(), request(HOUR), slow).await;
    assert!(matches!(begun.unwrap_err(), TurnError::TooSlow));
}

#[tokio::test]
async fn settings_with_gaps_are_refused() {
    let settings = Settings {
        leaf_lifetime: MINUTE,
        ..quick()
    };
    let cluster = Cluster::default();
    let names = [NAME.to_owned()];
    let request = LeafRequest::new(names, crate::leaf::Purpose::Server, MINUTE).unwrap();
    let begun = Keeper::begin(settings, request, cluster.parts("one")).await;
    assert!(matches!(begun.unwrap_err(), TurnError::Settings(_)));
    assert_eq!(cluster.authorities.read().await.unwrap().1, 0);
}
