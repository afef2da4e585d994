//! Begins a drain on request: the socket on which `stillwake-sidecar drain` reaches the sidecar that runs, both its ends.
//!
//! It is an abstract Unix socket, because only the pod's own containers share its network namespace. On the admin port
//! anybody in the cluster could drain any pod; whoever runs inside the pod could as well stop the app.
//!
//! One line asks and one line answers.

use std::{io, time::Duration};

use stillwake_proxy::drain::Drain;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    time::{sleep, timeout},
};

const REQUEST: &str = "drain\n";
const DONE: &str = "draining\n";
const UNKNOWN: &str = "unknown request\n";

/// No line is longer.
const LONGEST: u8 = 64;

/// How long the sidecar waits for one who has connected to ask, and so the others with it.
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// How long whoever asks waits for the answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Reasons why a sidecar was not told to drain, or cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket's name is taken.
    #[error("cannot listen on the control socket @{name}: {source}")]
    Bind {
        /// The socket's name.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// Nobody listens.
    #[error(
        "no sidecar listens on the control socket @{name} in this network namespace: {source}; one that is to be \
         drained has to run with the same {}", crate::env::CONTROL.name
    )]
    Nobody {
        /// The socket's name.
        name: String,
        /// What came of the attempt.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the sidecar did not answer: {0}")]
    NoAnswer(#[source] io::Error),
    /// It did not answer in time.
    #[error("the sidecar did not answer within {ANSWER_LIMIT:?}")]
    AnswerLimit,
    /// It answered something else.
    #[error("the sidecar does not drain, its answer is {0:?}")]
    Refused(String),
}

/// Binds the socket `name`. Must be called inside a tokio runtime.
pub(crate) fn bind(name: &str) -> Result<UnixListener, ControlError> {
    UnixListener::bind(address(name)).map_err(|source| ControlError::Bind {
        name: name.to_owned(),
        source,
    })
}

/// Begins to drain when asked to. Never ends.
pub(crate) async fn serve(listener: UnixListener, drain: Drain) {
    loop {
        match listener.accept().await {
            // One after the other: what there is to say is short.
            Ok((stream, _)) => match timeout(ASK_LIMIT, answer(stream, &drain)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "A control connection broke off"),
                Err(_) => tracing::debug!("A control connection asked for nothing"),
            },
            Err(error) => {
                tracing::warn!(%error, "Cannot accept a control connection, trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, drain: &Drain) -> io::Result<()> {
    let request = line(&mut stream).await?;
    let answer = if request == REQUEST {
        if !drain.is_draining() {
            tracing::info!("Draining on request; connections are accepted until SIGTERM");
        }
        drain.begin();
        DONE
    } else {
        UNKNOWN
    };
    stream.write_all(answer.as_bytes()).await
}

/// Asks the sidecar that listens on the socket `name` to drain, and waits until it says that it does.
///
/// # Errors
///
/// Says why it does not, or that this took longer than 5 s.
pub(crate) async fn ask_to_drain(name: &str) -> Result<(), ControlError> {
    let asked = async {
        let stream = UnixStream::connect(address(name)).await;
        let mut stream = stream.map_err(|source| ControlError::Nobody {
            name: name.to_owned(),
            source,
        })?;
        let talked = async {
            stream.write_all(REQUEST.as_bytes()).await?;
            line(&mut stream).await
        };
        match talked.await {
            Ok(answer) if answer == DONE => Ok(()),
            Ok(answer) => Err(ControlError::Refused(answer)),
            Err(error) => Err(ControlError::NoAnswer(error)),
        }
    };
    timeout(ANSWER_LIMIT, asked)
        .await
        .map_err(|_| ControlError::AnswerLimit)?
}

/// Returns the path that stands for an abstract name.
fn address(name: &str) -> String {
    format!("\0{name}")
}

/// Reads a line, or what there is of it.
async fn line(stream: impl AsyncRead + Unpin) -> io::Result<String> {
    let mut line = String::new();
    let stream = stream.take(LONGEST.into());
    BufReader::with_capacity(LONGEST.into(), stream)
        .read_line(&mut line)
        .await?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a name that no other test has.
    fn unique(test: &str) -> String {
        format!("stillwake-tests-{}-{test}", std::process::id())
    }

    /// Serves a control socket and returns its drain.
    fn serving(name: &str) -> Drain {
        let drain = Drain::default();
        tokio::spawn(serve(bind(name).unwrap(), drain.clone()));
        drain
    }

    #[tokio::test]
    async fn whoever_asks_is_answered_and_the_drain_begins_but_not_the_leaving() {
        let name = unique("asks");
        let drain = serving(&name);
        for _ in 0..2 {
            ask_to_drain(&name).await.unwrap();
            assert!(drain.is_draining() && !drain.is_leaving());
        }
    }

    #[tokio::test]
    async fn other_requests_are_refused_and_nothing_drains() {
        let name = unique("others");
        let drain = serving(&name);
        for request in ["stop\n", "drain", "drain please\n", &"x".repeat(100)] {
            let mut stream = UnixStream::connect(address(&name)).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(line(&mut stream).await.unwrap(), UNKNOWN, "{request}");
        }
        assert!(!drain.is_draining());
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_says_nothing_does_not_keep_the_others_waiting() {
        let name = unique("silent");
        let drain = serving(&name);
        let _silent = UnixStream::connect(address(&name)).await.unwrap();
        ask_to_drain(&name).await.unwrap();
        assert!(drain.is_draining());
    }

    #[tokio::test(start_paused = true)]
    async fn a_sidecar_that_is_not_there_or_says_nothing_is_an_error_in_time() {
        let name = unique("absent");
        let error = ask_to_drain(&name).await.unwrap_err().to_string();
        assert!(error.contains(&format!("@{name}")), "{error}");
        let _deaf = bind(&name).unwrap();
        let error = ask_to_drain(&name).await.unwrap_err();
        assert!(matches!(error, ControlError::AnswerLimit), "{error}");
    }

    #[tokio::test]
    async fn a_name_that_is_taken_is_an_error_that_names_it() {
        let name = unique("taken");
        let _taken = bind(&name).unwrap();
        let error = bind(&name).unwrap_err().to_string();
        assert!(error.contains(&format!("@{name}")), "{error}");
    }
}
