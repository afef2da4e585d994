//! The two messages of DNS that there are here: a question for the addresses of a name, and its answer (RFC 1035 section 4,
//! RFC 3596).
//!
//! Names in answers are skipped, never read: what counts is which question is answered, and records that follow from an
//! alias belong to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of a message's header.
const HEADER: usize = 12;

/// The class of every record, that of the Internet.
const INTERNET: u16 = 1;

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4, records of type A.
    V4,
    /// IPv6, records of type AAAA.
    V6,
}

/// What a name server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The addresses; none if the name does not exist or has none of the family.
    Addresses(Vec<IpAddr>),
    /// There is more than fits into a datagram.
    Truncated,
    /// The server cannot or does not want to answer, by this code.
    Failed(u8),
}

/// One question, ready to be sent. The servers may be asked to resolve aliases on the way.
#[derive(Clone, Debug)]
pub(super) struct Question {
    message: Vec<u8>,
    family: Family,
}

impl Question {
    /// Asks for the addresses of a whole name, with or without its last dot. `None` if there can be no such name: parts have
    /// 1 to 63 bytes of ASCII, and all together 253 at most.
    pub(super) fn new(name: &str, family: Family, id: u16) -> Option<Self> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.len() > 253 || !name.is_ascii() {
            return None;
        }
        // Its id, that recursion is desired, and one question.
        let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message[..2].copy_from_slice(&id.to_be_bytes());
        for label in name.split('.') {
            let length = u8::try_from(label.len()).ok()?;
            if !(1..=63).contains(&length) {
                return None;
            }
            message.push(length);
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&family.record_type().to_be_bytes());
        message.extend_from_slice(&INTERNET.to_be_bytes());
        Some(Self { message, family })
    }

    /// Returns what is to be sent.
    pub(super) fn message(&self) -> &[u8] {
        &self.message
    }

    /// Reads the answer to this question, `None` if the message is another or damaged.
    pub(super) fn read(&self, message: &[u8]) -> Option<Answer> {
        let mut rest = Reader(message);
        let header = rest.take(HEADER)?;
        let asked = rest.take(self.message.len() - HEADER)?;
        let is_answer = header[2] & 0x80 != 0;
        // Servers may answer in other letters of the same name.
        let is_ours = header[..2] == self.message[..2]
            && header[4..6] == self.message[4..6]
            && asked.eq_ignore_ascii_case(&self.message[HEADER..]);
        if !is_answer || !is_ours {
            return None;
        }
        if header[2] & 0x02 != 0 {
            return Some(Answer::Truncated);
        }
        match header[3] & 0x0f {
            0 => {}
            // There is no such name.
            3 => return Some(Answer::Addresses(Vec::new())),
            code => return Some(Answer::Failed(code)),
        }
        let records = u16::from_be_bytes([header[6], header[7]]);
        let mut addresses = Vec::new();
        for _ in 0..records {
            rest.skip_name()?;
            let (record_type, class) = (rest.number()?, rest.number()?);
            let _lifetime = rest.take(4)?;
            let length = rest.number()?;
            let data = rest.take(length.into())?;
            if record_type == self.family.record_type() && class == INTERNET {
                addresses.push(self.family.address(data)?);
            }
        }
        Some(Answer::Addresses(addresses))
    }
}

impl Family {
    fn record_type(self) -> u16 {
        match self {
            Self::V4 => 1,
            Self::V6 => 28,
        }
    }

    fn address(self, data: &[u8]) -> Option<IpAddr> {
        match self {
            Self::V4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
            Self::V6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
        }
    }
}

/// What is left of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Skips a name, which ends with an empty part or with a pointer to where it goes on.
    fn skip_name(&mut self) -> Option<()> {
        loop {
            match self.take(1)?[0] {
                0 => return Some(()),
                length @ 1..=63 => drop(self.take(length.into())?),
                0xc0.. => return self.take(1).map(drop),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests;
