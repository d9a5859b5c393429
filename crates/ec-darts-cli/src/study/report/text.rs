//! A report as Markdown and as tables of comma-separated values.

use ec_darts_study::Results;
use ec_darts_study::statistics::Interval;

use super::blocks::{Block, Cell, Section, Table};

pub fn markdown(title: &str, lead: &str, sections: &[Section]) -> String {
    let mut text = format!("# {}\n\n{}\n", escaped(title), escaped(lead));
    for section in sections {
        text += &format!("\n## {}\n", section.title);
        for block in &section.blocks {
            text += &match block {
                Block::Text(words) => format!("\n{}\n", escaped(words)),
                Block::List(items) => {
                    let items = items.iter().map(|item| format!("- {}\n", escaped(item)));
                    format!("\n{}", items.collect::<String>())
                }
                Block::Table(table) | Block::Folded(table) => markdown_table(table),
                Block::Pictures(pictures) => pictures
                    .iter()
                    .map(|p| {
                        let (title, caption) = (escaped(&p.title), escaped(&p.caption));
                        format!("\n{title}: {caption}\n\n![{title}]({}.svg)\n", p.name)
                    })
                    .collect(),
            };
        }
    }
    text
}

fn markdown_table(table: &Table) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let head = table.head.iter().map(|cell| cell.to_string()).collect();
    let rows = table
        .rows
        .iter()
        .map(|row| line(row.iter().map(|cell| escaped(&with_folders(cell))).collect()));
    format!("\n{}|{}\n{}", line(head), " --- |".repeat(table.head.len()), rows.collect::<String>())
}

/// A cell in which folders have names, because there are no links.
fn with_folders(cell: &Cell) -> String {
    match cell {
        Cell::Folders(all) => {
            let texts = all.iter().map(|(text, folder)| format!("{text} ({})", folder.display()));
            texts.collect::<Vec<String>>().join(", ")
        }
        other => other.shown(),
    }
}

/// Escapes a text: names of variants are plain, but errors of trials may contain any character.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' => safe.push(' '),
            '|' | '<' | '*' | '`' | '[' | '\\' => safe.extend(['\\', character]),
            other => safe.push(other),
        }
    }
    safe
}

/// Every figure of every table, one per row.
pub fn figures(sections: &[Section]) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["table", "row", "figure", "value", "low", "high", "text"])?;
    let tables = sections.iter().flat_map(|section| &section.blocks).filter_map(|b| match b {
        Block::Table(table) => Some(table),
        _ => None,
    });
    for table in tables {
        for row in &table.rows {
            let name = row.first().map(Cell::shown).unwrap_or_default();
            for (head, cell) in table.head.iter().zip(row).skip(1) {
                let [value, low, high] = match cell {
                    Cell::Number { value, .. } | Cell::Drawn { value, .. } => {
                        [value.to_string(), String::new(), String::new()]
                    }
                    Cell::Range { interval: Interval { low, high }, .. } => {
                        [String::new(), low.to_string(), high.to_string()]
                    }
                    _ => Default::default(),
                };
                let shown = cell.shown();
                writer.write_record([table.name, &name, head, &value, &low, &high, &shown])?;
            }
        }
    }
    Ok(writer.into_inner()?)
}

/// Every training of every candidate, one per row; a candidate without trainings has one row.
pub fn trainings(results: &Results) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = [
        "variant",
        "place",
        "genotype",
        "supernet_accuracy",
        "auxiliary_accuracy",
        "operation_weight",
        "training_seed",
        "accuracy",
        "on_test",
        "seconds",
        "processor_seconds",
        "folder",
    ];
    writer.write_record(head)?;
    let optional = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    for candidate in &results.candidates {
        let own = [
            candidate.variant.clone(),
            ec_darts_study::analysis::place(&candidate.place),
            candidate.genotype.clone(),
            optional(candidate.supernet_accuracy),
            optional(candidate.auxiliary_accuracy),
            optional(candidate.operation_weight),
        ];
        if candidate.trainings.is_empty() {
            writer
                .write_record(own.iter().cloned().chain(std::iter::repeat_n(String::new(), 6)))?;
        }
        for training in &candidate.trainings {
            let more = [
                training.seed.to_string(),
                training.accuracy.to_string(),
                training.on_test.to_string(),
                training.cost.seconds.to_string(),
                training.cost.processor_seconds.to_string(),
                training.folder.to_string_lossy().into_owned(),
            ];
            writer.write_record(own.iter().chain(&more))?;
        }
    }
    Ok(writer.into_inner()?)
}

/// Every epoch of every search, one per row.
pub fn searches(results: &Results) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = [
        "variant",
        "seed",
        "epoch",
        "supernet_accuracy",
        "auxiliary_accuracy",
        "entropy",
        "genotype",
        "seconds",
        "processor_seconds",
        "folder",
    ];
    writer.write_record(head)?;
    for search in &results.searches {
        for scores in &search.epochs {
            writer.write_record([
                search.variant.clone(),
                search.seed.to_string(),
                scores.epoch.to_string(),
                scores.supernet_accuracy.to_string(),
                scores.auxiliary_accuracy.map_or(String::new(), |accuracy| accuracy.to_string()),
                scores.entropy.to_string(),
                scores.genotype.clone(),
                search.cost.seconds.to_string(),
                search.cost.processor_seconds.to_string(),
                search.folder.to_string_lossy().into_owned(),
            ])?;
        }
    }
    Ok(writer.into_inner()?)
}

#[cfg(test)]
mod tests {
    use ec_darts_study::statistics::compare::PValue;

    use super::*;

    #[test]
    fn a_chance_by_draws_is_a_number_too() {
        let chance = Cell::chance(&Ok(PValue { value: 0.0123, draws: Some(1000) }));
        let table = Table {
            name: "ranks",
            head: vec!["in", "p"],
            rows: vec![vec![Cell::text("a"), chance]],
        };
        let section = Section { id: "ranks", title: "Ranks", blocks: vec![Block::Table(table)] };
        let lines = String::from_utf8(figures(&[section]).expect("in memory")).expect("text");
        let expected = "ranks,a,p,0.0123,,,0.0123 (1000 random permutations)";
        assert_eq!(lines.lines().nth(1), Some(expected));
    }
}
