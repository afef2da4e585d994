//! Who may report, proven by tokens.

use std::{cell::RefCell, io};

use serde_json::json;
use stillwake_aggregator::{Aggregator, MembershipEvent, Settings};
use stillwake_proto::report::{Hello, Role};
use stillwake_runtime::tls::Acceptor;
use tracing::{callsite, subscriber};
use tracing_subscriber::filter::LevelFilter;

use crate::{
    harness::{Reporter, Rig, eventually, hello, pod, within},
    tokens::{ApiServer, claims},
};

/// A synced aggregator that believes tokens only, with pods `a` and `b`.
async fn rig(server: &ApiServer) -> Rig {
    let aggregator = Aggregator::with_identity(Settings::default(), server.verifier());
    let rig = Rig::serve(aggregator, Acceptor::plaintext(), Acceptor::plaintext()).await;
    for uid in ["a", "b"] {
        rig.aggregator.apply(pod(uid));
    }
    rig.aggregator.apply(MembershipEvent::Synced);
    rig
}

fn refused(rig: &Rig, reason: &str) -> u64 {
    rig.metric(&format!("connections_refused_total{{reason=\"{reason}\"}}"))
}

#[tokio::test]
async fn a_refused_reporter_moves_no_number_and_is_counted_by_its_reason() {
    let server = ApiServer::new("one");
    let rig = rig(&server).await;
    let mut good = Reporter::greet(&rig, server.hello("a")).await;
    good.report(3, 3).await;
    eventually(async || rig.in_flight(), |count| *count == 3).await;
    let before = rig.aggregator.debug_state();

    let changed = |path: &str, value| {
        let mut claims = claims("shop", "default", "b");
        *claims.pointer_mut(path).unwrap() = value;
        let token = server.sign(&claims);
        Hello {
            token,
            ..hello(Role::Sidecar, "b")
        }
    };
    let other_key = ApiServer::new("two").hello("b");
    let forged = ApiServer::new("one").hello("b");
    let of_a = Hello {
        uid: "b".to_owned(),
        ..server.hello("a")
    };
    let activator = Hello {
        role: Role::Activator.into(),
        ..server.hello("b")
    };
    for (hello, reason) in [
        (hello(Role::Sidecar, "b"), "token_missing"),
        (changed("/aud", json!(["other"])), "token_audience"),
        (changed("/exp", json!(1_000)), "token_expired"),
        (changed("/nbf", json!(u32::MAX)), "token_not_yet_valid"),
        (
            changed("/kubernetes.io/pod", json!(null)),
            "token_not_of_pod",
        ),
        (other_key, "token_key_unknown"),
        (forged, "token_signature"),
        (of_a, "token_other_pod"),
        (activator, "token_not_activator"),
    ] {
        assert_eq!(refused(&rig, reason), 0);
        assert!(!Reporter::is_taken(&rig, hello).await);
        eventually(async || refused(&rig, reason), |count| *count == 1).await;
    }
    let after = rig.aggregator.debug_state();
    assert_eq!(before["reporters"], after["reporters"]);
    assert_eq!(before["connected"], after["connected"]);
    assert_eq!(rig.in_flight(), 3);
    good.report(4, 4).await;
    eventually(async || rig.in_flight(), |count| *count == 4).await;
}

#[tokio::test]
async fn a_reporter_whose_key_was_not_known_is_believed_when_it_comes_again() {
    let server = ApiServer::new("new");
    let tokens = ApiServer::new("old").verifier();
    let wanted = tokens.wants_keys();
    let aggregator = Aggregator::with_identity(Settings::default(), tokens.clone());
    let rig = Rig::serve(aggregator, Acceptor::plaintext(), Acceptor::plaintext()).await;
    assert!(!Reporter::is_taken(&rig, server.hello("a")).await);
    within(wanted.notified()).await;
    tokens.set_keys(&server.keys()).unwrap();
    Reporter::greet(&rig, server.hello("a")).await;
}

#[tokio::test]
async fn a_pod_that_membership_does_not_know_moves_no_number() {
    let server = ApiServer::new("one");
    let rig = rig(&server).await;
    let mut good = Reporter::greet(&rig, server.hello("a")).await;
    good.report(3, 3).await;
    eventually(async || rig.in_flight(), |count| *count == 3).await;

    let mut stranger = Reporter::greet(&rig, server.hello("stranger")).await;
    stranger.report(1_000_000, 1_000_000).await;
    // No frame of a sidecar's, though it has a sidecar's token.
    stranger.hold(1_000_000, 1_000_000).await;
    stranger.report(2_000_000, 3_000_000).await;
    let heard = async || rig.metric("reports_total");
    eventually(heard, |reports| *reports == 3).await;
    let state = rig.aggregator.debug_state();
    let object = &state["scaled_objects"][0];
    assert_eq!(object["in_flight"], 3);
    assert_eq!(object["held"], 0);
    assert_eq!(object["ready_endpoints"], 1);
    assert!(object["concurrency"].as_f64().unwrap() <= 3.0, "{object}");
    let rejected = rig.metric("reports_rejected_total{reason=\"replaced\"}");
    assert_eq!(rejected, 1);
}

#[tokio::test]
async fn the_same_pod_from_elsewhere_replaces_its_older_connection() {
    let server = ApiServer::new("one");
    let rig = rig(&server).await;
    let mut first = Reporter::greet(&rig, server.hello("a")).await;
    first.report(3, 3).await;
    eventually(async || rig.in_flight(), |count| *count == 3).await;
    let mut second = Reporter::greet(&rig, server.hello("a")).await;
    first.closed().await;
    // A millisecond into its life, as the first; only what is later counts.
    second.report(9, 9).await;
    second.report(5, 5).await;
    eventually(async || rig.in_flight(), |count| *count == 5).await;
}

thread_local! {
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes to the log of the thread that logs; every test here runs on a thread of its own.
struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Has every thread log from here on. Of the whole process, since tracing asks the thread that comes to a log line
/// first, once, whether anybody wants it: a subscriber of one thread misses what another test has come to before it.
fn keep_logs() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::DEBUG)
        .with_ansi(false)
        .with_writer(|| Log);
    subscriber::set_global_default(subscriber.finish()).unwrap();
    callsite::rebuild_interest_cache();
}

#[tokio::test]
async fn refusals_are_warned_of_once_for_each_reason() {
    keep_logs();
    let server = ApiServer::new("one");
    let rig = rig(&server).await;
    for _ in 0..5 {
        assert!(!Reporter::is_taken(&rig, hello(Role::Sidecar, "a")).await);
        assert!(!Reporter::is_taken(&rig, ApiServer::new("one").hello("a")).await);
    }
    let all = |reason: &str| refused(&rig, reason) == 5;
    let both = async || all("token_missing") && all("token_signature");
    eventually(both, |both| *both).await;
    let log = String::from_utf8(LOG.take()).unwrap();
    let told = |level: &str, text: &str| {
        let lines = log.lines().filter(|line| line.contains(text));
        lines.filter(|line| line.contains(level)).count()
    };
    for text in ["the hello carries no token", "signature is wrong"] {
        assert_eq!(told(" WARN ", text), 1, "{log}");
        assert_eq!(told(" DEBUG ", text), 4, "{log}");
    }
}
