//! Two-step shutdown: the first SIGTERM or SIGINT asks to drain, the second one to stop at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What the signals have asked for so far. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Cancelled when the process should finish what it has and take nothing new.
    pub drain: CancellationToken,
    /// Cancelled when it should not finish what it has either.
    pub abort: CancellationToken,
}

impl Shutdown {
    /// Returns a shutdown that SIGTERM and SIGINT drive. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// Fails if the signal handlers cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Self::default();
        let asked = shutdown.clone();
        tokio::spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                }
            };
            let signal = next().await;
            tracing::info!(signal, "Draining; a second signal stops at once");
            asked.drain.cancel();
            let signal = next().await;
            tracing::warn!(signal, "Stopping at once");
            asked.abort.cancel();
        });
        Ok(shutdown)
    }
}
