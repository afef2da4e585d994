//! Compares what was meant with what the kernel shows. How it is asked, is elsewhere.

use crate::{
    netlink::{Malformed, Received},
    nf_tables::{
        NF_ACCEPT, NF_INET_PRE_ROUTING, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY,
        NFTA_CHAIN_TABLE, NFTA_CHAIN_TYPE, NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY, NFTA_RULE_TABLE,
    },
    ports::PortRedirect,
    ruleset::{CHAIN, CHAIN_PRIORITY, CHAIN_TYPE, TABLE, is_rule},
};

/// Returns what of the redirects is not in effect, or what is in our table beside them, if anything.
///
/// `chains` and `rules` are the attributes of all that the kernel has, others' included.
pub(crate) fn between(
    redirects: &[PortRedirect],
    chains: &[Vec<u8>],
    rules: &[Vec<u8>],
) -> Result<Option<String>, Malformed> {
    if let Some(difference) = of_chain(chains)? {
        return Ok(Some(difference));
    }
    of_rules(redirects, rules)
}

fn of_chain(chains: &[Vec<u8>]) -> Result<Option<String>, Malformed> {
    for chain in chains {
        let chain = Received::read(chain)?;
        if chain.text(NFTA_CHAIN_TABLE) != Some(TABLE) || chain.text(NFTA_CHAIN_NAME) != Some(CHAIN)
        {
            continue;
        }
        let hook = chain.nested(NFTA_CHAIN_HOOK)?;
        let differs = [
            ("type", chain.text(NFTA_CHAIN_TYPE) == Some(CHAIN_TYPE)),
            (
                "hook",
                hook.number(NFTA_HOOK_HOOKNUM) == Some(NF_INET_PRE_ROUTING),
            ),
            (
                "priority",
                hook.number(NFTA_HOOK_PRIORITY) == Some(CHAIN_PRIORITY),
            ),
            ("policy", chain.number(NFTA_CHAIN_POLICY) == Some(NF_ACCEPT)),
        ]
        .into_iter()
        .find(|(_, same)| !same);
        return Ok(differs.map(|(what, _)| {
            format!("the chain {CHAIN} of table inet {TABLE} has another {what} than was meant")
        }));
    }
    Ok(Some(format!(
        "the chain {CHAIN} of table inet {TABLE} is missing"
    )))
}

fn of_rules(redirects: &[PortRedirect], rules: &[Vec<u8>]) -> Result<Option<String>, Malformed> {
    let mut missing = redirects.to_vec();
    let mut others = 0;
    for rule in rules {
        let rule = Received::read(rule)?;
        if rule.text(NFTA_RULE_TABLE) != Some(TABLE) {
            continue;
        }
        let mut meant = None;
        for (index, redirect) in missing.iter().enumerate() {
            if is_rule(*redirect, &rule)? {
                meant = Some(index);
                break;
            }
        }
        match meant {
            Some(index) => drop(missing.remove(index)),
            None => others += 1,
        }
    }
    if !missing.is_empty() {
        let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
        return Ok(Some(format!(
            "the rules for {} (LISTEN:APP) are missing in table inet {TABLE}",
            missing.join(", ")
        )));
    }
    Ok((others > 0).then(|| {
        format!(
            "table inet {TABLE} has rules that were not meant ({others}); does something else write to it?"
        )
    }))
}

#[cfg(test)]
mod tests;
