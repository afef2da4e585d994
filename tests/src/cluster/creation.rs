//! Creates pods and keeps what the API server said besides: the warnings of whoever admitted them.
//!
//! What becomes of the pods is in `cluster::pods`.

use anyhow::{Context, bail};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{Resource, api::PostParams, client::Body, core::Request};
use serde_json::Value;

use super::Namespace;

/// What the API server answered.
#[derive(Clone, Debug)]
pub struct Created {
    /// The object as it was admitted.
    pub object: Value,
    /// What was to be told about it.
    pub warnings: Vec<String>,
}

impl Created {
    /// Returns the warnings that are Stillwake's.
    pub fn of_stillwake(&self) -> Vec<&str> {
        let warnings = self.warnings.iter().map(String::as_str);
        warnings
            .filter(|warning| warning.starts_with("stillwake: "))
            .collect()
    }
}

/// Creates a pod in a namespace.
///
/// # Errors
///
/// With the reason why it was refused.
pub async fn create(namespace: &Namespace, pod: &Value) -> anyhow::Result<Created> {
    send(namespace, pod, false).await
}

/// Has everything done that is done before a pod is written down, and leaves that out.
///
/// # Errors
///
/// As [`create`].
pub async fn try_out(namespace: &Namespace, pod: &Value) -> anyhow::Result<Created> {
    send(namespace, pod, true).await
}

async fn send(namespace: &Namespace, pod: &Value, dry_run: bool) -> anyhow::Result<Created> {
    let parameters = PostParams {
        dry_run,
        ..PostParams::default()
    };
    let path = Pod::url_path(&(), Some(namespace.name()));
    let request = Request::new(path).create(&parameters, serde_json::to_vec(pod)?)?;
    // The client's own methods return no header.
    let client = namespace.cluster().client();
    let answer = client.send(request.map(Body::from)).await?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    let object: Value = serde_json::from_slice(&body)
        .with_context(|| format!("not JSON: {}", String::from_utf8_lossy(&body)))?;
    if head.status != StatusCode::CREATED {
        let message = object["message"].as_str().unwrap_or_default();
        bail!("the pod was refused, {}: {message}", head.status);
    }
    Ok(Created {
        object,
        warnings: warnings(&head.headers)?,
    })
}

/// Reads headers such as `299 - "text"`, with `"` and `\` of the text escaped.
fn warnings(headers: &HeaderMap) -> anyhow::Result<Vec<String>> {
    let read = |text: &str| {
        let quoted = text.strip_prefix("299 - \"")?.strip_suffix('"')?;
        let mut plain = String::new();
        let mut characters = quoted.chars();
        while let Some(character) = characters.next() {
            plain.push(match character {
                '\\' => characters.next()?,
                other => other,
            });
        }
        Some(plain)
    };
    let values = headers.get_all(header::WARNING).iter();
    values
        .map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            read(&text).with_context(|| format!("not a warning of an API server: {text}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_read_as_it_was_meant() {
        let mut headers = HeaderMap::new();
        for value in [r#"299 - "it is \"a\\b\"""#, r#"299 - "more""#] {
            headers.append(header::WARNING, value.parse().unwrap());
        }
        assert_eq!(warnings(&headers).unwrap(), [r#"it is "a\b""#, "more"]);
        headers.append(header::WARNING, "110 - stale".parse().unwrap());
        assert!(warnings(&headers).is_err());
    }
}
