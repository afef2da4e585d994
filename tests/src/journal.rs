//! What reached the test app, over all its processes: one line per event in one file that all of them append to.
//!
//! Proves "exactly once" from the far side; the client's side is the [`crate::ledger`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;

/// One line of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process of the app started.
    Started,
    /// A request's head arrived.
    Began(u64),
    /// A request's answer was produced to its last byte.
    Ended(u64),
}

/// Appends to the file, in the app.
#[derive(Debug)]
pub struct Writer {
    file: File,
    process: u32,
}

impl Writer {
    /// Opens the file, creating it if need be.
    ///
    /// # Errors
    ///
    /// As opening a file does.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::options().append(true).create(true).open(path)?,
            process: std::process::id(),
        })
    }

    /// Appends one event. A line is one write in append mode, so lines of several processes don't mix.
    ///
    /// # Errors
    ///
    /// As writing to a file does.
    pub fn write(&self, event: Event) -> io::Result<()> {
        let (word, id) = match event {
            Event::Started => ("started", 0),
            Event::Began(id) => ("began", id),
            Event::Ended(id) => ("ended", id),
        };
        let line = format!("{word} {id} {}\n", self.process);
        (&self.file).write_all(line.as_bytes())
    }
}

/// Reads the file, in the suite.
#[derive(Clone, Debug)]
pub struct Journal {
    path: PathBuf,
}

/// The file's content, by request.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Processes that started, in order.
    pub started: Vec<i32>,
    /// Processes that each request reached.
    pub began: BTreeMap<u64, Vec<i32>>,
    /// Requests that were answered to the end.
    pub ended: BTreeSet<u64>,
}

impl Journal {
    /// The journal at `path`, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where the app has to write.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads all that was written so far.
    ///
    /// # Errors
    ///
    /// When a line is not one of ours.
    pub fn read(&self) -> anyhow::Result<Record> {
        let text = match std::fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let mut record = Record::default();
        for line in text.lines() {
            let parsed = parse(line).with_context(|| format!("not a journal's line: {line:?}"))?;
            match parsed {
                (Event::Started, process) => record.started.push(process),
                (Event::Began(id), process) => record.began.entry(id).or_default().push(process),
                (Event::Ended(id), _) => {
                    record.ended.insert(id);
                }
            }
        }
        Ok(record)
    }
}

fn parse(line: &str) -> Option<(Event, i32)> {
    let mut words = line.split(' ');
    let (word, id, process) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    let event = match word {
        "started" => Event::Started,
        "began" => Event::Began(id),
        "ended" => Event::Ended(id),
        _ => return None,
    };
    Some((event, process.parse().ok()?))
}

impl Record {
    /// Panics if any request reached the app more than once.
    ///
    /// # Panics
    ///
    /// With the ids of those that did.
    pub fn assert_none_twice(&self) {
        let twice: Vec<_> = self.began.iter().filter(|(_, at)| at.len() > 1).collect();
        assert!(
            twice.is_empty(),
            "requests reached the app more than once: {twice:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_writers_wrote_is_read_back_by_request() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path().join("journal"));
        assert!(journal.read().unwrap().started.is_empty());
        for event in [Event::Started, Event::Began(3), Event::Ended(3)] {
            Writer::open(journal.path()).unwrap().write(event).unwrap();
        }
        let record = journal.read().unwrap();
        let process = i32::try_from(std::process::id()).unwrap();
        assert_eq!(record.started, [process]);
        assert_eq!(record.began[&3], [process]);
        assert!(record.ended.contains(&3));
    }

    #[test]
    #[should_panic(expected = "more than once")]
    fn a_request_that_arrived_twice_is_caught() {
        let began = BTreeMap::from([(3, vec![100, 101])]);
        let record = Record {
            began,
            ..Record::default()
        };
        record.assert_none_twice();
    }
}
