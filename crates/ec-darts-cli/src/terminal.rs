//! All output of the program goes through this module, so that no foreign text reaches the terminal
//! unescaped.

use std::borrow::Cow;
use std::io::{self, Write};

/// Text without characters that move the cursor, change colours or reverse the direction of
/// reading.
///
/// Names of files and classes and the content of files can contain such characters. They are shown
/// as JSON escapes (`\u001b`): a line of JSON stays one line and keeps its meaning, and a person
/// sees which character was there. Line ends and tabs stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_control(character) {
            // All of them have at most four hexadecimal digits.
            true => shown += &format!("\\u{:04x}", u32::from(character)),
            false => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

fn is_control(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        // Line separators, and characters that embed, override or isolate a writing direction.
        '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        // XML, and thus a picture, cannot contain these.
        '\u{fffe}' | '\u{ffff}' => true,
        _ => character.is_control(),
    }
}

/// Prints on standard output, whose reader may be gone.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(visible(text).as_bytes())?;
    Ok(output.flush()?)
}

/// Prints a line on standard error. A failure has no remedy and is ignored.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{}", visible(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown() {
        let plain = "één line\n\tand 中文 \u{5e9}\u{5dc}\u{5d5}\u{5dd}";
        assert!(matches!(visible(plain), Cow::Borrowed(text) if text == plain));
        assert_eq!(visible("a\u{1b}[31mb\r\u{7}\u{9b}2J"), "a\\u001b[31mb\\u000d\\u0007\\u009b2J");
        assert_eq!(visible("x\u{202e}y\u{2028}z\u{7f}\0"), "x\\u202ey\\u2028z\\u007f\\u0000");
    }

    /// JSON does not count C1 and separators as control characters: `serde_json` leaves them as
    /// they are.
    #[test]
    fn json_keeps_its_meaning() {
        let name = "\u{9b}31m \u{2028} \u{1b}[0m \r\n";
        let line = serde_json::json!({ "name": name }).to_string();
        let shown = visible(&line);
        assert!(shown.is_ascii(), "{shown}");
        let read: serde_json::Value = serde_json::from_str(&shown).expect("still JSON");
        assert_eq!(read["name"], name);
    }
}
