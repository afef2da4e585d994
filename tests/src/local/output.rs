//! What `stillwake run` printed: kept for a failure's report, and searched for the ready line.
//!
//! Keeps the last lines only; a chatty run must not fill the test's memory.

use std::{collections::VecDeque, fmt, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::ChildStderr,
};

/// Lines that are kept.
const KEPT: usize = 400;

/// Captured standard error.
#[derive(Clone, Debug, Default)]
pub(super) struct Output {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    ready: Option<(SocketAddr, SocketAddr)>,
}

impl Output {
    /// Reads `stream` to its end in the background.
    pub(super) fn capture(stream: ChildStderr) -> Self {
        let output = Self::default();
        let filled = output.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stream).split(b'\n');
            while let Ok(Some(line)) = lines.next_segment().await {
                filled.add(String::from_utf8_lossy(&line).into_owned());
            }
        });
        output
    }

    fn add(&self, line: String) {
        let mut kept = self.kept.lock();
        if kept.ready.is_none() {
            kept.ready = ready_addresses(&line);
        }
        if kept.lines.len() == KEPT {
            kept.lines.pop_front();
        }
        kept.lines.push_back(line);
    }

    /// Addresses of the service and of the admin pages, once the ready line has come.
    pub(super) fn ready_addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.kept.lock().ready
    }
}

impl fmt::Display for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.kept.lock().lines {
            writeln!(formatter, "{line}")?;
        }
        Ok(())
    }
}

/// Reads `Ready: http://ADDRESS → …; state at http://ADDRESS/debug/state`.
fn ready_addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (service, state) = line
        .strip_prefix("Ready: http://")?
        .rsplit_once("state at http://")?;
    let service = service.split(' ').next()?.parse().ok()?;
    let admin = state.split('/').next()?.parse().ok()?;
    Some((service, admin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_gives_both_addresses() {
        let line = "Ready: http://127.0.0.1:8080 → 0 replicas of python3 -m http.server; \
                    state at http://127.0.0.1:9900/debug/state";
        let expected = (
            "127.0.0.1:8080".parse().unwrap(),
            "127.0.0.1:9900".parse().unwrap(),
        );
        assert_eq!(ready_addresses(line), Some(expected));
        assert_eq!(ready_addresses("web-1: Ready: http://127.0.0.1:8080"), None);
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let output = Output::default();
        for number in 0..=KEPT {
            output.add(format!("line {number}"));
        }
        let text = output.to_string();
        assert_eq!(text.lines().count(), KEPT);
        assert!(text.starts_with("line 1\n"), "{text}");
    }
}
