//! Finds the object that owns our slices: the activators' `ClusterRole`. It goes with the release, and takes the slices with
//! it even when the activators may write nothing any more, or do not run.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::{Api, Client};
use stillwake_slices::{Handle, slice::Owner};
use tokio::time::sleep;

use crate::control::process::chain;

/// How often it is looked for until it is found.
const FIRST: Duration = Duration::from_secs(1);

/// How often it is looked at after that: it may be made anew under the same name, and own nothing then.
const INTERVAL: Duration = Duration::from_secs(30);

/// Tells `slices` of their owner, for ever.
pub(super) async fn follow(client: Client, name: String, slices: Handle) {
    let roles = Api::<ClusterRole>::all(client);
    let mut known = None;
    let mut failing = false;
    loop {
        match roles.get_metadata(&name).await {
            Ok(role) => {
                failing = false;
                let owner = role.metadata.uid.map(|uid| Owner {
                    name: name.clone(),
                    uid,
                });
                if let Some(owner) = owner.filter(|owner| known.as_ref() != Some(owner)) {
                    slices.set_owner(owner.clone());
                    known = Some(owner);
                }
            }
            Err(error) if !std::mem::replace(&mut failing, true) => {
                let error = chain(&error);
                tracing::warn!(
                    role = name,
                    error,
                    "Cannot read the ClusterRole that owns our EndpointSlices"
                );
            }
            Err(_) => {}
        }
        sleep(if known.is_none() { FIRST } else { INTERVAL }).await;
    }
}
