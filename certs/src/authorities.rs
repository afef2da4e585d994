//! The state that all replicas share: which authority signs, which one will, and which one did.
//!
//! Holds the private keys, so its text form belongs in a Secret. What follows one state is decided in `rotation`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    authority::{Authority, SigningError},
    certificate::{Certificate, CertificateError, Fingerprint},
    leaf::{Leaf, LeafRequest},
    trust::{Bundle, Trusted},
};

/// The authority that signs, and how far its replacement has come.
#[derive(Clone, Debug)]
pub struct Authorities {
    pub(crate) current: Authority,
    pub(crate) phase: Phase,
}

/// How far a replacement has come.
#[derive(Clone, Debug)]
pub enum Phase {
    /// None is under way.
    Settled,
    /// A successor is in the bundle and does not sign yet.
    Announced(Announced),
    /// The successor signs (it is the current one now), and its predecessor is still trusted.
    Overlapping(Predecessor),
}

/// An authority that will sign once it is trusted everywhere.
#[derive(Clone, Debug)]
pub struct Announced {
    pub(crate) next: Authority,
    /// The next authority's certificate signed by the current one, as PEM.
    pub(crate) link: String,
    /// Since when the published bundle has been seen to contain it, without interruption.
    pub(crate) trusted_since: Option<Timestamp>,
}

/// An authority that signs no more. Its key is gone.
#[derive(Clone, Debug)]
pub struct Predecessor {
    pub(crate) certificate: Certificate,
    pub(crate) certificate_pem: String,
    /// The current authority's certificate signed by this one, parsed and as PEM.
    pub(crate) link: Certificate,
    pub(crate) link_pem: String,
    /// When its successor began to sign.
    pub(crate) since: Timestamp,
}

impl Predecessor {
    pub(crate) fn new(
        certificate_pem: String,
        link_pem: String,
        since: Timestamp,
    ) -> Result<Self, CertificateError> {
        Ok(Self {
            certificate: Certificate::authority_from_pem(
                &certificate_pem,
                "the previous authority",
            )?,
            link: Certificate::authority_from_pem(&link_pem, "the previous authority's link")?,
            certificate_pem,
            link_pem,
            since,
        })
    }
}

impl Authorities {
    /// Begins with one authority.
    pub fn new(current: Authority) -> Self {
        Self {
            current,
            phase: Phase::Settled,
        }
    }

    /// Returns the authority that signs.
    pub fn current(&self) -> &Authority {
        &self.current
    }

    /// Returns how far its replacement has come.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Returns all authorities to trust, as PEM, the current one first.
    pub fn bundle_pem(&self) -> String {
        let other = match &self.phase {
            Phase::Settled => "",
            Phase::Announced(announced) => announced.next.certificate_pem(),
            Phase::Overlapping(previous) => &previous.certificate_pem,
        };
        format!("{}{other}", self.current.certificate_pem())
    }

    /// Returns all authorities to trust.
    ///
    /// # Errors
    ///
    /// Fails only if what was read once cannot be read again.
    pub fn bundle(&self) -> Result<Bundle, CertificateError> {
        Bundle::from_pem(&self.bundle_pem(), "the shared authorities")
    }

    /// Returns what a holder of the bundle trusts.
    pub fn trusted(&self) -> Trusted {
        let current = self.current.certificate().fingerprint();
        let other = match &self.phase {
            Phase::Settled => None,
            Phase::Announced(announced) => Some(announced.next.certificate().fingerprint()),
            Phase::Overlapping(previous) => Some(previous.certificate.fingerprint()),
        };
        other.into_iter().chain([current]).cloned().collect()
    }

    /// Makes a leaf, with the link for clients that trust only the previous authority.
    ///
    /// # Errors
    ///
    /// As [`Authority::issue`].
    pub fn issue(&self, request: &LeafRequest, now: Timestamp) -> Result<Leaf, SigningError> {
        let mut leaf = self.current.issue(request, now)?;
        leaf.chain
            .extend(self.link().map(|link| link.der().clone()));
        Ok(leaf)
    }

    /// Returns what leads a client that trusts only the previous authority to the current one.
    pub(crate) fn link(&self) -> Option<&Certificate> {
        match &self.phase {
            Phase::Overlapping(previous) => Some(&previous.link),
            Phase::Settled | Phase::Announced(_) => None,
        }
    }

    /// Returns the fingerprint of the authority that signs.
    pub(crate) fn signer(&self) -> &Fingerprint {
        self.current.certificate().fingerprint()
    }
}

/// The state's text form: PEM inside JSON, so that one write changes all of it or nothing.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    current: Pair,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    announced: Option<WrittenAnnounced>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<WrittenPredecessor>,
}

#[derive(Deserialize, Serialize)]
struct Pair {
    certificate: String,
    key: String,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenAnnounced {
    next: Pair,
    link: String,
    trusted_since: Option<Timestamp>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenPredecessor {
    certificate: String,
    link: String,
    since: Timestamp,
}

impl Pair {
    fn of(authority: &Authority) -> Self {
        Self {
            certificate: authority.certificate_pem().to_owned(),
            key: authority.key_pem(),
        }
    }

    fn read(&self, what: &str) -> Result<Authority, CertificateError> {
        Authority::from_pem(&self.certificate, &self.key, what)
    }
}

/// A text is not the shared state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is no JSON of the right shape.
    #[error("the shared authorities are not what this version writes: {0}")]
    Shape(#[from] serde_json::Error),
    /// One of its certificates or keys is unusable.
    #[error("the shared authorities hold something unusable")]
    Certificate(#[from] CertificateError),
    /// It is not even text.
    #[error("the shared authorities are not UTF-8 text")]
    NotText,
    /// It claims two phases at once.
    #[error(
        "the shared authorities hold both `announced` and `previous`, but only one replacement can be under way"
    )]
    TwoReplacements,
}

impl Authorities {
    /// Writes the state down, private keys included.
    ///
    /// # Errors
    ///
    /// Fails only if the JSON library does.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let mut written = Written {
            current: Pair::of(&self.current),
            announced: None,
            previous: None,
        };
        match &self.phase {
            Phase::Settled => {}
            Phase::Announced(announced) => {
                written.announced = Some(WrittenAnnounced {
                    next: Pair::of(&announced.next),
                    link: announced.link.clone(),
                    trusted_since: announced.trusted_since,
                });
            }
            Phase::Overlapping(previous) => {
                written.previous = Some(WrittenPredecessor {
                    certificate: previous.certificate_pem.clone(),
                    link: previous.link_pem.clone(),
                    since: previous.since,
                });
            }
        }
        serde_json::to_string(&written)
    }

    /// Reads what [`Authorities::to_json`] wrote.
    ///
    /// # Errors
    ///
    /// Says what of it cannot be used.
    pub fn from_json(text: &str) -> Result<Self, StateError> {
        let written: Written = serde_json::from_str(text)?;
        let phase = match (written.announced, written.previous) {
            (None, None) => Phase::Settled,
            (Some(_), Some(_)) => return Err(StateError::TwoReplacements),
            (Some(announced), None) => Phase::Announced(Announced {
                next: announced.next.read("the next authority")?,
                link: announced.link,
                trusted_since: announced.trusted_since,
            }),
            (None, Some(previous)) => Phase::Overlapping(Predecessor::new(
                previous.certificate,
                previous.link,
                previous.since,
            )?),
        };
        Ok(Self {
            current: written.current.read("the current authority")?,
            phase,
        })
    }
}

#[cfg(test)]
mod tests;
