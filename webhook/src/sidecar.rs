//! The containers and the volume that injection adds, as typed objects.
//!
//! What the sidecar reads is listed in `sidecar/src/env/variables.rs`; a test compares the names written here with it.

use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, ObjectFieldSelector, PodSpec,
        ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecurityContext,
        ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{
    annotations::Overrides,
    names::{REDIRECT, SIDECAR, TOKEN_VOLUME},
    ports::{Counted, Takeover},
    probes,
    settings::{Resources, Settings},
};

/// Where the token's volume is mounted: where the API server's token would be. After a webhook changed a pod, the API
/// server mounts its token into every container that has nothing there yet, and ours have no business with it.
const TOKEN_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Name of the token's file.
const TOKEN_FILE: &str = "token";

/// Returns the sidecar, a native one: it starts before the app, ends after it, and lets Jobs complete.
///
/// It has no probes: it listens before it does anything else and ends if it cannot, and every probe would delay a pod's
/// start by up to a second of the kubelet's grid.
pub fn container(
    settings: &Settings,
    overrides: &Overrides,
    spec: &PodSpec,
    counted: &[Counted],
) -> Container {
    let ports = counted.iter().map(|port| ContainerPort {
        container_port: port.listen.into(),
        name: match &port.takeover {
            Takeover::NameSwap(name) => Some(name.clone()),
            Takeover::Redirect => None,
        },
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    });
    Container {
        name: SIDECAR.to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: settings.image_pull_policy.clone(),
        restart_policy: Some("Always".to_owned()),
        ports: Some(ports.collect()),
        env: Some(environment(settings, overrides, spec, counted)),
        resources: Some(requirements(&overrides.resources)),
        security_context: Some(SecurityContext {
            run_as_non_root: Some(true),
            run_as_user: settings.user,
            run_as_group: settings.user,
            capabilities: Some(capabilities(None)),
            ..confined()
        }),
        // Says in the pod's status why the sidecar could not start.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![token_mount()]),
        ..Container::default()
    }
}

