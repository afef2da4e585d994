//! The shared authorities in one Secret.
//!
//! An empty Secret that is there already counts as none: a chart that creates it can grant `update` by name, where
//! `create` cannot be, and removes it on uninstall.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};

use super::{FIELD_MANAGER, ObjectVersion, failed, unless_quicker};
use crate::{
    authorities::{Authorities, StateError},
    certificate::Fingerprint,
    store::{Register, StoreError},
    supplied::AUTHORITIES_KEY,
};

/// Name of the state in the Secret's data.
const STATE_KEY: &str = "authorities.json";

/// Annotation that tells which authority signs.
pub const AUTHORITY: &str = "stillwake.dev/authority";

/// Annotation by which somebody wishes the authority that it names replaced now.
pub const RETIRE: &str = "stillwake.dev/retire-authority";

/// A Secret with the shared authorities, and with their bundle as `ca.crt` for whoever wants to mount it.
#[derive(Clone, Debug)]
pub struct AuthoritiesSecret {
    api: Api<Secret>,
    name: String,
    object: String,
}

impl AuthoritiesSecret {
    /// Uses the Secret `name` in `namespace`. Needs `get` and `patch` on it, and `create` unless it exists.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            object: format!("Secret {namespace}/{name}"),
        }
    }

    /// Returns the authority that somebody wants replaced, by the annotation [`RETIRE`]. Naming it keeps the wish from being
    /// granted twice; one that makes no sense is told and left.
    ///
    /// # Errors
    ///
    /// Fails if the Secret cannot be read.
    pub async fn retire(&self) -> Result<Option<Fingerprint>, StoreError> {
        let found = self.api.get_metadata_opt(&self.name).await;
        let metadata = found.map_err(failed("read", &self.object))?;
        let annotations = metadata.and_then(|found| found.metadata.annotations);
        let Some(wish) = annotations.and_then(|mut annotations| annotations.remove(RETIRE)) else {
            return Ok(None);
        };
        let read = wish.trim().parse();
        if let Err(error) = &read {
            tracing::warn!(
                object = self.object,
                annotation = RETIRE,
                %error,
                "Cannot tell which authority to replace; the annotation stillwake.dev/authority names the one that signs"
            );
        }
        Ok(read.ok())
    }

    fn data(&self, value: &Authorities) -> Result<BTreeMap<String, ByteString>, StoreError> {
        let state = value.to_json().map_err(|error| StoreError::Unusable {
            object: self.object.clone(),
            source: error.into(),
        })?;
        let entry = |key: &str, text: String| (key.to_owned(), ByteString(text.into_bytes()));
        Ok(BTreeMap::from([
            entry(STATE_KEY, state),
            entry(AUTHORITIES_KEY, value.bundle_pem()),
        ]))
    }
}

impl Register<Authorities> for AuthoritiesSecret {
    type Version = ObjectVersion;

    async fn read(&self) -> Result<(Option<Authorities>, ObjectVersion), StoreError> {
        let found = self.api.get_opt(&self.name).await;
        let Some(secret) = found.map_err(failed("read", &self.object))? else {
            return Ok((None, ObjectVersion(None)));
        };
        let version = ObjectVersion(secret.metadata.resource_version);
        let Some(state) = secret.data.unwrap_or_default().remove(STATE_KEY) else {
            return Ok((None, version));
        };
        let unusable = |source: StateError| StoreError::Unusable {
            object: format!("`{STATE_KEY}` of {}", self.object),
            source,
        };
        let text = String::from_utf8(state.0).map_err(|_| unusable(StateError::NotText))?;
        let authorities = Authorities::from_json(&text).map_err(unusable)?;
        Ok((Some(authorities), version))
    }

    async fn write(
        &self,
        value: &Authorities,
        expected: &ObjectVersion,
    ) -> Result<Option<ObjectVersion>, StoreError> {
        let mut secret = Secret {
            metadata: ObjectMeta {
                annotations: Some([(AUTHORITY.to_owned(), value.signer().to_string())].into()),
                resource_version: expected.0.clone(),
                ..ObjectMeta::default()
            },
            data: Some(self.data(value)?),
            ..Secret::default()
        };
        let written = if expected.0.is_some() {
            // A merge leaves labels and other entries to whoever put them there; the version in it makes it conditional.
            let params = PatchParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PatchParams::default()
            };
            self.api
                .patch(&self.name, &params, &Patch::Merge(&secret))
                .await
        } else {
            secret.metadata.name = Some(self.name.clone());
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            self.api.create(&params, &secret).await
        };
        let written = unless_quicker(expected, written).map_err(failed("write", &self.object))?;
        Ok(written.map(|secret| ObjectVersion(secret.metadata.resource_version)))
    }
}

#[cfg(test)]
mod tests;
