//! The webhook's golden cases under a real API server: what it makes of a pod is what the case says, and a pod that is
//! allowed is still allowed afterwards.
//!
//! Nothing runs: all creations are dry runs. Cases with the same surroundings share a namespace.

mod cases;
mod rewrite;

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use stillwake_e2e::{
    cluster::{
        self, Failure, Namespace, creation,
        pods::INJECT,
        stillwake::{self, Stillwake},
    },
    wait,
};

use self::{
    cases::{Case, Surroundings},
    rewrite::{Installed, dressed, redirects},
};
use crate::compare::{differences, normal, plain};

/// How many namespaces are looked at at once.
const AT_ONCE: usize = 4;

/// As many cases at least, so that a folder that was not found is not a pass.
const LEAST: usize = 60;

/// The first minor version of Kubernetes 1 on which the webhook lets hooks sleep.
const SLEEPS: u32 = 31;

/// The level that as many cases at least are shown to fit.
const RESTRICTED: (&str, &str) = ("pod-security.kubernetes.io/enforce", "restricted");

#[test]
fn every_golden_case_is_what_the_api_server_makes_of_it_and_takes() -> Result<(), Failure> {
    cluster::run("golden", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let kubernetes = namespace.cluster().running()?.kubernetes();
        let installed = Installed {
            image: format!(
                "docker.io/stillwake/stillwake-sidecar:{}",
                env!("CARGO_PKG_VERSION")
            ),
            aggregators: format!(
                "{}-reports.{}.svc.cluster.local.:9091",
                stillwake::RELEASE,
                stillwake::NAMESPACE
            ),
            activator: format!(
                "{}-activator.{}.svc.cluster.local.:9092",
                stillwake::RELEASE,
                stillwake::NAMESPACE
            ),
            authorities: stillwake.authorities().await?,
            sleeps: cases::minor(kubernetes)? >= SLEEPS,
        };
        let cases = cases::all(kubernetes)?;
        ensure!(
            cases.len() >= LEAST,
            "only {} cases were found",
            cases.len()
        );
        let restricted = namespace.another("restricted", &[RESTRICTED], &[]).await?;
        let mut groups: BTreeMap<String, (Surroundings, Vec<Case>)> = BTreeMap::new();
        for (surroundings, case) in cases {
            let group = groups.entry(serde_json::to_string(&surroundings)?);
            let (_, group) = group.or_insert_with(|| (surroundings, Vec::new()));
            group.push(case);
        }
        let checks = groups.into_values().map(|(surroundings, cases)| {
            check(namespace, surroundings, cases, &installed, &restricted)
        });
        let checks = stream::iter(checks).buffer_unordered(AT_ONCE);
        let looks: Vec<(String, anyhow::Result<Fit>)> = checks.try_concat().await?;
        let fit = looks
            .iter()
            .filter(|(_, look)| matches!(look, Ok(Fit::Restricted)))
            .count();
        let wrong = looks.iter().filter_map(|(name, look)| {
            let error = look.as_ref().err()?;
            Some(format!("{name}: {error:#}\n"))
        });
        let wrong: Vec<_> = wrong.collect();
        ensure!(
            wrong.is_empty(),
            "{} of {} cases are not as they should be:\n{}",
            wrong.len(),
            looks.len(),
            wrong.concat()
        );
        eprintln!(
            "{} golden cases, {fit} of them in a restricted namespace too",
            looks.len()
        );
        ensure!(
            fit >= LEAST,
            "only {fit} cases were tried in a restricted namespace"
        );
        Ok(())
    })
}

/// Where a case's pod is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// Where Pod Security is strictest.
    Restricted,
    /// Where the case has it, and in a restricted namespace neither before nor afterwards.
    ItsOwn,
}

/// Looks at cases with the same surroundings, in namespaces of their own.
async fn check(
    namespace: &Namespace,
    surroundings: Surroundings,
    cases: Vec<Case>,
    installed: &Installed,
    restricted: &Namespace,
) -> anyhow::Result<Vec<(String, anyhow::Result<Fit>)>> {
    let (labels, annotations) = (
        pairs(&surroundings.labels),
        pairs(&surroundings.annotations),
    );
    let others = labels.iter().copied().filter(|(name, _)| *name != INJECT);
    let others: Vec<_> = others.collect();
    let asking = namespace.another("golden", &labels, &annotations).await?;
    let silent = namespace
        .another("golden-silent", &others, &annotations)
        .await?;
    for object in surroundings.objects {
        asking.apply_object(object).await?;
    }
    for limits in surroundings.limits {
        silent.apply_object(limits.clone()).await?;
        asking.apply_object(limits).await?;
    }
    let mut looks = Vec::new();
    for case in cases {
        let expected = installed.rewrite(&case.expected);
        let look = async {
            look(&case, &expected, &asking, &silent).await?;
            fits_restricted(&case, &expected, restricted).await
        };
        let look = look.await;
        looks.push((case.name, look));
    }
    // What they were for is in the looks.
    asking.discard().await?;
    silent.discard().await?;
    Ok(looks)
}

/// The webhook makes of a pod what the API server makes of the expected one by itself, where it asks no webhook.
async fn look(
    case: &Case,
    expected: &Value,
    asking: &Namespace,
    silent: &Namespace,
) -> anyhow::Result<()> {
    let by_itself = async || {
        let created = creation::try_out(silent, &plain(expected)).await;
        anyhow::Ok(normal(&created.context("as it should leave")?.object))
    };
    if !case.by_default {
        return by_itself().await.map(drop);
    }
    // Both get to know a namespace and what is in it a moment later.
    let alike = async || {
        let wanted = by_itself().await?;
        let created = creation::try_out(asking, &case.pod).await?;
        let mut wrong = differences(&wanted, &normal(&created.object));
        if created.of_stillwake() != case.warnings {
            wrong.push(format!("warnings {:?}", created.warnings));
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n  "));
        anyhow::Ok(wanted)
    };
    let wanted = wait::until("the pod as it should leave", wait::PATIENCE, alike).await?;
    let again = creation::try_out(asking, expected).await?;
    let wrong = differences(&wanted, &normal(&again.object));
    ensure!(
        wrong.is_empty(),
        "twice is not once: {}",
        wrong.join("\n  ")
    );
    Ok(())
}

/// A pod that is taken where Pod Security is strictest is taken with the sidecar as well, unless it redirects.
async fn fits_restricted(
    case: &Case,
    expected: &Value,
    restricted: &Namespace,
) -> anyhow::Result<Fit> {
    let dressed = |pod: &Value| plain(&dressed(pod));
    let before = creation::try_out(restricted, &dressed(&case.pod)).await;
    let afterwards = creation::try_out(restricted, &dressed(expected)).await;
    if redirects(expected) {
        ensure!(afterwards.is_err(), "redirects in a restricted namespace");
        return Ok(Fit::ItsOwn);
    }
    if before.is_err() {
        return Ok(Fit::ItsOwn);
    }
    afterwards.context("in a restricted namespace")?;
    Ok(Fit::Restricted)
}

fn pairs(map: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    map.iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}
