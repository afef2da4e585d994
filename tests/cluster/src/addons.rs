//! What is installed into every cluster: `CoreDNS`, by a manifest of ours, and KEDA, by its own manifests.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, ensure};

use crate::{files, kubectl::Kubectl, versions::Versions};

/// KEDA makes its certificates, waits until they are mounted, and serves only then.
const PATIENCE: Duration = Duration::from_mins(5);

/// The full name of one of the harness's images. They exist on the nodes only, so their registry is nobody's.
pub(crate) fn image(name: &str) -> String {
    format!("stillwake.test/{name}:test")
}

/// Renders the default manifests in the sources of KEDA, or of another project of its.
pub(crate) fn render(kubectl: &Path, source: &Path, output: &Path) -> anyhow::Result<()> {
    let manifests = source.join("config/default");
    let rendered = Command::new(kubectl)
        .arg("kustomize")
        .arg(&manifests)
        .output()
        .context("running kubectl kustomize")?;
    ensure!(
        rendered.status.success(),
        "kubectl kustomize {}: {}",
        manifests.display(),
        String::from_utf8_lossy(&rendered.stderr).trim()
    );
    files::write(output, rendered.stdout)
}

/// Replaces the registries and tags of images by ours, puts `prefix` before their names, and forbids pulling them.
pub(crate) fn with_our_images(manifests: &str, prefix: &str) -> String {
    manifests
        .lines()
        .map(|line| {
            let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
            let (dash, rest) = rest
                .strip_prefix("- ")
                .map_or(("", rest), |rest| ("- ", rest));
            if let Some(name) = rest.strip_prefix("image: ") {
                let name = name.rsplit('/').next().unwrap_or(name);
                let name = name.split([':', '@']).next().unwrap_or(name);
                format!(
                    "{indent}{dash}image: {}\n",
                    image(&format!("{prefix}{name}"))
                )
            } else if rest.starts_with("imagePullPolicy: ") {
                format!("{indent}{dash}imagePullPolicy: Never\n")
            } else {
                format!("{line}\n")
            }
        })
        .collect()
}

/// Installs both.
pub(crate) fn install(
    kubectl: &Kubectl,
    versions: &Versions,
    keda_manifests: &Path,
) -> anyhow::Result<()> {
    let coredns = versions.beside_modules("manifests").join("coredns.yaml");
    for manifests in [coredns.as_path(), keda_manifests] {
        let text = fs::read_to_string(manifests)
            .with_context(|| format!("reading {}", manifests.display()))?;
        kubectl
            .apply(&with_our_images(&text, ""))
            .with_context(|| format!("applying {}", manifests.display()))?;
    }
    Ok(())
}

/// Waits until names are resolved and KEDA serves the HPA's metrics.
pub(crate) fn wait(kubectl: &Kubectl) -> anyhow::Result<()> {
    let waits: [&[&str]; 3] = [
        &[
            "--for=condition=Available",
            "deployment",
            "--all",
            "--namespace=kube-system",
        ],
        &[
            "--for=condition=Available",
            "deployment",
            "--all",
            "--namespace=keda",
        ],
        &[
            "--for=condition=Available",
            "apiservice/v1beta1.external.metrics.k8s.io",
        ],
    ];
    waits
        .iter()
        .try_for_each(|wait| kubectl.wait(wait, PATIENCE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_become_ours_and_are_not_pulled_and_nothing_else_changes() {
        let manifests = "\
spec:
  containers:
  - image: registry.example/kedacore/keda:main
    imagePullPolicy: Always
    command: [/keda]
  - name: image
    image: registry.example:5000/kedacore/keda-metrics-apiserver@sha256:00
";
        assert_eq!(
            with_our_images(manifests, ""),
            "\
spec:
  containers:
  - image: stillwake.test/keda:test
    imagePullPolicy: Never
    command: [/keda]
  - name: image
    image: stillwake.test/keda-metrics-apiserver:test
"
        );
    }

    #[test]
    fn an_image_that_is_named_by_its_package_gets_our_name_too() {
        let manifests = "      - image: ko://github.com/kedacore/http-add-on/scaler\n";
        assert_eq!(
            with_our_images(manifests, "http-add-on-"),
            "      - image: stillwake.test/http-add-on-scaler:test\n"
        );
    }
}
