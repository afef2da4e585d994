//! What the sidecar's program is asked to do: its arguments, read into a [`Command`].
//!
//! Without a parser of the usual kind, which is heavier than all that is parsed here.

use std::ffi::OsString;

use crate::env::{self, PortPair};

/// What the program does and how it is called; ends without a line end.
pub const USAGE: &str = "\
stillwake-sidecar stands in front of an app and counts its requests in flight.

  stillwake-sidecar                        run until SIGTERM, configured by STILLWAKE_SIDECAR_… in the environment
  stillwake-sidecar drain                  tell the one that runs to drain, by the socket STILLWAKE_SIDECAR_CONTROL names
  stillwake-sidecar redirect LISTEN:APP…   make connections to port APP arrive at port LISTEN; needs NET_ADMIN
  stillwake-sidecar --help | --version";

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve until a signal ends it.
    Run,
    /// Tell the sidecar that runs to drain.
    Drain,
    /// Make the kernel redirect, then end.
    Redirect(Vec<PortPair>),
    /// Print [`USAGE`].
    Help,
    /// Print the version.
    Version,
}

/// Arguments that make no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}\n\n{USAGE}")]
pub struct UsageError(String);

impl Command {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    ///
    /// Says what is wrong with them and how the program is called.
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, UsageError> {
        let arguments: Vec<_> = arguments
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        let Some((name, rest)) = arguments.split_first() else {
            return Ok(Self::Run);
        };
        let command = match name.as_str() {
            "drain" => Self::Drain,
            "redirect" => return redirect(rest),
            "--help" | "-h" => Self::Help,
            "--version" | "-V" => Self::Version,
            _ => return Err(UsageError(format!("{name:?} is no command"))),
        };
        match rest.first() {
            None => Ok(command),
            Some(more) => Err(UsageError(format!(
                "{name} takes no argument, and got {more:?}"
            ))),
        }
    }
}

fn redirect(pairs: &[String]) -> Result<Command, UsageError> {
    match env::ports(&pairs.join(",")) {
        Ok(ports) => Ok(Command::Redirect(ports)),
        Err(why) => Err(UsageError(format!(
            "redirect got {:?}, {why}; it takes pairs LISTEN:APP of port numbers",
            pairs.join(" ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, UsageError> {
        Command::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn each_command_is_known() {
        assert_eq!(parse(&[]), Ok(Command::Run));
        assert_eq!(parse(&["drain"]), Ok(Command::Drain));
        assert_eq!(parse(&["--help"]), Ok(Command::Help));
        assert_eq!(parse(&["--version"]), Ok(Command::Version));
        let pairs = [(15080, 8080), (15081, 9090)].map(|(listen, app)| PortPair { listen, app });
        let redirect = parse(&["redirect", "15080:8080", "15081:9090"]);
        assert_eq!(redirect, Ok(Command::Redirect(pairs.to_vec())));
    }

    #[test]
    fn what_makes_no_sense_is_named_together_with_what_there_is() {
        for (arguments, named) in [
            (&["run"][..], "\"run\" is no command"),
            (&[""], "\"\" is no command"),
            (
                &["drain", "now"],
                "drain takes no argument, and got \"now\"",
            ),
            (&["redirect"], "names no port"),
            (
                &["redirect", "15080"],
                "\"15080\" is wrong: there is no colon",
            ),
            (
                &["redirect", "8080:8080"],
                "both a listen port and an app port",
            ),
        ] {
            let error = parse(arguments).unwrap_err().to_string();
            assert!(error.contains(named), "{arguments:?}: {error}");
            assert!(error.ends_with(USAGE), "{error}");
        }
    }
}
