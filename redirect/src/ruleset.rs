//! What the kernel is to have: our table, its chain, and one rule for each redirect, as the attributes that say so.
//!
//! Numbers and names are in `nf_tables`; how attributes become bytes is in `netlink`.

use crate::{
    error::Request,
    netlink::{Attributes, Malformed, NLM_F_APPEND, NLM_F_CREATE, Received},
    nf_tables::{
        IFNAMSIZ, IPPROTO_TCP, NF_ACCEPT, NF_INET_PRE_ROUTING, NF_NAT_RANGE_PROTO_SPECIFIED,
        NFT_CMP_EQ, NFT_CMP_NEQ, NFT_META_IIFNAME, NFT_META_L4PROTO, NFT_MSG_DELTABLE,
        NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE, NFT_MSG_NEWTABLE,
        NFT_PAYLOAD_TRANSPORT_HEADER, NFT_REG_1, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME,
        NFTA_CHAIN_POLICY, NFTA_CHAIN_TABLE, NFTA_CHAIN_TYPE, NFTA_CMP_DATA, NFTA_CMP_OP,
        NFTA_CMP_SREG, NFTA_DATA_VALUE, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_HOOK_HOOKNUM,
        NFTA_HOOK_PRIORITY, NFTA_IMMEDIATE_DATA, NFTA_IMMEDIATE_DREG, NFTA_LIST_ELEM,
        NFTA_META_DREG, NFTA_META_KEY, NFTA_PAYLOAD_BASE, NFTA_PAYLOAD_DREG, NFTA_PAYLOAD_LEN,
        NFTA_PAYLOAD_OFFSET, NFTA_REDIR_FLAGS, NFTA_REDIR_REG_PROTO_MIN, NFTA_RULE_CHAIN,
        NFTA_RULE_EXPRESSIONS, NFTA_RULE_TABLE, NFTA_TABLE_NAME, PRIORITY_DSTNAT,
    },
    ports::PortRedirect,
    transaction::Change,
};

/// Ours alone: nobody else's rules are in it.
pub(crate) const TABLE: &str = "stillwake";
pub(crate) const CHAIN: &str = "prerouting";
/// `nat` is what lets a chain rewrite destinations.
pub(crate) const CHAIN_TYPE: &str = "nat";
/// A priority is signed; an attribute's number is its bits.
pub(crate) const CHAIN_PRIORITY: u32 = PRIORITY_DSTNAT.cast_unsigned();

/// A question for all that the kernel has of a kind.
pub(crate) struct Listing {
    pub(crate) request: Request,
    pub(crate) message: u8,
}

/// All chains of the family.
pub(crate) const CHAINS: Listing = Listing {
    request: Request::List("chains"),
    message: NFT_MSG_GETCHAIN,
};

/// All rules of the family.
pub(crate) const RULES: Listing = Listing {
    request: Request::List("rules"),
    message: NFT_MSG_GETRULE,
};

/// Returns what is to be done, in this order, for the redirects to be there and nothing else in our table.
pub(crate) fn changes(redirects: &[PortRedirect]) -> Vec<Change> {
    let table = |message, flags| Change {
        request: Request::Table,
        message,
        flags,
        attributes: Attributes::default().text(NFTA_TABLE_NAME, TABLE),
    };
    let mut changes = vec![
        // What is not there cannot be deleted, which would undo all the rest; so it is made first.
        table(NFT_MSG_NEWTABLE, NLM_F_CREATE),
        table(NFT_MSG_DELTABLE, 0),
        table(NFT_MSG_NEWTABLE, NLM_F_CREATE),
        Change {
            request: Request::Chain,
            message: NFT_MSG_NEWCHAIN,
            flags: NLM_F_CREATE,
            attributes: chain(),
        },
    ];
    changes.extend(redirects.iter().map(|redirect| Change {
        request: Request::Rule(*redirect),
        message: NFT_MSG_NEWRULE,
        flags: NLM_F_CREATE | NLM_F_APPEND,
        attributes: rule(*redirect),
    }));
    changes
}

fn chain() -> Attributes {
    let hook = Attributes::default()
        .number(NFTA_HOOK_HOOKNUM, NF_INET_PRE_ROUTING)
        .number(NFTA_HOOK_PRIORITY, CHAIN_PRIORITY);
    Attributes::default()
        .text(NFTA_CHAIN_TABLE, TABLE)
        .text(NFTA_CHAIN_NAME, CHAIN)
        .nested(NFTA_CHAIN_HOOK, &hook)
        .number(NFTA_CHAIN_POLICY, NF_ACCEPT)
        .text(NFTA_CHAIN_TYPE, CHAIN_TYPE)
}

fn rule(redirect: PortRedirect) -> Attributes {
    let list = expressions(redirect)
        .iter()
        .fold(Attributes::default(), |list, expression| {
            list.nested(NFTA_LIST_ELEM, &expression.attributes())
        });
    Attributes::default()
        .text(NFTA_RULE_TABLE, TABLE)
        .text(NFTA_RULE_CHAIN, CHAIN)
        .nested(NFTA_RULE_EXPRESSIONS, &list)
}

