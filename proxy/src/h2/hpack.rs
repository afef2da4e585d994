//! Reads header blocks as far as the ignore rules need: whether one of them matches the path or the user agent
//! (RFC 7541).
//!
//! Not a decoder: of all other fields it keeps what a later block may refer to, which is their size and not their text.
//! So an entry of the dynamic table is 12 bytes whatever it holds, and a field that is sent without being indexed is
//! skipped by its length.

use std::{collections::VecDeque, sync::Arc};

use super::huffman::{Decoded, Malformed};
use crate::{h1::MAX_HEAD, ignore::IgnoreRules};

/// Largest dynamic table that is followed, in bytes as RFC 7541 counts them (section 4.1). Browsers ask servers for this
/// one; the protocol's default is 4 KiB.
const MAX_TABLE: u32 = 64 * 1024;

/// Table size before either side has changed it (RFC 9113, section 6.5.2).
const DEFAULT_TABLE: u32 = 4096;

/// What an entry of the dynamic table counts besides its name and value, in bytes (RFC 7541, section 4.1).
const ENTRY: u32 = 32;

/// Lengths of the names in the static table (RFC 7541, appendix A).
const STATIC_NAMES: [u8; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14,
    16, 13, 12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10,
    25, 17, 10, 4, 3, 16,
];

/// Why the header blocks of a connection cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("a header block is longer than {MAX_HEAD} bytes")]
    Long,
    #[error("a header block ends within a field")]
    Cut,
    #[error("an integer of a header block does not fit into 32 bits")]
    Integer,
    #[error("a string of a header block is not in the Huffman code")]
    Huffman,
    #[error("a header block refers to an entry that its table does not have")]
    Index,
    #[error("a header block makes its table larger than {MAX_TABLE} bytes")]
    Table,
}

impl From<Malformed> for Unreadable {
    fn from(Malformed: Malformed) -> Self {
        Self::Huffman
    }
}

/// The header blocks that one side sends, which must all be given, in order: each may refer to those before.
#[derive(Debug)]
pub(super) struct HeaderBlocks {
    rules: Arc<IgnoreRules>,
    table: Table,
    /// The start of a block, kept while its end is missing.
    partial: Vec<u8>,
    /// Set once the block is whole: whether the rules ignore its request.
    ignored: Option<bool>,
}

impl HeaderBlocks {
    pub(super) fn new(rules: Arc<IgnoreRules>) -> Self {
        Self {
            rules,
            table: Table::default(),
            partial: Vec::new(),
            ignored: None,
        }
    }

    /// Takes the next bytes of a block, of which `is_whole` says whether these are all of it.
    ///
    /// # Errors
    ///
    /// Fails once blocks cannot be read; no more may be given after that.
    pub(super) fn add(&mut self, bytes: &[u8], is_whole: bool) -> Result<(), Unreadable> {
        if is_whole && self.partial.is_empty() {
            self.ignored = Some(self.table.read(bytes, &self.rules)?);
            return Ok(());
        }
        if self.partial.len() + bytes.len() > MAX_HEAD {
            return Err(Unreadable::Long);
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes that the block is whole and returns whether the rules ignore its request.
    ///
    /// # Errors
    ///
    /// As [`Self::add`].
    pub(super) fn end(&mut self) -> Result<bool, Unreadable> {
        if let Some(ignored) = self.ignored.take() {
            return Ok(ignored);
        }
        let block = std::mem::take(&mut self.partial);
        self.table.read(&block, &self.rules)
    }
}

/// The dynamic table, newest entry first (RFC 7541, section 2.3.2).
#[derive(Debug)]
struct Table {
    entries: VecDeque<Entry>,
    /// What the entries count together.
    size: u32,
    limit: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// Length of the name.
    name: u32,
    /// Length of name and value.
    text: u32,
    field: Field,
}

/// What the rules need to know of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Other,
    /// The path, and whether a rule matches it.
    Path(bool),
    /// The user agent, and whether a rule matches it.
    UserAgent(bool),
}

impl Field {
    fn of(name: &Text<'_>) -> Result<Self, Unreadable> {
        Ok(if name.is(b":path")? {
            Self::Path(false)
        } else if name.is(b"user-agent")? {
            Self::UserAgent(false)
        } else {
            Self::Other
        })
    }

    fn is_ignored(self) -> bool {
        matches!(self, Self::Path(true) | Self::UserAgent(true))
    }

    /// Returns the same field with another value.
    fn with(self, value: &Text<'_>, rules: &IgnoreRules) -> Self {
        // An encoding that is wrong further on is found when all of the string is decoded, if ever.
        match self {
            Self::Other => Self::Other,
            Self::Path(_) => Self::Path(rules.ignores_target(&value.lossy())),
            Self::UserAgent(_) => Self::UserAgent(rules.ignores_user_agent(&value.lossy())),
        }
    }
}

impl Default for Table {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            limit: DEFAULT_TABLE,
        }
    }
}

