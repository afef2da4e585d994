//! What the installed product says of itself: its pods, what the API server is to ask it, its replicas' admin pages.

use std::path::Path;

use k8s_openapi::api::{admissionregistration::v1::MutatingWebhookConfiguration, core::v1::Pod};
use kube::{Api, ResourceExt, api::ListParams};
use serde::Serialize;

use super::{Gaps, make, save};
use crate::cluster::{Cluster, pods, stillwake};

/// The admin pages, and what they are called here.
const PAGES: [(&str, &str); 2] = [("/debug/state", "state.json"), ("/metrics", "metrics.txt")];

pub(super) async fn write(cluster: &Cluster, folder: &Path, gaps: &mut Gaps) {
    let folder = folder.join("stillwake");
    if gaps.note("stillwake/", make(&folder)).is_none() {
        return;
    }
    let configurations = Api::<MutatingWebhookConfiguration>::all(cluster.client());
    let all = ListParams::default();
    let configurations = configurations.list(&all).await;
    if let Some(found) = gaps.note_answer("webhook configurations", configurations) {
        let written = save_object(&folder.join("webhooks.json"), &found.items);
        gaps.note("webhook configurations", written);
    }
    let pods = Api::<Pod>::namespaced(cluster.client(), stillwake::NAMESPACE);
    let pods = gaps.note_answer("Stillwake's pods", pods.list(&all).await);
    for pod in pods.into_iter().flatten() {
        let name = pod.name_any();
        let written = save_object(&folder.join(format!("{name}.json")), &pod);
        gaps.note(&name, written);
        let Some(address) = pods::address(&pod) else {
            continue;
        };
        for (path, file) in PAGES {
            let what = format!("{path} of {name}");
            let page = gaps.note(&what, stillwake::page(address, path).await);
            let saved = page.map(|page| save(&folder.join(format!("{name}.{file}")), &page));
            gaps.note(&what, saved.transpose());
        }
    }
}

fn save_object(path: &Path, object: &impl Serialize) -> anyhow::Result<()> {
    save(
        path,
        &format!("{}\n", serde_json::to_string_pretty(object)?),
    )
}
