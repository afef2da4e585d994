//! A network namespace that is held by a thread: what runs on the thread is inside, and it ends with the thread.
//!
//! It has no name, so that also a killed test leaves nothing behind.

use std::{
    env,
    io::{self, Write},
    panic::{self, AssertUnwindSafe},
    process::{Command, Output},
    sync::mpsc,
    thread,
};

use rustix::thread::{UnshareFlags, gettid};

type Work = Box<dyn FnOnce() + Send>;

/// Says that something could not be tried here, past the test harness's capture: nobody shall take it for passed.
///
/// # Panics
///
/// Where nothing may be left out, as in CI.
pub(crate) fn left_out(what: &str, reason: &str) {
    let line = format!("LEFT OUT: {what}: {reason}. This part is not passed.\n");
    io::stderr().write_all(line.as_bytes()).unwrap();
    let all_required = env::var_os("STILLWAKE_LEAVE_NOTHING_OUT").is_some_and(|set| set == "1");
    assert!(!all_required, "left out: {what}: {reason}");
}

/// Tells whether a program is there; says what is left out if not.
pub(crate) fn has(program: &str, what: &str) -> bool {
    let there = run(program, &["-V"]).is_ok();
    if !there {
        left_out(what, &format!("the program {program} is missing"));
    }
    there
}

/// A network namespace.
pub(crate) struct Namespace {
    work: mpsc::Sender<Work>,
    thread: String,
}

impl Namespace {
    /// Makes an empty one.
    pub(crate) fn new() -> io::Result<Self> {
        let (work, queue) = mpsc::channel::<Work>();
        let (made, outcome) = mpsc::channel();
        thread::spawn(move || {
            made.send(leave_network().map(|()| gettid())).unwrap();
            for work in queue {
                work();
            }
        });
        let thread = outcome.recv().unwrap()?;
        Ok(Self {
            work,
            thread: thread.to_string(),
        })
    }

    /// What `ip link … netns` knows it by.
    pub(crate) fn id(&self) -> &str {
        &self.thread
    }

    /// Runs `work` inside. Sockets that it opens stay there, whoever uses them.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, outcome) = mpsc::channel();
        let work = move || {
            let result = panic::catch_unwind(AssertUnwindSafe(work));
            done.send(result).unwrap();
        };
        self.work.send(Box::new(work)).unwrap();
        match outcome.recv().unwrap() {
            Ok(result) => result,
            Err(panicked) => panic::resume_unwind(panicked),
        }
    }

    /// Runs a program inside and returns what it wrote.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> String {
        let line = format!("{program} {}", arguments.join(" "));
        let program = program.to_owned();
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        let output = self.run(move || run(&program, &arguments)).unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line} failed: {told}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[expect(
    deprecated,
    reason = "what makes it unsafe are file descriptors, which a new network namespace leaves alone"
)]
fn leave_network() -> rustix::io::Result<()> {
    rustix::thread::unshare(UnshareFlags::NEWNET)
}

/// Runs a program, also one that is only in the administrators' folders, which PATH often lacks.
fn run(program: &str, arguments: &[impl AsRef<std::ffi::OsStr>]) -> io::Result<Output> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
        .ok_or(io::ErrorKind::NotFound)?;
    Command::new(found).args(arguments).output()
}
