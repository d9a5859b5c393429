//! `results.csv`: the figures of `metrics.jsonl` as a table, for spreadsheets and data frames.

use serde_json::{Map, Value};

/// One row per epoch and one column per figure. Figures of nested objects have dotted names, such
/// as `normal.entropy`. Lists, and so genotypes and warnings, are left out.
///
/// The table is made from all metrics each time, so that an epoch repeated by a resumed run has one
/// row.
pub(super) fn table(metrics: &[String]) -> Vec<u8> {
    let rows: Vec<Map<String, Value>> = metrics.iter().map(|line| figures(line)).collect();
    // A figure may be absent in some epochs, such as an accuracy that is not measured in every
    // epoch.
    let mut columns: Vec<&str> = Vec::new();
    for name in rows.iter().flat_map(Map::keys) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    columns.sort_by_key(|&name| (name != "epoch", name));
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(&columns).expect("memory takes all");
    for row in &rows {
        let cells = columns.iter().map(|&name| row.get(name).map_or(String::new(), cell));
        table.write_record(cells).expect("as many cells as columns");
    }
    table.into_inner().expect("memory takes all")
}

fn figures(line: &str) -> Map<String, Value> {
    let mut figures = Map::new();
    if let Ok(Value::Object(report)) = serde_json::from_str(line) {
        flatten("", report, &mut figures);
    }
    figures
}

fn flatten(prefix: &str, object: Map<String, Value>, figures: &mut Map<String, Value>) {
    for (key, value) in object {
        let name = format!("{prefix}{key}");
        match value {
            Value::Object(inner) => flatten(&format!("{name}."), inner, figures),
            Value::Array(_) | Value::Null => {}
            figure => drop(figures.insert(name, figure)),
        }
    }
}

fn cell(figure: &Value) -> String {
    match figure {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_become_columns() {
        let metrics = [
            r#"{"epoch":0,"loss":1.5,"list":[1],"cell":{"entropy":0.25,"deep":{"x":"a,\"b\""}}}"#,
            r#"{"epoch":1,"loss":null,"accuracy":true}"#,
        ];
        let table = table(&metrics.map(String::from));
        let text = String::from_utf8(table).expect("text");
        let expected = "epoch,accuracy,cell.deep.x,cell.entropy,loss\n\
                        0,,\"a,\"\"b\"\"\",0.25,1.5\n1,true,,,\n";
        assert_eq!(text, expected);
    }
}
