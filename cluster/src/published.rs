//! The `EndpointSlice`s that an installation of ours has published, whoever of its replicas it was.

use std::convert::Infallible;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Client, core::DeserializeGuard, runtime::watcher};

use crate::{
    Metrics,
    object::ObjectName,
    scope::Scope,
    services::{MANAGED_BY, MANAGER},
    watch::{Told, Watched, Watches},
};

/// Label of our slices with the namespace of the installation that published them. Two installations in one cluster
/// leave each other's slices alone.
pub const INSTALLATION: &str = "stillwake.dev/installation";

/// A change of what is published.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A slice was created or changed, by whomever.
    Slice(Box<EndpointSlice>),
    /// A slice is gone.
    Gone {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Everything that existed at the start has been told. Comes once.
    Synced,
}

impl Watched for DeserializeGuard<EndpointSlice> {
    type Kept = Box<EndpointSlice>;

    fn keep(self) -> Result<Self::Kept, String> {
        let mut slice = self.0.map_err(|invalid| invalid.error)?;
        slice.metadata.managed_fields = None;
        Ok(Box::new(slice))
    }
}

/// Watches the slices of the installation in the namespace `installation` for ever, and calls `tell` with every change.
///
/// `tell` is called between two awaits and should not block.
///
/// # Cancel safety
///
/// Dropping the future ends the watches.
pub async fn follow(
    client: Client,
    scope: Scope,
    installation: &str,
    metrics: Metrics,
    mut tell: impl FnMut(Change),
) -> Infallible {
    let ours = format!("{MANAGED_BY}={MANAGER},{INSTALLATION}={installation}");
    let ours = watcher::Config::default().labels(&ours);
    let mut watches = Watches::new(client, scope, metrics)
        .namespaced::<DeserializeGuard<EndpointSlice>>(&ours, observe);
    loop {
        tell(match watches.next().await {
            Told::Observed(change) => change,
            Told::Synced => Change::Synced,
        });
    }
}

fn observe(name: ObjectName, slice: Option<Box<EndpointSlice>>) -> Change {
    let ObjectName { namespace, name } = name;
    slice.map_or(Change::Gone { namespace, name }, Change::Slice)
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;
    use serde_json::json;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::scripted::{Server, next};

    #[tokio::test(start_paused = true)]
    async fn slices_of_this_installation_are_told() {
        let server = Server::default();
        let slices = "/apis/discovery.k8s.io/v1/endpointslices";
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "web-x", "namespace": "shop", "managedFields": [{"manager": "us"}]},
            "addressType": "IPv4", "endpoints": [],
        });
        server.put(slices, slice);
        let metrics = Metrics::register(&mut Registry::default());
        let (tell, mut told) = unbounded_channel();
        let client = server.client();
        tokio::spawn(async move {
            follow(client, Scope::All, "system", metrics, move |change| {
                // The test may have seen enough.
                let _ = tell.send(change);
            })
            .await
        });
        let Change::Slice(slice) = next(&mut told).await else {
            panic!("no slice");
        };
        assert_eq!(slice.metadata.name.as_deref(), Some("web-x"));
        assert_eq!(slice.metadata.managed_fields, None);
        assert_eq!(next(&mut told).await, Change::Synced);
        server.delete(slices, "web-x");
        let gone = Change::Gone {
            namespace: "shop".to_owned(),
            name: "web-x".to_owned(),
        };
        assert_eq!(next(&mut told).await, gone);
        let asked = &server.asked()[0];
        assert!(
            asked.contains("stillwake.dev%2Finstallation%3Dsystem"),
            "{asked}"
        );
    }
}
