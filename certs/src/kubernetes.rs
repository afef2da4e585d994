//! The shared state in Kubernetes: a Secret, a Lease, and `caBundle` in webhook configurations.
//!
//! Everything here is small reads and conditional writes of single named objects, so that RBAC can name them. No watch:
//! the keeper's turn reads anyway.

pub use authorities_secret::{AUTHORITY, AuthoritiesSecret, RETIRE};
pub use lease_object::LeaseObject;
pub use supplied_secret::SuppliedSecret;
pub use webhook_configuration::{WebhookConfiguration, WebhookConfigurations};

mod authorities_secret;
mod lease_object;
#[cfg(test)]
mod scripted;
mod supplied_secret;
mod webhook_configuration;

use crate::store::StoreError;

/// Who we are to server-side apply.
pub const FIELD_MANAGER: &str = "stillwake-certs";

/// A version of an object: `None` while there is no object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ObjectVersion(Option<String>);

/// Says what could not be done with which object.
fn failed(action: &'static str, object: &str) -> impl FnOnce(kube::Error) -> StoreError {
    move |error| StoreError::Unavailable {
        action,
        object: object.to_owned(),
        source: error.into(),
    }
}

/// Turns the answers that mean "somebody was quicker" into `None`: a conflict of versions, an object that exists already,
/// and, where `expected` says that there was one, an object that is gone.
fn unless_quicker<T>(expected: &ObjectVersion, result: kube::Result<T>) -> kube::Result<Option<T>> {
    match result {
        Ok(written) => Ok(Some(written)),
        Err(kube::Error::Api(status))
            if status.code == 409 || (status.code == 404 && expected.0.is_some()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
