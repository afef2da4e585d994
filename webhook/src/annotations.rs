//! What one pod wants otherwise: the annotations `stillwake.dev/*`, read into typed [`Overrides`].
//!
//! A value that makes no sense is a warning, and the default applies: an annotation never keeps a pod from starting, in
//! particular not by a value with which the sidecar or the API server would refuse the pod.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::PodSpec;

use crate::{
    names::{AUTHORITIES, COUNTED_PORTS, INJECT, PREFIX, UNCOUNTED_PORTS},
    pod,
    settings::Resources,
    warning::{Reason, Warning, shown},
};

mod values;

pub(crate) use self::values::{LEAST_CPU_LIMIT, LEAST_MEMORY_LIMIT};

/// One annotation that users may set on a pod.
#[derive(Debug, PartialEq, Eq)]
pub struct Annotation {
    /// Its name.
    pub name: &'static str,
    /// What a value looks like; completes "it takes …".
    pub takes: &'static str,
    /// What applies without it.
    pub default: &'static str,
    /// A value that makes sense.
    pub example: &'static str,
    /// What it is for.
    pub purpose: &'static str,
}

const PORTS: Annotation = Annotation {
    name: "stillwake.dev/ports",
    takes: "names or numbers of TCP ports, separated by commas",
    default: "the ports that Services target, or else all TCP ports that the containers declare",
    example: "http,9090",
    purpose: "The app's ports whose requests are counted.",
};
const REDIRECT: Annotation = Annotation {
    name: "stillwake.dev/redirect",
    takes: "enabled or disabled",
    default: "enabled, unless Stillwake was installed with redirecting switched off",
    example: "disabled",
    purpose: "Whether the kernel may redirect ports to the sidecar that it cannot stand in front of otherwise, such as those \
              that a Service targets by number. An init container sets that up, as root with NET_ADMIN. Where policies \
              (other than Pod Security, which is known) or the container runtime forbid that, `disabled` lets the pod \
              start; such ports are then not counted.",
};
const IGNORE_PATHS: Annotation = Annotation {
    name: "stillwake.dev/ignore-paths",
    takes: "beginnings of request paths, each with its leading /, separated by commas",
    default: "none",
    example: "/healthz,/metrics",
    purpose: "Requests that are relayed but not counted, by path.",
};
const IGNORE_USER_AGENTS: Annotation = Annotation {
    name: "stillwake.dev/ignore-user-agents",
    takes: "beginnings of User-Agent headers, separated by commas",
    default: "none besides the kubelet's probes and Prometheus' scrapes, which are never counted",
    example: "Uptime-Kuma/,Pingdom",
    purpose: "Requests that are relayed but not counted, by client.",
};
const IDLE_WINDOW: Annotation = Annotation {
    name: "stillwake.dev/idle-window",
    takes: "a duration such as 250ms, 5s or 1m, up to 24h",
    default: "60s",
    example: "5m",
    purpose: "How long a connection that is neither HTTP/1.1 nor HTTP/2 counts as one request in flight after bytes \
              moved on it.",
};
const LINGER: Annotation = Annotation {
    name: "stillwake.dev/linger",
    takes: "a duration such as 250ms, 5s or 1m, up to 24h",
    default: "5s, unless Stillwake was installed with another one",
    example: "10s",
    purpose: "How long a sidecar whose pod is deleted goes on to accept connections, and hands those over that the app does \
              not take any more, until nobody is sent here any longer. The pod takes as long to end, if its grace period \
              allows. Without an activator, and for pods that are not restarted always, it has no effect.",
};
const STOP_DELAY: Annotation = Annotation {
    name: "stillwake.dev/stop-delay",
    takes: "a duration in whole seconds such as 2s or 1m, up to 24h; 0s is none",
    default: "2s, unless Stillwake was installed with another one",
    example: "5s",
    purpose: "How long the app of a pod that is deleted goes on before it gets its signal to stop, while the sidecar sends \
              clients elsewhere. It becomes the preStop hook (`sleep`) of the containers that serve counted ports. A container \
              with a preStop hook or a stopSignal of its own keeps it and gets none. Nor does a pod whose grace period is \
              shorter than five times as long, one that is not restarted always, or one on Kubernetes older than 1.31.",
};
const LOG_LEVEL: Annotation = Annotation {
    name: "stillwake.dev/log-level",
    takes: "error, warn, info, debug or trace",
    default: "info",
    example: "debug",
    purpose: "What the sidecar logs of its own doing.",
};
pub(crate) const CPU_REQUEST: Annotation = Annotation {
    name: "stillwake.dev/cpu-request",
    takes: "a quantity of CPU such as 5m or 0.1, no larger than the limit",
    default: "5m, unless Stillwake was installed with another one",
    example: "20m",
    purpose: "CPU that is set aside for the sidecar.",
};
pub(crate) const CPU_LIMIT: Annotation = Annotation {
    name: "stillwake.dev/cpu-limit",
    takes: "a quantity of CPU of 10m or more, such as 100m or 1",
    default: "no limit, unless Stillwake was installed with one",
    example: "500m",
    purpose: "The most CPU for the sidecar. A request that is larger by default comes down to it.",
};
pub(crate) const MEMORY_REQUEST: Annotation = Annotation {
    name: "stillwake.dev/memory-request",
    takes: "a quantity of memory such as 8Mi, no larger than the limit",
    default: "8Mi, unless Stillwake was installed with another one",
    example: "16Mi",
    purpose: "Memory that is set aside for the sidecar.",
};
pub(crate) const MEMORY_LIMIT: Annotation = Annotation {
    name: "stillwake.dev/memory-limit",
    takes: "a quantity of memory of 8Mi or more, such as 32Mi",
    default: "no limit, unless Stillwake was installed with one",
    example: "64Mi",
    purpose: "The most memory for the sidecar. A request that is larger by default comes down to it.",
};

