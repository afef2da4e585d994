//! Which slices of other replicas to delete, because nobody stands behind them any more. Synchronous: fed with slices,
//! replicas, answers and the time.
//!
//! The replicas agree without asking each other who begins: for each slice another one, by rendezvous hashing. If the
//! slice is still there a moment later, the next one does it.
//!
//! What a watch tells of a pod is a suspicion only, since watches lag behind each other: the slices of a replica that has
//! just started may be told before its pod. Nothing is deleted before the API server has been asked about the pod itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use stillwake_cluster::replicas::Replica;
use tokio::time::Instant;

use crate::{share::rank, slice::SliceName, writes::Published};

/// How long a container that ended may take to start again, before its slices go: the kubelet starts it at once the first
/// time, and then it finds its ports again.
const STOPPED: Duration = Duration::from_secs(1);

/// How long a pod that is being deleted may take to withdraw its slices. Past that there is nobody who would: the kubelet
/// of a node that is lost never says that the pod has ended.
const LEAVING: Duration = Duration::from_secs(30);

/// How long the watch's word must hold if nobody can be asked, because the slice does not say which pod it is of.
const UNNAMED: Duration = Duration::from_mins(1);

/// When the next replica in order does what the one before it has not.
const TAKEOVER: Duration = Duration::from_secs(1);

/// How long an answer counts.
const COUNTS: Duration = Duration::from_secs(10);

/// When to ask again after a failure or an answer that the pod lives; twice as long after each further one.
const FIRST_AGAIN: Duration = Duration::from_secs(1);
const LONGEST_AGAIN: Duration = Duration::from_secs(30);

/// A pod to ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// Its UID.
    pub(crate) uid: String,
    /// Its name.
    pub(crate) pod: String,
}

/// What the API server says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// There is a pod of that name.
    Pod(Replica),
    /// There is none.
    NoPod,
    /// Nothing.
    Silence,
}

/// What to do with a slice.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// Delete it.
    Condemned(SliceName, Published),
    /// After that: it is gone, or its replica may live after all.
    Pardoned(SliceName),
}

/// Why a replica needs its slices no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// There is no such pod.
    Gone,
    /// None of its containers runs.
    Stopped,
    /// It is being deleted.
    Leaving,
}

impl End {
    fn of(replica: Option<&Replica>) -> Option<Self> {
        match replica {
            None => Some(Self::Gone),
            Some(replica) if !replica.running => Some(Self::Stopped),
            Some(replica) if replica.terminating => Some(Self::Leaving),
            Some(_) => None,
        }
    }

    fn patience(self) -> Duration {
        match self {
            Self::Gone => Duration::ZERO,
            Self::Stopped => STOPPED,
            Self::Leaving => LEAVING,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Stopped => "stopped",
            Self::Leaving => "leaving",
        }
    }
}

/// A slice of another replica.
#[derive(Debug)]
struct Left {
    replica: String,
    pod: String,
    published: Published,
    condemned: bool,
}

/// A replica of which a watch says that it has ended.
#[derive(Debug)]
struct Suspect {
    end: End,
    since: Instant,
    /// Being asked about now.
    asking: bool,
    /// Until when the answer counts that it has ended.
    confirmed_until: Option<Instant>,
    /// When to ask again, and how often it was asked in vain.
    ask_at: Option<Instant>,
    in_vain: u32,
}

impl Suspect {
    fn new(end: End, now: Instant) -> Self {
        Self {
            end,
            since: now,
            asking: false,
            confirmed_until: None,
            ask_at: None,
            in_vain: 0,
        }
    }

    fn is_confirmed(&self, now: Instant) -> bool {
        self.confirmed_until.is_some_and(|until| now < until)
    }

    fn ask_later(&mut self, now: Instant) {
        let factor = 1 << self.in_vain.min(8);
        self.in_vain += 1;
        self.ask_at = Some(now + (FIRST_AGAIN * factor).min(LONGEST_AGAIN));
    }
}

/// All slices of other replicas.
#[derive(Debug)]
pub(crate) struct Orphans {
    own: String,
    /// None until they are known.
    replicas: Option<BTreeMap<String, Replica>>,
    live: BTreeSet<String>,
    slices: BTreeMap<SliceName, Left>,
    suspects: BTreeMap<String, Suspect>,
    questions: Vec<Question>,
    verdicts: Vec<Verdict>,
    due: Option<Instant>,
}

impl Orphans {
    /// Returns what knows of no replica. `own` is the UID of this one's pod.
    pub(crate) fn new(own: String) -> Self {
        Self {
            own,
            replicas: None,
            live: BTreeSet::new(),
            slices: BTreeMap::new(),
            suspects: BTreeMap::new(),
            questions: Vec::new(),
            verdicts: Vec::new(),
            due: None,
        }
    }

    /// A slice of another replica is published, by its UID and its pod's name.
    pub(crate) fn observe(
        &mut self,
        name: SliceName,
        (replica, pod): (&str, &str),
        published: Published,
        now: Instant,
    ) {
        let left = Left {
            replica: replica.to_owned(),
            pod: pod.to_owned(),
            published,
            condemned: false,
        };
        let before = self.slices.insert(name.clone(), left);
        if let Some(before) = before.filter(|before| before.condemned) {
            self.verdicts.push(Verdict::Pardoned(name));
            // Whoever has written it may be its replica.
            if let Some(suspect) = self.suspects.get_mut(&before.replica) {
                suspect.confirmed_until = None;
                suspect.ask_later(now);
            }
        }
        self.suspect(replica, now);
    }

