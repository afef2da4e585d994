//! Writes random actions of both sides as frames, and marks where they begin and end things.

use httlib_hpack::Encoder;
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};

use super::{Marks, Streams};
use crate::pair::PREFACE;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const WITH_PRIORITY: u8 = 0x20;

#[derive(Clone, Copy, Debug)]
enum Action {
    Open,
    ClientData,
    ClientTrailers,
    ClientReset,
    ServerHead,
    ServerData,
    ServerReset,
    Push,
    ClientOther,
    ServerOther,
    Goaway,
}

/// An action and what it may need to choose.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    action: Action,
    which: Index,
    agent: Option<&'static str>,
    length: usize,
    ends: bool,
    padding: Option<u8>,
    has_priority: bool,
    /// Where to cut a header block into frames.
    cuts: Vec<Index>,
    encoding: u8,
}

prop_compose! {
    pub(crate) fn step()(
        action in prop_oneof![
            6 => Just(Action::Open), 3 => Just(Action::ClientData), 1 => Just(Action::ClientTrailers),
            1 => Just(Action::ClientReset), 4 => Just(Action::ServerHead), 4 => Just(Action::ServerData),
            1 => Just(Action::ServerReset), 1 => Just(Action::Push), 1 => Just(Action::ClientOther),
            1 => Just(Action::ServerOther), 1 => Just(Action::Goaway),
        ],
        which in any::<Index>(),
        agent in select(vec![None, Some("grpc-go/1.76.0"), Some("kube-probe/1.33"), Some("kube-probe/1.34")]),
        length in prop_oneof![0..40_usize, 0..3000_usize],
        ends in any::<bool>(),
        padding in prop::option::weighted(0.2, any::<u8>()),
        has_priority in prop::bool::weighted(0.2),
        cuts in prop_oneof![3 => vec(any::<Index>(), 0..1), 1 => vec(any::<Index>(), 1..3)],
        encoding in 0..16_u8,
    ) -> Step {
        Step { action, which, agent, length, ends, padding, has_priority, cuts, encoding }
    }
}

