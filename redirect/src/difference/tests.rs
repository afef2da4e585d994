//! Every way in which rules can be other than they were meant.

use super::*;
use crate::{
    netlink::Attributes,
    nf_tables::{NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS},
    ruleset::changes,
};

const REDIRECTS: [PortRedirect; 2] = [
    PortRedirect {
        listen: 15080,
        app: 8080,
    },
    PortRedirect {
        listen: 15081,
        app: 9090,
    },
];

/// The chain and the rules as they were sent, which is how they are shown.
fn shown() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut made: Vec<_> = changes(&REDIRECTS)
        .iter()
        .skip(3)
        .map(|change| change.attributes.as_bytes().to_vec())
        .collect();
    let rules = made.split_off(1);
    (made, rules)
}

fn difference(chains: &[Vec<u8>], rules: &[Vec<u8>]) -> Option<String> {
    between(&REDIRECTS, chains, rules).unwrap()
}

fn rule_in(table: &str) -> Vec<u8> {
    let rule = Attributes::default()
        .text(NFTA_RULE_TABLE, table)
        .text(NFTA_RULE_CHAIN, CHAIN)
        .nested(NFTA_RULE_EXPRESSIONS, &Attributes::default());
    rule.as_bytes().to_vec()
}

fn chain(table: &str, kind: &str, hook: u32, priority: u32, policy: u32) -> Vec<u8> {
    let hook = Attributes::default()
        .number(NFTA_HOOK_HOOKNUM, hook)
        .number(NFTA_HOOK_PRIORITY, priority);
    let chain = Attributes::default()
        .text(NFTA_CHAIN_TABLE, table)
        .text(NFTA_CHAIN_NAME, CHAIN)
        .text(NFTA_CHAIN_TYPE, kind)
        .nested(NFTA_CHAIN_HOOK, &hook)
        .number(NFTA_CHAIN_POLICY, policy);
    chain.as_bytes().to_vec()
}

#[test]
fn what_was_meant_is_no_difference_in_any_order_and_beside_others() {
    let (mut chains, mut rules) = shown();
    assert_eq!(difference(&chains, &rules), None);
    rules.reverse();
    rules.insert(0, rule_in("others"));
    chains.insert(0, chain("others", "filter", 1, 0, 0));
    assert_eq!(difference(&chains, &rules), None);
}

#[test]
fn a_missing_rule_is_named() {
    let (chains, rules) = shown();
    let said = difference(&chains, &rules[..1]).unwrap();
    assert!(said.contains("15081:9090"), "{said}");
    assert!(!said.contains("15080:8080"), "{said}");
    let all = difference(&chains, &[]).unwrap();
    assert!(all.contains("15080:8080, 15081:9090"), "{all}");
}

#[test]
fn a_rule_more_in_our_table_is_noticed() {
    let (chains, rules) = shown();
    let mut doubled = rules.clone();
    doubled.push(rules[0].clone());
    let said = difference(&chains, &doubled).unwrap();
    assert!(said.contains("not meant (1)"), "{said}");
    let mut foreign = rules;
    foreign.insert(0, rule_in(TABLE));
    let said = difference(&chains, &foreign).unwrap();
    assert!(said.contains("not meant (1)"), "{said}");
}

#[test]
fn a_chain_that_is_missing_or_another_is_said() {
    let (_, rules) = shown();
    let others = chain("others", CHAIN_TYPE, 0, CHAIN_PRIORITY, 1);
    for chains in [vec![], vec![others]] {
        let said = difference(&chains, &rules).unwrap();
        assert!(said.contains("is missing"), "{said}");
    }
    let cases = [
        ("type", chain(TABLE, "filter", 0, CHAIN_PRIORITY, 1)),
        ("hook", chain(TABLE, CHAIN_TYPE, 3, CHAIN_PRIORITY, 1)),
        ("priority", chain(TABLE, CHAIN_TYPE, 0, 100, 1)),
        ("policy", chain(TABLE, CHAIN_TYPE, 0, CHAIN_PRIORITY, 0)),
    ];
    for (what, chain) in cases {
        let said = difference(&[chain], &rules).unwrap();
        assert!(said.contains(&format!("another {what}")), "{said}");
    }
}

#[test]
fn an_answer_that_cannot_be_read_is_no_agreement() {
    let (chains, mut rules) = shown();
    rules[0].truncate(50);
    assert!(between(&REDIRECTS, &chains, &rules).is_err());
}
