//! A replica that serves a leaf of the shared authorities and changes nothing: it needs to read the shared state, and no
//! lease, no webhook configuration and no right to write.
//!
//! Owns no loop: whoever calls [`Follower::turn`] every few seconds does.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use parking_lot::RwLock;

pub use crate::presenter::TurnError;
use crate::{
    authorities::Authorities, leaf::LeafRequest, presenter::Presenter, replica::Replica,
    resolver::Resolver, rotation::Settings, store::Register,
};

/// Keeps one replica's leaf.
pub struct Follower<S, C> {
    authorities: S,
    clock: C,
    presenter: Presenter,
}

impl<S, C> fmt::Debug for Follower<S, C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Follower")
            .field("presenter", &self.presenter)
            .finish_non_exhaustive()
    }
}

impl<S, C> Follower<S, C>
where
    S: Register<Authorities>,
    C: Fn() -> Timestamp + Send + Sync,
{
    /// Reads the shared authorities and makes the first leaf.
    ///
    /// # Errors
    ///
    /// Fails if the settings leave gaps, if the shared state cannot be read, or if there is none yet.
    pub async fn begin(
        settings: Settings,
        request: LeafRequest,
        authorities: S,
        clock: C,
    ) -> Result<Self, TurnError> {
        settings.validate()?;
        let asked = clock();
        let shared = read(&authorities).await?;
        let presenter = Presenter::begin(&settings, request, shared, asked, &clock)?;
        Ok(Self {
            authorities,
            clock,
            presenter,
        })
    }

    /// Returns what presents this replica's leaf.
    pub fn resolver(&self) -> &Arc<Resolver> {
        self.presenter.resolver()
    }

    /// Returns what this replica serves.
    pub fn replica(&self) -> &Arc<RwLock<Replica>> {
        self.presenter.replica()
    }

    /// Reads the shared state again. Returns whether a new leaf is served from now on.
    ///
    /// # Errors
    ///
    /// Fails if the shared state cannot be read or is gone, or if a certificate cannot be made. What is served stays, and
    /// the next turn may do better.
    ///
    /// # Cancel safety
    ///
    /// A turn may be dropped, and should be after a while: an API server that does not answer would hold it for ever.
    pub async fn turn(&mut self) -> Result<bool, TurnError> {
        let asked = (self.clock)();
        let shared = read(&self.authorities).await?;
        self.presenter.take(shared, asked, &self.clock)
    }
}

async fn read<S: Register<Authorities>>(register: &S) -> Result<Arc<Authorities>, TurnError> {
    let (found, _) = register.read().await?;
    found.map(Arc::new).ok_or(TurnError::Absent)
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::{
        authority::Authority,
        store::Memory,
        testing::{HOUR, MINUTE, at, quick, request, verify},
    };

    type Shared = Arc<Memory<Authorities>>;

    fn clock(passed: &Arc<Mutex<Duration>>) -> impl Fn() -> Timestamp + Send + Sync + use<> {
        let passed = passed.clone();
        move || at(HOUR + *passed.lock())
    }

    async fn put(shared: &Shared, authorities: &Authorities) {
        let (_, version) = shared.read().await.unwrap();
        assert!(shared.write(authorities, &version).await.unwrap().is_some());
    }

    fn fresh() -> Authorities {
        Authorities::new(Authority::create(quick().authority_lifetime, at(HOUR)).unwrap())
    }

    #[tokio::test]
    async fn there_is_nothing_to_follow_before_somebody_leads() {
        let shared = Shared::default();
        let passed = Arc::default();
        let begin = || Follower::begin(quick(), request(HOUR), shared.clone(), clock(&passed));
        assert!(matches!(begin().await.unwrap_err(), TurnError::Absent));
        let (found, _) = shared.read().await.unwrap();
        assert!(found.is_none(), "it is not a follower's to make");
        put(&shared, &fresh()).await;
        begin().await.unwrap();
    }

    #[tokio::test]
    async fn a_new_signer_and_an_old_leaf_are_followed() {
        let shared = Shared::default();
        let first = fresh();
        put(&shared, &first).await;
        let passed = Arc::default();
        let begun = Follower::begin(quick(), request(HOUR), shared.clone(), clock(&passed));
        let mut follower = begun.await.unwrap();
        assert!(!follower.turn().await.unwrap());

        let second = fresh();
        put(&shared, &second).await;
        assert!(follower.turn().await.unwrap());
        let presented = follower.resolver().presented();
        let now = at(HOUR);
        verify(&presented.cert, &second.bundle().unwrap(), now).unwrap();
        verify(&presented.cert, &first.bundle().unwrap(), now).unwrap_err();

        *passed.lock() += MINUTE * 45;
        assert!(follower.turn().await.unwrap());
        assert_ne!(follower.resolver().presented().cert, presented.cert);
    }
}
