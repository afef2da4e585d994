//! Every object of the kinds that matter, whole, one file per kind.

use std::path::Path;

use kube::{
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};

use super::{Gaps, make, save};
use crate::cluster::Namespace;

/// Group, version and kind of what is written.
const KINDS: [(&str, &str, &str); 10] = [
    ("", "v1", "Pod"),
    ("", "v1", "Event"),
    ("", "v1", "Service"),
    ("discovery.k8s.io", "v1", "EndpointSlice"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "StatefulSet"),
    ("batch", "v1", "Job"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("keda.sh", "v1alpha1", "ScaledObject"),
];

pub(super) async fn write(namespace: &Namespace, folder: &Path, gaps: &mut Gaps) {
    for (group, version, kind) in KINDS {
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let resource = ApiResource::from_gvk(&gvk);
        let listed = namespace
            .dynamic(&resource)
            .list(&ListParams::default())
            .await;
        let Some(objects) = gaps.note_answer(kind, listed) else {
            continue;
        };
        let written = save_all(&objects.items, &folder.join("objects"), &resource.plural);
        gaps.note(kind, written);
    }
}

fn save_all(objects: &[DynamicObject], folder: &Path, name: &str) -> anyhow::Result<()> {
    make(folder)?;
    let text = serde_json::to_string_pretty(objects)?;
    save(&folder.join(format!("{name}.json")), &format!("{text}\n"))
}
