//! KEDA's HTTP Add-on, which figures are held against: built, installed and removed on demand. No cluster has it by itself.

use std::{fs, path::Path, time::Duration};

use anyhow::Context;

use crate::{
    addons,
    kubectl::Kubectl,
    layout::Layout,
    modules::{self, BuiltModule, Module},
    parts,
    running::Running,
    versions,
};

/// The Go module; ours that pins it is called as its last part.
const SOURCE: &str = "github.com/kedacore/http-add-on";
const NAME: &str = "http-add-on";

/// Each becomes an image.
const PROGRAMS: [(&str, &str); 3] = [
    ("interceptor", "github.com/kedacore/http-add-on/interceptor"),
    ("scaler", "github.com/kedacore/http-add-on/scaler"),
    ("operator", "github.com/kedacore/http-add-on/operator"),
];

/// What the label that is to say the version says in its sources.
const NO_VERSION: &str = "app.kubernetes.io/version: HEAD";

/// The definition of the objects that say what it scales.
const DEFINITION: &str = "httpscaledobjects.http.keda.sh";

/// It is up within seconds; its probes come each ten.
const PATIENCE: Duration = Duration::from_mins(3);

/// Builds what is missing, and returns once it serves. The labels of its objects say its version.
pub(crate) fn install(layout: &Layout, checkout: &Path) -> anyhow::Result<()> {
    let running = Running::expect()?;
    let modules = checkout.join(versions::MODULES);
    let built = build(layout, &modules)?;
    let images = modules.with_file_name(versions::IMAGES);
    for (program, _) in PROGRAMS {
        let archive = parts::archive(&images, &built, &format!("{NAME}-{program}"))?;
        running.load_image(&archive)?;
    }
    let kubectl = running.kubectl();
    eprintln!("Installing the HTTP Add-on {}", built.version);
    kubectl.apply(&manifests(&kubectl, &modules, &built)?)?;
    kubectl.wait(
        &[
            "--for=condition=Available",
            "deployment",
            "--selector=app.kubernetes.io/name=http-add-on",
            "--namespace=keda",
        ],
        PATIENCE,
    )
}

/// Removes it, and what it scales by first: it is the one who lets go of that.
pub(crate) fn remove(layout: &Layout, checkout: &Path) -> anyhow::Result<()> {
    let kubectl = Running::expect()?.kubectl();
    let definition = [
        "get",
        "crd",
        DEFINITION,
        "--ignore-not-found",
        "--output=name",
    ];
    if kubectl.run(&definition)?.is_empty() {
        return Ok(());
    }
    let modules = checkout.join(versions::MODULES);
    let built = build(layout, &modules)?;
    eprintln!("Removing the HTTP Add-on {}", built.version);
    kubectl.run(&["delete", DEFINITION, "--all", "--all-namespaces"])?;
    kubectl.delete(&manifests(&kubectl, &modules, &built)?)
}

fn build(layout: &Layout, modules: &Path) -> anyhow::Result<BuiltModule> {
    let module = Module {
        name: NAME.to_owned(),
        source: SOURCE,
        programs: &PROGRAMS,
        stamps: &[],
        links: &[],
    };
    modules::build(layout, modules, &module)
}

/// Its default manifests, with our images.
fn manifests(kubectl: &Kubectl, modules: &Path, built: &BuiltModule) -> anyhow::Result<String> {
    let rendered = built.program("manifests.yaml");
    if !rendered.exists() {
        let source = modules::source_folder(&modules.join(NAME), SOURCE)?;
        addons::render(&kubectl.program, &source, &rendered)?;
    }
    let text = fs::read_to_string(&rendered);
    let text = text.with_context(|| format!("reading {}", rendered.display()))?;
    let version = NO_VERSION.replace("HEAD", &built.version);
    let text = text.replace(NO_VERSION, &version);
    Ok(addons::with_our_images(&text, &format!("{NAME}-")))
}
