//! The answering side of a role: lines of JSON from standard input, and to standard output.

use std::io::Write as _;

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin, stdin};

/// Questions, one at a time.
#[derive(Debug)]
pub struct Conversation(Lines<BufReader<Stdin>>);

impl Conversation {
    /// Begins with what the role says of itself.
    ///
    /// # Errors
    ///
    /// When nobody listens.
    pub fn begin(greeting: &impl Serialize) -> anyhow::Result<Self> {
        let conversation = Self(BufReader::new(stdin()).lines());
        conversation.say(greeting)?;
        Ok(conversation)
    }

    /// Waits for the next question; none comes after the end of the input.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub async fn question<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        let line = self.0.next_line().await?;
        let question = line.map(|line| serde_json::from_str::<T>(&line));
        Ok(question.transpose()?)
    }

    /// Answers.
    ///
    /// # Errors
    ///
    /// When nobody listens.
    pub fn say(&self, answer: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(answer)?;
        line.push(b'\n');
        let mut output = std::io::stdout().lock();
        output.write_all(&line)?;
        Ok(output.flush()?)
    }

    /// Returns when the input has ended, whatever is asked.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub async fn end(mut self) -> anyhow::Result<()> {
        while self.0.next_line().await?.is_some() {}
        Ok(())
    }
}
