//! What of a connection the app has got nothing of, and when that is better given to another.
//!
//! Whether somebody takes it is found out by `handover`.

use std::{io, mem::MaybeUninit};

use socket2::SockRef;

use super::{Flow, Stage, Told, would_block};
use crate::relay::{RelayError, handover::Unserved};

impl Flow {
    /// Has the flow end, while draining, with what the app has got nothing of, if the app ends or is about to be told to:
    /// a connection on which nothing has passed, or the next request of one that is kept.
    pub(in crate::relay) fn with_successor(&mut self) {
        self.has_successor = true;
        self.awaits_first_byte = true;
    }

    /// Whether the flow, which has failed, has left the connection as the app had never seen it.
    pub(in crate::relay) fn is_unserved(&self) -> bool {
        self.is_draining() && self.awaits_first_byte
    }

    /// Whether what the client sends next begins a request that another could answer as well, on a connection that is
    /// kept: it is between two messages of HTTP/1, and the app has taken all that came before.
    pub(super) fn is_between_requests(&self) -> bool {
        self.is_draining()
            && self.has_successor
            && self.told == Told::Nothing
            && self.up.pending.is_empty()
            && self.down.pending.is_empty()
            && self.observer.is_http1()
            && self.observer.is_idle()
    }

    /// Whether what the client has just sent is better given to another than to the app.
    pub(super) fn leaves_app(&self) -> bool {
        if self.is_between_requests() {
            self.stage == Stage::AppStops || self.app_end().is_some()
        } else {
            self.stage == Stage::AppStops && self.is_unserved()
        }
    }

    /// Returns how the app has ended its side, if it has and all that it has said was read. Asks the kernel: the runtime
    /// learns of it only at its next turn, and what is written until then is lost.
    fn app_end(&self) -> Option<io::Error> {
        match SockRef::from(&self.app.stream).peek(&mut [MaybeUninit::uninit()]) {
            Ok(0) => Some(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => None,
            Err(error) => Some(error).filter(|error| !would_block(error)),
        }
    }

    /// Fails if the app has ended while nothing had been given to it.
    pub(super) fn check_unserved(&self) -> Result<(), RelayError> {
        if self.is_unserved()
            && let Some(error) = self.app_end()
        {
            return Err(RelayError::App(error));
        }
        Ok(())
    }

    /// Returns the client and all that it has sent; the app's side is reset.
    pub(in crate::relay) fn into_unserved(self) -> Unserved {
        Unserved {
            client: self.client,
            sent: self.up.pending.into_bytes(),
            observer: self.observer,
            accepted: true,
        }
    }
}
