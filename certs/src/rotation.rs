//! What follows one shared state: a function of the state, what was observed, and the time.
//!
//! A new authority is published before it signs, and the old one is trusted for as long as anybody may serve its leaves
//! or hold a bundle without the new one. Does no input or output: `keeper` observes, and `store` lets one replica at a
//! time change the state.
//!
//! A sidecar trusts the bundle it was injected with for as long as its pod lives, which may be months. So the new
//! authority also carries a link, a certificate that the old one signed, and whoever holds only the old one verifies
//! new leaves through it: a rotation restarts nobody and waits for no pod before it signs. Whatever happens, a bundle is
//! good for about half of an authority's life after it was handed out.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    authorities::{Announced, Authorities, Phase, Predecessor},
    authority::{Authority, BACKDATING, SigningError},
    certificate::Fingerprint,
    trust::Trusted,
};

/// How long everything lives and is waited for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// How long an authority is valid. It is replaced from the middle of its life on.
    pub authority_lifetime: Duration,
    /// How long a leaf is valid. It is renewed after about two thirds of its life.
    pub leaf_lifetime: Duration,
    /// How long a replica may act on what it last read of the shared state, and how long API servers may take to use a
    /// published bundle.
    pub settle: Duration,
    /// How far the clocks of the cluster may be apart.
    pub clock_skew: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        const YEAR: Duration = Duration::from_hours(24 * 365);
        Self {
            authority_lifetime: YEAR * 4,
            leaf_lifetime: Duration::from_hours(24),
            settle: Duration::from_mins(10),
            clock_skew: Duration::from_mins(5),
        }
    }
}

/// Settings under which no rotation could be without a gap.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Leaves would expire before they can be renewed.
    #[error(
        "leaves that live for {leaf:?} are too short-lived: a third of their life must be longer than settle time \
         and clock skew together, {needed:?}"
    )]
    LeafLifetime {
        /// As given.
        leaf: Duration,
        /// What a third must exceed.
        needed: Duration,
    },
    /// Authorities would expire before they can be replaced.
    #[error(
        "authorities must live at least eight times as long as leaves, {needed:?}, not {authority:?}"
    )]
    AuthorityLifetime {
        /// As given.
        authority: Duration,
        /// What would do.
        needed: Duration,
    },
    /// Certificates are not backdated that far.
    #[error("a clock skew of {skew:?} is more than can be tolerated, {BACKDATING:?}")]
    ClockSkew {
        /// As given.
        skew: Duration,
    },
}

impl Settings {
    /// Checks that a rotation under these settings leaves no gap.
    ///
    /// # Errors
    ///
    /// Names the first setting that does not fit the others.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let needed = self.settle.saturating_add(self.clock_skew);
        if self.leaf_lifetime / 3 <= needed {
            return Err(SettingsError::LeafLifetime {
                leaf: self.leaf_lifetime,
                needed,
            });
        }
        let needed = self.leaf_lifetime.saturating_mul(8);
        if self.authority_lifetime < needed {
            return Err(SettingsError::AuthorityLifetime {
                authority: self.authority_lifetime,
                needed,
            });
        }
        if self.clock_skew > BACKDATING {
            return Err(SettingsError::ClockSkew {
                skew: self.clock_skew,
            });
        }
        Ok(())
    }

    /// How long after a change of signer the last leaf of the old one may still be valid on anybody's clock: a replica
    /// that has not heard of the change may issue one for a settle time more.
    fn last_leaf(&self) -> Duration {
        let skew = self.clock_skew.saturating_mul(2);
        let issued = self.settle.saturating_add(self.leaf_lifetime);
        issued.saturating_add(skew)
    }
}

/// What a replica sees of the cluster. What is unknown is `None` and never moves a rotation on.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// What every published copy of the bundle (webhook configurations' `caBundle`) contains.
    pub published: Option<Trusted>,
    /// The bundles that living pods were injected with, each kind at least once.
    pub held: Option<Vec<Trusted>>,
    /// An authority that somebody wants replaced now. Naming it makes the wish harmless when it is heard twice.
    pub retire: Option<Fingerprint>,
}

/// What a step did, for logs, Events and metrics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// A successor is in the bundle from now on.
    Announced,
    /// The published bundle was seen to contain the successor; its settle time begins.
    Trusted,
    /// The published bundle lost the successor; its settle time has to begin anew.
    Distrusted,
    /// The successor signs from now on.
    Switched,
    /// The predecessor left the bundle: the rotation is complete.
    Completed,
    /// The authority had expired, and nothing could be preserved.
    Restarted,
}

impl Change {
    /// Returns the change in one word, for a metric's label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Trusted => "trusted",
            Self::Distrusted => "distrusted",
            Self::Switched => "switched",
            Self::Completed => "completed",
            Self::Restarted => "restarted",
        }
    }
}