/// Every annotation that users may set, in the order of the reference page.
pub const ANNOTATIONS: [&Annotation; 12] = [
    &PORTS,
    &REDIRECT,
    &IGNORE_PATHS,
    &IGNORE_USER_AGENTS,
    &IDLE_WINDOW,
    &LINGER,
    &STOP_DELAY,
    &LOG_LEVEL,
    &CPU_REQUEST,
    &CPU_LIMIT,
    &MEMORY_REQUEST,
    &MEMORY_LIMIT,
];

/// What a pod wants otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overrides {
    /// The ports that are counted, where the pod says so; never empty.
    pub ports: Option<Vec<PortReference>>,
    /// Whether ports may be redirected, as far as the pod is concerned.
    pub redirect: bool,
    /// Beginnings of paths that are not counted.
    pub ignore_paths: Vec<String>,
    /// Beginnings of user agents that are not counted.
    pub ignore_user_agents: Vec<String>,
    /// How long an opaque connection counts after bytes moved on it, as the sidecar reads durations.
    pub idle_window: Option<String>,
    /// How long connections are accepted while the pod goes away, as the sidecar reads durations.
    pub linger: Option<String>,
    /// How long the app goes on before it is told to stop, in whole seconds.
    pub stop_delay: Option<Duration>,
    /// What the sidecar logs of its own doing.
    pub log_level: Option<String>,
    /// Requests and limits of the sidecar, those that the pod does not mention included.
    pub resources: Share,
}

/// Requests and limits of the sidecar, as Kubernetes writes quantities; `None` is not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// CPU that is set aside.
    pub cpu_request: Option<String>,
    /// Memory that is set aside.
    pub memory_request: Option<String>,
    /// The most CPU.
    pub cpu_limit: Option<String>,
    /// The most memory.
    pub memory_limit: Option<String>,
}

impl Share {
    /// Returns what the sidecar takes of a pod that does not say. Where a pod has resources as a whole, the sidecar
    /// lives on them: its own could exceed what the pod has, and the API server would refuse the pod.
    pub fn of(spec: &PodSpec, settings: &Resources) -> Self {
        let unless_whole = |name, value: Option<&String>| {
            let value = value.filter(|_| !pod::has_whole(spec, name));
            value.cloned()
        };
        Self {
            cpu_request: unless_whole("cpu", Some(&settings.cpu_request)),
            memory_request: unless_whole("memory", Some(&settings.memory_request)),
            cpu_limit: unless_whole("cpu", settings.cpu_limit.as_ref()),
            memory_limit: unless_whole("memory", settings.memory_limit.as_ref()),
        }
    }
}

/// How an annotation names a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortReference {
    /// By a container port's name.
    Name(String),
    /// By its number, declared or not.
    Number(u16),
}

