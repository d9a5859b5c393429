//! Which operations each edge kept, epoch by epoch.

use ec_darts_space::{CellGenotype, CellKind, NUM_INPUTS, Primitive};

use super::read::Run;

/// Letters, class in `style.css`, and the name they stand for.
fn mark(primitive: Primitive) -> (&'static str, &'static str) {
    match primitive {
        Primitive::SepConv3x3 => ("s3", "sep"),
        Primitive::SepConv5x5 => ("s5", "sep"),
        Primitive::DilConv3x3 => ("d3", "dil"),
        Primitive::DilConv5x5 => ("d5", "dil"),
        Primitive::MaxPool3x3 => ("mx", "pool"),
        Primitive::AvgPool3x3 => ("av", "pool"),
        Primitive::SkipConnect | Primitive::None => ("sk", "skip"),
    }
}

/// A table for each kind of cell: edges down, epochs across.
pub fn tables(run: Option<&Run>) -> String {
    let Some(run) = run.filter(|run| !run.epochs.is_empty()) else {
        return "<p class=\"none\">No genotypes of epochs.</p>\n".into();
    };
    let key = |primitive: &Primitive| {
        let (letters, class) = mark(*primitive);
        format!("<li><b class=\"pick {class}\">{letters}</b> {primitive}</li>\n")
    };
    let keys: String = Primitive::ALL.iter().skip(1).map(key).collect();
    let mut text = format!(
        "<ul class=\"legend\">\n{keys}<li><b class=\"pick skip new\">sk</b> framed: not so in the \
         epoch before</li>\n<li>★ the epoch whose genotype the search returns</li>\n</ul>\n"
    );
    let best = run.metrics.last().and_then(|last| last["best_epoch"].as_u64()?.checked_sub(1));
    for kind in CellKind::ALL {
        let cells: Vec<&CellGenotype> = run.epochs.iter().map(|epoch| epoch.cell(kind)).collect();
        text += &table(kind, &cells, best.map(|best| best as usize));
    }
    text
}

fn table(kind: CellKind, cells: &[&CellGenotype], best: Option<usize>) -> String {
    let num_nodes = cells.iter().map(|cell| cell.nodes.len()).max().unwrap_or(0);
    let kept = |epoch: usize, node: usize, from: usize| {
        let picks = cells[epoch].nodes.get(node)?;
        picks.iter().find(|pick| pick.from == from).map(|pick| pick.primitive)
    };
    let epochs = 0..cells.len();
    let head = |epoch: usize| {
        let (class, star) = match best == Some(epoch) {
            true => (" class=\"best\"", "<br>★"),
            false => ("", ""),
        };
        format!("<th scope=\"col\"{class}>{}{star}</th>", epoch + 1)
    };
    let mut rows = String::new();
    let mut changes = vec![0; cells.len()];
    for node in 0..num_nodes {
        for from in 0..NUM_INPUTS + node {
            let name = match from {
                0 => "c<sub>k-2</sub>".to_string(),
                1 => "c<sub>k-1</sub>".to_string(),
                _ => (from - NUM_INPUTS).to_string(),
            };
            let mut row = format!("<th scope=\"row\">{name} → {node}</th>");
            for epoch in epochs.clone() {
                let now = kept(epoch, node, from);
                let new = epoch > 0 && now != kept(epoch - 1, node, from);
                changes[epoch] += usize::from(new && now.is_some());
                row += &now.map_or("<td></td>".into(), |primitive| {
                    let (letters, class) = mark(primitive);
                    let new = if new { " new" } else { "" };
                    format!(
                        "<td><b class=\"pick {class}{new}\" title=\"{primitive}\">{letters}</b></td>"
                    )
                });
            }
            let first = if from == 0 { " class=\"first\"" } else { "" };
            rows += &format!("<tr{first}>{row}</tr>\n");
        }
    }
    let counts = |name: &str, count: &dyn Fn(usize) -> usize| {
        let counts: String =
            epochs.clone().map(|epoch| format!("<td>{}</td>", count(epoch))).collect();
        format!("<tr><th scope=\"row\">{name}</th>{counts}</tr>\n")
    };
    let skips = |epoch: usize| cells[epoch].count(|each| each == Primitive::SkipConnect);
    let pools = |epoch: usize| cells[epoch].count(Primitive::is_pool);
    let feet = counts("changed", &|epoch| changes[epoch])
        + &counts("skips", &skips)
        + &counts("pools", &pools);
    format!(
        "<h3>{} cell</h3>\n<div class=\"wide\"><table class=\"epochs\">\n\
         <thead><tr><th scope=\"col\">edge, epoch</th>{}</tr></thead>\n\
         <tbody>\n{rows}</tbody>\n<tfoot>\n{feet}</tfoot>\n</table></div>\n",
        title(kind),
        epochs.clone().map(head).collect::<String>(),
    )
}

fn title(kind: CellKind) -> &'static str {
    match kind {
        CellKind::Normal => "Normal",
        CellKind::Reduction => "Reduction",
    }
}
