//! Our rule as bytes, and against what kernels show. The bytes are those of a little-endian machine.

use super::*;

const REDIRECT: PortRedirect = PortRedirect {
    listen: 15080,
    app: 8080,
};

/// What Linux 6.18 shows of `iifname != "lo" tcp dport 8080 redirect to :15080`, written by nft 1.0.6. It shows more than
/// it was told, such as the handle and the last port of a range, and flags no attribute as nested.
const SHOWN: &str = "
    0e000100 7374696c6c77616b65000000
    0f000200 707265726f757469 6e670000
    0c000300 0000000000000002
    68010400
    24000100 09000100 6d657461 00000000
      14000200 08000200 00000006 08000100 00000001
    38000100 08000100 636d7000
      2c000200 08000100 00000001 08000200 00000001
        18000300 14000100 6c6f0000 00000000 00000000 00000000
    24000100 09000100 6d657461 00000000
      14000200 08000200 00000010 08000100 00000001
    2c000100 08000100 636d7000
      20000200 08000100 00000001 08000200 00000000
        0c000300 05000100 06000000
    34000100 0c000100 7061796c 6f616400
      24000200 08000100 00000001 08000200 00000002 08000300 00000002 08000400 00000002
    2c000100 08000100 636d7000
      20000200 08000100 00000001 08000200 00000000
        0c000300 06000100 1f900000
    2c000100 0e000100 696d6d65 64696174 65000000
      18000200 08000100 00000001
        0c000200 06000100 3ae80000
    2c000100 0a000100 72656469 72000000
      1c000200 08000100 00000001 08000200 00000001 08000300 00000002";

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<_> = hexadecimal
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap())
        .collect()
}

fn is_shown(redirect: PortRedirect, rule: &[u8]) -> bool {
    is_rule(redirect, &Received::read(rule).unwrap()).unwrap()
}

#[test]
fn a_rule_that_nft_has_written_is_recognised() {
    let shown = bytes(SHOWN);
    assert!(is_shown(REDIRECT, &shown));
    let other_app = PortRedirect {
        app: 8081,
        ..REDIRECT
    };
    assert!(!is_shown(other_app, &shown));
    let other_listen = PortRedirect {
        listen: 15081,
        ..REDIRECT
    };
    assert!(!is_shown(other_listen, &shown));
}

/// Returns a rule of these expressions, as it is sent and shown.
fn rule_of(expressions: &[Expression]) -> Vec<u8> {
    let list = expressions
        .iter()
        .fold(Attributes::default(), |list, expression| {
            list.nested(NFTA_LIST_ELEM, &expression.attributes())
        });
    let rule = Attributes::default()
        .text(NFTA_RULE_TABLE, TABLE)
        .text(NFTA_RULE_CHAIN, CHAIN)
        .nested(NFTA_RULE_EXPRESSIONS, &list);
    rule.as_bytes().to_vec()
}

#[test]
fn a_rule_with_any_other_number_value_or_name_is_another_rule() {
    assert!(is_shown(REDIRECT, &rule_of(&expressions(REDIRECT))));
    for step in 0..expressions(REDIRECT).len() {
        let is_other = |change: &dyn Fn(&mut Expression)| {
            let mut other = expressions(REDIRECT);
            change(&mut other[step]);
            assert!(!is_shown(REDIRECT, &rule_of(&other)), "step {step}");
        };
        let original = &expressions(REDIRECT)[step];
        for number in 0..original.numbers.len() {
            is_other(&|expression| expression.numbers[number].1 ^= 1);
            is_other(&|expression| {
                expression.numbers.remove(number);
            });
        }
        if let Some((_, value)) = &original.value {
            for byte in 0..value.len() {
                is_other(&|expression| expression.value.as_mut().unwrap().1[byte] ^= 1);
            }
            is_other(&|expression| expression.value = None);
        }
        is_other(&|expression| expression.name = "counter");
    }
}

#[test]
fn a_rule_of_more_or_fewer_steps_is_another_rule() {
    let mut steps = Vec::from(expressions(REDIRECT));
    steps.push(meta(NFT_META_L4PROTO));
    assert!(!is_shown(REDIRECT, &rule_of(&steps)));
    assert!(is_shown(REDIRECT, &rule_of(&steps[..8])));
    assert!(!is_shown(REDIRECT, &rule_of(&steps[..7])));
    assert!(!is_shown(REDIRECT, &rule_of(&[])));
}

#[test]
fn a_rule_of_another_chain_is_another_rule() {
    let shown = SHOWN.replace("6e670000", "6e680000");
    assert!(!is_shown(REDIRECT, &bytes(&shown)));
}

#[test]
fn what_is_sent_is_what_is_shown_without_what_the_kernel_adds() {
    let sent = "
        0e000100 7374696c6c77616b65000000
        0f000200 707265726f757469 6e670000
        60010480
        24000180 09000100 6d657461 00000000
          14000280 08000200 00000006 08000100 00000001
        38000180 08000100 636d7000
          2c000280 08000100 00000001 08000200 00000001
            18000380 14000100 6c6f0000 00000000 00000000 00000000
        24000180 09000100 6d657461 00000000
          14000280 08000200 00000010 08000100 00000001
        2c000180 08000100 636d7000
          20000280 08000100 00000001 08000200 00000000
            0c000380 05000100 06000000
        34000180 0c000100 7061796c 6f616400
          24000280 08000100 00000001 08000200 00000002 08000300 00000002 08000400 00000002
        2c000180 08000100 636d7000
          20000280 08000100 00000001 08000200 00000000
            0c000380 06000100 1f900000
        2c000180 0e000100 696d6d65 64696174 65000000
          18000280 08000100 00000001
            0c000280 06000100 3ae80000
        24000180 0a000100 72656469 72000000
          14000280 08000100 00000001 08000300 00000002";
    assert_eq!(changes(&[REDIRECT])[4].attributes.as_bytes(), bytes(sent));
}

#[test]
fn our_table_is_made_anew_within_the_transaction() {
    let second = PortRedirect {
        listen: 15081,
        app: 9090,
    };
    let changes = changes(&[REDIRECT, second]);
    let steps: Vec<_> = changes
        .iter()
        .map(|change| (change.request, change.message))
        .collect();
    assert_eq!(
        steps,
        [
            (Request::Table, NFT_MSG_NEWTABLE),
            (Request::Table, NFT_MSG_DELTABLE),
            (Request::Table, NFT_MSG_NEWTABLE),
            (Request::Chain, NFT_MSG_NEWCHAIN),
            (Request::Rule(REDIRECT), NFT_MSG_NEWRULE),
            (Request::Rule(second), NFT_MSG_NEWRULE),
        ]
    );
}
