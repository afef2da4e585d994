//! Changes of which the kernel makes all or none: as bytes, and what its answers say about them. Sends nothing.
//!
//! A batch of netfilter's netlink (`include/uapi/linux/netfilter/nfnetlink.h`): messages between a begin and an end, in one
//! datagram. The kernel answers errors in the order of the messages, and only then the last change's acknowledgement; so
//! the first answer that is an error is the reason, and the acknowledgement says that all is done.

use std::io;

use crate::{
    error::{RedirectError, Request},
    netlink::{Attributes, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, Reply, message},
    nf_tables::{
        NFNETLINK_V0, NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES, NFPROTO_INET,
        NFPROTO_UNSPEC,
    },
};

/// One message of a transaction.
#[derive(Debug)]
pub(crate) struct Change {
    /// What it is about.
    pub(crate) request: Request,
    /// Of `enum nf_tables_msg_types`.
    pub(crate) message: u8,
    /// Beside those that every change has.
    pub(crate) flags: u16,
    pub(crate) attributes: Attributes,
}

/// Changes under their sequence numbers: the begin has the first, then each change one, then the end.
#[derive(Debug)]
pub(crate) struct Transaction {
    changes: Vec<Change>,
    first: u32,
}

impl Transaction {
    /// Returns a transaction whose begin has the sequence number `first`.
    pub(crate) fn new(changes: Vec<Change>, first: u32) -> Self {
        Self { changes, first }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut sequence = self.first..;
        let mut next = || sequence.next().expect("sequence numbers begin at 1");
        let edge = header(NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES);
        let mut bytes = message(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, next(), &edge);
        for (index, change) in self.changes.iter().enumerate() {
            let acknowledge = if index + 1 == self.changes.len() {
                NLM_F_ACK
            } else {
                0
            };
            bytes.extend(message(
                kind(change.message),
                NLM_F_REQUEST | acknowledge | change.flags,
                next(),
                &body(&change.attributes),
            ));
        }
        bytes.extend(message(NFNL_MSG_BATCH_END, NLM_F_REQUEST, next(), &edge));
        bytes
    }

    /// Tells whether `reply` says that all changes are made.
    ///
    /// # Errors
    ///
    /// If it says that none is.
    pub(crate) fn is_done(&self, reply: &Reply<'_>) -> Result<bool, RedirectError> {
        let Some(index) = self.index(reply) else {
            return Ok(false);
        };
        let errno = reply.errno()?;
        if errno == 0 {
            return Ok(index == self.changes.len());
        }
        let request = index
            .checked_sub(1)
            .and_then(|index| self.changes.get(index))
            // The begin stands for all that concerns no single change.
            .map_or(Request::Nftables, |change| change.request);
        Err(request.refused(io::Error::from_raw_os_error(errno)))
    }

    /// Returns which of our messages is answered, counted from the begin; none if it is another's.
    fn index(&self, reply: &Reply<'_>) -> Option<usize> {
        let index = reply.sequence.checked_sub(self.first)?;
        let index = usize::try_from(index).ok()?;
        (reply.kind == NLMSG_ERROR && index <= self.changes.len() + 1).then_some(index)
    }
}

/// Returns the type of a message of nftables.
pub(crate) fn kind(message: u8) -> u16 {
    u16::from_be_bytes([NFNL_SUBSYS_NFTABLES, message])
}

/// Returns what follows netlink's header in a message about the family inet.
pub(crate) fn body(attributes: &Attributes) -> Vec<u8> {
    let mut body = header(NFPROTO_INET, 0).to_vec();
    body.extend(attributes.as_bytes());
    body
}

/// `struct nfgenmsg`; what `resource` means depends on the message.
fn header(family: u8, resource: u8) -> [u8; HEADER] {
    let [high, low] = u16::from(resource).to_be_bytes();
    [family, NFNETLINK_V0, high, low]
}

/// Size of `struct nfgenmsg`, in answers as well.
pub(crate) const HEADER: usize = 4;

#[cfg(test)]
mod tests;