/// Returns the state that should follow `state` now, or nothing if it should stay.
///
/// # Errors
///
/// Fails if a certificate cannot be made; the old state then stays as good as it was.
pub fn step(
    settings: &Settings,
    state: &Authorities,
    observed: &Observed,
    now: Timestamp,
) -> Result<Option<(Authorities, Change)>, SigningError> {
    let expired = left(state.current(), now).is_zero();
    match state.phase() {
        Phase::Announced(announced) => step_announced(settings, state, announced, observed, now),
        // Only a cluster that slept for half an authority's life gets here.
        Phase::Settled | Phase::Overlapping(_) if expired => {
            let fresh = Authority::create(settings.authority_lifetime, now)?;
            Ok(Some((Authorities::new(fresh), Change::Restarted)))
        }
        Phase::Settled => {
            let unwanted = observed.retire.as_ref() == Some(state.signer());
            if unwanted || is_aged(settings, state.current(), now) {
                announce(settings, state, now).map(Some)
            } else {
                Ok(None)
            }
        }
        Phase::Overlapping(previous) => Ok(may_forget(settings, state, previous, observed, now)
            .then(|| (Authorities::new(state.current.clone()), Change::Completed))),
    }
}

fn announce(
    settings: &Settings,
    state: &Authorities,
    now: Timestamp,
) -> Result<(Authorities, Change), SigningError> {
    let (next, link) = state.current.succeed(settings.authority_lifetime, now)?;
    let phase = Phase::Announced(Announced {
        next,
        link,
        trusted_since: None,
    });
    let current = state.current.clone();
    Ok((Authorities { current, phase }, Change::Announced))
}

fn step_announced(
    settings: &Settings,
    state: &Authorities,
    announced: &Announced,
    observed: &Observed,
    now: Timestamp,
) -> Result<Option<(Authorities, Change)>, SigningError> {
    let next = announced.next.certificate().fingerprint();
    let trusted = observed
        .published
        .as_ref()
        .map(|published| published.contains(next));
    let since = |trusted_since| Authorities {
        current: state.current.clone(),
        phase: Phase::Announced(Announced {
            trusted_since,
            ..announced.clone()
        }),
    };
    // The link makes it safe to sign before that. Waiting for ever would use up the life for which bundles are good.
    let begun = announced.next.certificate().validity().not_before + BACKDATING;
    let waited_enough = elapsed(begun, now) >= settings.leaf_lifetime;
    let settled = announced
        .trusted_since
        .is_some_and(|since| elapsed(since, now) >= settings.settle);
    Ok(match (trusted, announced.trusted_since) {
        _ if waited_enough => Some((switch(state, announced, now)?, Change::Switched)),
        (Some(false), Some(_)) => Some((since(None), Change::Distrusted)),
        (Some(true), None) => Some((since(Some(now)), Change::Trusted)),
        (Some(true), Some(_)) if settled => {
            Some((switch(state, announced, now)?, Change::Switched))
        }
        _ => None,
    })
}

fn switch(
    state: &Authorities,
    announced: &Announced,
    now: Timestamp,
) -> Result<Authorities, SigningError> {
    let previous = state.current.certificate_pem().to_owned();
    Ok(Authorities {
        current: announced.next.clone(),
        phase: Phase::Overlapping(Predecessor::new(previous, announced.link.clone(), now)?),
    })
}

/// Whether nobody can need the predecessor any more, or nobody can be helped by it.
fn may_forget(
    settings: &Settings,
    state: &Authorities,
    previous: &Predecessor,
    observed: &Observed,
    now: Timestamp,
) -> bool {
    // Its leaves have expired with it, and so has the link, whatever a wrong clock wrote as the time of the switch.
    if elapsed(previous.certificate.validity().not_after, now) > settings.clock_skew {
        return true;
    }
    // The next rotation must not wait for a pod that never ends: it would be late for all others.
    let overdue = is_aged(settings, state.current(), now);
    let knows_signer = |trusted: &Trusted| trusted.contains(state.signer());
    let unneeded = observed.published.as_ref().is_some_and(knows_signer)
        && observed
            .held
            .as_ref()
            .is_some_and(|held| held.iter().all(knows_signer));
    let served_no_more = elapsed(previous.since, now) > settings.last_leaf();
    served_no_more && (unneeded || overdue)
}

/// Whether `authority` is due to be replaced.
fn is_aged(settings: &Settings, authority: &Authority, now: Timestamp) -> bool {
    left(authority, now) <= settings.authority_lifetime / 2
}

/// How long `authority` is still valid.
fn left(authority: &Authority, now: Timestamp) -> Duration {
    elapsed(now, authority.certificate().validity().not_after)
}

/// How long ago `since` was; nothing if it lies ahead, as it may on a clock that was set back.
pub(crate) fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
