//! A pod in a few lines: its phase, and of each container what it does or why it doesn't.

use std::fmt::Write;

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use kube::ResourceExt;

use crate::cluster::watching::is_ready;

/// Describes one pod.
pub(super) fn text(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let mut text = format!(
        "  {}: {}, {}{} on {}\n",
        pod.name_any(),
        status.phase.as_deref().unwrap_or("without a phase"),
        if is_ready(pod) { "ready" } else { "not ready" },
        if pod.metadata.deletion_timestamp.is_some() {
            ", being deleted"
        } else {
            ""
        },
        pod.spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref())
            .unwrap_or("no node"),
    );
    // What keeps a pod from a node, or from starting.
    for condition in status.conditions.iter().flatten() {
        if condition.status != "True"
            && let Some(message) = &condition.message
        {
            let reason = condition.reason.as_deref().unwrap_or_default();
            line(
                &mut text,
                &format!(
                    "{} {}, {reason}: {message}",
                    condition.type_, condition.status
                ),
            );
        }
    }
    let containers = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses);
    for container in containers.flatten() {
        line(&mut text, &describe(container));
    }
    text
}

fn line(text: &mut String, said: &str) {
    writeln!(text, "    {said}").expect("writing to a string cannot fail");
}

fn describe(container: &ContainerStatus) -> String {
    let ready = if container.ready {
        "ready"
    } else {
        "not ready"
    };
    let mut text = format!(
        "container {}: {}, {ready}, {} restarts",
        container.name,
        state(container.state.as_ref()),
        container.restart_count
    );
    let last = container
        .last_state
        .as_ref()
        .filter(|last| last.terminated.is_some());
    if last.is_some() {
        let _ = write!(text, "; before that {}", state(last));
    }
    text
}

fn state(state: Option<&ContainerState>) -> String {
    match state {
        Some(ContainerState {
            running: Some(_), ..
        }) => "running".to_owned(),
        Some(ContainerState {
            waiting: Some(waiting),
            ..
        }) => because(
            "waiting",
            waiting.reason.as_deref(),
            waiting.message.as_deref(),
        ),
        Some(ContainerState {
            terminated: Some(ended),
            ..
        }) => {
            let what = format!("ended with code {}", ended.exit_code);
            because(&what, ended.reason.as_deref(), ended.message.as_deref())
        }
        _ => "in no known state".to_owned(),
    }
}

fn because(what: &str, reason: Option<&str>, message: Option<&str>) -> String {
    let reason = reason.unwrap_or("no reason given");
    match message {
        Some(message) => format!("{what}, {reason}: {}", message.trim()),
        None => format!("{what}, {reason}"),
    }
}
