//! SVG text of a cell with a layout.

use super::family::{CONCAT, Family};
use super::layout::{Join, Layout, Rect, Wire, layout};
use crate::{CellGenotype, CellKind, Genotype, NUM_INPUTS};

const MARGIN: f32 = 24.0;
const TITLE_HEIGHT: f32 = 40.0;
const LEGEND_HEIGHT: f32 = 36.0;
const CORNER: f32 = 10.0;
const INK: &str = "#1f2328";
const FAINT_INK: &str = "#59636e";

/// All cells in one picture, one below the other, with a legend; an older input that no node reads
/// is left out.
///
/// The text is a complete SVG file on a white ground. The picture shows both numbers of a node,
/// because node `j` is state `2 + j` in the text forms. Every wire ends in the label of its
/// primitive.
///
/// ```
/// use ec_darts_space::{Preset, draw};
///
/// let picture = draw::svg(&Preset::find("DARTS_V2")?.genotype());
/// assert!(picture.starts_with("<svg ") && picture.contains("sep_conv_3x3"));
/// # Ok::<(), ec_darts_space::Error>(())
/// ```
///
/// # Panics
/// Where a cell is not valid, see [`CellGenotype::validate`].
pub fn svg(genotype: &Genotype) -> String {
    let titled = |(kind, cell)| {
        let title = match kind {
            CellKind::Normal if genotype.reduction.is_none() => "Cell",
            CellKind::Normal => "Normal cell",
            CellKind::Reduction => "Reduction cell (the inputs are read with stride 2)",
        };
        (title, cell)
    };
    picture(&genotype.cells().map(titled).collect::<Vec<_>>())
}

/// One cell under a title, with a legend.
///
/// # Panics
/// Where the cell is not valid, see [`CellGenotype::validate`].
pub fn svg_cell(cell: &CellGenotype, title: &str) -> String {
    picture(&[(title, cell)])
}

fn picture(cells: &[(&str, &CellGenotype)]) -> String {
    let (legend, legend_width) = legend(cells);
    let (mut body, mut width, mut y) = (String::new(), legend_width, MARGIN);
    for &(title, cell) in cells {
        assert!(cell.fault().is_none(), "only valid cells can be drawn");
        let layout = layout(cell);
        body += &format!(
            "<text x=\"{MARGIN}\" y=\"{}\" font-size=\"17\" font-weight=\"bold\">{}</text>\n",
            y + 14.0,
            escape(title)
        );
        body += &group(MARGIN, y + TITLE_HEIGHT, &draw_cell(&layout));
        width = width.max(layout.width).max(10.0 * title.chars().count() as f32);
        y += TITLE_HEIGHT + layout.height + 2.0 * MARGIN;
    }
    body += &group(MARGIN, y, &legend);
    let (width, height) = (width + 2.0 * MARGIN, y + LEGEND_HEIGHT);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"Helvetica, Arial, sans-serif\" \
         fill=\"{INK}\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         {body}</svg>\n"
    )
}

fn group(x: f32, y: f32, content: &str) -> String {
    format!("<g transform=\"translate({x} {y})\">\n{content}</g>\n")
}

fn draw_cell(layout: &Layout) -> String {
    let mut text = String::new();
    for join in &layout.joins {
        text += &draw_join(join);
    }
    // A row crosses only tracks that continue further down. Drawing goes from the bottom up, so
    // that a row lies over these tracks, and its halo interrupts them at the crossing.
    for wire in layout.wires.iter().rev() {
        text += &draw_wire(wire);
    }
    for wire in &layout.wires {
        text += &draw_label(wire);
    }
    for (state, &place) in layout.states.iter().enumerate().filter(|(_, place)| place.height > 0.0)
    {
        let name = match state {
            0 => subscript("c", "k-2"),
            1 => subscript("c", "k-1"),
            _ => (state - NUM_INPUTS).to_string(),
        };
        let fill = if state < NUM_INPUTS { "#eef0f3" } else { "#fff8db" };
        text += &draw_box(place, fill, &name, &format!("state {state}"));
    }
    text + &draw_box(layout.output, "#eef0f3", &subscript("c", "k"), "concat")
}

fn subscript(name: &str, index: &str) -> String {
    format!("{name}<tspan font-size=\"11\" dy=\"4\">{index}</tspan>")
}

fn draw_box(place: Rect, fill: &str, name: &str, below: &str) -> String {
    let Rect { x, y, width, height } = place;
    let (middle, center) = place.center();
    format!(
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"8\" \
         fill=\"{fill}\" stroke=\"{INK}\" stroke-width=\"1.4\"/>\n\
         <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\" font-size=\"16\" \
         font-weight=\"bold\">{name}</text>\n\
         <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\" font-size=\"11\" \
         fill=\"{FAINT_INK}\">{below}</text>\n",
        center - 1.0,
        center + 15.0,
    )
}

