//! Passes the output of the replicas on, each line with the name of its replica before it.
//!
//! Not for logs of our own.

use std::sync::Arc;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    sync::mpsc,
    task::JoinHandle,
};

/// Lines that wait to be written; when they are full, the replicas wait, as they would on a full pipe.
const WAITING_LINES: usize = 256;

/// Longest line that is passed on in one piece, in bytes.
const LONGEST_LINE: u64 = 64 * 1024;

/// Where a line is to be written.
#[derive(Clone, Copy, Debug)]
pub enum To {
    /// Our standard output.
    Stdout,
    /// Our standard error.
    Stderr,
}

/// Where the output of replicas goes. Clones share the way.
#[derive(Clone, Debug)]
pub struct Output(Option<mpsc::Sender<(To, Vec<u8>)>>);

/// Writes what [`Output`] was given.
#[derive(Debug)]
pub struct Writer(Option<JoinHandle<()>>);

/// Returns a way for output: to our own if `show`, else nowhere. Must be called inside a tokio runtime.
pub fn output(show: bool) -> (Output, Writer) {
    if !show {
        return (Output(None), Writer(None));
    }
    let (sender, lines) = mpsc::channel(WAITING_LINES);
    (
        Output(Some(sender)),
        Writer(Some(tokio::spawn(write(lines)))),
    )
}

impl Output {
    /// Returns true if output is to be read at all.
    pub fn is_shown(&self) -> bool {
        self.0.is_some()
    }

    /// Passes on the lines of `source` until it ends.
    pub async fn pass(self, name: Arc<str>, source: impl AsyncRead + Unpin, to: To) {
        let Some(lines) = self.0 else { return };
        let mut source = BufReader::new(source);
        loop {
            let mut line = format!("{name} | ").into_bytes();
            let begin = line.len();
            let mut limited = (&mut source).take(LONGEST_LINE);
            if limited.read_until(b'\n', &mut line).await.is_err() || line.len() == begin {
                return;
            }
            if line.last() != Some(&b'\n') {
                line.push(b'\n');
            }
            if lines.send((to, line)).await.is_err() {
                return;
            }
        }
    }
}

impl Writer {
    /// Waits until everything has been written; every [`Output`] must have been dropped.
    pub async fn finish(self) {
        if let Some(task) = self.0
            && let Err(error) = task.await
        {
            tracing::warn!(%error, "The output of the replicas ended early");
        }
    }
}

async fn write(mut lines: mpsc::Receiver<(To, Vec<u8>)>) {
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    while let Some((to, line)) = lines.recv().await {
        // A reader of ours that left must not stop the replicas: their output is read on and lost.
        let _ = match to {
            To::Stdout => write_line(&mut stdout, &line).await,
            To::Stderr => write_line(&mut stderr, &line).await,
        };
    }
}

async fn write_line(
    target: &mut (impl tokio::io::AsyncWrite + Unpin),
    line: &[u8],
) -> std::io::Result<()> {
    target.write_all(line).await?;
    target.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_line_carries_its_replica_and_the_last_one_gets_its_end() {
        let (sender, mut lines) = mpsc::channel(8);
        Output(Some(sender))
            .pass("web-1".into(), &b"one\ntwo"[..], To::Stdout)
            .await;
        let mut passed = Vec::new();
        while let Some((_, line)) = lines.recv().await {
            passed.extend(line);
        }
        assert_eq!(
            String::from_utf8(passed).unwrap(),
            "web-1 | one\nweb-1 | two\n"
        );
    }
}
