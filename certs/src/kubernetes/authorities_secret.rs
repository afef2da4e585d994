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
    store::{Register, StoreError},
    supplied::AUTHORITIES_KEY,
};

/// Name of the state in the Secret's data.
const STATE_KEY: &str = "authorities.json";

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
