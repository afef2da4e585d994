//! The leader's lease as a Lease of the coordination API.
//!
//! Decides nothing about who leads; `lease` does.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};

use super::{FIELD_MANAGER, ObjectVersion, failed, unless_quicker};
use crate::{
    lease::LeaseRecord,
    store::{Register, StoreError},
};

/// A Lease by its name.
#[derive(Clone, Debug)]
pub struct LeaseObject {
    api: Api<Lease>,
    name: String,
    object: String,
}

impl LeaseObject {
    /// Uses the Lease `name` in `namespace`. Needs `get` and `patch` on it, and `create` unless it exists.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            object: format!("Lease {namespace}/{name}"),
        }
    }
}

impl Register<LeaseRecord> for LeaseObject {
    type Version = ObjectVersion;

    async fn read(&self) -> Result<(Option<LeaseRecord>, ObjectVersion), StoreError> {
        let found = self.api.get_opt(&self.name).await;
        let Some(lease) = found.map_err(failed("read", &self.object))? else {
            return Ok((None, ObjectVersion(None)));
        };
        let version = ObjectVersion(lease.metadata.resource_version);
        Ok((lease.spec.map(record), version))
    }

    async fn write(
        &self,
        value: &LeaseRecord,
        expected: &ObjectVersion,
    ) -> Result<Option<ObjectVersion>, StoreError> {
        let mut lease = Lease {
            metadata: ObjectMeta {
                resource_version: expected.0.clone(),
                ..ObjectMeta::default()
            },
            spec: Some(spec(value)),
        };
        let written = if expected.0.is_some() {
            // As with the Secret: labels are left to whoever put them there.
            let params = PatchParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PatchParams::default()
            };
            self.api
                .patch(&self.name, &params, &Patch::Merge(&lease))
                .await
        } else {
            lease.metadata.name = Some(self.name.clone());
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            self.api.create(&params, &lease).await
        };
        let written = unless_quicker(expected, written).map_err(failed("write", &self.object))?;
        Ok(written.map(|lease| ObjectVersion(lease.metadata.resource_version)))
    }
}

fn record(spec: LeaseSpec) -> LeaseRecord {
    let moment = |time: Option<MicroTime>| time.map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let seconds = spec.lease_duration_seconds.unwrap_or_default();
    LeaseRecord {
        holder: spec.holder_identity.unwrap_or_default(),
        duration: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
        acquired: moment(spec.acquire_time),
        renewed: moment(spec.renew_time),
        transitions: u32::try_from(spec.lease_transitions.unwrap_or_default()).unwrap_or_default(),
    }
}

fn spec(record: &LeaseRecord) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(record.holder.clone()),
        // The API takes whole seconds, at least one.
        lease_duration_seconds: Some(
            i32::try_from(record.duration.as_secs().max(1)).unwrap_or(i32::MAX),
        ),
        acquire_time: Some(MicroTime(record.acquired)),
        renew_time: Some(MicroTime(record.renewed)),
        lease_transitions: Some(i32::try_from(record.transitions).unwrap_or(i32::MAX)),
        ..LeaseSpec::default()
    }
}

#[cfg(test)]
mod tests;
