//! `/debug/state` of a run, as far as the suites look at it.
//!
//! What is missing or of another type is an error that names it, not a default.

use std::{fmt, net::SocketAddr};

use anyhow::{Context, ensure};
use http::StatusCode;
use serde_json::Value;

use crate::client;

/// One reading.
#[derive(Clone, Debug)]
pub struct State {
    whole: Value,
    desired: u64,
    started: u64,
    replicas: Vec<Replica>,
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It was started and doesn't answer yet.
    Starting,
    /// It takes connections.
    Ready,
    /// It finishes what it has.
    Draining,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its name.
    pub name: String,
    /// Process id of the app.
    pub pid: i32,
    /// Process id of the sidecar.
    pub sidecar_pid: i32,
    /// Port of the app.
    pub port: u16,
    /// Port of the sidecar.
    pub sidecar_port: u16,
    /// How far it is.
    pub phase: Phase,
}

impl State {
    pub(super) async fn read(admin: SocketAddr) -> anyhow::Result<Self> {
        let answer = client::get(admin, "/debug/state").await?;
        ensure!(
            answer.status == StatusCode::OK,
            "/debug/state: {}",
            answer.status
        );
        let whole: Value =
            serde_json::from_slice(&answer.body).context("/debug/state is not JSON")?;
        Self::parse(whole.clone()).with_context(|| format!("in /debug/state: {whole:#}"))
    }

    fn parse(whole: Value) -> anyhow::Result<Self> {
        let replicas = at(&whole, "/replicas")?
            .as_array()
            .context("replicas is not a list")?;
        Ok(Self {
            desired: number(&whole, "/scaler/desired")?,
            started: number(&whole, "/replicas_started")?,
            replicas: replicas
                .iter()
                .map(Replica::parse)
                .collect::<anyhow::Result<_>>()?,
            whole,
        })
    }

    /// Replicas that the scaler wants.
    pub fn desired(&self) -> u64 {
        self.desired
    }

    /// Replicas started since the run began.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// All replicas.
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// Replicas that take connections.
    pub fn ready(&self) -> impl Iterator<Item = &Replica> {
        self.replicas
            .iter()
            .filter(|replica| replica.phase == Phase::Ready)
    }

    /// Anything else, by JSON pointer (RFC 6901).
    ///
    /// # Errors
    ///
    /// When it isn't there.
    pub fn at(&self, pointer: &str) -> anyhow::Result<&Value> {
        at(&self.whole, pointer)
    }

    /// A number by JSON pointer.
    ///
    /// # Errors
    ///
    /// When it isn't there or no whole number.
    pub fn number(&self, pointer: &str) -> anyhow::Result<u64> {
        number(&self.whole, pointer)
    }

    /// Text by JSON pointer.
    ///
    /// # Errors
    ///
    /// When it isn't there or no text.
    pub fn text(&self, pointer: &str) -> anyhow::Result<&str> {
        text(&self.whole, pointer)
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#}", self.whole)
    }
}

impl Replica {
    fn parse(value: &Value) -> anyhow::Result<Self> {
        Ok(Self {
            name: text(value, "/name")?.to_owned(),
            pid: number(value, "/pid")?.try_into()?,
            sidecar_pid: number(value, "/sidecar_pid")?.try_into()?,
            port: number(value, "/port")?.try_into()?,
            sidecar_port: number(value, "/sidecar_port")?.try_into()?,
            phase: match text(value, "/state")? {
                "starting" => Phase::Starting,
                "ready" => Phase::Ready,
                "draining" => Phase::Draining,
                other => anyhow::bail!("a replica's state is {other:?}"),
            },
        })
    }
}

fn at<'a>(value: &'a Value, pointer: &str) -> anyhow::Result<&'a Value> {
    value
        .pointer(pointer)
        .with_context(|| format!("no {pointer}"))
}

fn number(value: &Value, pointer: &str) -> anyhow::Result<u64> {
    let found = at(value, pointer)?;
    found
        .as_u64()
        .with_context(|| format!("{pointer} is {found}, not a whole number"))
}

fn text<'a>(value: &'a Value, pointer: &str) -> anyhow::Result<&'a str> {
    let found = at(value, pointer)?;
    found
        .as_str()
        .with_context(|| format!("{pointer} is {found}, not text"))
}
