//! `AdmissionReview` of `admission.k8s.io/v1`, as far as an answer needs it.
//!
//! Own types, because an answer has to carry the request's uid even where the rest of the request cannot be read.

use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What the API server sends.
#[derive(Debug, Deserialize)]
pub(crate) struct Review<'a> {
    #[serde(borrow)]
    pub(crate) request: Request<'a>,
}

/// What is to be admitted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request<'a> {
    /// Has to be in the answer.
    pub(crate) uid: String,
    #[serde(default)]
    pub(crate) namespace: String,
    /// Empty if it is still to be generated.
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) operation: String,
    #[serde(default)]
    pub(crate) resource: Resource,
    #[serde(default)]
    pub(crate) sub_resource: String,
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// Not read until it is known to be ours to change.
    #[serde(borrow)]
    pub(crate) object: Option<&'a RawValue>,
}

/// What kind of object it is.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Resource {
    #[serde(default)]
    pub(crate) group: String,
    #[serde(default)]
    pub(crate) resource: String,
}

impl Request<'_> {
    /// Whether this is a pod that is created; nothing else is ours to change.
    pub(crate) fn creates_a_pod(&self) -> bool {
        self.operation == "CREATE"
            && self.resource.group.is_empty()
            && self.resource.resource == "pods"
            && self.sub_resource.is_empty()
    }
}

/// What we answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl Answer {
    /// Admits; `patch` is a JSON patch as text.
    pub(crate) fn admit(uid: String, patch: Option<Vec<u8>>, warnings: Vec<String>) -> Self {
        Self {
            api_version: "admission.k8s.io/v1",
            kind: "AdmissionReview",
            response: Response {
                uid,
                allowed: true,
                patch_type: patch.as_ref().map(|_| "JSONPatch"),
                patch: patch.map(ByteString),
                warnings,
            },
        }
    }
}
