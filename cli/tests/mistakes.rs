//! What people get wrong, and what `stillwake run` says and leaves behind then.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, SystemTime},
};

const STILLWAKE: &str = env!("CARGO_BIN_EXE_stillwake");

/// Far more than anything here takes, on a machine that does something else.
const DEADLINE: Duration = Duration::from_mins(1);

/// A command line of `run` with free ports, marked so that what it leaves behind can be found.
struct Run {
    marker: String,
    command: Command,
}

impl Run {
    fn new(flags: &[&str], words: &[&str]) -> Self {
        let marker = format!("stillwake-mistakes-{:016x}", rand::random::<u64>());
        let mut command = Command::new(STILLWAKE);
        command
            .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(flags)
            .arg("--")
            .args(words)
            .env("STILLWAKE_TEST_MARKER", &marker)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { marker, command }
    }

    /// Runs it to its end. Nothing of it may be left.
    fn fails(mut self, code: i32, said: &[&str]) {
        let Output { status, stderr, .. } = self.command.output().unwrap();
        let stderr = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(code), "{stderr}");
        for part in said {
            assert!(stderr.contains(part), "{part:?} is missing from:\n{stderr}");
        }
        self.leaves_nothing();
    }

    fn leaves_nothing(&self) {
        wait_until("no process is left", || self.processes(), Vec::is_empty);
    }

    /// The processes that inherited the marker. Zombies have no environment any more and do not count.
    fn processes(&self) -> Vec<(u32, String)> {
        let marker = format!("STILLWAKE_TEST_MARKER={}", self.marker);
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let marked = |id: &u32| {
            let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == marker.as_bytes())
        };
        let line = |id: u32| {
            let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            (id, String::from_utf8_lossy(&line).replace('\0', " "))
        };
        ids.filter(marked).map(line).collect()
    }
}

impl Drop for Run {
    /// After a test that failed; after others nothing is left.
    fn drop(&mut self) {
        for (id, _) in self.processes() {
            let id = rustix::process::Pid::from_raw(id.cast_signed()).unwrap();
            let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
        }
    }
}

