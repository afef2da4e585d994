//! What is kept of Namespaces, Services, network policies, `LimitRange`s and `ResourceQuota`s.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{LimitRange, Namespace, ResourceQuota, Service},
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::core::DeserializeGuard;

use crate::watch::Watched;

/// What is kept of a Namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NamespaceFacts {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

impl Watched for DeserializeGuard<Namespace> {
    type Kept = NamespaceFacts;

    fn keep(self) -> Result<Self::Kept, String> {
        let metadata = self.0.map_err(|invalid| invalid.error)?.metadata;
        Ok(NamespaceFacts {
            labels: metadata.labels.unwrap_or_default(),
            annotations: metadata.annotations.unwrap_or_default(),
        })
    }
}

impl Watched for DeserializeGuard<Service> {
    type Kept = Arc<Service>;

    fn keep(self) -> Result<Self::Kept, String> {
        let Service { metadata, spec, .. } = self.0.map_err(|invalid| invalid.error)?;
        Ok(Arc::new(Service {
            metadata: which(metadata),
            spec,
            status: None,
        }))
    }
}

impl Watched for DeserializeGuard<NetworkPolicy> {
    type Kept = Arc<NetworkPolicy>;

    fn keep(self) -> Result<Self::Kept, String> {
        let NetworkPolicy { metadata, spec } = self.0.map_err(|invalid| invalid.error)?;
        Ok(Arc::new(NetworkPolicy {
            metadata: which(metadata),
            spec,
        }))
    }
}

impl Watched for DeserializeGuard<LimitRange> {
    type Kept = Arc<LimitRange>;

    fn keep(self) -> Result<Self::Kept, String> {
        let LimitRange { metadata, spec } = self.0.map_err(|invalid| invalid.error)?;
        Ok(Arc::new(LimitRange {
            metadata: which(metadata),
            spec,
        }))
    }
}

// Its status changes with every pod of the namespace.
impl Watched for DeserializeGuard<ResourceQuota> {
    type Kept = Arc<ResourceQuota>;

    fn keep(self) -> Result<Self::Kept, String> {
        let ResourceQuota { metadata, spec, .. } = self.0.map_err(|invalid| invalid.error)?;
        Ok(Arc::new(ResourceQuota {
            metadata: which(metadata),
            spec,
            status: None,
        }))
    }
}

/// Keeps of metadata which object it is.
fn which(metadata: ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        ..ObjectMeta::default()
    }
}
