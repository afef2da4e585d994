//! The asking side: starts a process in a role, and ends it.

use std::{env, process::Stdio};

use anyhow::Context as _;
use clap::ValueEnum as _;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::Role;
use crate::process;

/// A process in a role. Dropped, it ends.
#[derive(Debug)]
pub struct Playing {
    name: String,
    child: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Playing {
    /// Starts one, and returns it with what it says once it is there.
    ///
    /// # Errors
    ///
    /// When it does not come so far; why is on standard error.
    pub async fn start<T: DeserializeOwned>(
        role: Role,
        settings: &impl Serialize,
    ) -> anyhow::Result<(Self, T)> {
        let name = role.to_possible_value().context("a role without a name")?;
        let name = name.get_name().to_owned();
        let mut child = Command::new(env::current_exe()?)
            .args(["serve", &name])
            .arg(serde_json::to_string(settings)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let questions = child.stdin.take().context("no standard input")?;
        let answers = child.stdout.take().context("no standard output")?;
        let mut playing = Self {
            name,
            child,
            questions,
            answers: BufReader::new(answers).lines(),
        };
        let begun = playing.answer().await?;
        Ok((playing, begun))
    }

    /// Asks a question and returns the answer.
    ///
    /// # Errors
    ///
    /// When the process has ended, or answers something else.
    pub async fn ask<T: DeserializeOwned>(
        &mut self,
        question: &impl Serialize,
    ) -> anyhow::Result<T> {
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        self.questions.write_all(&line).await?;
        self.answer().await
    }

    async fn answer<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let line = self.answers.next_line().await?;
        let line = line.with_context(|| format!("the process '{}' has ended", self.name))?;
        serde_json::from_str(&line).with_context(|| format!("'{}' says {line}", self.name))
    }

    /// Its process.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn pid(&self) -> anyhow::Result<i32> {
        process::id(&self.child)
    }

    /// Ends it at once, as a node that fails does, and returns when it is gone.
    ///
    /// # Errors
    ///
    /// When it cannot be ended.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}
