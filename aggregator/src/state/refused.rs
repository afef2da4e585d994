//! Triggers whose metadata make no sense. KEDA says of them only that it was given no metrics, so we say why.
//!
//! What makes sense is decided in `trigger`.

use super::{ScaledObjectKey, State};
use crate::{notice::Notice, trigger::TriggerError};

/// A trigger that was refused.
#[derive(Debug)]
pub(super) struct Refused {
    why: String,
    told: bool,
}

impl State {
    /// Notes how the trigger of a `ScaledObject` was read. A mistake is told once, until it is another one or mended.
    pub(crate) fn trigger_read(&mut self, key: &ScaledObjectKey, error: Option<&TriggerError>) {
        // Bounded by what exists: whoever reaches the port can name anything.
        let Some(error) = error.filter(|_| self.scaled_objects.contains_key(key)) else {
            self.refused.remove(key);
            return;
        };
        let why = error.to_string();
        if self.refused.get(key).is_none_or(|known| known.why != why) {
            let refused = Refused { why, told: false };
            self.refused.insert(key.clone(), refused);
        }
    }

    /// Returns the mistakes that have not been told.
    pub(super) fn refused_triggers(&mut self) -> Vec<Notice> {
        let untold = self.refused.iter_mut().filter(|(_, refused)| !refused.told);
        untold
            .map(|(key, refused)| {
                refused.told = true;
                Notice::Refused {
                    namespace: key.namespace.clone(),
                    name: key.name.clone(),
                    why: refused.why.clone(),
                }
            })
            .collect()
    }
}
