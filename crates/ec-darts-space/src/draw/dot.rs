//! Graphviz text, for a user who wants another layout.

use std::fmt::Write as _;

use super::family::{CONCAT, Family};
use crate::{CellGenotype, CellKind, Genotype, NUM_INPUTS};

/// Both cells as one Graphviz digraph with one cluster per cell.
///
/// ```
/// use ec_darts_space::{Preset, draw};
///
/// let text = draw::dot(&Preset::find("DARTS_V1")?.genotype());
/// assert!(text.contains("normal_1 -> normal_2 [label=\"sep_conv_3x3\""));
/// # Ok::<(), ec_darts_space::Error>(())
/// ```
pub fn dot(genotype: &Genotype) -> String {
    let clusters: Vec<String> = genotype.cells().map(|(kind, cell)| cluster(kind, cell)).collect();
    format!(
        "digraph genotype {{\n  rankdir=LR;\n  fontname=sans;\n  \
         node [shape=box, style=rounded, fontname=sans];\n  \
         edge [fontname=sans, fontsize=11];\n{}}}\n",
        clusters.concat()
    )
}

fn cluster(kind: CellKind, cell: &CellGenotype) -> String {
    let mut text = format!("  subgraph cluster_{kind} {{\n    label=\"{kind} cell\";\n");
    let mut line = |line: String| writeln!(text, "    {line}").expect("a string takes any text");
    let inputs = ["k-2", "k-1"].iter().enumerate();
    for (state, input) in inputs.skip(usize::from(cell.reads_one_input())) {
        line(format!("{kind}_{state} [label=<c<sub>{input}</sub>>];"));
    }
    for (node, picks) in cell.nodes.iter().enumerate() {
        let state = NUM_INPUTS + node;
        line(format!("{kind}_{state} [label=\"{node}\"];"));
        for pick in picks {
            let (from, color) = (pick.from, Family::of(pick.primitive).color());
            let label = pick.primitive;
            line(format!(
                "{kind}_{from} -> {kind}_{state} [label=\"{label}\", color=\"{color}\"];"
            ));
        }
    }
    line(format!("{kind}_output [label=<c<sub>k</sub>>];"));
    for state in &cell.concat {
        line(format!("{kind}_{state} -> {kind}_output [color=\"{}\"];", CONCAT));
    }
    text + "  }\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;

    #[test]
    fn an_arrow_for_each_pick_and_each_joined_node() {
        for preset in Preset::ALL {
            let text = dot(&preset.genotype());
            assert_eq!(text.matches(" -> ").count(), 2 * (8 + 4), "{}", preset.name);
            assert_eq!(text.matches('{').count(), text.matches('}').count());
        }
        let one = "|skip_connect~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|";
        let text = dot(&one.parse().unwrap());
        assert_eq!((text.matches(" -> ").count(), text.matches("subgraph").count()), (3, 1));
        assert!(text.contains("normal_1 -> normal_2") && !text.contains("normal_0"), "{text}");
        let text = dot(&Preset::ALL[0].genotype());
        let arrow = "reduction_2 -> reduction_3 [label=\"skip_connect\", color=\"#a0479b\"];";
        assert!(text.contains(arrow), "{text}");
    }
}
