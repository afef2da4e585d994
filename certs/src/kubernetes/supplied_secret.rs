//! A Secret with certificates that somebody else rotates.
//!
//! Never writes it.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use crate::supplied::{
    AUTHORITIES_KEY, CERTIFICATE_KEY, Material, PRIVATE_KEY_KEY, Source, SourceError,
};

/// A Secret of type `kubernetes.io/tls`, perhaps with `ca.crt`.
#[derive(Clone, Debug)]
pub struct SuppliedSecret {
    api: Api<Secret>,
    name: String,
    namespace: String,
}

impl SuppliedSecret {
    /// Reads the Secret `name` in `namespace`. Needs `get` on it.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
        }
    }
}

impl Source for SuppliedSecret {
    fn place(&self) -> String {
        format!("Secret {}/{}", self.namespace, self.name)
    }

    async fn read(&self) -> Result<Material, SourceError> {
        let secret = self.api.get(&self.name).await;
        let secret = secret.map_err(|error| SourceError::Unreadable {
            item: self.place(),
            source: error.into(),
        })?;
        let mut data = secret.data.unwrap_or_default();
        let mut text = |key| {
            let Some(bytes) = data.remove(key) else {
                return Ok(None);
            };
            let text = String::from_utf8(bytes.0);
            text.map(Some).map_err(|error| SourceError::Unreadable {
                item: format!("`{key}` of {}", self.place()),
                source: error.into(),
            })
        };
        let missing = |key| SourceError::Missing {
            place: self.place(),
            key,
        };
        Ok(Material {
            certificate: text(CERTIFICATE_KEY)?.ok_or_else(|| missing(CERTIFICATE_KEY))?,
            key: text(PRIVATE_KEY_KEY)?.ok_or_else(|| missing(PRIVATE_KEY_KEY))?,
            authorities: text(AUTHORITIES_KEY)?,
        })
    }
}

#[cfg(test)]
mod tests;