/// `iifname != "lo" tcp dport APP redirect to :LISTEN`, as the steps that the kernel takes for each first packet.
///
/// `lo` would be safe without its exception in kernels as they are: they settle where a connection goes once, and for
/// one that begins in the pod at the hook `output`. The exception says what is meant, and does not lean on that.
fn expressions(redirect: PortRedirect) -> [Expression; 8] {
    // A port's place in the header of TCP.
    const DESTINATION_PORT: (u32, u32) = (2, 2);
    let mut loopback = [0; IFNAMSIZ];
    loopback[..2].copy_from_slice(b"lo");
    [
        meta(NFT_META_IIFNAME),
        compare(NFT_CMP_NEQ, &loopback),
        meta(NFT_META_L4PROTO),
        compare(NFT_CMP_EQ, &[IPPROTO_TCP]),
        transport_header(DESTINATION_PORT),
        compare(NFT_CMP_EQ, &redirect.app.to_be_bytes()),
        immediate(&redirect.listen.to_be_bytes()),
        redirect_to_register(),
    ]
}

/// Loads something the kernel knows of the packet.
fn meta(key: u32) -> Expression {
    Expression {
        name: "meta",
        numbers: vec![(NFTA_META_KEY, key), (NFTA_META_DREG, NFT_REG_1)],
        value: None,
    }
}

/// Gives up the rule unless what was loaded compares to `value`.
fn compare(operator: u32, value: &[u8]) -> Expression {
    Expression {
        name: "cmp",
        numbers: vec![(NFTA_CMP_SREG, NFT_REG_1), (NFTA_CMP_OP, operator)],
        value: Some((NFTA_CMP_DATA, value.to_vec())),
    }
}

/// Loads bytes of the transport protocol's header: how many after how many.
fn transport_header((offset, length): (u32, u32)) -> Expression {
    Expression {
        name: "payload",
        numbers: vec![
            (NFTA_PAYLOAD_DREG, NFT_REG_1),
            (NFTA_PAYLOAD_BASE, NFT_PAYLOAD_TRANSPORT_HEADER),
            (NFTA_PAYLOAD_OFFSET, offset),
            (NFTA_PAYLOAD_LEN, length),
        ],
        value: None,
    }
}

/// Loads a value of ours.
fn immediate(value: &[u8]) -> Expression {
    Expression {
        name: "immediate",
        numbers: vec![(NFTA_IMMEDIATE_DREG, NFT_REG_1)],
        value: Some((NFTA_IMMEDIATE_DATA, value.to_vec())),
    }
}

/// Sends the connection to this machine, at the port that was loaded.
fn redirect_to_register() -> Expression {
    Expression {
        name: "redir",
        numbers: vec![
            (NFTA_REDIR_REG_PROTO_MIN, NFT_REG_1),
            (NFTA_REDIR_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED),
        ],
        value: None,
    }
}

/// One step of a rule. All that we need consist of a name, numbers, and at most one value.
struct Expression {
    name: &'static str,
    numbers: Vec<(u16, u32)>,
    value: Option<(u16, Vec<u8>)>,
}

impl Expression {
    fn attributes(&self) -> Attributes {
        let numbers = self
            .numbers
            .iter()
            .fold(Attributes::default(), |data, (kind, number)| {
                data.number(*kind, *number)
            });
        let data = match &self.value {
            None => numbers,
            Some((kind, value)) => {
                numbers.nested(*kind, &Attributes::default().bytes(NFTA_DATA_VALUE, value))
            }
        };
        Attributes::default()
            .text(NFTA_EXPR_NAME, self.name)
            .nested(NFTA_EXPR_DATA, &data)
    }

    /// Tells whether the kernel has this step. It may show more of it than it was told.
    fn is(&self, shown: &Received<'_>) -> Result<bool, Malformed> {
        let data = shown.nested(NFTA_EXPR_DATA)?;
        let has_value = match &self.value {
            None => true,
            Some((kind, value)) => {
                data.nested(*kind)?.bytes(NFTA_DATA_VALUE) == Some(value.as_slice())
            }
        };
        let has_numbers = self
            .numbers
            .iter()
            .all(|(kind, number)| data.number(*kind) == Some(*number));
        Ok(shown.text(NFTA_EXPR_NAME) == Some(self.name) && has_value && has_numbers)
    }
}

/// Tells whether a rule that the kernel shows is the one for `redirect`.
pub(crate) fn is_rule(redirect: PortRedirect, shown: &Received<'_>) -> Result<bool, Malformed> {
    if shown.text(NFTA_RULE_CHAIN) != Some(CHAIN) {
        return Ok(false);
    }
    let meant = expressions(redirect);
    let list = shown.nested(NFTA_RULE_EXPRESSIONS)?;
    if list.values().count() != meant.len() {
        return Ok(false);
    }
    for (expression, element) in meant.iter().zip(list.values()) {
        if !expression.is(&Received::read(element)?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
