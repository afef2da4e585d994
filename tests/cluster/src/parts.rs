//! The parts of a cluster: which modules they are built from, and what they become.

use std::path::{Path, PathBuf};

use stillwake_images::Image;

use crate::{
    addons,
    layout::Layout,
    modules::{self, BuiltModule, Module, Stamp},
    versions::{self, Versions},
};

const KEDA: &str = "github.com/kedacore/keda/v2";

/// The programs and images of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub(crate) kubernetes: BuiltModule,
    pub(crate) etcd: BuiltModule,
    pub(crate) containerd: BuiltModule,
    pub(crate) network: BuiltModule,
    pub(crate) helm: BuiltModule,
    pub(crate) keda: BuiltModule,
    /// OCI archives that every cluster needs.
    pub(crate) images: Vec<PathBuf>,
    /// KEDA's manifests, as KEDA has them.
    pub(crate) keda_manifests: PathBuf,
}

/// Builds all that is missing; tells what it does.
pub(crate) fn build(layout: &Layout, versions: &Versions) -> anyhow::Result<Built> {
    let build = |module: Module| modules::build(layout, versions.modules(), &module);
    let kubernetes = build(kubernetes(versions))?;
    let etcd = build(module(
        "etcd",
        "go.etcd.io/etcd/server/v3",
        &[("etcd", "go.etcd.io/etcd/server/v3")],
    ))?;
    let containerd = build(containerd())?;
    let network = build(network())?;
    let helm = build(helm())?;
    let pause = build(module(
        "pause",
        "stillwake.dev/tests/cluster/pause",
        &[("pause", ".")],
    ))?;
    let coredns = build(module(
        "coredns",
        "github.com/coredns/coredns",
        &[("coredns", ".")],
    ))?;
    let keda_module = keda(versions);
    let source = versions.module(&keda_module.name);
    let keda = build(keda_module)?;
    let images = [
        (&pause, "pause"),
        (&coredns, "coredns"),
        (&keda, "keda"),
        (&keda, "keda-metrics-apiserver"),
        (&keda, "keda-admission-webhooks"),
    ]
    .into_iter()
    .map(|(module, name)| archive(&versions.beside_modules(versions::IMAGES), module, name))
    .collect::<anyhow::Result<_>>()?;
    let keda_manifests = keda.program("manifests.yaml");
    if !keda_manifests.exists() {
        let source = modules::source_folder(&source, KEDA)?;
        addons::render(&kubernetes.program("kubectl"), &source, &keda_manifests)?;
    }
    Ok(Built {
        kubernetes,
        etcd,
        containerd,
        network,
        helm,
        keda,
        images,
        keda_manifests,
    })
}

fn kubernetes(versions: &Versions) -> Module {
    Module {
        stamps: &[
            ("k8s.io/component-base/version.gitVersion", Stamp::Full),
            ("k8s.io/component-base/version.gitMajor", Stamp::Major),
            ("k8s.io/component-base/version.gitMinor", Stamp::Minor),
        ],
        links: &["kubectl"],
        ..module(
            &format!("kubernetes-{}", versions.kubernetes),
            "k8s.io/kubernetes",
            &[("kube", ".")],
        )
    }
}

fn containerd() -> Module {
    Module {
        stamps: &[(
            "github.com/containerd/containerd/v2/version.Version",
            Stamp::Full,
        )],
        ..module(
            "containerd",
            "github.com/containerd/containerd/v2",
            &[
                (
                    "containerd",
                    "github.com/containerd/containerd/v2/cmd/containerd",
                ),
                (
                    "containerd-shim-runc-v2",
                    "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
                ),
                ("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
            ],
        )
    }
}

fn network() -> Module {
    module(
        "network",
        "github.com/containernetworking/plugins",
        &[
            (
                "ptp",
                "github.com/containernetworking/plugins/plugins/main/ptp",
            ),
            (
                "loopback",
                "github.com/containernetworking/plugins/plugins/main/loopback",
            ),
            (
                "host-local",
                "github.com/containernetworking/plugins/plugins/ipam/host-local",
            ),
            (
                "tuning",
                "github.com/containernetworking/plugins/plugins/meta/tuning",
            ),
            (
                "portmap",
                "github.com/containernetworking/plugins/plugins/meta/portmap",
            ),
        ],
    )
}

/// Builds helm alone, from the modules of a checkout, if it is missing.
pub(crate) fn build_helm(layout: &Layout, checkout: &Path) -> anyhow::Result<PathBuf> {
    let built = modules::build(layout, &checkout.join(versions::MODULES), &helm())?;
    Ok(built.program("helm"))
}

fn helm() -> Module {
    Module {
        stamps: &[("helm.sh/helm/v3/internal/version.version", Stamp::Full)],
        ..module(
            "helm",
            "helm.sh/helm/v3",
            &[("helm", "helm.sh/helm/v3/cmd/helm")],
        )
    }
}

fn keda(versions: &Versions) -> Module {
    Module {
        stamps: &[("github.com/kedacore/keda/v2/version.Version", Stamp::Full)],
        ..module(
            &format!("keda-{}", versions.keda),
            KEDA,
            &[
                ("operator", "github.com/kedacore/keda/v2/cmd/operator"),
                ("adapter", "github.com/kedacore/keda/v2/cmd/adapter"),
                ("webhooks", "github.com/kedacore/keda/v2/cmd/webhooks"),
            ],
        )
    }
}

fn module(
    name: &str,
    source: &'static str,
    programs: &'static [(&'static str, &'static str)],
) -> Module {
    Module {
        name: name.to_owned(),
        source,
        programs,
        stamps: &[],
        links: &[],
    }
}

/// Makes the archive of an image, unless there is one of the same programs and the same description, which is in `images`.
pub(crate) fn archive(images: &Path, module: &BuiltModule, name: &str) -> anyhow::Result<PathBuf> {
    let description = images.join(name);
    let hash = modules::content_hash(&description)?;
    let output = module.program(&format!("{name}-{hash}.tar"));
    if !output.exists() {
        stillwake_images::build(
            &Image {
                containerfile: &description.join("Containerfile"),
                context: module.folder(),
                name: &addons::image(name),
            },
            &output,
        )?;
    }
    Ok(output)
}
