//! Pieces of HTML.

use maud::{Markup, html};

pub fn section(id: &str, title: &str, content: Markup) -> Markup {
    html! {
        section id=(id) { h2 { (title) } (content) }
    }
}

/// A text that says that a part is absent.
pub fn none(text: &str) -> Markup {
    html! { p.none { (text) } }
}

/// A part that is folded until the reader opens it.
pub fn details(title: &str, content: Markup) -> Markup {
    html! {
        details { summary { (title) } (content) }
    }
}

/// A table whose first cell of each row is a head.
pub fn table(head: &[&str], rows: &[Vec<Markup>]) -> Markup {
    html! {
        div.wide {
            table {
                thead { tr { @for cell in head { th scope="col" { (cell) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (place, cell) in row.iter().enumerate() {
                                @if place == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A cell of a table.
pub fn cell(content: impl std::fmt::Display) -> Markup {
    html! { (content.to_string()) }
}

/// A fraction in [0, 1] as a percentage.
pub fn percent(fraction: f64) -> String {
    format!("{:.1} %", 100.0 * fraction)
}

/// A number with thin gaps between thousands.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A duration: `53 s`, `12 min 5 s`, `3 h 20 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(count(1234567).replace('\u{202f}', " "), "1 234 567");
        assert_eq!((count(999), count(0)), ("999".into(), "0".into()));
        assert_eq!(duration(53.46), "53.5 s");
        assert_eq!(duration(725.0), "12 min 5 s");
        assert_eq!(duration(12_000.0), "3 h 20 min");
        assert_eq!(percent(0.1234), "12.3 %");
        assert_eq!(cell("<a href=\"b\">&").0, "&lt;a href=&quot;b&quot;&gt;&amp;");
    }
}
