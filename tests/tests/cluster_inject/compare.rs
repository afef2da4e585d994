//! Compares pods as an API server answers them, but for what is another in each creation.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use stillwake_e2e::cluster::pods::INJECT;

/// Returns a pod that does not ask for the sidecar itself.
pub(crate) fn plain(pod: &Value) -> Value {
    let mut pod = pod.clone();
    if let Some(labels) = pod
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove(INJECT);
    }
    pod
}

/// Returns an answered pod without what is another in each creation, and with volumes, whose order means nothing, by name.
pub(crate) fn normal(pod: &Value) -> Value {
    let mut pod = plain(pod);
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        for name in [
            "namespace",
            "uid",
            "creationTimestamp",
            "managedFields",
            "name",
        ] {
            metadata.remove(name);
        }
    }
    // A fingerprint of what the sidecar was given, which is compared itself.
    if let Some(authorities) = pod.pointer_mut("/metadata/annotations/stillwake.dev~1authorities") {
        *authorities = json!("-");
    }
    let mut text = pod.to_string();
    // The volume that every API server adds, with a name of its own making.
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let token = volumes.into_iter().find_map(|volume| {
        let name = volume["name"].as_str()?;
        name.starts_with("kube-api-access-")
            .then(|| name.to_owned())
    });
    if let Some(token) = token {
        text = text.replace(&token, "kube-api-access");
    }
    let mut pod: Value = serde_json::from_str(&text).unwrap_or_default();
    if let Some(volumes) = pod["spec"]["volumes"].as_array_mut() {
        volumes.sort_by_key(|volume| volume["name"].to_string());
    }
    pod
}

/// Returns the places where two values differ, with what is there.
pub(crate) fn differences(wanted: &Value, found: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    compare("", wanted, found, &mut differences);
    differences
}

fn compare(path: &str, wanted: &Value, found: &Value, differences: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            let keys: BTreeSet<_> = wanted.keys().chain(found.keys()).collect();
            for key in keys {
                let (wanted, found) = (wanted.get(key), found.get(key));
                let (wanted, found) = (
                    wanted.unwrap_or(&Value::Null),
                    found.unwrap_or(&Value::Null),
                );
                compare(&format!("{path}/{key}"), wanted, found, differences);
            }
        }
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            for (index, (wanted, found)) in wanted.iter().zip(found).enumerate() {
                compare(&format!("{path}/{index}"), wanted, found, differences);
            }
        }
        _ if wanted == found => {}
        _ => differences.push(format!("{path} should be {wanted} and is {found}")),
    }
}
