//! Shows the demo as it goes: a few lines that are redrawn on a terminal, a line per change elsewhere.
//!
//! Remembers how many replicas there were when; that is the report's.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};

use crate::{
    demo::load::Tally,
    local::{fleet::Phase, scaler, supervisor},
};

/// Time between two pictures.
const REDRAW: Duration = Duration::from_millis(200);

/// Time between two lines where nothing is redrawn and nothing changes.
const LINE: Duration = Duration::from_secs(2);

/// Lines of one picture.
const PICTURE: usize = 3;

/// What the marks of the picture stand for.
const LEGEND: &str = "Replicas are shown as ○ starting, ● ready, ◌ draining.\n";

/// How many replicas were ready since when.
pub(super) type Replicas = Vec<(Instant, usize)>;

/// The demo's output. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct View(Arc<Mutex<Screen>>);

#[derive(Debug)]
struct Screen {
    redraws: bool,
    drawn: bool,
    started: Instant,
    phase: String,
}

impl View {
    /// Creates a view, which redraws its lines if stdout is a terminal that can.
    pub(super) fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        let redraws = std::io::stdout().is_terminal() && !dumb;
        Self(Arc::new(Mutex::new(Screen {
            redraws,
            drawn: false,
            started: Instant::now(),
            phase: "Starting".to_owned(),
        })))
    }

    /// Says what is about to be seen.
    pub(super) fn introduce(&self, line: &str) {
        let mut screen = self.0.lock();
        screen.lines(&[line.to_owned()]);
        if screen.redraws {
            screen.lines(&[LEGEND.to_owned()]);
        }
    }

    /// Begins a new part.
    pub(super) fn phase(&self, name: &str) {
        let mut screen = self.0.lock();
        name.clone_into(&mut screen.phase);
        if !screen.redraws {
            let line = format!("{} {name}", screen.clock());
            screen.lines(&[line]);
        }
    }

    /// Writes `text` below what was drawn last.
    pub(super) fn below(&self, text: &str) {
        let mut screen = self.0.lock();
        screen.drawn = false;
        screen.lines(&[String::new(), text.to_owned()]);
    }

    /// Draws until the replicas are no longer watched. Returns how many were ready when.
    pub(super) async fn watch(
        self,
        mut fleet: watch::Receiver<supervisor::View>,
        scaler: watch::Receiver<scaler::View>,
        tally: Arc<Tally>,
    ) -> Replicas {
        let mut replicas = vec![(Instant::now(), fleet.borrow().ready())];
        let mut redraw = tokio::time::interval(REDRAW);
        redraw.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut line_due = Instant::now() + LINE;
        let mut answered = (Instant::now(), 0);
        let mut rate = 0.0;
        loop {
            let changed = tokio::select! {
                changed = fleet.changed() => match changed {
                    Ok(()) => true,
                    Err(_) => return replicas,
                },
                _ = redraw.tick() => false,
            };
            let now = Instant::now();
            let view = fleet.borrow_and_update().clone();
            let different = replicas
                .last()
                .is_none_or(|&(_, last)| last != view.ready());
            if different {
                replicas.push((now, view.ready()));
            }
            if (now - answered.0) >= Duration::from_secs(1) {
                let total = tally.answered();
                rate = (total - answered.1) as f64 / (now - answered.0).as_secs_f64();
                answered = (now, total);
            }
            let desired = scaler.borrow().desired;
            let mut screen = self.0.lock();
            if screen.redraws {
                screen.picture(&view, desired, &tally, rate);
            } else if (changed && different) || now >= line_due {
                line_due = now + LINE;
                let line = format!(
                    "{} replicas {} ready, {desired} wanted; requests {} answered, {} failed; {rate:.0}/s",
                    screen.clock(),
                    view.ready(),
                    tally.answered(),
                    tally.failed()
                );
                screen.lines(&[line]);
            }
        }
    }
}

impl Screen {
    fn clock(&self) -> String {
        format!("{:5.1}s", self.started.elapsed().as_secs_f64())
    }

    fn picture(&mut self, fleet: &supervisor::View, desired: u32, tally: &Tally, rate: f64) {
        let marks: String = fleet
            .replicas
            .iter()
            .map(|replica| match replica.member.phase {
                Phase::Starting => '○',
                Phase::Ready => '●',
                Phase::Draining => '◌',
            })
            .collect();
        let lines = [
            format!("  {}  {}", self.clock(), self.phase),
            format!(
                "  replicas  {marks:<8}  {} ready, {desired} wanted",
                fleet.ready()
            ),
            format!(
                "  requests  {} answered, {} failed, {rate:.0}/s",
                tally.answered(),
                tally.failed()
            ),
        ];
        // Up to the picture's first line, which every line then overwrites to its end.
        let up = if self.drawn {
            format!("\x1b[{PICTURE}A")
        } else {
            String::new()
        };
        self.drawn = true;
        let lines = lines.map(|line| format!("\x1b[2K{line}\n")).concat();
        // In one write, and cut rather than wrapped at a narrow terminal's edge: a wrapped line would be one more to
        // go up by.
        self.write(&format!("\x1b[?7l{up}{lines}\x1b[?7h"));
    }

    fn lines(&mut self, lines: &[String]) {
        self.write(&(lines.join("\n") + "\n"));
    }

    #[expect(clippy::unused_self, reason = "only who holds the screen may write")]
    fn write(&mut self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        // Whoever closed our output does not want to see more.
        let _ = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
    }
}