impl Table {
    /// Reads a whole block (RFC 7541, section 6) and returns whether a rule matches one of its fields.
    fn read(&mut self, block: &[u8], rules: &IgnoreRules) -> Result<bool, Unreadable> {
        let mut block = Block(block);
        let mut ignored = false;
        while let Some(first) = block.peek() {
            match first {
                0x80.. => {
                    let index = block.integer(7)?;
                    ignored |= self.get(index, rules)?.field.is_ignored();
                }
                0x40.. => {
                    let entry = self.literal(&mut block, 6, rules, true)?;
                    ignored |= entry.field.is_ignored();
                    self.insert(entry);
                }
                0x20.. => {
                    let limit = block.integer(5)?;
                    if limit > MAX_TABLE {
                        return Err(Unreadable::Table);
                    }
                    self.limit = limit;
                    self.evict();
                }
                _ => {
                    let entry = self.literal(&mut block, 4, rules, false)?;
                    ignored |= entry.field.is_ignored();
                }
            }
        }
        Ok(ignored)
    }

    /// Reads a field whose value is sent. The lengths of what it returns are right if it `is_indexed`.
    fn literal(
        &self,
        block: &mut Block<'_>,
        prefix: u32,
        rules: &IgnoreRules,
        is_indexed: bool,
    ) -> Result<Entry, Unreadable> {
        let length = |text: &Text<'_>| if is_indexed { text.len() } else { Ok(0) };
        let (name, field) = match block.integer(prefix)? {
            0 => {
                let name = block.text()?;
                (length(&name)?, Field::of(&name)?)
            }
            index => {
                let entry = self.get(index, rules)?;
                (entry.name, entry.field)
            }
        };
        let value = block.text()?;
        Ok(Entry {
            name,
            text: name + length(&value)?,
            field: field.with(&value, rules),
        })
    }

    fn get(&self, index: u32, rules: &IgnoreRules) -> Result<Entry, Unreadable> {
        let index = usize::try_from(index).map_err(|_| Unreadable::Index)?;
        let at = index.checked_sub(1).ok_or(Unreadable::Index)?;
        let Some(name) = STATIC_NAMES.get(at) else {
            let entry = self.entries.get(at - STATIC_NAMES.len());
            return entry.copied().ok_or(Unreadable::Index);
        };
        let field = match index {
            4 => Field::Path(false).with(&Text::Plain(b"/"), rules),
            5 => Field::Path(false).with(&Text::Plain(b"/index.html"), rules),
            58 => Field::UserAgent(false),
            _ => Field::Other,
        };
        let name = u32::from(*name);
        // Its value is not counted: the static table takes no room, and only the name is taken over to new entries.
        Ok(Entry {
            name,
            text: name,
            field,
        })
    }

    fn insert(&mut self, entry: Entry) {
        self.entries.push_front(entry);
        self.size += ENTRY + entry.text;
        // What is larger than the table empties it, and itself with it (section 4.4).
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.limit
            && let Some(entry) = self.entries.pop_back()
        {
            self.size -= ENTRY + entry.text;
        }
    }
}

/// What is left of a block.
struct Block<'a>(&'a [u8]);

impl<'a> Block<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Reads an integer in the lowest `prefix` bits of a byte and those that follow it (section 5.1).
    fn integer(&mut self, prefix: u32) -> Result<u32, Unreadable> {
        let most = (1 << prefix) - 1;
        let mut value = u32::from(self.byte()?) & most;
        if value < most {
            return Ok(value);
        }
        // Five more bytes hold 35 bits, and an integer of 32 needs no more.
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            let part = u32::from(byte & 0x7f);
            let part = part.checked_mul(1 << shift).ok_or(Unreadable::Integer)?;
            value = value.checked_add(part).ok_or(Unreadable::Integer)?;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Unreadable::Integer)
    }

    /// Reads a string (section 5.2).
    fn text(&mut self) -> Result<Text<'a>, Unreadable> {
        let is_encoded = self.peek().is_some_and(|byte| byte & 0x80 != 0);
        let length = usize::try_from(self.integer(7)?).map_err(|_| Unreadable::Integer)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Unreadable::Cut)?;
        self.0 = rest;
        Ok(if is_encoded {
            Text::Encoded(bytes)
        } else {
            Text::Plain(bytes)
        })
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        let (first, rest) = self.0.split_first().ok_or(Unreadable::Cut)?;
        self.0 = rest;
        Ok(*first)
    }
}

/// A string as it was sent.
#[derive(Clone, Copy, Debug)]
enum Text<'a> {
    Plain(&'a [u8]),
    Encoded(&'a [u8]),
}

impl<'a> Text<'a> {
    fn len(&self) -> Result<u32, Unreadable> {
        let length = match self {
            Self::Plain(bytes) => bytes.len(),
            Self::Encoded(bytes) => {
                Decoded::new(bytes).try_fold(0, |length, byte| byte.map(|_| length + 1))?
            }
        };
        u32::try_from(length).map_err(|_| Unreadable::Long)
    }

    fn is(&self, name: &[u8]) -> Result<bool, Unreadable> {
        match self {
            Self::Plain(bytes) => Ok(*bytes == name),
            Self::Encoded(bytes) => {
                let mut decoded = Decoded::new(bytes);
                for expected in name {
                    if decoded.next().transpose()? != Some(*expected) {
                        return Ok(false);
                    }
                }
                Ok(decoded.next().transpose()?.is_none())
            }
        }
    }

    /// Returns the bytes up to the first that is malformed.
    fn lossy(&self) -> impl Iterator<Item = u8> + Clone + 'a {
        let (plain, encoded): (&[u8], &[u8]) = match self {
            Self::Plain(bytes) => (bytes, &[]),
            Self::Encoded(bytes) => (&[], bytes),
        };
        let decoded = Decoded::new(encoded).map_while(Result::ok);
        plain.iter().copied().chain(decoded)
    }
}

#[cfg(test)]
mod tests;
