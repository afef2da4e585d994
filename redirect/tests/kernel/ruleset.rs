//! What the rules are, by the judgement of `nft`, and that a difference is noticed.

use stillwake_redirect::RedirectError;

use crate::{namespace::has, pod::Pod};

/// As a person would write it.
const WRITTEN: &str = r#"table inet stillwake {
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		iifname != "lo" tcp dport 8080 redirect to :15080
		iifname != "lo" tcp dport 9090 redirect to :15081
	}
}
"#;
const PAIRS: [(u16, u16); 2] = [(15080, 8080), (15081, 9090)];

/// Returns a pod where `nft` is to be had.
fn pod(test: &str) -> Option<Pod> {
    let pod = Pod::start(test)?;
    has("nft", test).then_some(pod)
}

#[test]
fn the_ruleset_reads_as_a_person_would_write_it_also_after_a_second_call() {
    let Some(pod) = pod("the ruleset as nft shows it") else {
        return;
    };
    pod.apply(&PAIRS).unwrap();
    assert_eq!(pod.inside.command("nft", &["list", "ruleset"]), WRITTEN);
    pod.apply(&PAIRS).unwrap();
    assert_eq!(pod.inside.command("nft", &["list", "ruleset"]), WRITTEN);
}

#[test]
fn what_a_person_has_written_verifies() {
    let Some(pod) = pod("rules that nft has made") else {
        return;
    };
    pod.inside.command("nft", &[WRITTEN]);
    pod.verify(&PAIRS).unwrap();
}

#[test]
fn a_call_for_other_ports_replaces_the_rules_and_leaves_other_tables_alone() {
    let Some(pod) = pod("replacing rules") else {
        return;
    };
    let others = "table ip others {\n\tchain prerouting {\n\t\ttcp dport 8080 accept\n\t}\n}\n";
    pod.inside.command("nft", &[others]);
    pod.inside.command(
        "nft",
        &["table inet stillwake { chain leftover { tcp dport 1 drop; }; }"],
    );
    pod.apply(&[(15080, 8081)]).unwrap();
    pod.apply(&PAIRS).unwrap();
    let ruleset = pod.inside.command("nft", &["list", "ruleset"]);
    assert_eq!(ruleset, format!("{others}{WRITTEN}"));
}

#[test]
fn what_is_missing_or_too_much_is_said() {
    let Some(pod) = pod("noticing other rules than were meant") else {
        return;
    };
    let difference = || match pod.verify(&PAIRS) {
        Err(RedirectError::NotInEffect { difference }) => difference,
        other => panic!("not noticed: {other:?}"),
    };
    assert!(difference().contains("chain prerouting of table inet stillwake is missing"));

    pod.apply(&PAIRS[..1]).unwrap();
    let missing = difference();
    assert!(missing.contains("15081:9090"), "{missing}");
    assert!(!missing.contains("15080:8080"), "{missing}");

    pod.apply(&PAIRS).unwrap();
    let added = [
        "add",
        "rule",
        "inet",
        "stillwake",
        "prerouting",
        "tcp dport 22 accept",
    ];
    pod.inside.command("nft", &added);
    let others = difference();
    assert!(others.contains("not meant (1)"), "{others}");

    // A rule that looks much the same.
    let similar = WRITTEN.replace(" != ", " == ");
    pod.inside.command("nft", &["delete table inet stillwake"]);
    pod.inside.command("nft", &[&similar]);
    let missing = difference();
    assert!(missing.contains("15080:8080, 15081:9090"), "{missing}");

    let later = WRITTEN.replace("priority dstnat", "priority -90");
    pod.inside.command("nft", &["delete table inet stillwake"]);
    pod.inside.command("nft", &[&later]);
    let chain = difference();
    assert!(chain.contains("another priority"), "{chain}");
}

#[test]
fn many_ports_are_one_change() {
    let Some(pod) = pod("redirecting many ports") else {
        return;
    };
    let pairs: Vec<_> = (1..=500).map(|app| (app + 20_000, app)).collect();
    pod.apply(&pairs).unwrap();
    let ruleset = pod.inside.command("nft", &["list", "ruleset"]);
    assert_eq!(ruleset.matches("redirect to").count(), pairs.len());
}
