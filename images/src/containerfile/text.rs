//! From characters to instructions and words. What the words mean is not known here.

/// The instructions of `text` with the number of the line each begins on: comments and empty lines left out, continued
/// lines joined.
pub(super) fn instructions(text: &str) -> Vec<(usize, String)> {
    let mut instructions = Vec::new();
    let mut continued: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        // Blanks at the beginning stay: they separate the words of a continued line.
        let line = line.trim_end();
        if line.is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let (line, continues) = line
            .strip_suffix('\\')
            .map_or((line, false), |line| (line, true));
        let (first, mut instruction) = continued.take().unwrap_or((number, String::new()));
        instruction.push_str(line);
        if continues {
            continued = Some((first, instruction));
        } else {
            instructions.push((first, instruction.trim().to_owned()));
        }
    }
    instructions.extend(continued);
    instructions
}

/// Splits at blanks outside of quotes, and takes the quotes away.
pub(super) fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            // Other builders replace and remove these.
            (None | Some('"'), '$' | '\\') => {
                return Err(format!(
                    "{character} is not supported here; write the text itself, or put it between single quotes"
                ));
            }
            _ => word.get_or_insert_default().push(character),
        }
    }
    if let Some(open) = quote {
        return Err(format!(
            "a quotation that begins with {open} does not end; close it"
        ));
    }
    words.extend(word);
    Ok(words)
}

/// The `NAME=VALUE` words of ENV and LABEL.
pub(super) fn pairs(keyword: &str, text: &str) -> Result<Vec<(String, String)>, String> {
    let words = words(text)?;
    if words.is_empty() {
        return Err(format!(
            "{keyword} says nothing; write {keyword} NAME=VALUE"
        ));
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!(
            "{keyword} got {word}; write {keyword} NAME=VALUE, a VALUE with blanks in quotes"
        )),
    };
    words.iter().map(pair).collect()
}

/// The JSON list of ENTRYPOINT and CMD, which has at least one word.
pub(super) fn exec_form(keyword: &str, text: &str) -> Result<Vec<String>, String> {
    serde_json::from_str::<Vec<String>>(text)
        .ok()
        .filter(|words| !words.is_empty())
        .ok_or_else(|| {
            format!(
                "{keyword} {text} is not a list of words; an image from scratch has no shell: write \
                 {keyword} [\"/PROGRAM\", \"ARGUMENT\"]"
            )
        })
}
