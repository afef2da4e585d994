//! Netlink's framing: messages and attributes into bytes and back. It opens no socket and knows nothing of nftables.
//!
//! Names in capitals are the kernel's, from `include/uapi/linux/netlink.h` and `include/linux/netlink.h`. Headers are in
//! the machine's byte order; numbers inside attributes are in the network's, as netfilter's subsystems have it.

/// The message asks for something, as all of ours do.
pub(crate) const NLM_F_REQUEST: u16 = 0x1;
/// Answer also when nothing went wrong.
pub(crate) const NLM_F_ACK: u16 = 0x4;
/// Something changed while the list was sent: it may lack entries or have them twice.
pub(crate) const NLM_F_DUMP_INTR: u16 = 0x10;
/// Send all there are.
pub(crate) const NLM_F_DUMP: u16 = 0x300;
/// Make it if it is not there.
pub(crate) const NLM_F_CREATE: u16 = 0x400;
/// Put it behind the others.
pub(crate) const NLM_F_APPEND: u16 = 0x800;

/// How an earlier message went; the body begins with the error, negative, or 0.
pub(crate) const NLMSG_ERROR: u16 = 2;
/// The list is complete; the body begins with an error, negative, or 0.
pub(crate) const NLMSG_DONE: u16 = 3;

/// The attribute's value is attributes.
const NLA_F_NESTED: u16 = 1 << 15;
/// What of the type field is the type: the two highest bits are flags.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Size of `struct nlmsghdr`.
const MESSAGE_HEADER: usize = 16;
/// Size of `struct nlattr`.
const ATTRIBUTE_HEADER: usize = 4;
/// Messages and attributes begin at multiples of it.
const ALIGNMENT: usize = 4;

/// An answer of the kernel that is not what netlink says it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Returns a message: its header, and `body` padded.
///
/// `sequence` comes back in the answers.
pub(crate) fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(MESSAGE_HEADER + body.len()).expect("a message is below 4 GiB");
    let mut bytes = Vec::with_capacity(MESSAGE_HEADER + body.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    // The sender: 0 makes the kernel put in the socket's own.
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(body);
    pad(&mut bytes);
    bytes
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
}

/// Attributes in the making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    /// Adds a value as it is.
    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(ATTRIBUTE_HEADER + value.len())
            .expect("no attribute of ours comes near 64 KiB");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        pad(&mut self.0);
        self
    }

    /// Adds a number, in network byte order.
    pub(crate) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a text, with the zero at its end.
    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// Adds attributes as the value of one.
    pub(crate) fn nested(self, kind: u16, value: &Self) -> Self {
        self.bytes(kind | NLA_F_NESTED, &value.0)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A message of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

impl<'a> Reply<'a> {
    /// Returns the messages of a datagram.
    pub(crate) fn all(mut datagram: &'a [u8]) -> Result<Vec<Self>, Malformed> {
        let mut replies = Vec::new();
        while !datagram.is_empty() {
            let header: &[u8; MESSAGE_HEADER] = datagram
                .first_chunk()
                .ok_or(Malformed("a message's header is cut off"))?;
            let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
            let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3]))
                .ok()
                .filter(|length| *length >= MESSAGE_HEADER)
                .ok_or(Malformed("a message is shorter than its header"))?;
            let whole = datagram
                .get(..length)
                .ok_or(Malformed("a message is cut off"))?;
            replies.push(Self {
                kind: u16::from_ne_bytes([k0, k1]),
                flags: u16::from_ne_bytes([f0, f1]),
                sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
                body: &whole[MESSAGE_HEADER..],
            });
            datagram = after(datagram, length);
        }
        Ok(replies)
    }

    /// Returns the error number at the beginning of an [`NLMSG_ERROR`] or [`NLMSG_DONE`], positive, or 0 if all went well.
    pub(crate) fn errno(&self) -> Result<i32, Malformed> {
        let code = self
            .body
            .first_chunk()
            .ok_or(Malformed("an error's number is cut off"))?;
        Ok(i32::from_ne_bytes(*code).saturating_neg())
    }
}

/// Returns what follows an item of `length`, which may end without its padding.
fn after(bytes: &[u8], length: usize) -> &[u8] {
    bytes
        .get(length.next_multiple_of(ALIGNMENT)..)
        .unwrap_or_default()
}

/// Attributes as they were received: types without flags, and values without padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Received<'a> {
    pub(crate) fn read(mut bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut attributes = Vec::new();
        while !bytes.is_empty() {
            let header: &[u8; ATTRIBUTE_HEADER] = bytes
                .first_chunk()
                .ok_or(Malformed("an attribute's header is cut off"))?;
            let [l0, l1, k0, k1] = *header;
            let length = usize::from(u16::from_ne_bytes([l0, l1]));
            if length < ATTRIBUTE_HEADER {
                return Err(Malformed("an attribute is shorter than its header"));
            }
            let whole = bytes
                .get(..length)
                .ok_or(Malformed("an attribute is cut off"))?;
            let kind = u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK;
            attributes.push((kind, &whole[ATTRIBUTE_HEADER..]));
            bytes = after(bytes, length);
        }
        Ok(Self(attributes))
    }

    pub(crate) fn bytes(&self, kind: u16) -> Option<&'a [u8]> {
        let (_, value) = self.0.iter().find(|(found, _)| *found == kind)?;
        Some(value)
    }

    /// Returns a number, or `None` also if the value has another length.
    pub(crate) fn number(&self, kind: u16) -> Option<u32> {
        let value = self.bytes(kind)?.try_into().ok()?;
        Some(u32::from_be_bytes(value))
    }

    /// Returns a text without the zero at its end, or `None` also if it is no UTF-8.
    pub(crate) fn text(&self, kind: u16) -> Option<&'a str> {
        let value = self.bytes(kind)?;
        str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
    }

    /// Returns the attributes inside one; none if it is not there.
    pub(crate) fn nested(&self, kind: u16) -> Result<Self, Malformed> {
        Received::read(self.bytes(kind).unwrap_or_default())
    }

    /// Returns the values of all attributes, whatever their types.
    pub(crate) fn values(&self) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests;
