//! The containers and the volume that injection adds, as typed objects.
//!
//! What the sidecar reads is listed in `sidecar/src/env/variables.rs`; a test compares the names written here with it.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, EnvVar, EnvVarSource, ExecAction, Lifecycle, LifecycleHandler,
        ObjectFieldSelector, PodSpec, ProjectedVolumeSource, ResourceRequirements, SeccompProfile,
        SecurityContext, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{
    annotations::{Overrides, Share},
    authorities::Bundle,
    names::{REDIRECT, SIDECAR, TOKEN_VOLUME},
    pod,
    ports::{Counted, Takeover},
    probes,
    settings::Settings,
};

/// Where the token's volume is mounted: where the API server's token would be. After a webhook changed a pod, the API
/// server mounts its token into every container that has nothing there yet, and ours have no business with it.
const TOKEN_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Name of the token's file.
const TOKEN_FILE: &str = "token";

/// Where the image has the program.
const PROGRAM: &str = "/stillwake-sidecar";

/// Name of the socket on which the sidecar's `drain` reaches the sidecar. Such names are known in one network only, and a
/// pod with the network of its node is not injected.
const CONTROL: &str = SIDECAR;

/// Returns the sidecar, a native one: it starts before the app, ends after it, and lets Jobs complete.
///
/// It trusts `bundle`; with `None` it reports in plain text. `stop_delay` is how long the app goes on, where that is known.
///
/// It declares no ports: their names stay where they were declared. It has no probes: it listens before it does anything else and ends if it cannot, and every probe would delay a pod's
/// start by up to a second of the kubelet's grid.
///
/// Its hook makes it drain while the app still works; otherwise it would hear nothing until the app has ended. The kubelet
/// runs all hooks at once and ends the app meanwhile, so the hook takes no time from the app's. With a grace period of
/// zero it runs no hook, and ends the sidecar together with the app.
pub fn container(
    settings: &Settings,
    overrides: &Overrides,
    bundle: Option<&Bundle>,
    spec: &PodSpec,
    counted: &[Counted],
    stop_delay: Option<Duration>,
) -> Container {
    Container {
        name: SIDECAR.to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: settings.image_pull_policy.clone(),
        restart_policy: Some("Always".to_owned()),
        env: Some(environment(
            settings, overrides, bundle, spec, counted, stop_delay,
        )),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                exec: Some(ExecAction {
                    command: Some(vec![PROGRAM.to_owned(), "drain".to_owned()]),
                }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
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
pub fn redirect(
    settings: &Settings,
    overrides: &Overrides,
    counted: &[Counted],
) -> Option<Container> {
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
        resources: Some(requirements(&overrides.resources)),
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
    bundle: Option<&Bundle>,
    spec: &PodSpec,
    counted: &[Counted],
    stop_delay: Option<Duration>,
) -> Vec<EnvVar> {
    let app_ports: Vec<_> = counted.iter().map(|port| port.app).collect();
    let level = overrides.log_level.as_ref();
    let activator = settings.activator.as_ref().filter(|_| pod::outlives(spec));
    let linger = || overrides.linger.clone().unwrap_or(written(settings.linger));
    let list = |values: &[String]| (!values.is_empty()).then(|| values.join(","));
    let said = [
        ("PORTS", Some(pairs(counted))),
        ("AGGREGATORS", list(&settings.aggregators)),
        ("AGGREGATOR_CA", bundle.map(|bundle| bundle.pem.to_string())),
        ("TOKEN_FILE", Some(format!("{TOKEN_FOLDER}/{TOKEN_FILE}"))),
        ("READINESS", probes::readiness(spec, &app_ports)),
        ("ADMIN", settings.admin.map(|address| address.to_string())),
        ("IGNORE_PATHS", list(&overrides.ignore_paths)),
        ("IGNORE_USER_AGENTS", list(&overrides.ignore_user_agents)),
        ("IDLE_WINDOW", overrides.idle_window.clone()),
        ("DRAIN_GRACE", Some(format!("{}s", pod::grace(spec)))),
        ("CONTROL", Some(CONTROL.to_owned())),
        ("ACTIVATOR", activator.cloned()),
        ("LINGER", activator.map(|_| linger())),
        ("STOP_DELAY", activator.and(stop_delay).map(written)),
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

/// Returns a duration as the sidecar reads it.
fn written(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds.is_multiple_of(1000) {
        format!("{}s", milliseconds / 1000)
    } else {
        format!("{milliseconds}ms")
    }
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

fn requirements(share: &Share) -> ResourceRequirements {
    let quantities = |cpu: &Option<String>, memory: &Option<String>| {
        let said = [("cpu", cpu), ("memory", memory)].into_iter();
        let said: BTreeMap<_, _> = said
            .filter_map(|(name, value)| Some((name.to_owned(), Quantity(value.clone()?))))
            .collect();
        (!said.is_empty()).then_some(said)
    };
    ResourceRequirements {
        requests: quantities(&share.cpu_request, &share.memory_request),
        limits: quantities(&share.cpu_limit, &share.memory_limit),
        ..ResourceRequirements::default()
    }
}

#[cfg(test)]
mod tests;
