//! Random legal HTTP/2 connections and what must be in flight at each point of them: a plain list of offsets, to which
//! the order in which bytes pass does not matter.

mod steps;

use std::ops::RangeInclusive;

use proptest::{collection::vec, prelude::*};

use self::steps::{Builder, step};
use crate::{exchange::Conversation, pair::PREFACE};

/// A connection as both sides send it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    marks: Vec<Marks>,
    /// For each frame of the server, or header block of several: where it ends, and how far the client must have sent
    /// before it begins.
    server_frames: Vec<(usize, usize)>,
}

/// Offsets of one stream in what both sides send.
#[derive(Clone, Debug, Default)]
struct Marks {
    id: u32,
    /// Where the head of its first frame ends.
    begun: usize,
    /// Where its first header block ends.
    opened: usize,
    ignored: bool,
    client_end: Option<usize>,
    server_end: Option<usize>,
    client_reset: Option<usize>,
    /// Where the server resets or refuses it.
    server_reset: Option<usize>,
}

impl Conversation for Streams {
    fn by_client(&self) -> &[u8] {
        &self.from_client
    }

    fn by_server(&self) -> &[u8] {
        &self.from_server
    }

    fn in_flight(&self, client: usize, server: usize) -> u64 {
        if client < PREFACE.len() {
            // While it may be the start of something else, and the server has not told.
            return u64::from(client > 0 && server == 0);
        }
        let passed = |mark: Option<usize>, at: usize| mark.is_some_and(|mark| mark <= at);
        let counts = |marks: &&Marks| {
            let ended = passed(marks.client_end, client) && passed(marks.server_end, server);
            let reset = passed(marks.client_reset, client) || passed(marks.server_reset, server);
            let ignored = marks.ignored && marks.opened <= client;
            marks.begun <= client && !ended && !reset && !ignored
        };
        self.marks.iter().filter(counts).count() as u64
    }

    fn requests(&self) -> RangeInclusive<u64> {
        // What the server refuses may be refused before it begins; and the preface may have been shown as a request.
        let surely = |marks: &&Marks| !marks.ignored && marks.server_reset.is_none();
        let surely = self.marks.iter().filter(surely).count();
        surely as u64..=self.marks.len() as u64 + 1
    }

    fn client_may_send(&self, _server: usize) -> usize {
        self.from_client.len()
    }

    fn server_may_send(&self, client: usize) -> usize {
        let waits = self
            .server_frames
            .iter()
            .position(|(_, after)| *after > client);
        match waits {
            Some(0) => 0,
            Some(waits) => self.server_frames[waits - 1].0,
            None => self.from_server.len(),
        }
    }
}

impl Streams {
    /// Where the server's frames and header blocks end: another frame may be put there.
    pub(crate) fn boundaries(&self) -> Vec<usize> {
        self.server_frames.iter().map(|(end, _)| *end).collect()
    }
}

/// Up to forty actions of both sides.
pub(crate) fn streams() -> impl Strategy<Value = Streams> {
    vec(step(), 1..40).prop_map(|steps| {
        let mut builder = Builder::new();
        for step in &steps {
            builder.act(step);
        }
        builder.finish()
    })
}
