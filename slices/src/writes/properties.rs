//! What holds whatever happens: an API server and a watch that lags, in a few lines, and everything that may come between.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use proptest::prelude::*;

use super::{
    tests::{applied, name, shown, slice},
    *,
};

/// What may happen.
#[derive(Clone, Debug)]
enum Event {
    /// The wish for a slice changes.
    Want {
        which: u8,
        ready: bool,
        variant: u8,
    },
    Unwant {
        which: u8,
    },
    /// Somebody else changes or deletes it.
    Meddle {
        which: u8,
        variant: Option<u8>,
    },
    /// The watch shows the next few changes.
    Show {
        count: usize,
    },
    /// The first write that has begun ends.
    End {
        how: End,
    },
    Pass {
        milliseconds: u64,
    },
}

#[derive(Clone, Copy, Debug)]
enum End {
    Done,
    Refused,
    /// It was done, and the answer was lost.
    Lost,
}

fn event(longest: u64) -> impl Strategy<Value = Event> {
    let which = || 0..3_u8;
    prop_oneof![
        4 => (which(), any::<bool>(), 0..2_u8)
            .prop_map(|(which, ready, variant)| Event::Want { which, ready, variant }),
        2 => which().prop_map(|which| Event::Unwant { which }),
        1 => (which(), proptest::option::of(2..4_u8))
            .prop_map(|(which, variant)| Event::Meddle { which, variant }),
        5 => (1..4_usize).prop_map(|count| Event::Show { count }),
        5 => prop_oneof![4 => Just(End::Done), 1 => Just(End::Refused), 1 => Just(End::Lost)]
            .prop_map(|how| Event::End { how }),
        3 => (0..longest).prop_map(|milliseconds| Event::Pass { milliseconds }),
    ]
}

struct World {
    writes: Writes,
    now: Instant,
    version: u64,
    /// What is there, in its versions.
    server: BTreeMap<SliceName, (EndpointSlice, u64)>,
    /// What the watch has still to show.
    watch: VecDeque<(SliceName, Option<Published>)>,
    wanted: BTreeMap<SliceName, EndpointSlice>,
    begun: VecDeque<Write>,
    applied_at: Vec<Instant>,
    deleted_at: Vec<Instant>,
    /// What may be a reason to write.
    reasons: usize,
}

const PACE: Pace = Pace {
    interval: Duration::from_millis(20),
    burst: 3,
};

impl World {
    fn new() -> Self {
        Self {
            writes: Writes::new(PACE),
            now: Instant::now(),
            version: 0,
            server: BTreeMap::new(),
            watch: VecDeque::new(),
            wanted: BTreeMap::new(),
            begun: VecDeque::new(),
            applied_at: Vec::new(),
            deleted_at: Vec::new(),
            reasons: 0,
        }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Want {
                which,
                ready,
                variant,
            } => {
                let (name, slice) = (name(&which.to_string()), slice(ready, variant));
                self.wanted.insert(name.clone(), slice.clone());
                self.writes.want(name, Arc::new(slice), self.now);
                self.reasons += 1;
            }
            Event::Unwant { which } => {
                let name = name(&which.to_string());
                self.wanted.remove(&name);
                self.writes.unwant(&name, self.now);
                self.reasons += 1;
            }
            Event::Meddle { which, variant } => {
                self.put(
                    &name(&which.to_string()),
                    variant.map(|variant| slice(true, variant)),
                );
                self.reasons += 1;
            }
            Event::Show { count } => {
                for (name, published) in self.watch.drain(..count.min(self.watch.len())) {
                    self.writes.observe(name, published, self.now);
                }
            }
            Event::End { how } => self.end(how),
            Event::Pass { milliseconds } => self.now += Duration::from_millis(milliseconds),
        }
        while let Some(write) = self.writes.next(self.now) {
            let same = self.begun.iter().any(|begun| begun.name() == write.name());
            assert!(!same, "two writes of a slice at a time");
            match write {
                Write::Apply(..) => self.applied_at.push(self.now),
                Write::Delete(..) => self.deleted_at.push(self.now),
            }
            self.begun.push_back(write);
        }
    }

    /// Puts a slice, as an API server does: what does not differ is no change.
    fn put(&mut self, name: &SliceName, slice: Option<EndpointSlice>) {
        let known = self.server.get(name).map(|(known, _)| known);
        if known == slice.as_ref() {
            return;
        }
        self.version += 1;
        let published = slice.as_ref().map(|slice| shown(slice, self.version));
        self.watch.push_back((name.clone(), published));
        match slice {
            Some(slice) => {
                self.server.insert(name.clone(), (slice, self.version));
            }
            None => {
                self.server.remove(name);
            }
        }
    }

    fn end(&mut self, how: End) {
        let Some(write) = self.begun.pop_front() else {
            return;
        };
        let name = write.name().clone();
        let slice = match write {
            Write::Apply(_, slice) => Some(slice.as_ref().clone()),
            Write::Delete(..) => None,
        };
        if !matches!(how, End::Refused) {
            self.put(&name, slice.clone());
        }
        let outcome = match (how, &slice) {
            (End::Done, Some(_)) => applied(self.server[&name].1),
            (End::Done, None) => Outcome::Deleted,
            (End::Refused | End::Lost, _) => Outcome::Failed,
        };
        if outcome == Outcome::Failed {
            self.reasons += 1;
        }
        self.writes.done(&name, outcome, self.now);
    }

    /// Lets everything end well, until nothing is to be done at any time.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.happen(&Event::End { how: End::Done });
            if self.begun.is_empty() {
                self.happen(&Event::Show { count: usize::MAX });
                match self.writes.next_due() {
                    _ if !self.begun.is_empty() => {}
                    Some(due) => self.now = self.now.max(due),
                    None => return,
                }
            }
        }
        panic!("it never comes to an end");
    }

    fn is_as_wanted(&self) -> bool {
        let server = self.server.iter().map(|(name, (slice, _))| (name, slice));
        server.eq(self.wanted.iter())
    }
}

proptest! {
    #[test]
    fn in_the_end_that_is_published_which_is_wanted(
        events in proptest::collection::vec(event(10_000), 0..60)
    ) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
        }
        // What others have put there that was never ours is none of our business before it is.
        for which in 0..3 {
            let name = name(&which.to_string());
            if !world.wanted.contains_key(&name) {
                world.happen(&Event::Unwant { which });
            }
        }
        world.settle();
        prop_assert!(world.is_as_wanted(), "{:?} != {:?}", world.server, world.wanted);
        let remain = !world.wanted.is_empty();
        prop_assert_eq!(world.writes.remain(world.now), remain);
    }

    #[test]
    fn there_are_no_more_writes_than_reasons(
        // So short that whatever the watch has not shown is still believed.
        events in proptest::collection::vec(event(150), 0..60)
    ) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
        }
        world.settle();
        let writes = world.applied_at.len() + world.deleted_at.len();
        prop_assert!(writes <= world.reasons, "{writes} writes for {} reasons", world.reasons);
    }

    #[test]
    fn the_rate_is_bounded(events in proptest::collection::vec(event(100), 0..100)) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
        }
        for (at, pace) in [(&world.applied_at, PACE), (&world.deleted_at, PACE.of_deletions())] {
            for (first, start) in at.iter().enumerate() {
                for (last, end) in at.iter().enumerate().skip(first) {
                    let count = u32::try_from(last - first + 1).unwrap();
                    let time = *end - *start;
                    let least = pace.interval * (count.saturating_sub(pace.burst));
                    prop_assert!(least <= time, "{count} in {time:?}");
                }
            }
        }
    }
}
