//! One slice: what is wished of it, what the watch shows, and what we wrote last.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Preconditions;
use tokio::time::Instant;

use super::{Outcome, trouble::Trouble};
use crate::slice::{is_ready, says};

/// How long a write is believed that the watch does not show. Long against what a watch takes, and short enough for what
/// somebody changed just after us.
const BELIEVED: Duration = Duration::from_secs(5);

/// A slice that is there.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    /// Whether it draws connections.
    pub(crate) ready: bool,
    uid: Option<String>,
    version: Option<String>,
    /// All it says, unless it is another replica's.
    content: Option<Box<EndpointSlice>>,
}

impl Published {
    /// Takes in a slice of this replica.
    pub(crate) fn own(slice: Box<EndpointSlice>) -> Self {
        let mut published = Self::foreign(&slice);
        published.content = Some(slice);
        published
    }

    /// Takes in a slice of another replica: only what it takes to delete it.
    pub(crate) fn foreign(slice: &EndpointSlice) -> Self {
        Self {
            ready: is_ready(slice),
            uid: slice.metadata.uid.clone(),
            version: slice.metadata.resource_version.clone(),
            content: None,
        }
    }
}

/// What is wished of a slice.
#[derive(Clone, Debug, Default)]
pub(super) enum Aim {
    /// Nothing.
    #[default]
    Leave,
    /// That it says this.
    Say(Arc<EndpointSlice>),
    /// That there is none.
    Absent,
}

impl Aim {
    fn is_met_by(&self, published: Option<&Published>) -> bool {
        match self {
            Self::Leave => true,
            Self::Absent => published.is_none(),
            Self::Say(wanted) => {
                let content = published.and_then(|published| published.content.as_deref());
                content.is_some_and(|content| says(content, wanted))
            }
        }
    }

    fn is(&self, content: Option<&EndpointSlice>) -> bool {
        match self {
            Self::Leave => true,
            Self::Absent => content.is_none(),
            Self::Say(wanted) => content == Some(wanted),
        }
    }
}

/// What we wrote last.
#[derive(Debug)]
pub(super) struct Written {
    /// None if it was deleted.
    content: Option<Arc<EndpointSlice>>,
    /// The version that the watch has to show: the one it has now, or for a deletion one from before that was never shown.
    /// Without that, a watch that knows of no slice would seem to be further than it is.
    version: Option<String>,
    /// Set until the watch has shown it.
    believed_until: Option<Instant>,
}

impl Written {
    /// Takes in what the watch shows now. Returns whether it is that far.
    fn is_shown(&mut self, published: Option<&Published>) -> bool {
        let same = published.is_some_and(|published| published.version == self.version);
        if self.content.is_some() {
            return same;
        }
        if same {
            self.version = None;
        }
        published.is_none() && self.version.is_none()
    }
}

/// One slice.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) aim: Aim,
    /// It is another replica's.
    pub(super) foreign: bool,
    pub(super) published: Option<Published>,
    written: Option<Written>,
    /// What is being written now.
    in_flight: Option<Aim>,
    /// An apply has failed, which may have been done all the same, and nothing was written since.
    doubtful: bool,
    pub(super) trouble: Trouble,
}

/// What is begun.
#[derive(Debug)]
pub(super) enum Begun {
    /// Applying this.
    Apply(Arc<EndpointSlice>),
    /// Deleting it; another replica's only if nobody has touched it since.
    Delete(Option<Preconditions>),
}

/// What goes before what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    Ready,
    Unready,
    Rest,
}

impl Record {
    /// What was written, as long as it goes before what is shown.
    fn believed(&self, now: Instant) -> Option<&Written> {
        let written = self.written.as_ref()?;
        written
            .believed_until
            .is_some_and(|until| now < until)
            .then_some(written)
    }

    /// Whether it draws connections, or nothing if there is no slice.
    pub(super) fn ready(&self, now: Instant) -> Option<bool> {
        match self.believed(now) {
            Some(written) => written.content.as_deref().map(is_ready),
            None => self.published.as_ref().map(|published| published.ready),
        }
    }

    /// Whether somebody has undone what we wrote, if there is something to do.
    fn is_undone(&self) -> bool {
        let written = self.written.as_ref();
        written.is_some_and(|written| self.aim.is(written.content.as_deref()))
    }

    /// Returns when to write.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if self.in_flight.is_some() {
            return None;
        }
        let shown = self.aim.is_met_by(self.published.as_ref());
        let shown = shown && !(self.doubtful && matches!(self.aim, Aim::Absent));
        let due = match self.believed(now) {
            Some(written) if !self.aim.is(written.content.as_deref()) => now,
            Some(written) if !shown => written.believed_until?,
            None if !shown => now,
            _ => return None,
        };
        Some(self.trouble.not_before(due, self.is_undone()))
    }

    pub(super) fn urgency(&self, now: Instant) -> Urgency {
        match &self.aim {
            Aim::Say(wanted) if is_ready(wanted) => Urgency::Ready,
            _ if self.ready(now) == Some(true) => Urgency::Unready,
            _ => Urgency::Rest,
        }
    }

    /// The watch tells what is published.
    pub(super) fn observe(&mut self, published: Option<Published>) {
        if let Some(written) = &mut self.written
            && written.is_shown(published.as_ref())
        {
            written.believed_until = None;
        }
        self.published = published;
    }

    /// Begins to write, if anything is wished.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Begun> {
        let begun = match &self.aim {
            Aim::Leave => return None,
            Aim::Say(slice) => Begun::Apply(slice.clone()),
            Aim::Absent => {
                let published = self.published.as_ref().filter(|_| self.foreign);
                Begun::Delete(published.map(|published| Preconditions {
                    uid: published.uid.clone(),
                    resource_version: published.version.clone(),
                }))
            }
        };
        if self.is_undone() {
            self.trouble.undone(now);
        }
        self.in_flight = Some(self.aim.clone());
        Some(begun)
    }

    /// What was begun has ended.
    pub(super) fn done(&mut self, outcome: Outcome, now: Instant) {
        let content = match self.in_flight.take() {
            Some(Aim::Say(slice)) => Some(slice),
            Some(Aim::Absent | Aim::Leave) | None => None,
        };
        let version = match outcome {
            Outcome::Applied(version) => version,
            Outcome::Deleted => self.unseen(),
            Outcome::Failed => {
                // Whether it was done after all, the watch says.
                if let Some(written) = &mut self.written {
                    written.believed_until = None;
                }
                self.doubtful |= content.is_some();
                self.trouble.failed(now);
                return;
            }
        };
        let mut written = Written {
            content,
            version,
            believed_until: None,
        };
        if !written.is_shown(self.published.as_ref()) {
            written.believed_until = Some(now + BELIEVED);
        }
        self.written = Some(written);
        self.doubtful = false;
        self.trouble.succeeded();
    }

    /// Returns the version that was written last, if the watch has not shown it.
    fn unseen(&self) -> Option<String> {
        let written = self.written.as_ref()?;
        written.believed_until.and_then(|_| written.version.clone())
    }

    /// Whether a slice is there, or may come to be.
    pub(super) fn remains(&self, now: Instant) -> bool {
        let wanted = matches!(self.aim, Aim::Say(_));
        wanted || self.is_in_flight() || self.doubtful || self.ready(now).is_some()
    }

    /// Whether something is being written.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether more is known than what was written once.
    pub(super) fn is_needed(&self) -> bool {
        let wanted = matches!(self.aim, Aim::Say(_));
        wanted || self.is_in_flight() || self.doubtful || self.published.is_some()
    }
}
