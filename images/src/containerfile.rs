//! Reads the part of the Containerfile language that images of static binaries need.
//!
//! Whatever is accepted means here what it means to other builders; whatever could mean something else is an error.

#[cfg(test)]
mod tests;
mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// What is understood, for errors.
const SUPPORTED: &str =
    "FROM scratch, COPY, USER, ENTRYPOINT, CMD, ENV, LABEL, EXPOSE, WORKDIR and comments";

/// A Containerfile cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}: {problem}", path.display())]
pub struct Mistake {
    path: PathBuf,
    line: usize,
    problem: String,
}

/// A description of an image.
#[derive(Debug)]
pub(crate) struct Containerfile {
    path: PathBuf,
    /// What is in the image, in the order of the description.
    pub(crate) items: Vec<Item>,
    /// What the image runs.
    pub(crate) program: Program,
    pub(crate) user: Option<String>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) command: Option<Vec<String>>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// As in `8080/tcp`.
    pub(crate) ports: BTreeSet<String>,
    pub(crate) working_folder: Option<String>,
}

/// A file or folder of the image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Where the description asks for it, counted from 1.
    pub(crate) line: usize,
    /// Its path in the image, without the leading slash.
    pub(crate) destination: PathBuf,
    pub(crate) content: Content,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Folder,
    File {
        /// Its path in the context.
        source: PathBuf,
        /// Its mode, if that is not left to what the file is.
        mode: Option<u32>,
    },
}

/// The executable that the image runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Where the description names it, counted from 1.
    pub(crate) line: usize,
    /// Its path in the image, without the leading slash.
    pub(crate) path: PathBuf,
}

impl Containerfile {
    /// Reads `text`, which came from `path`.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Mistake> {
        let mistake = |line, problem| Mistake {
            path: path.to_owned(),
            line,
            problem,
        };
        let mut reading = Reading::default();
        for (line, instruction) in text::instructions(text) {
            reading
                .instruction(line, &instruction)
                .map_err(|problem| mistake(line, problem))?;
        }
        let end = text.lines().count().max(1);
        if !reading.begun {
            return Err(mistake(
                end,
                "it is empty; begin with FROM scratch".to_owned(),
            ));
        }
        // As at run time: CMD holds the arguments of ENTRYPOINT if there is one.
        let Some((line, words)) = reading.entrypoint.as_ref().or(reading.command.as_ref()) else {
            return Err(mistake(
                end,
                "the image runs nothing; write ENTRYPOINT [\"/PROGRAM\"]".to_owned(),
            ));
        };
        let program = Program {
            line: *line,
            path: image_path(&words[0]).map_err(|problem| mistake(*line, problem))?,
        };
        Ok(Self {
            path: path.to_owned(),
            items: reading.items,
            program,
            user: reading.user,
            entrypoint: reading.entrypoint.map(|(_, words)| words),
            command: reading.command.map(|(_, words)| words),
            environment: reading.environment,
            labels: reading.labels,
            ports: reading.ports,
            working_folder: reading.working_folder,
        })
    }

    /// Says what is wrong with `line`.
    pub(crate) fn mistake(&self, line: usize, problem: String) -> Mistake {
        Mistake {
            path: self.path.clone(),
            line,
            problem,
        }
    }
}

/// What the instructions so far have said.
#[derive(Default)]
struct Reading {
    begun: bool,
    items: Vec<Item>,
    user: Option<String>,
    /// With its line, as `command`.
    entrypoint: Option<(usize, Vec<String>)>,
    command: Option<(usize, Vec<String>)>,
    environment: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    ports: BTreeSet<String>,
    working_folder: Option<String>,
}