fn wait_until<T: std::fmt::Debug>(what: &str, look: impl Fn() -> T, good: impl Fn(&T) -> bool) {
    let begun = SystemTime::now();
    loop {
        let seen = look();
        if good(&seen) {
            return;
        }
        assert!(
            begun.elapsed().unwrap() < DEADLINE,
            "waited in vain until {what}; last seen: {seen:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The sidecar is another package's binary; `make test` builds it beside this one.
fn needs_sidecar() {
    let sidecar = PathBuf::from(STILLWAKE).with_file_name("stillwake-sidecar");
    assert!(
        sidecar.exists(),
        "{} is missing: run `cargo build -p stillwake-sidecar`",
        sidecar.display()
    );
}

/// A sample app that is there at once.
const SERVER: &[&str] = &[STILLWAKE, "sample-app", "--port", "{port}"];

/// A run that has said that it is ready, and where.
struct Ready {
    run: Run,
    process: Child,
    address: String,
}

fn ready(flags: &[&str]) -> Ready {
    needs_sidecar();
    let mut run = Run::new(flags, SERVER);
    let mut process = run.command.spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let line = lines
        .by_ref()
        .map_while(Result::ok)
        .find(|line| line.starts_with("Ready: "));
    let line = line.expect("it ended without being ready");
    let address = line
        .split(' ')
        .nth(1)
        .unwrap()
        .trim_start_matches("http://")
        .to_owned();
    // Read on, so that it never waits for us.
    std::thread::spawn(move || lines.map_while(Result::ok).count());
    Ready {
        run,
        process,
        address,
    }
}

fn is_sidecar(id: u32) -> bool {
    let line = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
    line.contains("stillwake-sidecar")
}

impl Ready {
    /// The sidecars, which get no environment but their own.
    fn sidecars(&self) -> Vec<u32> {
        let parent = format!("PPid:\t{}\n", self.process.id());
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let ours = |id: &u32| {
            let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            status.contains(&parent)
        };
        ids.filter(|id| is_sidecar(*id)).filter(ours).collect()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(self.process.id().cast_signed()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    fn get(&self) -> String {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: tests\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

#[test]
fn an_unknown_flag_is_named() {
    Run::new(&["--colour", "blue"], SERVER).fails(64, &["--colour"]);
}

#[test]
fn a_missing_command_is_asked_for() {
    Run::new(&[], &[]).fails(64, &["COMMAND", "stillwake run [OPTIONS] -- COMMAND"]);
}

#[test]
fn no_replicas_at_all_is_no_way_to_run() {
    Run::new(&["--max", "0"], SERVER).fails(64, &["--max", "from 1 to 256"]);
}

#[test]
fn a_duration_without_unit_is_answered_with_examples() {
    Run::new(&["--cooldown", "10"], SERVER).fails(64, &["--cooldown", "250ms, 10s or 1m30s"]);
}

#[test]
fn an_address_that_is_none_is_answered_with_the_one_that_was_meant() {
    for address in ["8081", ":8081", "localhost:8081"] {
        Run::new(&["--scaler", address], SERVER)
            .fails(64, &[address, "--scaler", "such as 127.0.0.1:8081"]);
    }
}

#[test]
fn a_negative_number_is_a_wrong_value_and_no_unknown_flag() {
    Run::new(&["--min", "-1"], SERVER).fails(64, &["'-1'", "--min", "0 or more"]);
    Run::new(&["--cooldown", "-1s"], SERVER).fails(64, &["'-1s'", "--cooldown", "such as 250ms"]);
}

#[test]
fn flags_that_contradict_each_other_are_named_with_the_usage_of_run() {
    Run::new(&["--min", "5", "--max", "2"], SERVER)
        .fails(64, &["--min 5 is more than --max 2", "stillwake run"]);
}

#[test]
fn a_log_filter_that_is_none_is_answered_with_an_example() {
    Run::new(&["--log", "stillwake=loud"], SERVER)
        .fails(64, &["stillwake=loud", "warn,stillwake=info"]);
}

#[test]
fn help_is_no_failure_and_teaches() {
    let help = Command::new(STILLWAKE)
        .args(["run", "--help"])
        .output()
        .unwrap();
    assert_eq!(help.status.code(), Some(0));
    let help = String::from_utf8(help.stdout).unwrap();
    for part in [
        "python3 -m http.server {port}",
        "cooldownPeriod",
        "stabilizationWindowSeconds",
        "Exit codes",
    ] {
        assert!(help.contains(part), "{part:?} is missing from:\n{help}");
    }
    assert!(
        !help.contains("sample-app") && !help.contains("guardian"),
        "{help}"
    );
}

#[test]
fn a_command_that_does_not_exist_is_a_wrong_command_line() {
    needs_sidecar();
    Run::new(&[], &["no-such-server", "{port}"])
        .fails(64, &["'no-such-server' was not found", "PATH"]);
}

#[test]
fn a_command_that_cannot_be_executed_is_told_from_one_that_does_not_exist() {
    needs_sidecar();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    Run::new(&[], &[path]).fails(64, &[path, "is not executable", "chmod +x"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    Run::new(&[], &[path]).fails(64, &[path, "is not a file"]);
}

#[test]
fn a_missing_sidecar_is_named_with_what_builds_it() {
    let flags = ["--sidecar", "/nonexistent/sidecar"];
    Run::new(&flags, SERVER).fails(
        1,
        &["/nonexistent/sidecar", "cargo build -p stillwake-sidecar"],
    );
}

#[test]
fn a_port_in_use_is_named_with_the_flag_that_moves_it() {
    needs_sidecar();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    Run::new(&["--scaler", &address], SERVER).fails(1, &[&address, "in use", "--scaler"]);
}

#[test]
fn a_command_that_exits_at_once_is_told_with_its_output() {
    needs_sidecar();
    let words = ["sh", "-c", "echo out of cheese >&2; exit 3"];
    Run::new(&[], &words).fails(
        1,
        &[
            "check | out of cheese",
            "'sh' exited with code 3",
            "{port} is not among its arguments, so does it read PORT?",
            "keep running in the foreground",
        ],
    );
}

#[test]
fn a_first_replica_that_exits_at_once_is_told_too() {
    needs_sidecar();
    let words = ["sh", "-c", "exit 4"];
    Run::new(&["--min", "1"], &words).fails(1, &["first replica failed", "exited with code 4"]);
}

#[test]
fn a_command_that_never_listens_is_stopped_with_its_children() {
    needs_sidecar();
    let words = ["sh", "-c", "sleep 1000 & sleep 1000"];
    let flags = ["--startup-timeout", "300ms"];
    Run::new(&flags, &words).fails(
        1,
        &["did not listen", "300ms", "--startup-timeout", "{port}"],
    );
}

#[test]
fn a_command_that_listens_elsewhere_is_told_where() {
    needs_sidecar();
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port().to_string()
    };
    let words = [STILLWAKE, "sample-app", "--port", &port];
    // Long enough for it to listen on a busy machine; the answer comes only after it.
    Run::new(&["--startup-timeout", "3s"], &words).fails(
        1,
        &[
            &format!("it listens on 127.0.0.1:{port} instead"),
            "{port} is not among its arguments",
        ],
    );
}

#[test]
fn an_interrupt_finishes_and_leaves_nothing() {
    let mut ready = ready(&[]);
    let answer = ready.get();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("x-stillwake-cold-start: "), "{answer}");
    let processes = ready.run.processes();
    assert!(
        processes
            .iter()
            .any(|(_, line)| line.contains("sample-app")),
        "{processes:?}"
    );
    let sidecars = ready.sidecars();
    assert_eq!(sidecars.len(), 1);
    ready.signal(rustix::process::Signal::INT);
    assert_eq!(ready.process.wait().unwrap().code(), Some(0));
    ready.run.leaves_nothing();
    assert!(!is_sidecar(sidecars[0]));
}

#[test]
fn a_kill_leaves_nothing_either() {
    let mut ready = ready(&["--min", "1"]);
    let processes = ready.run.processes();
    assert!(
        processes
            .iter()
            .any(|(_, line)| line.contains("sample-app")),
        "{processes:?}"
    );
    let sidecars = ready.sidecars();
    assert_eq!(sidecars.len(), 1);
    ready.signal(rustix::process::Signal::KILL);
    assert_eq!(ready.process.wait().unwrap().signal(), Some(9));
    ready.run.leaves_nothing();
    wait_until(
        "the sidecar is gone",
        || is_sidecar(sidecars[0]),
        |left| !left,
    );
}

#[test]
fn an_interrupt_during_the_check_start_leaves_nothing() {
    needs_sidecar();
    let mut run = Run::new(&[], &["sh", "-c", "sleep 1000"]);
    let mut process = run.command.spawn().unwrap();
    let started = |processes: &Vec<(u32, String)>| {
        processes.iter().any(|(_, line)| line.starts_with("sleep"))
    };
    wait_until("the command runs", || run.processes(), started);
    let id = rustix::process::Pid::from_raw(process.id().cast_signed()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
    run.leaves_nothing();
}

#[test]
fn a_second_interrupt_during_the_check_start_does_not_wait_for_the_command() {
    needs_sidecar();
    let words = ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"];
    let mut run = Run::new(&["--grace", "1h"], &words);
    let mut process = run.command.spawn().unwrap();
    let started = |processes: &Vec<(u32, String)>| {
        processes.iter().any(|(_, line)| line.starts_with("sleep"))
    };
    wait_until("the command runs", || run.processes(), started);
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let id = rustix::process::Pid::from_raw(process.id().cast_signed()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    // Two signals that come before either is handled are one.
    let first = lines.by_ref().map_while(Result::ok).next().unwrap();
    assert!(first.contains("a second signal stops at once"), "{first}");
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    run.leaves_nothing();
    assert_eq!(process.wait().unwrap().code(), Some(0));
}