pub(crate) struct Builder {
    script: Streams,
    encoder: Encoder<'static>,
    /// The next stream that each side opens.
    next: u32,
    next_pushed: u32,
    /// For each GOAWAY of the server: the last stream it serves, and where it ends.
    goaways: Vec<(u32, usize)>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        let mut script = Streams::default();
        script.from_client.extend_from_slice(PREFACE);
        frame(
            &mut script.from_client,
            SETTINGS,
            0,
            0,
            &[0, 3, 0, 0, 0, 100],
        );
        frame(&mut script.from_server, SETTINGS, 0, 0, &[]);
        script.server_frames.push((script.from_server.len(), 0));
        Self {
            script,
            encoder: Encoder::default(),
            next: 1,
            next_pushed: 2,
            goaways: Vec::new(),
        }
    }

    pub(crate) fn finish(self) -> Streams {
        self.script
    }

    pub(crate) fn act(&mut self, step: &Step) {
        let data = vec![step.encoding; step.length];
        match step.action {
            Action::Open => self.open(step),
            Action::ClientData => {
                let Some(mut marks) = self.pick(step, |marks| marks.client_end.is_none()) else {
                    return;
                };
                let to = &mut self.script.from_client;
                padded(to, DATA, u8::from(step.ends), marks.id, &data, step);
                marks.client_end = step.ends.then_some(to.len());
                self.put_back(marks);
            }
            Action::ClientTrailers => {
                let Some(mut marks) = self.pick(step, |marks| marks.client_end.is_none()) else {
                    return;
                };
                let block = self.encode(
                    &[("x-checksum", "abc"), ("user-agent", "kube-probe/1")],
                    step,
                );
                let to = &mut self.script.from_client;
                fields(to, HEADERS, END_STREAM, marks.id, &block, step);
                marks.client_end = Some(to.len());
                self.put_back(marks);
            }
            Action::ClientReset => {
                let Some(mut marks) = self.pick(step, |_| true) else {
                    return;
                };
                let to = &mut self.script.from_client;
                frame(to, RST_STREAM, 0, marks.id, &[0, 0, 0, 8]);
                marks.client_reset = Some(to.len());
                self.put_back(marks);
            }
            Action::ServerHead => {
                let Some(mut marks) = self.pick(step, |marks| marks.server_end.is_none()) else {
                    return;
                };
                let to = &mut self.script.from_server;
                fields(to, HEADERS, u8::from(step.ends), marks.id, &data, step);
                marks.server_end = step.ends.then_some(to.len());
                self.served(marks.begun);
                self.put_back(marks);
            }
            Action::ServerData => {
                let Some(mut marks) = self.pick(step, |marks| marks.server_end.is_none()) else {
                    return;
                };
                let to = &mut self.script.from_server;
                padded(to, DATA, u8::from(step.ends), marks.id, &data, step);
                marks.server_end = step.ends.then_some(to.len());
                self.served(marks.begun);
                self.put_back(marks);
            }
            Action::ServerReset => {
                let Some(mut marks) = self.pick(step, |_| true) else {
                    return;
                };
                let to = &mut self.script.from_server;
                frame(to, RST_STREAM, 0, marks.id, &[0, 0, 0, 7]);
                marks.server_reset = Some(to.len());
                self.served(marks.begun);
                self.put_back(marks);
            }
            Action::Push => self.push(step),
            Action::ClientOther => other(&mut self.script.from_client, step, &data),
            Action::ServerOther => {
                other(&mut self.script.from_server, step, &data);
                self.served(0);
            }
            Action::Goaway => self.goaway(step),
        }
    }

    /// Takes out a stream that neither side has reset.
    fn pick(&mut self, step: &Step, suits: impl Fn(&Marks) -> bool) -> Option<Marks> {
        let is_open = |marks: &Marks| {
            let reset = marks.client_reset.or(marks.server_reset);
            reset.is_none() && (marks.client_end.is_none() || marks.server_end.is_none())
        };
        let streams = self.script.marks.iter().enumerate();
        let suitable: Vec<usize> = streams
            .filter(|(_, marks)| is_open(marks) && suits(marks))
            .map(|(at, _)| at)
            .collect();
        let at = suitable.get(step.which.index(suitable.len().max(1)))?;
        Some(self.script.marks.remove(*at))
    }

    fn put_back(&mut self, marks: Marks) {
        self.script.marks.push(marks);
    }

    /// Ends a frame of the server that comes after the client has sent this much.
    fn served(&mut self, after: usize) {
        let end = self.script.from_server.len();
        let before = self
            .script
            .server_frames
            .last()
            .map_or(0, |(_, after)| *after);
        self.script.server_frames.push((end, after.max(before)));
    }

    fn open(&mut self, step: &Step) {
        let id = self.next;
        self.next += 2 + 2 * u32::from(step.encoding == 0);
        let mut list = vec![
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/a.B/C"),
        ];
        list.extend(step.agent.map(|agent| ("user-agent", agent)));
        let block = self.encode(&list, step);
        let to = &mut self.script.from_client;
        let begun = to.len() + 9;
        fields(to, HEADERS, u8::from(step.ends), id, &block, step);
        let opened = to.len();
        let refused = self.goaways.iter().find(|(last, _)| id > *last);
        let refused = refused.map(|(_, end)| *end);
        self.put_back(Marks {
            id,
            begun,
            opened,
            ignored: step
                .agent
                .is_some_and(|agent| agent.starts_with("kube-probe/")),
            client_end: step.ends.then_some(opened),
            server_end: None,
            client_reset: None,
            server_reset: refused,
        });
    }

    /// Pushes a stream and sends all of it: it never counts.
    fn push(&mut self, step: &Step) {
        let Some(marks) = self.pick(step, |marks| marks.server_end.is_none()) else {
            return;
        };
        let pushed = self.next_pushed;
        self.next_pushed += 2;
        let promise = [&pushed.to_be_bytes()[..], b"\x82\x86\x84"].concat();
        let uncut = Step {
            cuts: Vec::new(),
            has_priority: false,
            ..step.clone()
        };
        let to = &mut self.script.from_server;
        fields(to, PUSH_PROMISE, 0, marks.id, &promise, &uncut);
        self.served(marks.begun);
        let to = &mut self.script.from_server;
        fields(to, HEADERS, END_STREAM, pushed, b"\x88", &uncut);
        self.served(marks.begun);
        self.put_back(marks);
    }

    /// Serves nothing above a stream any more, the one named never higher than before.
    fn goaway(&mut self, step: &Step) {
        let last = match step.which.index(3) {
            0 => u32::MAX >> 1,
            // Also ones that were skipped or not opened yet.
            _ => u32::try_from(step.length).unwrap() % (self.next + 6),
        };
        let last = self
            .goaways
            .last()
            .map_or(last, |(before, _)| last.min(*before));
        let to = &mut self.script.from_server;
        let payload = [&last.to_be_bytes()[..], b"\0\0\0\0debug"].concat();
        frame(to, GOAWAY, 0, 0, &payload);
        let end = to.len();
        self.goaways.push((last, end));
        for marks in &mut self.script.marks {
            if marks.id > last {
                marks.server_reset = Some(marks.server_reset.unwrap_or(end));
            }
        }
        self.served(0);
    }

    fn encode(&mut self, list: &[(&str, &str)], step: &Step) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in list {
            let field = (
                name.as_bytes().to_vec(),
                value.as_bytes().to_vec(),
                step.encoding | Encoder::BEST_FORMAT,
            );
            self.encoder.encode(field, &mut block).unwrap();
        }
        block
    }
}

