//! A certificate authority: makes itself, signs leaves, and vouches for its successor.
//!
//! Keeps no account of what it signed, and does not decide when it is replaced.

use std::{fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SerialNumber,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use time::OffsetDateTime;

use crate::{
    certificate::{Certificate, CertificateError},
    leaf::{Leaf, LeafRequest, Purpose},
};

/// How far before now a certificate begins to be valid, so that a client whose clock is late accepts it at once.
pub const BACKDATING: Duration = Duration::from_hours(1);

/// How many certificates may stand between an authority and a leaf: one, which vouches for its successor.
const PATH_LENGTH: u8 = 1;

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// A certificate's first or last moment lies too far away.
    #[error(
        "{0} cannot be written in a certificate: only the years 1970 to 9999 can; is the clock right?"
    )]
    Date(Timestamp),
    /// A lifetime ends too far away.
    #[error(
        "a certificate made at {now} cannot be valid for {lifetime:?}: that is past the year 9999"
    )]
    Lifetime {
        /// What was asked for.
        lifetime: Duration,
        /// When it would have begun.
        now: Timestamp,
    },
    /// The library that makes certificates refused.
    #[error("cannot make a certificate")]
    Library(#[from] rcgen::Error),
    /// What was made cannot be read again.
    #[error("a certificate that was just made cannot be read")]
    Unreadable(#[from] CertificateError),
}

/// A certificate and a key that sign others (ECDSA on P-256). Clones share the key.
#[derive(Clone)]
pub struct Authority {
    certificate: Certificate,
    certificate_pem: String,
    issuer: Arc<Issuer<'static, KeyPair>>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Authority")
            .field("fingerprint", self.certificate.fingerprint())
            .field("validity", &self.certificate.validity())
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new authority with a new key that is valid for `lifetime` from `now` on.
    ///
    /// # Errors
    ///
    /// Fails if its life cannot be written as dates, or if there is no randomness.
    pub fn create(lifetime: Duration, now: Timestamp) -> Result<Self, SigningError> {
        Self::create_with_params(lifetime, now).map(|(made, _)| made)
    }

    /// Reads an authority from PEM. `what` names it in errors.
    ///
    /// # Errors
    ///
    /// Fails if either text cannot be read, if the certificate may not sign, and if the two do not belong together.
    pub fn from_pem(certificate: &str, key: &str, what: &str) -> Result<Self, CertificateError> {
        let bad_key = |error: rcgen::Error| CertificateError::BadKey {
            what: what.to_owned(),
            reason: error.to_string(),
        };
        let parsed = Certificate::authority_from_pem(certificate, what)?;
        let key = KeyPair::from_pem(key).map_err(bad_key)?;
        if !parsed.holds_public_key(&key.subject_public_key_info()) {
            return Err(CertificateError::KeyMismatch {
                what: what.to_owned(),
            });
        }
        let issuer = Issuer::from_ca_cert_der(parsed.der(), key).map_err(|error| {
            CertificateError::NotCertificate {
                what: what.to_owned(),
                number: 1,
                reason: error.to_string(),
            }
        })?;
        Ok(Self {
            certificate: parsed,
            certificate_pem: certificate.to_owned(),
            issuer: Arc::new(issuer),
        })
    }

    /// Returns its certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Returns its certificate as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Returns its private key as PEM: the secret.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Makes a leaf with a new key. It ends with its authority at the latest.
    ///
    /// # Errors
    ///
    /// Fails if its life cannot be written as dates, or if there is no randomness.
    pub fn issue(&self, request: &LeafRequest, now: Timestamp) -> Result<Leaf, SigningError> {
        let key = KeyPair::generate()?;
        let mut params = valid_for(request.lifetime(), now)?;
        params.not_after = params
            .not_after
            .min(date(self.certificate.validity().not_after)?);
        params.subject_alt_names =
            CertificateParams::new(request.names().to_vec())?.subject_alt_names;
        params
            .distinguished_name
            .push(DnType::CommonName, "stillwake");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match request.purpose() {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        let pem = params.signed_by(&key, &self.issuer)?.pem();
        let made = Certificate::all_from_pem(&pem, "the new leaf")?.swap_remove(0);
        Ok(Leaf {
            validity: made.validity(),
            chain: vec![made.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
            issuer: self.certificate.fingerprint().clone(),
        })
    }

    /// Makes the authority that follows this one, and a link (as PEM): a certificate for the successor, signed by this
    /// authority, by which whoever trusts only this one trusts the successor too until the first of the two ends.
    ///
    /// # Errors
    ///
    /// As [`Authority::create`].
    pub fn succeed(
        &self,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<(Self, String), SigningError> {
        let (successor, mut params) = Self::create_with_params(lifetime, now)?;
        // The rest (name, key and key's identifier) is the successor's: that is what makes it stand for the successor.
        params.not_after = params
            .not_after
            .min(date(self.certificate.validity().not_after)?);
        params.serial_number = Some(serial());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let link = params.signed_by(successor.issuer.key(), &self.issuer)?;
        Ok((successor, link.pem()))
    }

    fn create_with_params(
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<(Self, CertificateParams), SigningError> {
        let key = KeyPair::generate()?;
        let mut params = valid_for(lifetime, now)?;
        // Each has a name of its own: with one name for all, who trusts several would have to try them in turn.
        let name = format!("Stillwake CA {:08x}", rand::random::<u32>());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(PATH_LENGTH));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = params.self_signed(&key)?.pem();
        let made = Self {
            certificate: Certificate::authority_from_pem(&certificate_pem, "the new authority")?,
            certificate_pem,
            issuer: Arc::new(Issuer::new(params.clone(), key)),
        };
        Ok((made, params))
    }
}

/// Returns parameters with a new serial number and no name, valid from a little before `now` until `lifetime` after it.
fn valid_for(lifetime: Duration, now: Timestamp) -> Result<CertificateParams, SigningError> {
    let outside = |_| SigningError::Lifetime { lifetime, now };
    let begin = now.checked_sub(BACKDATING).map_err(outside)?;
    let end = now.checked_add(lifetime).map_err(outside)?;
    let mut params = CertificateParams::default();
    params.not_before = date(begin)?;
    params.not_after = date(end)?;
    params.serial_number = Some(serial());
    params.distinguished_name = DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Returns `moment`, to the second, in the type of the library that makes certificates.
fn date(moment: Timestamp) -> Result<OffsetDateTime, SigningError> {
    // Certificates write years with four digits, and nothing here happens before 1970.
    let seconds = Some(moment.as_second()).filter(|&seconds| seconds >= 0);
    seconds
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(SigningError::Date(moment))
}

/// Returns a number that no other certificate has: 127 random bits, because the number must be positive.
fn serial() -> SerialNumber {
    let number = rand::random::<u128>() >> 1;
    SerialNumber::from_slice(&number.to_be_bytes())
}

#[cfg(test)]
mod tests;