    /// A slice is not there any more, or is not another replica's.
    pub(crate) fn forget(&mut self, name: &SliceName) {
        let left = self.slices.remove(name);
        if left.is_some_and(|left| left.condemned) {
            self.verdicts.push(Verdict::Pardoned(name.clone()));
        }
    }

    /// These are all replicas.
    pub(crate) fn replicas(&mut self, replicas: Vec<Replica>, now: Instant) {
        let live = replicas
            .iter()
            .filter(|replica| End::of(Some(replica)).is_none());
        self.live = live.map(|replica| replica.uid.clone()).collect();
        let known = replicas.into_iter();
        let known = known.map(|replica| (replica.uid.clone(), replica));
        self.replicas = Some(known.collect());
        let publishers: BTreeSet<_> = self
            .slices
            .values()
            .map(|left| left.replica.clone())
            .collect();
        self.suspects.retain(|uid, _| publishers.contains(uid));
        for uid in publishers {
            self.suspect(&uid, now);
        }
    }

    /// Returns the UIDs of the replicas that live, in their order, once they are known.
    pub(crate) fn live(&self) -> Option<Vec<String>> {
        self.replicas.as_ref()?;
        Some(self.live.iter().cloned().collect())
    }

    /// Returns whom to ask about.
    pub(crate) fn next_question(&mut self, now: Instant) -> Option<Question> {
        self.advance(now);
        self.questions.pop()
    }

    /// Returns what is decided, in order.
    pub(crate) fn verdicts(&mut self, now: Instant) -> Vec<Verdict> {
        self.advance(now);
        std::mem::take(&mut self.verdicts)
    }

    /// The API server has answered, or not.
    pub(crate) fn answered(&mut self, question: &Question, answer: Answer, now: Instant) {
        let Some(suspect) = self.suspects.get_mut(&question.uid) else {
            return;
        };
        suspect.asking = false;
        let end = match answer {
            Answer::Pod(found) => End::of(Some(&found).filter(|found| found.uid == question.uid)),
            Answer::NoPod => Some(End::Gone),
            Answer::Silence => None,
        };
        match end {
            // That it is being deleted was never enough by itself.
            Some(end) if end != End::Leaving || suspect.end == End::Leaving => {
                suspect.confirmed_until = Some(now + COUNTS);
                suspect.in_vain = 0;
            }
            _ => suspect.ask_later(now),
        }
        self.due = Some(now);
    }

    /// Returns when there is something to ask or to decide.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Returns what is suspected of whom, for a person to read: UID, what it is, and how many slices.
    pub(crate) fn suspects(&self) -> impl Iterator<Item = (&str, &'static str, usize)> {
        self.suspects.iter().map(|(uid, suspect)| {
            let slices = self.slices.values().filter(|left| left.replica == *uid);
            (uid.as_str(), suspect.end.name(), slices.count())
        })
    }

    /// Compares what a slice says of its replica with the replicas there are.
    fn suspect(&mut self, uid: &str, now: Instant) {
        let Some(replicas) = &self.replicas else {
            return;
        };
        match End::of(replicas.get(uid)) {
            None => {
                if self.suspects.remove(uid).is_some() {
                    self.pardon(uid);
                }
            }
            Some(end) => {
                self.due = Some(now);
                let suspect = self.suspects.entry(uid.to_owned());
                let suspect = suspect.or_insert_with(|| Suspect::new(end, now));
                if suspect.end != end {
                    let asking = suspect.asking;
                    *suspect = Suspect::new(end, now);
                    suspect.asking = asking;
                    self.pardon(uid);
                }
            }
        }
    }

    fn pardon(&mut self, uid: &str) {
        for (name, left) in &mut self.slices {
            if left.replica == uid && std::mem::take(&mut left.condemned) {
                self.verdicts.push(Verdict::Pardoned(name.clone()));
            }
        }
    }

    /// Asks and decides what is due.
    fn advance(&mut self, now: Instant) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = None;
        let mut due = Vec::new();
        let mut over = Vec::new();
        for (uid, suspect) in &mut self.suspects {
            if suspect.confirmed_until.is_some_and(|until| until <= now) {
                suspect.confirmed_until = None;
                over.push(uid.clone());
            }
        }
        for uid in over {
            self.pardon(&uid);
        }
        let mut publishers = BTreeSet::new();
        for (name, left) in &mut self.slices {
            let Some(suspect) = self.suspects.get_mut(&left.replica) else {
                continue;
            };
            publishers.insert(&left.replica);
            if left.condemned {
                due.extend(suspect.confirmed_until);
                continue;
            }
            let live = self.live.iter().map(String::as_str);
            let rank = rank(&self.own, &[&name.namespace, &name.name], live);
            let patience = if left.pod.is_empty() {
                UNNAMED
            } else {
                suspect.end.patience()
            };
            // More of them than that do not come into it.
            let before = TAKEOVER * u32::try_from(rank.min(100)).unwrap_or(100);
            let turn = suspect.since + patience + before;
            if now < turn {
                due.push(turn);
            } else if left.pod.is_empty() || suspect.is_confirmed(now) {
                left.condemned = true;
                let condemned = Verdict::Condemned(name.clone(), left.published.clone());
                self.verdicts.push(condemned);
                due.extend(suspect.confirmed_until);
            } else if let Some(at) = suspect.ask_at.filter(|at| now < *at) {
                due.push(at);
            } else if !suspect.asking {
                suspect.asking = true;
                suspect.ask_at = None;
                self.questions.push(Question {
                    uid: left.replica.clone(),
                    pod: left.pod.clone(),
                });
            }
        }
        self.suspects.retain(|uid, _| publishers.contains(uid));
        self.due = due.into_iter().min();
    }
}

#[cfg(test)]
mod tests;