/// Returns the init container that makes the kernel redirect, `None` if no port needs it.
///
/// It runs the sidecar's image with the arguments `redirect LISTEN:APP…`, one pair per port, and has to end with success
/// once what arrives for APP reaches LISTEN.
pub fn redirect(settings: &Settings, counted: &[Counted]) -> Option<Container> {
    let redirected = counted
        .iter()
        .filter(|port| port.takeover == Takeover::Redirect);
    let mut arguments: Vec<_> = redirected.map(pair).collect();
    if arguments.is_empty() {
        return None;
    }
    arguments.insert(0, "redirect".to_owned());
    Some(Container {
        name: REDIRECT.to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: settings.image_pull_policy.clone(),
        args: Some(arguments),
        resources: Some(requirements(&settings.resources)),
        security_context: Some(SecurityContext {
            // A capability that is added reaches only root's processes.
            run_as_user: Some(0),
            run_as_group: Some(0),
            run_as_non_root: Some(false),
            capabilities: Some(capabilities(Some("NET_ADMIN"))),
            ..confined()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![token_mount()]),
        ..Container::default()
    })
}

/// Returns the volume with a token that is good for nothing but to say to the aggregators which pod reports. Pods have
/// it even if they take no token of their service account.
pub fn token_volume(settings: &Settings) -> Volume {
    let lifetime = i64::try_from(settings.token_lifetime.as_secs());
    let token = ServiceAccountTokenProjection {
        audience: Some(settings.token_audience.clone()),
        expiration_seconds: Some(lifetime.unwrap_or(i64::MAX)),
        path: TOKEN_FILE.to_owned(),
    };
    Volume {
        name: TOKEN_VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(vec![VolumeProjection {
                service_account_token: Some(token),
                ..VolumeProjection::default()
            }]),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn token_mount() -> VolumeMount {
    VolumeMount {
        name: TOKEN_VOLUME.to_owned(),
        mount_path: TOKEN_FOLDER.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

/// Returns a port as the pair `listen:app`.
pub fn pair(port: &Counted) -> String {
    format!("{}:{}", port.listen, port.app)
}

/// Returns all pairs, separated by commas.
pub fn pairs(counted: &[Counted]) -> String {
    let pairs: Vec<_> = counted.iter().map(pair).collect();
    pairs.join(",")
}

fn environment(
    settings: &Settings,
    overrides: &Overrides,
    spec: &PodSpec,
    counted: &[Counted],
) -> Vec<EnvVar> {
    let app_ports: Vec<_> = counted.iter().map(|port| port.app).collect();
    let level = overrides.log_level.as_ref();
    let grace = spec
        .termination_grace_period_seconds
        .filter(|seconds| *seconds >= 0);
    let list = |values: &[String]| (!values.is_empty()).then(|| values.join(","));
    let said = [
        ("PORTS", Some(pairs(counted))),
        ("AGGREGATORS", list(&settings.aggregators)),
        ("TOKEN_FILE", Some(format!("{TOKEN_FOLDER}/{TOKEN_FILE}"))),
        ("READINESS", probes::readiness(spec, &app_ports)),
        ("ADMIN", settings.admin.map(|address| address.to_string())),
        ("IGNORE_PATHS", list(&overrides.ignore_paths)),
        ("IGNORE_USER_AGENTS", list(&overrides.ignore_user_agents)),
        ("IDLE_WINDOW", overrides.idle_window.clone()),
        ("DRAIN_GRACE", grace.map(|seconds| format!("{seconds}s"))),
        ("LOG", level.map(|level| format!("warn,stillwake={level}"))),
    ];
    let read = [
        ("POD_NAMESPACE", "metadata.namespace"),
        ("POD_NAME", "metadata.name"),
        ("POD_UID", "metadata.uid"),
        ("POD_ADDRESS", "status.podIP"),
    ];
    let said = said.into_iter().filter_map(|(name, value)| {
        Some(EnvVar {
            name: variable(name),
            // The kubelet replaces `$(NAME)` in values, unless the dollar is doubled.
            value: Some(value?.replace('$', "$$")),
            ..EnvVar::default()
        })
    });
    let read = read.into_iter().map(|(name, field)| EnvVar {
        name: variable(name),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                // Written by the API server as a default; without it a pod that is sent again would differ.
                api_version: Some("v1".to_owned()),
                field_path: field.to_owned(),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    });
    said.chain(read).collect()
}

fn variable(name: &str) -> String {
    format!("STILLWAKE_SIDECAR_{name}")
}

/// What Pod Security `restricted` demands of every container besides its user and capabilities.
fn confined() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..SecurityContext::default()
    }
}

fn capabilities(add: Option<&str>) -> Capabilities {
    Capabilities {
        add: add.map(|capability| vec![capability.to_owned()]),
        drop: Some(vec!["ALL".to_owned()]),
    }
}

fn requirements(resources: &Resources) -> ResourceRequirements {
    let quantity = |name: &str, value: &String| (name.to_owned(), Quantity(value.clone()));
    let limits = [
        ("cpu", &resources.cpu_limit),
        ("memory", &resources.memory_limit),
    ];
    let limits: Vec<_> = limits
        .into_iter()
        .filter_map(|(name, value)| Some(quantity(name, value.as_ref()?)))
        .collect();
    ResourceRequirements {
        requests: Some(
            [
                quantity("cpu", &resources.cpu_request),
                quantity("memory", &resources.memory_request),
            ]
            .into(),
        ),
        limits: (!limits.is_empty()).then(|| limits.into_iter().collect()),
        ..ResourceRequirements::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::annotations;

    fn everything_said() -> Container {
        let settings = Settings {
            admin: Some(([0, 0, 0, 0], 15090).into()),
            ..Settings::new(
                "sidecar:1",
                vec!["one:9091".to_owned(), "two:9091".to_owned()],
            )
        };
        let values = [
            ("ignore-paths", "/$(HOME),/b"),
            ("ignore-user-agents", "Checker/"),
            ("idle-window", "5s"),
            ("log-level", "debug"),
        ];
        let values =
            values.map(|(name, value)| (format!("stillwake.dev/{name}"), value.to_owned()));
        let overrides = annotations::read(&values.into(), &settings.resources, &mut Vec::new());
        let spec = serde_json::from_value(serde_json::json!({
            "containers": [{"name": "web", "readinessProbe": {"tcpSocket": {"port": 9090}}}],
            "terminationGracePeriodSeconds": 5,
        }));
        let takeover = Takeover::NameSwap("http".to_owned());
        let counted = [Counted {
            listen: 15080,
            app: 8080,
            takeover,
        }];
        container(&settings, &overrides, &spec.unwrap(), &counted)
    }

    #[test]
    fn only_variables_are_written_that_the_sidecar_reads() {
        let page = include_str!("../../docs/reference/sidecar-environment.md");
        let listed = page.lines().filter_map(|line| line.strip_prefix("## `"));
        let listed: BTreeSet<_> = listed.map(|name| name.trim_end_matches('`')).collect();
        let container = everything_said();
        let written: BTreeSet<_> = container
            .env
            .iter()
            .flatten()
            .map(|variable| variable.name.as_str())
            .collect();
        let left: Vec<_> = listed.difference(&written).copied().collect();
        assert!(written.is_subset(&listed), "{written:?}");
        // The address is all of them, and logs are text.
        assert_eq!(
            left,
            ["STILLWAKE_SIDECAR_ADDRESS", "STILLWAKE_SIDECAR_LOG_FORMAT"]
        );
    }

    #[test]
    fn a_value_reaches_the_sidecar_as_it_was_given() {
        let container = everything_said();
        let value = |name: &str| {
            let name = variable(name);
            let mut variables = container.env.iter().flatten();
            let found = variables.find(|variable| variable.name == name);
            found.unwrap().value.clone().unwrap()
        };
        assert_eq!(value("IGNORE_PATHS"), "/$$(HOME),/b");
        assert_eq!(value("AGGREGATORS"), "one:9091,two:9091");
        assert_eq!(value("LOG"), "warn,stillwake=debug");
        assert_eq!(value("DRAIN_GRACE"), "5s");
    }
}
