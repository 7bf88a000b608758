//! What goes to standard output: escaped keys, rankings, JSON.
//!
//! Nothing here uses `println!`, which panics when the reader of a pipe has gone.

use std::io::{self, BufWriter, StdoutLock, Write};

use serde_json::Value;

use crate::failure::Failure;
use crate::human::grouped;

/// How keys are printed, for the help of every subcommand that prints some.
pub(crate) const ESCAPES: &str = "\
Keys are printed as UTF-8 text, with \\\\ for a backslash, \\t for a tab, \\n for a line feed, \\r for a carriage \
return, and \\x and two hexadecimal digits for every other byte that is not part of a printing character.";

/// How keys are given, for the help of every subcommand that takes some.
pub(crate) const GIVEN_KEYS: &str = "\
A key that starts with a dash comes behind all options and --. A key is the bytes of the argument as they are, so the \
escapes of printed keys are not read back: the shell has to make the bytes, as bash does of $'\\xff'. No argument has a \
zero byte, so neither have the keys that can be given here.";

/// The widest bar of a ranking, in terminal columns.
const BAR_WIDTH: usize = 40;

/// The longest key that a ranking shows whole, in characters.
const KEY_WIDTH: usize = 48;

/// Standard output, locked and with a large buffer. The caller flushes it, to see the error.
pub(crate) fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(1 << 16, io::stdout().lock())
}

/// Prints one JSON document with a line break.
pub(crate) fn json(document: &Value) -> Result<(), Failure> {
    let mut out = stdout();
    writeln!(out, "{document:#}")?;
    Ok(out.flush()?)
}

/// The key as [`ESCAPES`] says.
pub(crate) fn escaped(key: &[u8]) -> String {
    let mut text = String::with_capacity(key.len());
    for chunk in key.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\t' => text.push_str("\\t"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                hidden if is_hidden(hidden) => {
                    push_hexadecimal(&mut text, hidden.encode_utf8(&mut [0; 4]).as_bytes());
                }
                shown => text.push(shown),
            }
        }
        push_hexadecimal(&mut text, chunk.invalid());
    }
    text
}

/// Characters that would move the cursor, break the line or reorder the text around them.
fn is_hidden(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn push_hexadecimal(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push_str(&format!("\\x{byte:02x}"));
    }
}

/// Prints a ranking: place, key, a bar in proportion to the value, value.
pub(crate) fn ranking<K: AsRef<[u8]>>(out: &mut impl Write, ranked: &[(K, i64)]) -> io::Result<()> {
    let keys: Vec<String> = ranked.iter().map(|(key, _)| shortened(&escaped(key.as_ref()))).collect();
    let values: Vec<String> = ranked.iter().map(|(_, value)| grouped(value)).collect();
    let key_width = keys.iter().map(|key| key.chars().count()).max().unwrap_or(0);
    let value_width = values.iter().map(String::len).max().unwrap_or(0);
    let highest = ranked.first().map_or(0, |(_, value)| *value);
    for (index, (key, value)) in keys.iter().zip(&values).enumerate() {
        let bar = bar(ranked[index].1, highest);
        let place = index + 1;
        writeln!(out, "{place:>4}  {key:<key_width$}  {value:>value_width$}  {bar}")?;
    }
    Ok(())
}

fn shortened(key: &str) -> String {
    if key.chars().count() <= KEY_WIDTH {
        return key.to_owned();
    }
    key.chars().take(KEY_WIDTH - 1).chain(['\u{2026}']).collect()
}

/// A bar in eighths of a column, so that close values differ in length.
fn bar(value: i64, highest: i64) -> String {
    const EIGHTHS: [&str; 8] = ["", "\u{258f}", "\u{258e}", "\u{258d}", "\u{258c}", "\u{258b}", "\u{258a}", "\u{2589}"];
    if value <= 0 || highest <= 0 {
        return String::new();
    }
    let share = (value as f64 / highest as f64).min(1.0);
    let eighths = (share * (BAR_WIDTH * 8) as f64).round() as usize;
    format!("{}{}", "\u{2588}".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_print_on_one_line_and_unambiguously() {
        assert_eq!(escaped(b"twbs/bootstrap"), "twbs/bootstrap");
        assert_eq!(escaped("na\u{ef}ve \u{1f44f}".as_bytes()), "na\u{ef}ve \u{1f44f}");
        assert_eq!(escaped(b"a\tb\\c\nd\re\0f\x7f"), "a\\tb\\\\c\\nd\\re\\x00f\\x7f");
        assert_eq!(escaped(b"\xff\xc3"), "\\xff\\xc3");
        assert_eq!(escaped("\u{85}\u{202e}".as_bytes()), "\\xc2\\x85\\xe2\\x80\\xae");
    }

    #[test]
    fn bars_are_in_proportion() {
        assert_eq!(bar(10, 10).chars().count(), BAR_WIDTH);
        assert_eq!(bar(5, 10).chars().count(), BAR_WIDTH / 2);
        assert_eq!(bar(0, 10), "");
        assert_eq!(bar(-3, -3), "");
        assert_eq!(bar(i64::MAX, i64::MAX).chars().count(), BAR_WIDTH);
    }

    #[test]
    fn a_ranking_lines_up() {
        let mut out = Vec::new();
        ranking(&mut out, &[("video-1", 1_200), ("v", 600)]).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("   1  video-1  1,200  \u{2588}"), "{text}");
        assert!(lines[1].starts_with("   2  v          600  \u{2588}"), "{text}");
    }
}