/// The path of a wire: right, down along the track, right along the row, with round corners.
fn draw_wire(wire: &Wire) -> String {
    let &Wire { primitive, port: (x, y), track, row, label, end } = wire;
    let corner = CORNER.min((row - y).abs() / 2.0);
    let path = format!(
        "M{x} {y}H{}Q{track} {y} {track} {}V{}Q{track} {row} {} {row}H{}",
        track - corner,
        y + corner,
        row - corner,
        track + corner,
        label.x,
    );
    let color = Family::of(primitive).color();
    format!(
        "<path d=\"{path}\" fill=\"none\" stroke=\"#ffffff\" stroke-width=\"6\"/>\n\
         <path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\n{}",
        arrow(label.right(), end, row, color),
    )
}

fn draw_label(wire: &Wire) -> String {
    let Rect { x, y, width, height } = wire.label;
    let family = Family::of(wire.primitive);
    let (middle, center) = wire.label.center();
    format!(
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{}\" \
         fill=\"{}\" stroke=\"{}\" stroke-width=\"1.4\"/>\n\
         <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\" font-size=\"12\" \
         font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\">{}</text>\n",
        height / 2.0,
        family.tint(),
        family.color(),
        center + 4.0,
        wire.primitive,
    )
}

fn draw_join(join: &Join) -> String {
    let &Join { start: (x, y), end } = join;
    arrow(x, end, y, CONCAT)
}

/// A straight line to the right with a head.
fn arrow(x: f32, end: f32, y: f32, color: &str) -> String {
    let neck = end - 8.0;
    format!(
        "<path d=\"M{x} {y}H{neck}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\n\
         <path d=\"M{end} {y}L{neck} {}V{}Z\" fill=\"{color}\"/>\n",
        y - 4.0,
        y + 4.0,
    )
}

/// The legend of the families in these cells, and its width.
fn legend(cells: &[(&str, &CellGenotype)]) -> (String, f32) {
    let is_picked = |family: &Family| {
        cells.iter().any(|(_, cell)| cell.count(|each| Family::of(each) == *family) > 0)
    };
    let families = Family::ALL.into_iter().filter(is_picked);
    let named = families.map(|family| (family.name(), family.color()));
    let (mut text, mut x) = (String::new(), 0.0);
    for (name, color) in named.chain([("joined to the output", CONCAT)]) {
        text += &format!(
            "<path d=\"M{x} 0H{}\" stroke=\"{color}\" stroke-width=\"4\"/>\n\
             <text x=\"{}\" y=\"4\" font-size=\"13\">{name}</text>\n",
            x + 22.0,
            x + 29.0,
        );
        x += 54.0 + 6.6 * name.len() as f32;
    }
    (text, x - 20.0)
}

/// Text with its markup escaped, without the characters that XML forbids.
fn escape(text: &str) -> String {
    let barred =
        |character: char| character.is_control() || matches!(character, '\u{fffe}'..='\u{ffff}');
    text.replace(barred, "\u{fffd}").replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;
    use crate::genotype::tests::any_genotype;
    use proptest::prelude::*;

    fn check(picture: &str, num_picks: usize, num_boxes: usize) {
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert!(!picture.contains("NaN") && !picture.contains("inf"));
        for (open, close) in [("<text ", "</text>"), ("<g ", "</g>"), ("<tspan ", "</tspan>")] {
            assert_eq!(picture.matches(open).count(), picture.matches(close).count());
        }
        assert_eq!(picture.matches("monospace").count(), num_picks);
        assert_eq!(picture.matches("rx=\"8\"").count(), num_boxes);
    }

    #[test]
    fn presets() {
        for preset in Preset::ALL {
            check(&svg(&preset.genotype()), 16, 14);
        }
    }

    #[test]
    fn titles_are_text() {
        let picture = svg_cell(&Preset::ALL[0].genotype().normal, "<a> & b");
        assert!(picture.contains("&lt;a&gt; &amp; b"));
        check(&picture, 8, 7);
        assert!(picture.contains("separable convolution") && !picture.contains(">pooling<"));
    }

    #[test]
    #[should_panic(expected = "only valid cells can be drawn")]
    fn an_invalid_cell() {
        svg_cell(&CellGenotype { nodes: vec![], concat: vec![] }, "");
    }

    proptest! {
        #[test]
        fn any(genotype in any_genotype()) {
            let num_picks = genotype.cells().map(|(_, cell)| cell.count(|_| true)).sum();
            let boxes = |cell: &CellGenotype| cell.nodes.len() + 3 - usize::from(cell.reads_one_input());
            check(&svg(&genotype), num_picks, genotype.cells().map(|(_, cell)| boxes(cell)).sum());
        }
    }
}
