//! The chart, read by the helm that the test cluster uses: what is rendered of it, what is refused, and what it says.
//!
//! Asks no cluster. What an API server makes of the objects is for the suites that have one, with [`cases()`].

mod cases;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

pub use self::cases::{Case, cases};

/// The oldest Kubernetes that is supported.
pub const OLDEST_KUBERNETES: &str = "1.29.0";

/// Kinds that helm asks a cluster for, each with the first minor version of Kubernetes 1 that has it.
const KINDS: [(&str, u32); 1] = [(
    "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy",
    30,
)];

/// A release of the chart, as helm would install it.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// The namespace it is in.
    pub namespace: String,
    /// The version of Kubernetes, without a `v`.
    pub kubernetes: String,
    /// What differs from `values.yaml`.
    pub values: Value,
}

impl Release {
    /// Returns a release as the README installs it, on the oldest Kubernetes, with these values.
    pub fn with(values: Value) -> Self {
        Self {
            name: "stillwake".to_owned(),
            namespace: "stillwake-system".to_owned(),
            kubernetes: OLDEST_KUBERNETES.to_owned(),
            values,
        }
    }

    /// Returns what helm has to be told of a cluster that it cannot ask.
    fn kinds(&self) -> impl Iterator<Item = String> {
        let minor = self.kubernetes.split('.').nth(1);
        let minor = minor.and_then(|minor| minor.parse::<u32>().ok());
        let known = KINDS
            .into_iter()
            .filter(move |(_, first)| minor.is_some_and(|minor| minor >= *first));
        known.map(|(kind, _)| format!("--api-versions={kind}"))
    }
}

/// The chart and a helm to read it with.
#[derive(Clone, Debug)]
pub struct Chart {
    helm: PathBuf,
    folder: PathBuf,
}

impl Chart {
    /// Returns the chart of this checkout. Builds helm when it is missing, which takes Go and about a minute.
    ///
    /// # Errors
    ///
    /// When helm is missing and cannot be built.
    pub fn find() -> anyhow::Result<Self> {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        Ok(Self {
            helm: stillwake_test_cluster::helm(&checkout)?,
            folder: folder(),
        })
    }

    /// Returns the objects of a release as YAML, the way helm hands them to a cluster.
    ///
    /// # Errors
    ///
    /// When helm refuses the values or cannot read the chart, with what it says.
    pub fn manifest(&self, release: &Release) -> anyhow::Result<String> {
        self.template(release, &self.folder, &[])
    }

    /// Returns the objects of a release.
    ///
    /// # Errors
    ///
    /// As [`manifest`](Self::manifest), and when that is no YAML.
    pub fn objects(&self, release: &Release) -> anyhow::Result<Vec<Value>> {
        let manifest = self.manifest(release)?;
        let objects: Vec<Value> = serde_saphyr::from_multiple(&manifest)
            .with_context(|| format!("this is no YAML:\n{manifest}"))?;
        ensure!(
            objects.iter().all(Value::is_object),
            "there is a document without an object in:\n{manifest}"
        );
        Ok(objects)
    }

    /// Returns what helm says after an installation.
    ///
    /// # Errors
    ///
    /// As [`manifest`](Self::manifest).
    pub fn notes(&self, release: &Release) -> anyhow::Result<String> {
        // Helm shows notes only after it has talked to a cluster, so a copy of the chart has them in an object.
        let copy = tempfile::tempdir()?;
        copy_folder(&self.folder, copy.path())?;
        let templates = copy.path().join("templates");
        std::fs::rename(templates.join("NOTES.txt"), copy.path().join("NOTES.txt"))?;
        let object = "notes: {{ tpl (.Files.Get \"NOTES.txt\") . | toJson }}";
        std::fs::write(templates.join("notes.yaml"), object)?;
        let only = ["--show-only", "templates/notes.yaml"];
        let object = self.template(release, copy.path(), &only)?;
        let object: Value = serde_saphyr::from_str(&object)?;
        let notes = object["notes"].as_str().context("there are no notes")?;
        Ok(notes.to_owned())
    }

    /// Runs helm's own checks, warnings being failures.
    ///
    /// # Errors
    ///
    /// When one of them fails, with what helm says.
    pub fn lint(&self, release: &Release) -> anyhow::Result<()> {
        let arguments = ["lint", "--strict", "--kube-version", &release.kubernetes];
        let arguments = arguments.map(str::to_owned);
        self.run(&arguments, &self.folder, &release.values)?;
        Ok(())
    }

    fn template(&self, release: &Release, folder: &Path, more: &[&str]) -> anyhow::Result<String> {
        let arguments = [
            "template",
            &release.name,
            "--namespace",
            &release.namespace,
            "--kube-version",
            &release.kubernetes,
        ];
        let arguments: Vec<_> = arguments
            .iter()
            .chain(more)
            .copied()
            .map(str::to_owned)
            .chain(release.kinds())
            .collect();
        self.run(&arguments, folder, &release.values)
    }

    fn run(&self, arguments: &[String], folder: &Path, values: &Value) -> anyhow::Result<String> {
        let mut helm = Command::new(&self.helm)
            .args(arguments)
            .args(["--values", "-"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("running {}", self.helm.display()))?;
        let mut input = helm.stdin.take().context("helm has no standard input")?;
        input.write_all(values.to_string().as_bytes())?;
        drop(input);
        let output = helm.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            // A lint's findings are its result, and go where results go.
            bail!("{}{said}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(said)
    }
}

/// Returns the folder of the chart.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/stillwake")
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let destination = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &destination)?;
        } else {
            std::fs::copy(entry.path(), destination)?;
        }
    }
    Ok(())
}
