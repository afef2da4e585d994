//! Publishing of the bundle as `caBundle` of every webhook in one webhook configuration.
//!
//! By server-side apply without force: we own that one field of each webhook, and if somebody else owns it (cert-manager's
//! injector, or a chart that renders it), that is a misconfiguration to be told, not a fight to be won.

use std::{error::Error as StdError, fmt::Debug};

use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
    },
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{FIELD_MANAGER, failed};
use crate::{
    keeper::Publisher,
    store::StoreError,
    trust::{Bundle, Trusted},
};

/// What mutating and validating webhook configurations have in common.
pub trait WebhookConfiguration:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// Returns the webhooks' names and how each is called.
    fn webhooks(&self) -> Vec<(&str, &WebhookClientConfig)>;
}

impl WebhookConfiguration for MutatingWebhookConfiguration {
    fn webhooks(&self) -> Vec<(&str, &WebhookClientConfig)> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks
            .map(|webhook| (webhook.name.as_str(), &webhook.client_config))
            .collect()
    }
}

impl WebhookConfiguration for ValidatingWebhookConfiguration {
    fn webhooks(&self) -> Vec<(&str, &WebhookClientConfig)> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks
            .map(|webhook| (webhook.name.as_str(), &webhook.client_config))
            .collect()
    }
}

/// A webhook configuration by its name.
#[derive(Clone, Debug)]
pub struct WebhookConfigurations<K> {
    api: Api<K>,
    name: String,
    object: String,
}

impl<K: WebhookConfiguration> WebhookConfigurations<K> {
    /// Publishes in the configuration `name`, which must exist. Needs `get` and `patch` on it.
    pub fn new(client: Client, name: &str) -> Self {
        Self {
            api: Api::all(client),
            name: name.to_owned(),
            object: format!("{} {name}", K::kind(&())),
        }
    }

    async fn read(&self) -> Result<Option<K>, StoreError> {
        let found = self.api.get_opt(&self.name).await;
        found.map_err(failed("read", &self.object))
    }
}

impl<K: WebhookConfiguration> Publisher for WebhookConfigurations<K> {
    async fn published(&self) -> Result<Option<Trusted>, StoreError> {
        let Some(configuration) = self.read().await? else {
            return Ok(None);
        };
        let webhooks = configuration.webhooks().into_iter();
        let copies = webhooks.map(|(_, client)| trusted(client.ca_bundle.as_ref()));
        Ok(copies.reduce(|all, copy| all.common(&copy)))
    }

    async fn publish(&self, bundle: &Bundle) -> Result<(), StoreError> {
        // Applied blindly, a configuration that does not exist would be created in part, and refused for the wrong reason.
        let Some(configuration) = self.read().await? else {
            return Err(StoreError::Unavailable {
                action: "publish the bundle in",
                object: self.object.clone(),
                source: Box::<dyn StdError + Send + Sync>::from(
                    "it does not exist; the chart creates it",
                ),
            });
        };
        let ca_bundle = ByteString(bundle.pem().as_bytes().to_vec());
        let webhooks = configuration.webhooks().into_iter();
        let webhooks: Vec<_> = webhooks
            .map(|(name, _)| json!({"name": name, "clientConfig": {"caBundle": ca_bundle}}))
            .collect();
        let wanted = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": self.name},
            "webhooks": webhooks,
        });
        let params = PatchParams::apply(FIELD_MANAGER);
        let applied = self
            .api
            .patch(&self.name, &params, &Patch::Apply(&wanted))
            .await;
        applied
            .map(drop)
            .map_err(failed("publish the bundle in", &self.object))
    }
}

/// Returns whom a webhook's caller trusts: nobody if there is no bundle or it is none.
fn trusted(ca_bundle: Option<&ByteString>) -> Trusted {
    ca_bundle
        .and_then(|bytes| str::from_utf8(&bytes.0).ok())
        .and_then(|text| Bundle::from_pem(text, "caBundle").ok())
        .map(|bundle| bundle.trusted())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
