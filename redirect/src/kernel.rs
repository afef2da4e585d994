//! The socket to the kernel: sends what the others have made, and waits for the answers. Knows no rule.

use std::{
    io::{self, Read},
    time::Duration,
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    error::{RedirectError, Request},
    netlink::{
        Attributes, Malformed, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
        Reply, message,
    },
    nf_tables::NETLINK_NETFILTER,
    ruleset::Listing,
    transaction::{Change, HEADER, Transaction, body, kind},
};

/// `AF_NETLINK`, the same on every architecture.
const AF_NETLINK: i32 = 16;

/// The kernel answers while it is asked, so this ends only a wait for what never comes.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The kernel sends lists in pieces of at most 32 KiB.
const DATAGRAM: usize = 64 * 1024;

/// How often a list may be read again because somebody changed the rules meanwhile.
const INTERRUPTIONS: usize = 10;

/// An open socket, of the network namespace that its maker's thread was in.
#[derive(Debug)]
pub(crate) struct Kernel {
    socket: Socket,
    /// Of the next message.
    sequence: u32,
    buffer: Vec<u8>,
}

impl Kernel {
    pub(crate) fn connect() -> Result<Self, RedirectError> {
        let failed = |reason: io::Error| match Errno::from_io_error(&reason) {
            Some(Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT) => Request::Nftables.refused(reason),
            // A filter of system calls or a security module.
            _ => RedirectError::Socket {
                action: "reach the kernel",
                reason,
            },
        };
        let socket = Socket::new(
            Domain::from(AF_NETLINK),
            Type::RAW,
            Some(Protocol::from(NETLINK_NETFILTER)),
        )
        .map_err(failed)?;
        socket
            .set_read_timeout(Some(ANSWER_LIMIT))
            .map_err(failed)?;
        Ok(Self {
            socket,
            sequence: 1,
            buffer: vec![0; DATAGRAM],
        })
    }

    /// Makes all changes, or none.
    pub(crate) fn commit(&mut self, changes: Vec<Change>) -> Result<(), RedirectError> {
        let messages = changes.len() + 2;
        let transaction = Transaction::new(changes, self.next(messages));
        self.send(&transaction.bytes())?;
        loop {
            for reply in self.receive()? {
                if transaction.is_done(&reply)? {
                    return Ok(());
                }
            }
        }
    }

    /// Returns the attributes of everything the kernel has of a kind in the family inet.
    pub(crate) fn list(&mut self, listing: &Listing) -> Result<Vec<Vec<u8>>, RedirectError> {
        for _ in 0..INTERRUPTIONS {
            if let Some(list) = self.list_once(listing)? {
                return Ok(list);
            }
        }
        Err(listing
            .request
            .refused(io::Error::from(io::ErrorKind::ResourceBusy)))
    }

    /// Returns `None` if something changed while the list was read.
    fn list_once(&mut self, listing: &Listing) -> Result<Option<Vec<Vec<u8>>>, RedirectError> {
        let sequence = self.next(1);
        self.send(&message(
            kind(listing.message),
            NLM_F_REQUEST | NLM_F_DUMP,
            sequence,
            &body(&Attributes::default()),
        ))?;
        let mut list = Vec::new();
        let mut interrupted = false;
        loop {
            for reply in self.receive()? {
                if reply.sequence != sequence {
                    continue;
                }
                interrupted |= reply.flags & NLM_F_DUMP_INTR != 0;
                if let NLMSG_ERROR | NLMSG_DONE = reply.kind {
                    return match reply.errno()? {
                        0 => Ok((!interrupted).then_some(list)),
                        errno => Err(listing.request.refused(io::Error::from_raw_os_error(errno))),
                    };
                }
                let attributes = reply
                    .body
                    .get(HEADER..)
                    .ok_or(Malformed("a message of nftables has no header"))?;
                list.push(attributes.to_vec());
            }
        }
    }

    /// Reserves sequence numbers and returns the first.
    fn next(&mut self, messages: usize) -> u32 {
        let first = self.sequence;
        self.sequence += u32::try_from(messages).expect("one message for each of 65535 ports");
        first
    }

    fn send(&self, bytes: &[u8]) -> Result<(), RedirectError> {
        // Without an address it goes to the kernel, in one piece or not at all.
        let sent = self.socket.send(bytes);
        sent.map(drop).map_err(|reason| RedirectError::Socket {
            action: "ask the kernel",
            reason,
        })
    }

    fn receive(&mut self) -> Result<Vec<Reply<'_>>, RedirectError> {
        let length =
            (&self.socket)
                .read(&mut self.buffer)
                .map_err(|reason| RedirectError::Socket {
                    action: "hear the kernel's answer",
                    reason,
                })?;
        Ok(Reply::all(&self.buffer[..length])?)
    }
}