fn frame(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    to.extend_from_slice(&length[1..]);
    to.extend_from_slice(&[kind, flags]);
    to.extend_from_slice(&stream.to_be_bytes());
    to.extend_from_slice(payload);
}

fn padded(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8], step: &Step) {
    match step.padding {
        Some(padding) => {
            let payload = [&[padding], payload, &vec![0; padding.into()]].concat();
            frame(to, kind, flags | PADDED, stream, &payload);
        }
        None => frame(to, kind, flags, stream, payload),
    }
}

/// Writes a header block, in as many frames as `step` says.
fn fields(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, block: &[u8], step: &Step) {
    let mut cuts: Vec<usize> = step
        .cuts
        .iter()
        .map(|cut| cut.index(block.len() + 1))
        .collect();
    cuts.sort_unstable();
    let first = cuts.first().copied().unwrap_or(block.len());
    let end = |is_last| if is_last { END_HEADERS } else { 0 };
    if step.has_priority && kind == HEADERS {
        let payload = [b"\x80\0\0\0\x10", &block[..first]].concat();
        let flags = flags | WITH_PRIORITY | end(cuts.is_empty());
        padded(to, kind, flags, stream, &payload, step);
    } else {
        padded(
            to,
            kind,
            flags | end(cuts.is_empty()),
            stream,
            &block[..first],
            step,
        );
    }
    for (number, cut) in cuts.iter().enumerate() {
        let next = cuts.get(number + 1).copied();
        let part = &block[*cut..next.unwrap_or(block.len())];
        frame(to, CONTINUATION, end(next.is_none()), stream, part);
    }
}

/// Writes a frame that ends and begins nothing.
fn other(to: &mut Vec<u8>, step: &Step, data: &[u8]) {
    match step.which.index(6) {
        0 => frame(to, SETTINGS, 1, 0, &[]),
        1 => frame(to, PING, step.encoding & 1, 0, &[1; 8]),
        2 => frame(to, WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        3 => frame(to, PRIORITY, 0, 101, &[0, 0, 0, 0, 1]),
        // On a stream that nobody has opened, or everybody has closed.
        4 => frame(to, RST_STREAM, 0, 1_000_001, &[0, 0, 0, 8]),
        _ => frame(to, 0xe0 | step.encoding, 0xff, 1, data),
    }
}
