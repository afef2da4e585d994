//! What one replica serves and hands out, given how old its view of the shared state is.
//!
//! A replica that cannot read the shared state might not have heard of a new signer. It goes on serving the leaf it has,
//! but signs no new one and hands out no bundle: that is what bounds how long an old authority is needed.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    authorities::Authorities,
    authority::SigningError,
    certificate::{CertificateError, Fingerprint},
    leaf::{Leaf, LeafRequest},
    rotation::{Settings, elapsed},
    trust::Bundle,
};

/// One replica's leaf and its view of the shared state.
#[derive(Debug)]
pub struct Replica {
    settings: Settings,
    request: LeafRequest,
    /// Which part of [`SPREAD`] this replica renews earlier, from 0 to 1, so that not all do at the same time.
    jitter: f64,
    view: Option<View>,
    served: Option<Served>,
}

/// Part of a leaf's life over which renewals of different replicas are spread.
const SPREAD: f64 = 0.1;

/// Part of a leaf's life after which it is renewed at the latest.
const RENEWED_AFTER: f64 = 2.0 / 3.0;

#[derive(Debug)]
struct View {
    authorities: Arc<Authorities>,
    bundle: Bundle,
    confirmed: Timestamp,
}

#[derive(Debug)]
struct Served {
    leaf: Arc<Leaf>,
    issued: Timestamp,
    link: Option<Fingerprint>,
}

impl Replica {
    /// Serves leaves as in `request`; `jitter`, from 0 to 1, differs from replica to replica.
    pub fn new(settings: Settings, request: LeafRequest, jitter: f64) -> Self {
        Self {
            settings,
            request,
            jitter: jitter.clamp(0.0, 1.0),
            view: None,
            served: None,
        }
    }

    /// Takes what the shared state was when a reading that began at `asked` returned it.
    ///
    /// # Errors
    ///
    /// Fails only if the state's bundle cannot be read.
    pub fn confirm(
        &mut self,
        authorities: Arc<Authorities>,
        asked: Timestamp,
    ) -> Result<(), CertificateError> {
        self.view = Some(View {
            bundle: authorities.bundle()?,
            authorities,
            confirmed: asked,
        });
        Ok(())
    }

    /// Returns the shared state, unless the view is too old to act on.
    pub fn authorities(&self, now: Timestamp) -> Option<&Arc<Authorities>> {
        self.fresh(now).map(|view| &view.authorities)
    }

    /// Returns the bundle to hand out, unless the view is too old to act on.
    pub fn bundle(&self, now: Timestamp) -> Option<&Bundle> {
        self.fresh(now).map(|view| &view.bundle)
    }

    /// Returns the leaf that is served.
    pub fn leaf(&self) -> Option<&Arc<Leaf>> {
        self.served.as_ref().map(|served| &served.leaf)
    }

    /// Makes a new leaf if it is time to, and returns it.
    ///
    /// It is time when there is none, when its signer or link has been replaced, when two thirds of its life are over, or
    /// when the clock says that its life has not begun.
    ///
    /// # Errors
    ///
    /// Fails if no leaf can be made; the one that is served stays.
    pub fn renew(&mut self, now: Timestamp) -> Result<Option<Arc<Leaf>>, SigningError> {
        let Some(view) = self.fresh(now) else {
            return Ok(None);
        };
        let link = view.authorities.link();
        let link = link.map(|link| link.fingerprint().clone());
        let suits = |served: &Served| {
            served.leaf.issuer() == view.authorities.signer()
                && served.link == link
                && served.leaf.validity().contains(now)
                && elapsed(served.issued, now) < self.renewed_after(&served.leaf, served.issued)
        };
        if self.served.as_ref().is_some_and(suits) {
            return Ok(None);
        }
        let leaf = Arc::new(view.authorities.issue(&self.request, now)?);
        self.served = Some(Served {
            leaf: leaf.clone(),
            issued: now,
            link,
        });
        Ok(Some(leaf))
    }

    /// Returns after which age a leaf is renewed.
    fn renewed_after(&self, leaf: &Leaf, issued: Timestamp) -> Duration {
        let life = elapsed(issued, leaf.validity().not_after);
        life.mul_f64(RENEWED_AFTER - SPREAD * self.jitter)
    }

    fn fresh(&self, now: Timestamp) -> Option<&View> {
        self.view
            .as_ref()
            .filter(|view| elapsed(view.confirmed, now) <= self.settings.settle)
    }
}

#[cfg(test)]
mod tests;
