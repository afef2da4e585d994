//! Bundles of authorities, and short names for what the holder of one trusts.
//!
//! Does not decide who should trust what; `rotation` does.

use std::{collections::BTreeSet, fmt, str::FromStr};

use rustls::RootCertStore;

use crate::certificate::{Certificate, CertificateError, Fingerprint, NotFingerprint};

/// The authorities that a holder of a bundle trusts.
///
/// Its text form, fingerprints joined by dots, is a valid Kubernetes annotation value (and, up to three, label value),
/// so that a pod can say which bundle it was given.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Trusted(BTreeSet<Fingerprint>);

impl Trusted {
    /// Returns whether the holder trusts this authority.
    pub fn contains(&self, authority: &Fingerprint) -> bool {
        self.0.contains(authority)
    }

    /// Returns what the holders of both trust.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }
}

impl FromIterator<Fingerprint> for Trusted {
    fn from_iter<T: IntoIterator<Item = Fingerprint>>(authorities: T) -> Self {
        Self(authorities.into_iter().collect())
    }
}

impl fmt::Display for Trusted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fingerprint) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "." };
            write!(formatter, "{separator}{fingerprint}")?;
        }
        Ok(())
    }
}

impl FromStr for Trusted {
    type Err = NotFingerprint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split('.').map(str::parse).collect()
    }
}

/// Authorities to trust, as PEM for others and parsed for us. Never empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bundle {
    pem: String,
    certificates: Vec<Certificate>,
}

impl Bundle {
    /// Reads a PEM text of authorities. `what` names it in errors.
    ///
    /// A certificate that may not sign is taken too: trusting a server's own self-signed certificate is what users with
    /// an existing Secret may have.
    ///
    /// # Errors
    ///
    /// Fails if the text is not PEM, holds no certificate, or holds one that cannot be read.
    pub fn from_pem(pem: &str, what: &str) -> Result<Self, CertificateError> {
        Ok(Self {
            certificates: Certificate::all_from_pem(pem, what)?,
            pem: pem.to_owned(),
        })
    }

    /// Returns the text it was read from.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns what a holder of this bundle trusts.
    pub fn trusted(&self) -> Trusted {
        let certificates = self.certificates.iter();
        certificates
            .map(|certificate| certificate.fingerprint().clone())
            .collect()
    }

    /// Returns the bundle as rustls's trust anchors.
    ///
    /// # Errors
    ///
    /// Fails if rustls takes one of the certificates for no trust anchor.
    pub fn roots(&self) -> Result<RootCertStore, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.certificates {
            roots.add(certificate.der().clone())?;
        }
        Ok(roots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_trusted_survives_its_text_form() {
        let text = "0123456789abcdef.fedcba9876543210";
        let trusted: Trusted = text.parse().unwrap();
        assert!(trusted.contains(&"fedcba9876543210".parse().unwrap()));
        assert!(!trusted.contains(&"fedcba9876543211".parse().unwrap()));
        assert_eq!(trusted.to_string(), text);
    }

    #[test]
    fn a_text_that_is_none_is_named() {
        for wrong in [
            "",
            "0123456789abcde",
            "0123456789abcdeF",
            "0123456789abcdef.",
        ] {
            let error = wrong.parse::<Trusted>().unwrap_err().to_string();
            assert!(error.contains("16 lower-case"), "{error}");
        }
    }

    #[test]
    fn common_trust_is_what_both_hold() {
        let one: Trusted = "0123456789abcdef.fedcba9876543210".parse().unwrap();
        let other: Trusted = "fedcba9876543210.0000000000000000".parse().unwrap();
        assert_eq!(one.common(&other).to_string(), "fedcba9876543210");
    }
}
