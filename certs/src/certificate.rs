//! One certificate as it is read from PEM: its validity, its fingerprint and whether it may sign.
//!
//! Verifies no signature and builds no chain; rustls does.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Bytes of a SHA-256 sum in a fingerprint: short enough to read, too long to meet by accident.
const FINGERPRINT_BYTES: usize = 8;

/// Reasons why a text cannot be used as a certificate or as the key of one.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// There is no certificate in the text.
    #[error("{what} holds no certificate: expected a block `-----BEGIN CERTIFICATE-----`")]
    Missing {
        /// What was read.
        what: String,
    },
    /// The text is damaged.
    #[error("{what} is not valid PEM: {reason}")]
    NotPem {
        /// What was read.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A block holds something else than a certificate.
    #[error("certificate {number} of {what} is not an X.509 certificate: {reason}")]
    NotCertificate {
        /// What was read.
        what: String,
        /// Which block, from 1.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate may not sign others.
    #[error("{what} holds a certificate that may not sign others: a CA with `CA:TRUE` is needed")]
    NotAuthority {
        /// What was read.
        what: String,
    },
    /// The key is of an unknown kind or damaged.
    #[error("{what} holds no usable private key (PKCS#8 in PEM is expected): {reason}")]
    BadKey {
        /// What was read.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key are no pair.
    #[error("the private key and the certificate of {what} do not belong together")]
    KeyMismatch {
        /// What was read.
        what: String,
    },
}

/// The beginning of the SHA-256 sum of a certificate, in hexadecimal digits.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fingerprint(String);

impl Fingerprint {
    fn of(der: &[u8]) -> Self {
        let sum = Sha256::digest(der);
        let beginning = sum.iter().take(FINGERPRINT_BYTES);
        let number = beginning.fold(0_u64, |number, &byte| (number << 8) | u64::from(byte));
        Self(format!("{number:0width$x}", width = 2 * FINGERPRINT_BYTES))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A text is not a fingerprint.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a fingerprint: expected {length} lower-case hexadecimal digits", length = 2 * FINGERPRINT_BYTES)]
pub struct NotFingerprint(String);

impl FromStr for Fingerprint {
    type Err = NotFingerprint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 2 * FINGERPRINT_BYTES && text.bytes().all(digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotFingerprint(text.to_owned()))
        }
    }
}

/// From when until when a certificate is valid; both ends belong to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// First moment.
    pub not_before: Timestamp,
    /// Last moment.
    pub not_after: Timestamp,
}

impl Validity {
    /// Returns whether `now` lies within.
    pub fn contains(&self, now: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// One certificate and what we ask of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    fingerprint: Fingerprint,
    validity: Validity,
    may_sign: bool,
}

impl Certificate {
    /// Reads certificate number `number` (from 1) of `what`, which errors name.
    fn from_der(
        der: CertificateDer<'static>,
        what: &str,
        number: usize,
    ) -> Result<Self, CertificateError> {
        let failed = |reason: String| CertificateError::NotCertificate {
            what: what.to_owned(),
            number,
            reason,
        };
        let (_, parsed) =
            X509Certificate::from_der(&der).map_err(|error| failed(error.to_string()))?;
        let moment =
            |seconds| Timestamp::from_second(seconds).map_err(|error| failed(error.to_string()));
        let validity = Validity {
            not_before: moment(parsed.validity().not_before.timestamp())?,
            not_after: moment(parsed.validity().not_after.timestamp())?,
        };
        let may_sign = parsed.is_ca();
        Ok(Self {
            fingerprint: Fingerprint::of(&der),
            validity,
            may_sign,
            der,
        })
    }

    /// Reads all certificates of a PEM text, in their order. `what` names the text in errors.
    ///
    /// # Errors
    ///
    /// Fails if the text is not PEM, holds no certificate, or holds one that cannot be read.
    pub fn all_from_pem(text: &str, what: &str) -> Result<Vec<Self>, CertificateError> {
        let mut read = Vec::new();
        for (index, der) in CertificateDer::pem_slice_iter(text.as_bytes()).enumerate() {
            let der = der.map_err(|error| CertificateError::NotPem {
                what: what.to_owned(),
                reason: error.to_string(),
            })?;
            read.push(Self::from_der(der, what, index + 1)?);
        }
        if read.is_empty() {
            return Err(CertificateError::Missing {
                what: what.to_owned(),
            });
        }
        Ok(read)
    }

    /// Reads the first certificate of a PEM text, which must be one that may sign others. `what` names it in errors.
    ///
    /// # Errors
    ///
    /// As [`Certificate::all_from_pem`], and if it may not sign.
    pub fn authority_from_pem(text: &str, what: &str) -> Result<Self, CertificateError> {
        let first = Self::all_from_pem(text, what)?.swap_remove(0);
        if first.may_sign {
            Ok(first)
        } else {
            Err(CertificateError::NotAuthority {
                what: what.to_owned(),
            })
        }
    }

    /// Returns the certificate's bytes.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Returns what names it briefly.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Returns when it is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Returns whether it may sign others.
    pub fn may_sign(&self) -> bool {
        self.may_sign
    }

    /// Returns the public key with its algorithm, as it stands in the certificate.
    pub(crate) fn holds_public_key(&self, subject_public_key_info: &[u8]) -> bool {
        X509Certificate::from_der(&self.der)
            .is_ok_and(|(_, parsed)| parsed.public_key().raw == subject_public_key_info)
    }
}

#[cfg(test)]
mod tests;
