//! Servers' certificates: what is asked for, and what an authority made of it.
//!
//! Does not sign (`authority` does) and does not serve (`resolver` does).

use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};

use crate::certificate::{Fingerprint, Validity};

/// What a leaf may be used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// Proves who a server is.
    Server,
    /// Proves who a client is.
    Client,
}

/// What a leaf should say.
#[derive(Clone, Debug)]
pub struct LeafRequest {
    names: Vec<String>,
    purpose: Purpose,
    lifetime: Duration,
}

/// A name that cannot stand in a certificate.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// Neither kind of name.
    #[error("`{0}` is neither a DNS name nor an IP address, so no certificate can be made for it")]
    Invalid(String),
    /// No name at all.
    #[error("a certificate needs at least one DNS name or IP address")]
    Missing,
}

impl LeafRequest {
    /// Asks for a leaf for DNS names and IP addresses that is valid for `lifetime`.
    ///
    /// # Errors
    ///
    /// Names the first name that is none, or says that there is none at all.
    pub fn new(
        names: impl IntoIterator<Item = String>,
        purpose: Purpose,
        lifetime: Duration,
    ) -> Result<Self, NameError> {
        let names: Vec<String> = names.into_iter().collect();
        let invalid = |name: &&String| ServerName::try_from(name.as_str()).is_err();
        if let Some(name) = names.iter().find(invalid) {
            return Err(NameError::Invalid(name.clone()));
        }
        if names.is_empty() {
            return Err(NameError::Missing);
        }
        Ok(Self {
            names,
            purpose,
            lifetime,
        })
    }

    /// Returns the names asked for.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns what it will be used for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Returns how long it should be valid from now on.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }
}

/// Returns the names by which a Service is reached in its cluster, the shortest first.
///
/// `cluster_domain` is usually `cluster.local`.
pub fn service_names(service: &str, namespace: &str, cluster_domain: &str) -> [String; 4] {
    [
        service.to_owned(),
        format!("{service}.{namespace}"),
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.{cluster_domain}"),
    ]
}

/// A certificate, its key, and the certificates that lead from it to each authority that a client may trust.
#[derive(Debug)]
pub struct Leaf {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivatePkcs8KeyDer<'static>,
    pub(crate) validity: Validity,
    pub(crate) issuer: Fingerprint,
}

impl Leaf {
    /// Returns the certificates to present, the leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Returns a copy of the private key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }

    /// Returns when it is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Returns the authority that signed it.
    pub fn issuer(&self) -> &Fingerprint {
        &self.issuer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_its_four_names() {
        assert_eq!(
            service_names("hook", "system", "cluster.local"),
            [
                "hook",
                "hook.system",
                "hook.system.svc",
                "hook.system.svc.cluster.local"
            ]
        );
    }

    #[test]
    fn a_name_that_is_none_is_named() {
        let request = |names: &[&str]| {
            let names = names.iter().map(|&name| name.to_owned());
            LeafRequest::new(names, Purpose::Server, Duration::from_mins(1))
        };
        assert!(request(&["hook.system.svc", "10.0.0.1", "::1"]).is_ok());
        let error = request(&["fine", "not a name"]).unwrap_err().to_string();
        assert!(error.contains("`not a name`"), "{error}");
        assert!(matches!(request(&[]), Err(NameError::Missing)));
    }
}
