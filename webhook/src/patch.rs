//! The difference between a pod as it came and as it should be, as a JSON patch.
//!
//! Only what changed is named, and containers are inserted as a whole: a field that our types do not know yet stays
//! where it is.

use json_patch::{AddOperation, Patch, PatchOperation, diff, jsonptr::PointerBuf};
use k8s_openapi::api::core::v1::Container;
use serde_json::Value;

/// Containers to be inserted among a pod's init containers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Insertion {
    /// Where the first of them goes.
    pub place: usize,
    /// What goes there, in this order.
    pub containers: Vec<Container>,
}

/// Returns what makes `edited` of `before`, both of them pods, and then inserts init containers. `edited` must have the
/// containers and init containers of `before`, changed at most.
///
/// # Errors
///
/// Fails if a container cannot be written as JSON, which would be a mistake of ours.
pub fn between(before: &Value, edited: &Value, insertion: &Insertion) -> serde_json::Result<Patch> {
    let mut patch = diff(before, edited);
    let mut add = |path: &[&str], value| {
        let path = PointerBuf::from_tokens(path.iter().copied());
        patch
            .0
            .push(PatchOperation::Add(AddOperation { path, value }));
    };
    let present = edited.pointer("/spec/initContainers");
    let missing = present.is_none_or(Value::is_null);
    if missing && !insertion.containers.is_empty() {
        add(&["spec", "initContainers"], Value::Array(Vec::new()));
    }
    for (index, container) in insertion.containers.iter().enumerate() {
        let place = (insertion.place + index).to_string();
        add(
            &["spec", "initContainers", &place],
            serde_json::to_value(container)?,
        );
    }
    Ok(patch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    fn inserted(mut raw: Value, edit: impl Fn(&mut Pod), place: usize) -> Value {
        let before: Pod = serde_json::from_value(raw.clone()).unwrap();
        let mut edited = before.clone();
        edit(&mut edited);
        let name = "new".to_owned();
        let containers = vec![Container {
            name,
            ..Container::default()
        }];
        let [before, edited] = [before, edited].map(|pod| serde_json::to_value(pod).unwrap());
        let patch = between(&before, &edited, &Insertion { place, containers }).unwrap();
        json_patch::patch(&mut raw, &patch).unwrap();
        raw
    }

    #[test]
    fn fields_of_a_newer_kubernetes_stay_where_they_are() {
        let raw = json!({"metadata": {"name": "p", "novel": 1}, "spec": {
            "containers": [{"name": "web", "image": "i", "novel": 2}],
            "initContainers": [{"name": "a", "novel": 3}, {"name": "b", "image": "i", "novel": 4}],
            "novel": 5,
        }});
        let edit = |pod: &mut Pod| {
            let spec = pod.spec.as_mut().unwrap();
            spec.containers[0].image = Some("j".to_owned());
            spec.init_containers.as_mut().unwrap()[1].image = Some("j".to_owned());
        };
        let expected = json!({"metadata": {"name": "p", "novel": 1}, "spec": {
            "containers": [{"name": "web", "image": "j", "novel": 2}],
            "initContainers": [{"name": "a", "novel": 3}, {"name": "new"}, {"name": "b", "image": "j", "novel": 4}],
            "novel": 5,
        }});
        assert_eq!(inserted(raw, edit, 1), expected);
    }

    #[test]
    fn init_containers_come_into_being_where_there_were_none() {
        for none in [
            json!({"containers": []}),
            json!({"containers": [], "initContainers": null}),
            json!({"containers": [], "initContainers": []}),
        ] {
            let raw = json!({"metadata": {}, "spec": none});
            let pod = inserted(raw, |_| {}, 0);
            assert_eq!(pod["spec"]["initContainers"], json!([{"name": "new"}]));
        }
    }
}