/// Reads the annotations of a pod. `defaults` is what the sidecar takes where they do not say otherwise.
pub fn read(
    annotations: &BTreeMap<String, String>,
    defaults: &Share,
    warnings: &mut Vec<Warning>,
) -> Overrides {
    warn_of_unknown(annotations, warnings);
    let mut reader = Reader {
        annotations,
        warnings,
    };
    Overrides {
        ports: reader.value(&PORTS, values::ports),
        redirect: reader.value(&REDIRECT, values::switch).unwrap_or(true),
        ignore_paths: reader
            .value(&IGNORE_PATHS, values::paths)
            .unwrap_or_default(),
        ignore_user_agents: reader
            .value(&IGNORE_USER_AGENTS, values::user_agents)
            .unwrap_or_default(),
        idle_window: reader.value(&IDLE_WINDOW, values::duration),
        linger: reader.value(&LINGER, values::duration),
        stop_delay: reader.value(&STOP_DELAY, values::whole_seconds),
        log_level: reader.value(&LOG_LEVEL, values::log_level),
        resources: reader.resources(defaults),
    }
}

fn warn_of_unknown(annotations: &BTreeMap<String, String>, warnings: &mut Vec<Warning>) {
    for name in annotations.keys() {
        let ours = [AUTHORITIES, COUNTED_PORTS, UNCOUNTED_PORTS].contains(&name.as_str())
            || ANNOTATIONS.iter().any(|known| known.name == name);
        if ours || !name.starts_with(PREFIX) {
            continue;
        }
        let message = if name == INJECT {
            format!("{INJECT} is an annotation here and has no effect; it is a label")
        } else {
            let known: Vec<_> = ANNOTATIONS
                .iter()
                .map(|known| &known.name[PREFIX.len()..])
                .collect();
            format!(
                "no annotation is called {}; after {PREFIX} there are {}",
                shown(name),
                known.join(", ")
            )
        };
        warnings.push(Warning::new(Reason::BadValue, message));
    }
}

/// Reads values and remembers what was wrong with them.
struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    warnings: &'a mut Vec<Warning>,
}

impl Reader<'_> {
    fn value<T>(
        &mut self,
        annotation: &Annotation,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.annotations.get(annotation.name)?;
        let value = parse(text.trim());
        if value.is_none() {
            self.complain(annotation, text, "");
        }
        value
    }

    fn complain(&mut self, annotation: &Annotation, text: &str, why: &str) {
        let message = format!(
            "annotation {} is {}{why}; it takes {}, and its default applies",
            annotation.name,
            shown(text),
            annotation.takes
        );
        self.warnings.push(Warning::new(Reason::BadValue, message));
    }

    fn resources(&mut self, defaults: &Share) -> Share {
        let (cpu_request, cpu_limit) = self.pair(
            (&CPU_REQUEST, defaults.cpu_request.as_ref()),
            (&CPU_LIMIT, defaults.cpu_limit.as_ref()),
            values::cpu_limit,
        );
        let (memory_request, memory_limit) = self.pair(
            (&MEMORY_REQUEST, defaults.memory_request.as_ref()),
            (&MEMORY_LIMIT, defaults.memory_limit.as_ref()),
            values::memory_limit,
        );
        Share {
            cpu_request,
            memory_request,
            cpu_limit,
            memory_limit,
        }
    }

    /// Reads a request and a limit such that the request never exceeds the limit: the API server would refuse the pod.
    fn pair(
        &mut self,
        (request_annotation, default_request): (&Annotation, Option<&String>),
        (limit_annotation, default_limit): (&Annotation, Option<&String>),
        parse_limit: fn(&str) -> Option<String>,
    ) -> (Option<String>, Option<String>) {
        let limit = self.value(limit_annotation, parse_limit);
        let limit = limit.or_else(|| default_limit.cloned());
        let Some(request) = self.value(request_annotation, values::quantity) else {
            let lesser = match (default_request, &limit) {
                (Some(request), Some(limit)) if values::exceeds(request, limit) => Some(limit),
                (request, _) => request,
            };
            return (lesser.cloned(), limit);
        };
        if limit
            .as_ref()
            .is_some_and(|limit| values::exceeds(&request, limit))
        {
            self.complain(
                request_annotation,
                &request,
                ", which is more than the limit",
            );
            return (default_request.cloned(), default_limit.cloned());
        }
        (Some(request), limit)
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
