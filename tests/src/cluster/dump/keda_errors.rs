//! The errors in KEDA's logs that are about one namespace. Its conditions and events often leave the cause out.

use std::{collections::HashMap, fmt::Write};

use serde_json::Value;

/// Most errors that are told; the newest are.
const MAX_ERRORS: usize = 10;

/// What an error line says, without its time.
#[derive(PartialEq, Eq, Hash)]
struct Said {
    message: String,
    cause: String,
}

/// Returns each error once, the newest last, with when it came last and how often.
pub(super) fn text(logs: &str, namespace: &str) -> String {
    let mut times = HashMap::<Said, (&str, usize)>::new();
    for (time, said) in logs.lines().filter_map(|line| error(line, namespace)) {
        let (last, count) = times.entry(said).or_default();
        *last = time.max(*last);
        *count += 1;
    }
    let mut errors: Vec<_> = times.into_iter().collect();
    errors.sort_by_key(|(_, (last, _))| *last);
    let skipped = errors.len().saturating_sub(MAX_ERRORS);
    let mut text = String::new();
    for (Said { message, cause }, (last, count)) in errors.into_iter().skip(skipped) {
        let time = last.get(11..19).unwrap_or(last);
        let times = if count > 1 {
            format!(" ({count} times)")
        } else {
            String::new()
        };
        writeln!(text, "  {time}  {message}{times}: {cause}")
            .expect("writing to a string cannot fail");
    }
    text
}

/// Reads a line of tab-separated time, level, text and fields as JSON.
fn error<'a>(line: &'a str, namespace: &str) -> Option<(&'a str, Said)> {
    let (head, rest) = line.split_once("\tERROR\t")?;
    let (message, fields) = rest.rsplit_once('\t')?;
    let fields: Value = serde_json::from_str(fields).ok()?;
    let names = ["namespace", "scaledObject.Namespace"];
    let is_about = names.iter().any(|name| fields[*name] == namespace);
    let said = Said {
        message: message.replace('\t', " "),
        cause: fields["error"].as_str().unwrap_or_default().to_owned(),
    };
    is_about.then_some((head.split([' ', '\t']).next()?, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_namespace_are_told_once_with_their_cause() {
        let line = |second: u32, namespace: &str| {
            format!(
                "2026-11-24T03:00:0{second}.123Z 2026-11-24T03:00:0{second}Z\tERROR\tscaler\tfailed\t{{\"namespace\": \
                 \"{namespace}\", \"error\": \"connection refused\"}}\n"
            )
        };
        let info = "2026-11-24T03:00:09Z\tINFO\tall is well\t{\"namespace\": \"mine\"}\n";
        let logs = [
            line(1, "mine"),
            line(4, "mine"),
            line(5, "other"),
            info.to_owned(),
        ]
        .concat();
        assert_eq!(
            text(&logs, "mine"),
            "  03:00:04  scaler failed (2 times): connection refused\n"
        );
        assert_eq!(text(&logs, "nobody's"), "");
    }
}
