//! The proxies that are measured: the sidecar, and those it is compared with. Each as one process before one backend.

mod go;
mod haproxy;
mod nginx;
mod sidecar;

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::Context as _;
use stillwake_e2e::{
    processes,
    sidecar::free_address,
    wait::{self, PATIENCE},
};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::Instant,
};

use crate::{aggregators::Aggregators, backend::Backend, context::Context, process};

pub use self::go::{PROXY, QUEUE_PROXY, build as build_go};

/// Whom all others' figures are divided by.
pub const CONTROL: &str = "nginx";

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// No proxy: the backend itself.
    Direct,
    /// Ours.
    Sidecar,
    /// With one worker, and no master.
    Nginx,
    /// With one thread.
    Haproxy,
    /// Knative's, with `GOMAXPROCS=1`.
    QueueProxy,
    /// The standard library's, with `GOMAXPROCS=1`.
    Go,
}

/// All that are proxies.
pub const PROXIES: [Proxy; 5] = [
    Proxy::Nginx,
    Proxy::Sidecar,
    Proxy::Haproxy,
    Proxy::QueueProxy,
    Proxy::Go,
];

/// What goes through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// HTTP/1.1 on both sides.
    Http1,
    /// HTTP/2 without TLS on both sides; nginx speaks HTTP/1.1 to the backend, as it knows nothing else.
    Http2,
    /// Bytes that are no HTTP.
    Opaque,
}

impl AsRef<str> for Proxy {
    fn as_ref(&self) -> &str {
        match self {
            Self::Direct => "direct",
            Self::Sidecar => "sidecar",
            Self::Nginx => CONTROL,
            Self::Haproxy => "haproxy",
            Self::QueueProxy => "queue-proxy",
            Self::Go => "Go ReverseProxy",
        }
    }
}

impl Proxy {
    /// Returns why it cannot be measured with this on this machine, if it cannot.
    pub fn is_missing(self, context: &Context, mode: Mode) -> Option<String> {
        match self {
            Self::Direct => return None,
            Self::QueueProxy | Self::Go if mode == Mode::Opaque => {
                return Some("it forwards HTTP alone".to_owned());
            }
            Self::Nginx if mode == Mode::Opaque && !nginx::has_streams() => {
                return Some("its stream module is not installed".to_owned());
            }
            _ => {}
        }
        self.program(context).err().map(|error| error.to_string())
    }

    /// Returns where its program is.
    ///
    /// # Errors
    ///
    /// When it is not there, with the reason.
    pub fn program(self, context: &Context) -> anyhow::Result<&PathBuf> {
        context.program(match self {
            Self::Direct => "the direct way",
            Self::Sidecar => "stillwake-sidecar",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::QueueProxy => QUEUE_PROXY,
            Self::Go => PROXY,
        })
    }
}

/// Measures of its own that a part takes for a process.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// Words before the program's own: `taskset …`, or `valgrind …`.
    pub wrapper: Vec<String>,
    /// Whether a sidecar reports to nobody, so that it does the same at any speed.
    pub is_alone: bool,
    /// How many connections it is to be able to hold, where that is more than some thousands. nginx takes memory for them
    /// in advance.
    pub connections: usize,
}

/// A proxy that runs. Dropped, it ends.
#[derive(Debug)]
pub struct Running {
    /// Where clients connect to.
    pub address: SocketAddr,
    /// When its process was started.
    pub spawned: Instant,
    child: Option<Child>,
    folder: TempDir,
    _aggregators: Option<Aggregators>,
}

impl Running {
    /// Starts one before `backend`, and returns once it accepts.
    ///
    /// # Errors
    ///
    /// When it doesn't in time, with what it printed.
    pub async fn start(
        proxy: Proxy,
        context: &Context,
        backend: &Backend,
        mode: Mode,
        around: &Around,
    ) -> anyhow::Result<Self> {
        let mut running = Self::spawn(proxy, context, backend, mode, around).await?;
        running.accepts().await?;
        Ok(running)
    }

    /// As [`Self::start`], but returns at once.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub async fn spawn(
        proxy: Proxy,
        context: &Context,
        backend: &Backend,
        mode: Mode,
        around: &Around,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let upstream = if mode == Mode::Opaque {
            backend.echo
        } else {
            backend.http
        };
        if proxy == Proxy::Direct {
            return Ok(Self {
                address: upstream,
                spawned: Instant::now(),
                child: None,
                folder,
                _aggregators: None,
            });
        }
        let address = free_address()?;
        let place = Place {
            listen: address,
            upstream,
            mode,
            folder: folder.path(),
        };
        let mut aggregators = None;
        let mut command = match proxy {
            Proxy::Direct | Proxy::Nginx => nginx::command(context, around, &place)?,
            Proxy::Haproxy => haproxy::command(context, around, &place)?,
            Proxy::QueueProxy => go::queue_proxy(context, around, &place)?,
            Proxy::Go => go::proxy(context, around, &place)?,
            Proxy::Sidecar => {
                if !around.is_alone {
                    aggregators = Some(Aggregators::start().await?);
                }
                sidecar::command(context, around, &place, aggregators.as_ref())?
            }
        };
        let log = File::create(folder.path().join("log"))?;
        let spawned = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", proxy.as_ref()))?;
        Ok(Self {
            address,
            spawned,
            child: Some(child),
            folder,
            _aggregators: aggregators,
        })
    }

    /// Waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// When it does not in time.
    pub async fn accepts(&mut self) -> anyhow::Result<()> {
        let address = self.address;
        wait::until("the proxy", PATIENCE, || TcpStream::connect(address))
            .await
            .with_context(|| format!("it printed:\n{}", self.log()))?;
        Ok(())
    }

    /// Its process; none of the direct way's.
    pub fn pid(&self) -> Option<i32> {
        self.child
            .as_ref()
            .and_then(|child| process::id(child).ok())
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Ends it as its supervisor would, and returns all it printed.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub async fn stop(mut self) -> anyhow::Result<String> {
        if let (Some(pid), Some(child)) = (self.pid(), &mut self.child) {
            processes::signal(pid, rustix::process::Signal::TERM);
            tokio::time::timeout(PATIENCE, child.wait())
                .await
                .context("it does not end")??;
        }
        Ok(self.log())
    }
}

/// Where a proxy stands, which its configuration says.
struct Place<'a> {
    listen: SocketAddr,
    upstream: SocketAddr,
    mode: Mode,
    folder: &'a Path,
}

impl Place<'_> {
    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

/// Returns a command that runs `program` inside of the wrapper.
pub(crate) fn wrapped(around: &Around, program: &Path) -> Command {
    let mut words = around.wrapper.iter();
    match words.next() {
        None => Command::new(program),
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(program);
            command
        }
    }
}
