//! The operations of each edge, epoch by epoch.

use ec_darts::train::EpochReport;
use ec_darts_space::{CellGenotype, CellKind, Genotype, NUM_INPUTS, Primitive, Recipe};
use maud::{Markup, html};

use super::html::none;
use super::read::Search;

/// The letters of a primitive, and their class in `style.css`.
fn mark(primitive: Primitive) -> (String, &'static str) {
    match primitive.recipe() {
        Recipe::Separable { kernel, dilation: 1, .. } => (format!("s{kernel}"), "sep"),
        Recipe::Separable { kernel, .. } => (format!("d{kernel}"), "dil"),
        Recipe::Convolution { kernel } => (format!("c{kernel}"), "sep"),
        Recipe::MaxPool { .. } => ("mx".into(), "pool"),
        Recipe::AvgPool { .. } => ("av".into(), "pool"),
        Recipe::Identity | Recipe::Zero => ("sk".into(), "skip"),
    }
}

/// A table for each kind of cell: edges down, epochs across.
pub fn tables(run: Option<&Search>) -> Markup {
    let Some(run) = run.filter(|run| !run.epochs.is_empty()) else {
        return none("No genotypes of epochs.");
    };
    let best = run.metrics.last().map(|last| last.best_epoch);
    let primitives = match &run.config {
        Some(config) => &config.network.primitives[..],
        None => &Primitive::DARTS,
    };
    html! {
        ul.legend {
            @for &primitive in primitives.iter().filter(|&&each| each != Primitive::None) {
                li { (letters(primitive, "")) " " (primitive.to_string()) }
            }
            li { b.pick.skip.new { "sk" } " framed: not so in the epoch before" }
            @for (stage, epoch) in stages(&run.metrics) {
                li { "stage " (stage) " begins with epoch " (epoch + 1) }
            }
            li { "★ the epoch whose genotype the search returns" }
        }
        @for (kind, cells) in cells(&run.epochs) { (table(kind, &cells, best)) }
    }
}

/// The cells of each kind that all epochs have, one per epoch.
fn cells(epochs: &[Genotype]) -> Vec<(CellKind, Vec<&CellGenotype>)> {
    let reductions: Option<Vec<_>> = epochs.iter().map(|epoch| epoch.reduction.as_ref()).collect();
    let normal = epochs.iter().map(|epoch| &epoch.normal).collect();
    let reductions = reductions.map(|cells| (CellKind::Reduction, cells));
    std::iter::once((CellKind::Normal, normal)).chain(reductions).collect()
}

/// The number of each stage of a search, counted from 1, and its first epoch, counted from 0.
fn stages(metrics: &[EpochReport]) -> Vec<(usize, usize)> {
    let numbered = metrics.iter().filter_map(|report| Some((report.stage?, report.epoch)));
    let mut stages: Vec<(usize, usize)> = numbered.collect();
    stages.dedup_by_key(|(stage, _)| *stage);
    stages
}

/// The letters of a primitive; `more` are additional classes.
fn letters(primitive: Primitive, more: &str) -> Markup {
    let (letters, class) = mark(primitive);
    html! { b class=(format!("pick {class}{more}")) title=(primitive.to_string()) { (letters) } }
}

/// The cells of one kind, one per epoch.
struct Table<'a>(&'a [&'a CellGenotype]);

impl Table<'_> {
    /// The operations of an edge; some rules keep two.
    fn kept(&self, epoch: usize, (from, node): (usize, usize)) -> Vec<Primitive> {
        let picks = self.0[epoch].nodes.get(node).into_iter().flatten();
        picks.filter(|pick| pick.from == from).map(|pick| pick.primitive).collect()
    }

    fn is_new(&self, epoch: usize, edge: (usize, usize)) -> bool {
        epoch > 0 && self.kept(epoch, edge) != self.kept(epoch - 1, edge)
    }

    /// Every edge as a pair of source and node.
    fn edges(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let num_nodes = self.0.iter().map(|cell| cell.nodes.len()).max().unwrap_or(0);
        let first = usize::from(self.0.iter().all(|cell| cell.reads_one_input()));
        (0..num_nodes)
            .flat_map(move |node| (first..NUM_INPUTS + node).map(move |from| (from, node)))
    }

    /// Whether an edge is the first of its node.
    fn starts(&self, from: usize, node: usize) -> bool {
        self.edges().find(|&(_, each)| each == node) == Some((from, node))
    }

    fn row(&self, (from, node): (usize, usize)) -> Markup {
        html! {
            tr.first[self.starts(from, node)] {
                th scope="row" {
                    @match from {
                        0 => { "c" sub { "k-2" } }
                        1 => { "c" sub { "k-1" } }
                        _ => { (from - NUM_INPUTS) }
                    }
                    " → " (node)
                }
                @for epoch in 0..self.0.len() {
                    td {
                        @for primitive in self.kept(epoch, (from, node)) {
                            (letters(primitive, if self.is_new(epoch, (from, node)) { " new" } else { "" }))
                        }
                    }
                }
            }
        }
    }
}

fn table(kind: CellKind, cells: &[&CellGenotype], best: Option<usize>) -> Markup {
    let table = Table(cells);
    let changed = |epoch: usize| {
        let kept = |edge: &(usize, usize)| !table.kept(epoch, *edge).is_empty();
        table.edges().filter(kept).filter(|&edge| table.is_new(epoch, edge)).count()
    };
    let skips = |epoch: usize| cells[epoch].count(|each| each == Primitive::SkipConnect);
    let pools = |epoch: usize| cells[epoch].count(Primitive::is_pool);
    let feet: [(&str, &dyn Fn(usize) -> usize); 3] =
        [("changed", &changed), ("skips", &skips), ("pools", &pools)];
    html! {
        h3 { (title(kind)) " cell" }
        div.wide {
            table.epochs {
                thead {
                    tr {
                        th scope="col" { "edge, epoch" }
                        @for epoch in 0..cells.len() {
                            th.best[best == Some(epoch)] scope="col" {
                                (epoch + 1) @if best == Some(epoch) { br; "★" }
                            }
                        }
                    }
                }
                tbody { @for edge in table.edges() { (table.row(edge)) } }
                tfoot {
                    @for (name, count) in feet {
                        tr {
                            th scope="row" { (name) }
                            @for epoch in 0..cells.len() { td { (count(epoch)) } }
                        }
                    }
                }
            }
        }
    }
}

fn title(kind: CellKind) -> &'static str {
    match kind {
        CellKind::Normal => "Normal",
        CellKind::Reduction => "Reduction",
    }
}