impl Reading {
    fn instruction(&mut self, line: usize, text: &str) -> Result<(), String> {
        let (keyword, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let keyword = keyword.to_ascii_uppercase();
        if self.begun == (keyword == "FROM") {
            return Err(if self.begun {
                "a second FROM; build in another place, and describe only the result".to_owned()
            } else {
                format!("{keyword} stands before FROM; begin with FROM scratch")
            });
        }
        match keyword.as_str() {
            "FROM" => self.from(rest),
            "COPY" => self.copy(line, rest),
            "USER" => self.user(rest),
            "ENTRYPOINT" => {
                self.entrypoint = Some((line, text::exec_form(&keyword, rest)?));
                Ok(())
            }
            "CMD" => {
                self.command = Some((line, text::exec_form(&keyword, rest)?));
                Ok(())
            }
            "ENV" => {
                self.environment.extend(text::pairs(&keyword, rest)?);
                Ok(())
            }
            "LABEL" => {
                self.labels.extend(text::pairs(&keyword, rest)?);
                Ok(())
            }
            "EXPOSE" => self.expose(rest),
            "WORKDIR" => self.work_folder(line, rest),
            _ => Err(format!(
                "{keyword} is not supported; supported are {SUPPORTED}"
            )),
        }
    }

    fn from(&mut self, rest: &str) -> Result<(), String> {
        if rest != "scratch" {
            return Err(format!("FROM {rest} is not supported; write FROM scratch"));
        }
        self.begun = true;
        Ok(())
    }

    fn copy(&mut self, line: usize, rest: &str) -> Result<(), String> {
        let words = text::words(rest)?;
        let flags = words
            .iter()
            .take_while(|word| word.starts_with("--"))
            .count();
        let (flags, paths) = words.split_at(flags);
        let mut mode = None;
        for flag in flags {
            let Some(value) = flag.strip_prefix("--chmod=") else {
                return Err(format!(
                    "{flag} is not supported; COPY takes --chmod=0755 only"
                ));
            };
            mode = Some(file_mode(value)?);
        }
        let [source, destination] = paths else {
            return Err(format!(
                "COPY got {} paths; write COPY FILE /PATH, one file each",
                paths.len()
            ));
        };
        let source = context_path(source)?;
        let mut path = image_path(destination)?;
        if destination.ends_with('/') {
            path.extend(source.file_name());
        }
        self.items.push(Item {
            line,
            destination: path,
            content: Content::File { source, mode },
        });
        Ok(())
    }

    fn user(&mut self, rest: &str) -> Result<(), String> {
        let is_number = |text: &str| {
            text.parse::<u32>()
                .is_ok_and(|number| number.to_string() == text)
        };
        let (user, group) = rest.split_once(':').unwrap_or((rest, "0"));
        if !is_number(user) || !is_number(group) {
            return Err(format!(
                "USER {rest} is not numeric; an image from scratch knows no names: write numbers, as in USER 65532:65532"
            ));
        }
        self.user = Some(rest.to_owned());
        Ok(())
    }

    fn expose(&mut self, rest: &str) -> Result<(), String> {
        let words = text::words(rest)?;
        if words.is_empty() {
            return Err("EXPOSE names no port; write it as in EXPOSE 8080".to_owned());
        }
        for word in words {
            let (port, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
            match port.parse::<u16>() {
                Ok(port @ 1..) if ["tcp", "udp", "sctp"].contains(&protocol) => {
                    self.ports.insert(format!("{port}/{protocol}"));
                }
                _ => {
                    return Err(format!(
                        "EXPOSE {word} is no port; write it as in 8080 or 53/udp"
                    ));
                }
            }
        }
        Ok(())
    }

    fn work_folder(&mut self, line: usize, rest: &str) -> Result<(), String> {
        let [folder] = text::words(rest)?
            .try_into()
            .map_err(|_| format!("WORKDIR {rest} is not one path; write WORKDIR /PATH"))?;
        self.items.push(Item {
            line,
            destination: image_path(&folder)?,
            content: Content::Folder,
        });
        self.working_folder = Some(folder);
        Ok(())
    }
}

fn file_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("--chmod={text} is no file mode; write an octal number, as in 0755"))
}

/// A path in the image, without the leading slash.
fn image_path(text: &str) -> Result<PathBuf, String> {
    text.strip_prefix('/')
        .map(|path| path.strip_suffix('/').unwrap_or(path))
        .filter(|path| path.is_empty() || is_plain(path))
        .map(PathBuf::from)
        .ok_or_else(|| {
            format!("{text} is not an absolute path in the image; write it as in /bin/program")
        })
}

/// A path in the context.
fn context_path(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("./").unwrap_or(text);
    Some(path)
        .filter(|path| is_plain(path) && !path.contains(['*', '?', '[', '<']))
        .map(PathBuf::from)
        .ok_or_else(|| {
            format!(
                "{text} is not the path of one file in the context folder; write it as in program"
            )
        })
}

/// Whether `path` leads down only, and every tool reads it alike.
fn is_plain(path: &str) -> bool {
    path.split('/').all(|part| !["", ".", ".."].contains(&part))
}
