//! Certificates that somebody else makes and rotates: cert-manager, or whoever filled a Secret or a folder.
//!
//! They are read again and again, and told apart by their content: a mounted Secret changes by a symbolic link whose
//! events are easily missed, and one small reading now and then cannot be missed. Owns no loop; whoever calls
//! [`Supplied::refresh`] does.

use std::{error::Error as StdError, future::Future, sync::Arc};

use arc_swap::ArcSwapOption;
use rustls::{
    pki_types::{PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use stillwake_runtime::tls::provider;

use crate::{
    certificate::{Certificate, CertificateError},
    resolver::Resolver,
    trust::Bundle,
};

pub use files::Files;

mod files;

/// Name of the certificate chain in a folder or Secret, as Kubernetes has it for Secrets of type `kubernetes.io/tls`.
pub const CERTIFICATE_KEY: &str = "tls.crt";

/// Name of the private key, from the same place.
pub const PRIVATE_KEY_KEY: &str = "tls.key";

/// Name of the bundle, as cert-manager has it.
pub const AUTHORITIES_KEY: &str = "ca.crt";

/// What was supplied, as PEM.
#[derive(Clone, Eq, PartialEq)]
pub struct Material {
    /// The chain, the server's own certificate first.
    pub certificate: String,
    /// The private key.
    pub key: String,
    /// Authorities that clients should trust, if they were supplied.
    pub authorities: Option<String>,
}

/// Where certificates are supplied.
pub trait Source: Send + Sync {
    /// Returns a name of the place for errors.
    fn place(&self) -> String;

    /// Returns what is supplied now.
    fn read(&self) -> impl Future<Output = Result<Material, SourceError>> + Send;
}

/// What is supplied cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The place cannot be read.
    #[error("cannot read {item}")]
    Unreadable {
        /// Which file or object.
        item: String,
        /// Why not.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The place lacks something.
    #[error(
        "{place} has no `{key}`: it must hold `{CERTIFICATE_KEY}` and `{PRIVATE_KEY_KEY}`, and may hold `{AUTHORITIES_KEY}`"
    )]
    Missing {
        /// Where.
        place: String,
        /// What.
        key: &'static str,
    },
}

/// What is supplied cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SuppliedError {
    /// It cannot be read.
    #[error("cannot read the supplied certificates")]
    Source(#[from] SourceError),
    /// It is read, and no usable set of certificates.
    #[error("cannot use the supplied certificates")]
    Certificate(#[from] CertificateError),
}

/// Serves what is supplied.
#[derive(Debug)]
pub struct Supplied<S> {
    source: S,
    last: Material,
    resolver: Arc<Resolver>,
    bundle: Arc<ArcSwapOption<Bundle>>,
}

impl std::fmt::Debug for Material {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Material")
            .field("certificate", &self.certificate)
            .field("authorities", &self.authorities)
            .finish_non_exhaustive()
    }
}

impl<S: Source> Supplied<S> {
    /// Reads what is supplied now.
    ///
    /// # Errors
    ///
    /// Says what cannot be read or used.
    pub async fn begin(source: S) -> Result<Self, SuppliedError> {
        let last = source.read().await?;
        let (certified, bundle) = checked(&last, &source.place())?;
        Ok(Self {
            source,
            last,
            resolver: Arc::new(Resolver::presenting(certified)),
            bundle: Arc::new(ArcSwapOption::new(bundle)),
        })
    }

    /// Reads again, and serves what changed. Returns whether anything did.
    ///
    /// # Errors
    ///
    /// Says what cannot be read or used; what was served stays. Half-written sets are caught here, and are whole the next
    /// time.
    pub async fn refresh(&mut self) -> Result<bool, SuppliedError> {
        let read = self.source.read().await?;
        if read == self.last {
            return Ok(false);
        }
        let (certified, bundle) = checked(&read, &self.source.place())?;
        self.bundle.store(bundle);
        self.resolver.present(certified);
        self.last = read;
        Ok(true)
    }

    /// Returns what presents the certificate.
    pub fn resolver(&self) -> &Arc<Resolver> {
        &self.resolver
    }

    /// Returns the authorities that clients should trust, if they were supplied. It changes with what is supplied.
    pub fn bundle(&self) -> &Arc<ArcSwapOption<Bundle>> {
        &self.bundle
    }
}

fn checked(
    material: &Material,
    place: &str,
) -> Result<(CertifiedKey, Option<Arc<Bundle>>), CertificateError> {
    let what = |key| format!("`{key}` of {place}");
    let chain = Certificate::all_from_pem(&material.certificate, &what(CERTIFICATE_KEY))?;
    let chain = chain.iter().map(|one| one.der().clone()).collect();
    let bad_key = |reason: String| CertificateError::BadKey {
        what: what(PRIVATE_KEY_KEY),
        reason,
    };
    let key = PrivateKeyDer::from_pem_slice(material.key.as_bytes())
        .map_err(|error| bad_key(error.to_string()))?;
    let certified =
        CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => CertificateError::KeyMismatch {
                what: place.to_owned(),
            },
            other => bad_key(other.to_string()),
        })?;
    // cert-manager leaves the entry empty when the issuer has no authority to show.
    let authorities = material.authorities.as_deref();
    let bundle = authorities
        .filter(|text| !text.trim().is_empty())
        .map(|text| Bundle::from_pem(text, &what(AUTHORITIES_KEY)).map(Arc::new))
        .transpose()?;
    Ok((certified, bundle))
}

#[cfg(test)]
mod tests;
