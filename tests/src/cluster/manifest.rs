//! Manifests as the suites write them: YAML documents with `${name}` where a value comes in.
//!
//! Not a template language: a value goes into the text as it is, and a name without a value is a mistake.

use anyhow::{Context, bail};
use kube::api::DynamicObject;

/// Puts the values in and reads the documents.
pub(super) fn read(manifest: &str, values: &[(&str, &str)]) -> anyhow::Result<Vec<DynamicObject>> {
    let mut text = manifest.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("${{{name}}}"), value);
    }
    if let Some((_, rest)) = text.split_once("${") {
        let name = rest.split('}').next().unwrap_or(rest);
        let known: Vec<_> = values.iter().map(|(name, _)| *name).collect();
        bail!(
            "the manifest asks for ${{{name}}}, which has no value; there are {}",
            known.join(", ")
        );
    }
    let objects: Vec<DynamicObject> = serde_saphyr::from_multiple(&text)
        .with_context(|| format!("this is no manifest:\n{text}"))?;
    if let Some(object) = objects
        .iter()
        .find(|object| object.types.is_none() || object.metadata.name.is_none())
    {
        bail!(
            "an object needs apiVersion, kind and metadata.name, and this has not all of them: {object:?}"
        );
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: first}
data: {place: \"${place}\"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: second}
";

    #[test]
    fn documents_are_read_in_order_and_values_put_in() {
        let objects = read(TWO, &[("place", "here")]).unwrap();
        let names: Vec<_> = objects
            .iter()
            .map(|object| object.metadata.name.as_deref())
            .collect();
        assert_eq!(names, [Some("first"), Some("second")]);
        assert_eq!(objects[0].data["data"]["place"], "here");
        assert_eq!(objects[1].types.as_ref().unwrap().kind, "ConfigMap");
    }

    #[test]
    fn a_value_that_is_missing_and_an_object_without_a_name_are_refused() {
        let refusal = read(TWO, &[("plaice", "here")]).unwrap_err().to_string();
        assert!(
            refusal.contains("${place}") && refusal.contains("plaice"),
            "{refusal}"
        );
        let nameless = "apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n";
        assert!(
            read(nameless, &[])
                .unwrap_err()
                .to_string()
                .contains("metadata.name")
        );
    }
}
