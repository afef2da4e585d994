//! Which bundles of authorities living pods were injected with: an old authority has to be trusted until no pod is left
//! that knows only it.
//!
//! Asked for while an authority is replaced, not watched: that is every few years.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use stillwake_certs::{certificate::NotFingerprint, trust::Trusted};
use stillwake_webhook::names::AUTHORITIES;
use tokio::time::Instant;

use super::process::chain;

/// How often the pods are looked through.
const INTERVAL: Duration = Duration::from_mins(1);

/// Pods in one answer of the API server.
const PAGE: u32 = 500;

/// Looks through the pods of all namespaces, or of some.
#[derive(Debug)]
pub(super) struct Held {
    apis: Vec<Api<Pod>>,
    looked: Option<(Instant, Vec<Trusted>)>,
}

/// Reasons why it is not known.
#[derive(Debug, thiserror::Error)]
enum HeldError {
    #[error("cannot list pods")]
    List(#[from] kube::Error),
    /// What cannot be read may be anything: then nothing is known.
    #[error("annotation {AUTHORITIES} of pod {pod} cannot be read")]
    Annotation { pod: String, source: NotFingerprint },
}

impl Held {
    /// Looks through these namespaces; through all if none is given.
    pub(super) fn new(client: &Client, namespaces: &[String]) -> Self {
        let apis = if namespaces.is_empty() {
            vec![Api::all(client.clone())]
        } else {
            let namespaces = namespaces.iter();
            namespaces
                .map(|namespace| Api::namespaced(client.clone(), namespace))
                .collect()
        };
        Self { apis, looked: None }
    }

    /// Returns the bundles, each kind once; `None` if they cannot be told.
    pub(super) async fn known(&mut self) -> Option<Vec<Trusted>> {
        if let Some((when, held)) = &self.looked
            && when.elapsed() < INTERVAL
        {
            return Some(held.clone());
        }
        match self.look().await {
            Ok(held) => {
                self.looked = Some((Instant::now(), held.clone()));
                Some(held)
            }
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(error, "Cannot tell which authorities pods were given");
                None
            }
        }
    }

    async fn look(&self) -> Result<Vec<Trusted>, HeldError> {
        let mut held = BTreeSet::new();
        for api in &self.apis {
            let mut page = ListParams::default().limit(PAGE);
            loop {
                let pods = api.list_metadata(&page).await?;
                for pod in pods.items {
                    let annotations = pod.metadata.annotations.unwrap_or_default();
                    let Some(said) = annotations.get(AUTHORITIES) else {
                        continue;
                    };
                    let trusted = said.parse().map_err(|source| HeldError::Annotation {
                        pod: pod.metadata.name.unwrap_or_default(),
                        source,
                    })?;
                    held.insert(trusted);
                }
                match pods.metadata.continue_ {
                    Some(next) if !next.is_empty() => page = page.continue_token(&next),
                    _ => break,
                }
            }
        }
        Ok(held.into_iter().collect())
    }
}
