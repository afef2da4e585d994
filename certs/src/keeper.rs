//! One replica's turn: reads the shared state, renews its leaf, and as the leader publishes and rotates.
//!
//! Owns no loop: whoever calls [`Keeper::turn`] every few seconds does, and says who holds which bundle.

use std::{fmt, future::Future, sync::Arc};

use jiff::Timestamp;
use parking_lot::RwLock;

pub use crate::presenter::TurnError;
use crate::{
    authorities::Authorities,
    certificate::Fingerprint,
    leaf::LeafRequest,
    lease::{Contender, LeaseRecord},
    presenter::Presenter,
    replica::Replica,
    resolver::Resolver,
    rotation::{Change, Observed, Settings, step},
    store::{Register, StoreError, agree},
    trust::{Bundle, Trusted},
};

/// Where the bundle is published for those who are not told otherwise.
pub trait Publisher: Send + Sync {
    /// Returns what every published copy contains, or `None` if there is no copy.
    fn published(&self) -> impl Future<Output = Result<Option<Trusted>, StoreError>> + Send;

    /// Replaces every published copy.
    fn publish(&self, bundle: &Bundle) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What a turn found and did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Turn {
    /// Whether this replica leads.
    pub leads: bool,
    /// Whether all published copies of the bundle contain the signer. A webhook is ready once they do.
    pub published: bool,
    /// Whether a new leaf is served from now on.
    pub renewed: bool,
    /// What this replica changed in the shared state. Another turn at once carries it on.
    pub changed: Option<Change>,
}

/// The registers and clock of one replica.
pub struct Surroundings<S, L, P, C> {
    /// The shared authorities.
    pub authorities: S,
    /// The lease and this replica's part in it.
    pub lease: Contender<L>,
    /// Where the bundle is published.
    pub publisher: P,
    /// Tells the time.
    pub clock: C,
}

/// Keeps one replica's certificates.
pub struct Keeper<S, L, P, C> {
    settings: Settings,
    surroundings: Surroundings<S, L, P, C>,
    presenter: Presenter,
}

impl<S, L, P, C> fmt::Debug for Surroundings<S, L, P, C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Surroundings")
            .finish_non_exhaustive()
    }
}

impl<S, L, P, C> fmt::Debug for Keeper<S, L, P, C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Keeper")
            .field("settings", &self.settings)
            .field("presenter", &self.presenter)
            .finish_non_exhaustive()
    }
}

impl<S, L, P, C> Keeper<S, L, P, C>
where
    S: Register<Authorities>,
    L: Register<LeaseRecord>,
    P: Publisher,
    C: Fn() -> Timestamp + Send + Sync,
{
    /// Agrees with the other replicas on the authorities and makes the first leaf.
    ///
    /// # Errors
    ///
    /// Fails if the settings leave gaps, or if the shared state cannot be read or created.
    pub async fn begin(
        settings: Settings,
        request: LeafRequest,
        surroundings: Surroundings<S, L, P, C>,
    ) -> Result<Self, TurnError> {
        settings.validate()?;
        let asked = (surroundings.clock)();
        let (authorities, _) = agree(&surroundings.authorities, &settings, asked).await?;
        let authorities = Arc::new(authorities);
        let presenter =
            Presenter::begin(&settings, request, authorities, asked, &surroundings.clock)?;
        Ok(Self {
            settings,
            surroundings,
            presenter,
        })
    }

    /// Returns what presents this replica's leaf.
    pub fn resolver(&self) -> &Arc<Resolver> {
        self.presenter.resolver()
    }

    /// Returns what this replica serves and may hand out.
    pub fn replica(&self) -> &Arc<RwLock<Replica>> {
        self.presenter.replica()
    }

    /// Gives the lease up, at the end of this replica's life.
    ///
    /// # Errors
    ///
    /// Fails if the lease cannot be read or written; it then ends by itself.
    pub async fn step_down(&mut self) -> Result<(), StoreError> {
        let now = self.now();
        self.surroundings.lease.step_down(now).await
    }

    /// Takes one turn. `held` is which bundles living pods were given (`None` if that is not known), and `retire` names an
    /// authority that somebody wants replaced now.
    ///
    /// # Errors
    ///
    /// Fails if the shared state, the lease or a published copy cannot be read or written, or if a certificate cannot be
    /// made. What could be done has been done, what is served stays, and the next turn may do better.
    ///
    /// # Cancel safety
    ///
    /// A turn may be dropped, and should be after a while: an API server that does not answer would hold it for ever.
    pub async fn turn(
        &mut self,
        held: Option<Vec<Trusted>>,
        retire: Option<Fingerprint>,
    ) -> Result<Turn, TurnError> {
        let asked = self.now();
        let (authorities, version) =
            agree(&self.surroundings.authorities, &self.settings, asked).await?;
        let authorities = Arc::new(authorities);
        let clock = &self.surroundings.clock;
        let mut turn = Turn {
            renewed: self.presenter.take(authorities.clone(), asked, clock)?,
            ..Turn::default()
        };
        let mut published = self.surroundings.publisher.published().await;
        turn.leads = self.surroundings.lease.lead(self.now()).await?;
        if turn.leads {
            if !matches!(&published, Ok(Some(trusted)) if *trusted == authorities.trusted()) {
                published = self.publish().await;
            }
            // A bundle that cannot be published is one that is unknown: the rotation is slower and goes on.
            let observed = Observed {
                published: published.as_ref().ok().cloned().flatten(),
                held,
                retire,
            };
            let next = step(&self.settings, &authorities, &observed, self.now())?;
            if let Some((next, change)) = next {
                let written = self.surroundings.authorities.write(&next, &version);
                turn.changed = written.await?.map(|_| change);
            }
        }
        if let Some(change) = turn.changed {
            let change = change.word();
            tracing::info!(
                change,
                "Took a step in the certificate authority's rotation"
            );
        }
        turn.published = published?.is_some_and(|trusted| trusted.contains(authorities.signer()));
        Ok(turn)
    }

    /// Publishes the bundle unless our view of it is too old by now, and returns what is published then.
    async fn publish(&self) -> Result<Option<Trusted>, StoreError> {
        let bundle = self.replica().read().bundle(self.now()).cloned();
        if let Some(bundle) = bundle {
            self.surroundings.publisher.publish(&bundle).await?;
            tracing::info!(trusted = %bundle.trusted(), "Published the bundle");
        }
        self.surroundings.publisher.published().await
    }

    fn now(&self) -> Timestamp {
        (self.surroundings.clock)()
    }
}

#[cfg(test)]
mod tests;
