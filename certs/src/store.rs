//! One value that all replicas share, changed only by whoever has seen its latest version.
//!
//! A register says nothing about what the value means, and reads are not promised to be fresh: the comparison at the
//! write is what counts.

use std::{error::Error as StdError, future::Future, sync::Arc};

use jiff::Timestamp;

use crate::{
    authorities::{Authorities, StateError},
    authority::{Authority, SigningError},
    rotation::Settings,
};

pub use memory::Memory;

mod memory;

/// How often somebody else may be quicker or the value may vanish again before [`agree`] gives up for now. Whoever is
/// quicker leaves a value that the next reading finds, so more than two rounds are a sign of a store that lies.
const ROUNDS: usize = 8;

/// Reasons why a register cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The other side did not do what was asked.
    #[error("cannot {action} {object}")]
    Unavailable {
        /// What was asked.
        action: &'static str,
        /// Of what.
        object: String,
        /// Why not.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The object is there, but holds nothing we can use. It is left alone, because others may live by it.
    #[error("{object} holds something that cannot be used; repair it, or delete it to begin anew")]
    Unusable {
        /// What was read.
        object: String,
        /// What is wrong with it.
        source: StateError,
    },
    /// No authority could be made.
    #[error("cannot make the first authority")]
    Signing(#[from] SigningError),
    /// The object changes or vanishes each time.
    #[error(
        "{rounds} attempts to write the first authority met another writer, and none left a value; does something delete it?"
    )]
    Unsettled {
        /// How often it was tried.
        rounds: usize,
    },
}

/// A shared value with versions.
pub trait Register<T>: Send + Sync {
    /// What tells one version of the value, or its absence, from all others.
    type Version: Clone + Send + Sync;

    /// Returns the value, if there is one, and its version.
    fn read(&self) -> impl Future<Output = Result<(Option<T>, Self::Version), StoreError>> + Send;

    /// Writes `value` if the version is still `expected`, and returns the new version, or `None` if somebody was quicker.
    fn write(
        &self,
        value: &T,
        expected: &Self::Version,
    ) -> impl Future<Output = Result<Option<Self::Version>, StoreError>> + Send;
}

impl<T: Send + Sync, R: Register<T>> Register<T> for Arc<R> {
    type Version = R::Version;

    async fn read(&self) -> Result<(Option<T>, Self::Version), StoreError> {
        self.as_ref().read().await
    }

    async fn write(
        &self,
        value: &T,
        expected: &Self::Version,
    ) -> Result<Option<Self::Version>, StoreError> {
        self.as_ref().write(value, expected).await
    }
}

/// Returns the shared authorities, and creates them if nobody has yet. However many replicas ask at the same time, all
/// get the same ones.
///
/// # Errors
///
/// Fails if the register cannot be read or written, if it holds something unusable, or if it never settles.
pub async fn agree<R: Register<Authorities>>(
    register: &R,
    settings: &Settings,
    now: Timestamp,
) -> Result<(Authorities, R::Version), StoreError> {
    for _ in 0..ROUNDS {
        let (found, version) = register.read().await?;
        if let Some(authorities) = found {
            return Ok((authorities, version));
        }
        let made = Authorities::new(Authority::create(settings.authority_lifetime, now)?);
        if let Some(version) = register.write(&made, &version).await? {
            let authority = made.signer();
            tracing::info!(%authority, "Created the certificate authority");
            return Ok((made, version));
        }
    }
    Err(StoreError::Unsettled { rounds: ROUNDS })
}

#[cfg(test)]
mod tests;
