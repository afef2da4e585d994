//! What is sent as one, and which answer means what.

use super::*;
use crate::{
    netlink::{NLM_F_CREATE, NLMSG_DONE},
    nf_tables::{NFT_MSG_NEWRULE, NFT_MSG_NEWTABLE},
    ports::PortRedirect,
};

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EINVAL: i32 = 22;
const EOPNOTSUPP: i32 = 95;

const RULE: Request = Request::Rule(PortRedirect {
    listen: 15080,
    app: 8080,
});

/// A table and a rule, whose begin has the sequence number 40.
fn transaction() -> Transaction {
    let change = |request, message| Change {
        request,
        message,
        flags: NLM_F_CREATE,
        attributes: Attributes::default().text(1, "stillwake"),
    };
    let changes = vec![
        change(Request::Table, NFT_MSG_NEWTABLE),
        change(RULE, NFT_MSG_NEWRULE),
    ];
    Transaction::new(changes, 40)
}

fn told(kind: u16, sequence: u32, errno: i32) -> Result<bool, RedirectError> {
    let body = (-errno).to_ne_bytes();
    transaction().is_done(&Reply {
        kind,
        flags: 0,
        sequence,
        body: &body,
    })
}

fn answered(sequence: u32, errno: i32) -> Result<bool, RedirectError> {
    told(NLMSG_ERROR, sequence, errno)
}

#[test]
fn changes_are_between_a_begin_and_an_end_and_only_the_last_is_acknowledged() {
    let bytes = transaction().bytes();
    let sent = Reply::all(&bytes).unwrap();
    let heads: Vec<_> = sent
        .iter()
        .map(|message| (message.sequence, message.kind, message.flags))
        .collect();
    assert_eq!(
        heads,
        [
            (40, 0x10, 0x001),
            (41, 0x0a00, 0x401),
            (42, 0x0a06, 0x405),
            (43, 0x11, 0x001),
        ]
    );
    // The subsystem that the batch is for is in network order.
    assert_eq!(sent[0].body, [0, 0, 0, 10]);
    assert_eq!(sent[3].body, [0, 0, 0, 10]);
    // Family inet.
    assert_eq!(sent[1].body[..4], [1, 0, 0, 0]);
    assert!(sent[1].body[4..].ends_with(b"stillwake\0\0\0"));
}

#[test]
fn all_is_done_once_the_last_change_is_acknowledged() {
    assert!(answered(42, 0).unwrap());
    assert!(!answered(41, 0).unwrap());
    assert!(!answered(40, 0).unwrap());
    // The end's, which newer kernels send when asked.
    assert!(!answered(43, 0).unwrap());
}

#[test]
fn what_others_are_told_means_nothing() {
    for sequence in [0, 39, 44, u32::MAX] {
        assert!(!answered(sequence, EPERM).unwrap());
    }
    assert!(!told(NLMSG_DONE, 42, 0).unwrap());
}

#[test]
fn an_error_is_that_of_the_change_it_answers() {
    let table = answered(41, EINVAL).unwrap_err().to_string();
    assert!(table.contains("the table inet stillwake"), "{table}");
    let rule = answered(42, EINVAL).unwrap_err().to_string();
    assert!(rule.contains("the rule from port 8080 to 15080"), "{rule}");
    let redir = answered(42, ENOENT).unwrap_err().to_string();
    assert!(redir.contains("nft_redir"), "{redir}");
    // Both ends stand for the whole.
    for whole in [40, 43] {
        let nothing = answered(whole, EOPNOTSUPP).unwrap_err().to_string();
        assert!(nothing.contains("no nftables"), "{nothing}");
    }
}

#[test]
fn an_answer_without_a_number_is_an_error() {
    let cut_off = Reply {
        kind: NLMSG_ERROR,
        flags: 0,
        sequence: 42,
        body: &[0, 0],
    };
    let error = transaction().is_done(&cut_off).unwrap_err();
    assert!(matches!(error, RedirectError::Answer { .. }), "{error:?}");
}
