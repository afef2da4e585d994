//! Replicas that start at the same time, in every order that three of them can take.

use tokio::{sync::Semaphore, task::JoinSet};

use super::*;
use crate::{
    certificate::Fingerprint,
    testing::{HOUR, at, quick},
};

async fn signer(register: impl Register<Authorities>) -> Fingerprint {
    let agreed = agree(&register, &quick(), at(HOUR)).await;
    agreed.unwrap().0.signer().clone()
}

async fn one_and_the_same(mut replicas: JoinSet<Fingerprint>) -> Fingerprint {
    let first = replicas.join_next().await.unwrap().unwrap();
    while let Some(next) = replicas.join_next().await {
        assert_eq!(next.unwrap(), first);
    }
    first
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_that_start_together_agree() {
    for _ in 0..20 {
        let shared = Arc::new(Memory::default());
        let mut replicas = JoinSet::new();
        for _ in 0..8 {
            replicas.spawn(signer(shared.clone()));
        }
        let agreed = one_and_the_same(replicas).await;
        assert_eq!(signer(shared).await, agreed);
    }
}

/// A register whose operations each wait to be let through.
struct Stepped {
    shared: Arc<Memory<Authorities>>,
    turns: Arc<Semaphore>,
}

impl Register<Authorities> for Stepped {
    type Version = u64;

    async fn read(&self) -> Result<(Option<Authorities>, u64), StoreError> {
        self.turns.acquire().await.unwrap().forget();
        self.shared.read().await
    }

    async fn write(&self, value: &Authorities, expected: &u64) -> Result<Option<u64>, StoreError> {
        self.turns.acquire().await.unwrap().forget();
        self.shared.write(value, expected).await
    }
}

#[tokio::test]
async fn replicas_agree_in_every_order_of_their_first_five_operations() {
    const REPLICAS: usize = 3;
    for order in 0..REPLICAS.pow(5) {
        let shared = Arc::new(Memory::default());
        let turns = [(); REPLICAS].map(|()| Arc::new(Semaphore::new(0)));
        let mut replicas = JoinSet::new();
        for turns in &turns {
            let (shared, turns) = (shared.clone(), turns.clone());
            replicas.spawn(signer(Stepped { shared, turns }));
        }
        for position in 0..5 {
            let turn = &turns[order / REPLICAS.pow(position) % REPLICAS];
            turn.add_permits(1);
            // On one thread, everybody who can go on has gone on after this.
            tokio::task::yield_now().await;
        }
        for turn in &turns {
            turn.add_permits(9);
        }
        let agreed = one_and_the_same(replicas).await;
        assert_eq!(signer(shared).await, agreed, "in order {order}");
    }
}

#[tokio::test]
async fn a_write_needs_the_latest_version() {
    let register = Memory::default();
    let (none, absent) = register.read().await.unwrap();
    assert_eq!(none, None::<u8>);
    let first = register.write(&1, &absent).await.unwrap().unwrap();
    assert_eq!(register.write(&2, &absent).await.unwrap(), None);
    assert!(register.write(&3, &first).await.unwrap().is_some());
    assert_eq!(register.read().await.unwrap().0, Some(3));
}

/// A register in which nothing stays.
struct Leaky;

impl Register<Authorities> for Leaky {
    type Version = ();

    async fn read(&self) -> Result<(Option<Authorities>, ()), StoreError> {
        Ok((None, ()))
    }

    async fn write(&self, _: &Authorities, (): &()) -> Result<Option<()>, StoreError> {
        Ok(None)
    }
}

#[tokio::test]
async fn a_store_that_never_settles_is_given_up() {
    let error = agree(&Leaky, &quick(), at(HOUR)).await.unwrap_err();
    assert!(error.to_string().contains("8 attempts"), "{error}");
}
