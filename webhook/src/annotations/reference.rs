//! Keeps docs/reference/annotations.md equal to what is read and written.

use std::{fmt::Write as _, fs};

use super::{ANNOTATIONS, Share, read};
use crate::{
    names::{AUTHORITIES, COUNTED_PORTS, DISABLED, ENABLED, INJECT, UNCOUNTED_PORTS},
    resources::{DEMANDED_CPU_LIMIT, DEMANDED_MEMORY_LIMIT},
    settings::Resources,
    surroundings::ENFORCE,
};

/// Set to rewrite the page instead of comparing it.
const UPDATE: &str = "STILLWAKE_UPDATE_DOCS";

fn page() -> String {
    let mut page = format!(
        "# Labels and annotations\n\n\
         Generated from the lists in `webhook/src`; `STILLWAKE_UPDATE_DOCS=1 cargo test -p stillwake-webhook reference` \
         rewrites it.\n\n\
         ## Who gets the sidecar\n\n\
         The label `{INJECT}` of a pod (in a Deployment: in `spec.template.metadata.labels`) or of a namespace:\n\n\
         | on the pod | on its namespace | the pod |\n\
         |---|---|---|\n\
         | `{ENABLED}` | anything | gets the sidecar |\n\
         | `{DISABLED}` | anything | is left alone |\n\
         | nothing | `{ENABLED}` | gets the sidecar |\n\
         | nothing | anything else | is left alone |\n\n\
         It counts when a pod is created: a pod that runs keeps what it has. Pods in `kube-system` and in \
         Stillwake's own namespace are left alone whatever they say. So are pods that cannot have the sidecar, and they say why in a warning \
         and an Event: those with their node's network, for Windows, static ones, those without a TCP port, those that \
         use a name of ours for something of their own, and those that limits of their namespace leave no room in.\n\n\
         ## Annotations that you may set\n\n\
         On the pod (in a Deployment: in `spec.template.metadata.annotations`). A value that makes no sense is told in a \
         warning and an Event; its default applies, and the pod starts.\n"
    );
    for annotation in ANNOTATIONS {
        write!(
            page,
            "\n### `{}`\n\n{}\n\n- Takes: {}.\n- Default: {}.\n- Example: `{}`.\n",
            annotation.name,
            annotation.purpose,
            annotation.takes,
            annotation.default,
            annotation.example
        )
        .unwrap();
    }
    write!(
        page,
        "\n## Annotations that Stillwake writes\n\n\
         On a pod, when it is created; what was there before is replaced.\n\n\
         ### `{COUNTED_PORTS}`\n\n\
         The ports that are counted: where the sidecar listens, and the app's port behind it. Every pod with the \
         sidecar has it, and no other pod.\n\n\
         - Example: `15080:8080,15081:9090`.\n\n\
         ### `{UNCOUNTED_PORTS}`\n\n\
         The ports that should be counted and are not, each with the reason, separated by semicolons.\n\n\
         - Example: `8080: Service web targets it by number, and Pod Security restricted forbids redirecting`.\n\n\
         ### `{AUTHORITIES}`\n\n\
         The authorities by which the sidecar verifies the aggregators, as fingerprints joined by dots. An authority is \
         kept while there are pods that know no other.\n\n\
         - Example: `4f1d0c7ab2935e68`.\n\n\
         ## Limits of a namespace\n\n\
         Where LimitRanges or ResourceQuotas say what containers may take, the sidecar keeps to it, so that the API \
         server takes the pod with the sidecar where it takes it without. Its requests and limits move as far as they have \
         to, also those of the annotations above; a warning and an Event tell of an annotation that cannot have its way. \
         Where a limit is demanded and nobody says which, the sidecar gets {DEMANDED_CPU_LIMIT} of CPU and \
         {DEMANDED_MEMORY_LIMIT} of memory, or as much as is allowed, and that is told too: with too little CPU it slows \
         down the app's requests. If there is nothing that it could take, the pod starts without it and says so. What it \
         takes counts against quotas. A pod of quality BestEffort stays one where a quota tells such pods from others; the \
         sidecar then requests nothing. A pod with `spec.resources` for all its containers shares them with the \
         sidecar.\n\n\
         ## What is read besides\n\n\
         - `{ENFORCE}` of the namespace: ports are redirected only where it is `privileged`, or missing and the cluster's \
         default is (a setting of the installation).\n\
         - What Istio and Linkerd write on pods and namespaces to announce themselves: ports are never redirected beside \
         them.\n"
    )
    .unwrap();
    page
}

#[test]
fn the_reference_page_says_what_is_read_and_written() {
    let path = std::env::current_dir()
        .unwrap()
        .join("../docs/reference/annotations.md");
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, page()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/reference/annotations.md is out of date; run the test with {UPDATE}=1 and commit the result"
    );
}

#[test]
fn examples_are_taken_and_change_something() {
    let without = read(&[].into(), &Share::default(), &mut Vec::new());
    for annotation in ANNOTATIONS {
        let mut warnings = Vec::new();
        let example = [(annotation.name.to_owned(), annotation.example.to_owned())];
        let with = read(&example.into(), &Share::default(), &mut warnings);
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_ne!(with, without, "{}", annotation.name);
    }
}

#[test]
fn the_defaults_of_resources_are_what_the_page_says() {
    let resources = Resources::default();
    for (name, value) in [
        ("cpu-request", &resources.cpu_request),
        ("memory-request", &resources.memory_request),
    ] {
        let annotation = ANNOTATIONS.iter().find(|known| known.name.ends_with(name));
        let default = annotation.unwrap().default;
        assert!(default.starts_with(&format!("{value},")), "{default}");
    }
    assert_eq!((resources.cpu_limit, resources.memory_limit), (None, None));
}
