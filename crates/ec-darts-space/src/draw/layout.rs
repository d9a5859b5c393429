//! The layout of a cell: a staircase in which nothing overlaps.
//!
//! Each node has its own column and its own band (a range of heights), further right and further
//! down than the node before. A pick is a row of its node's band: it comes from the left and ends
//! in its label, right before the node. So there are only wires left of the labels of a band, and
//! only the line to the output right of its node. A wire changes its height only in the gutter
//! right of its source, on its own track.
//!
//! ```text
//! c_{k-2} --------.
//! c_{k-1} --.     |
//!           |     '-[label]-> node 0 -----------------------> output
//!           '-------[label]->   0   --.                         |
//!                                     '-[label]-> node 1 -----> |
//! ```

use crate::{CellGenotype, NUM_INPUTS, Pick, Primitive};

const BOX_WIDTH: f32 = 64.0;
const MIN_BOX_HEIGHT: f32 = 44.0;
const LABEL_WIDTH: f32 = 106.0;
const LABEL_HEIGHT: f32 = 22.0;
/// The distance between the centres of two rows.
const ROW_HEIGHT: f32 = 32.0;
/// The distance between two tracks, and between two ports.
const TRACK_GAP: f32 = 11.0;
/// The space left and right of the tracks of a gutter, enough for a corner.
const GUTTER_PAD: f32 = 18.0;
/// The distance between a label and its node, enough for an arrow head.
const ARROW_LENGTH: f32 = 20.0;
const BAND_GAP: f32 = 18.0;

/// A rectangle; `y` grows downwards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rect {
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) width: f32,
    pub(super) height: f32,
}

/// A wire of one pick: right from the port, down the track, right along the row to the label and
/// the node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire {
    pub(super) primitive: Primitive,
    pub(super) port: (f32, f32),
    pub(super) track: f32,
    pub(super) row: f32,
    pub(super) label: Rect,
    pub(super) end: f32,
}

/// A straight line from a node to the output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Join {
    pub(super) start: (f32, f32),
    pub(super) end: f32,
}

/// All parts of a cell, from (0, 0) to (width, height).
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) width: f32,
    pub(super) height: f32,
    /// The boxes of the inputs, then of the nodes; an older input that no node reads has no height.
    pub(super) states: Vec<Rect>,
    pub(super) output: Rect,
    /// The wires in the order of rows, from top to bottom.
    pub(super) wires: Vec<Wire>,
    pub(super) joins: Vec<Join>,
}

impl Rect {
    pub(super) fn right(&self) -> f32 {
        self.x + self.width
    }

    pub(super) fn bottom(&self) -> f32 {
        self.y + self.height
    }

    pub(super) fn center(&self) -> (f32, f32) {
        (self.x + self.width / 2.0, self.y + self.height / 2.0)
    }
}

/// Places all parts of a valid cell.
pub(super) fn layout(cell: &CellGenotype) -> Layout {
    let rows: Vec<Row> = (0..cell.nodes.len()).flat_map(|node| rows_of(cell, node)).collect();
    let plan = Tracks {
        leaving: (0..cell.node_states().end)
            .map(|state| (0..rows.len()).filter(|&row| rows[row].pick.from == state).collect())
            .collect(),
        joined: (0..cell.node_states().end).map(|state| cell.concat.contains(&state)).collect(),
        rows,
    };
    let states = plan.states();
    let wires = (0..plan.rows.len()).map(|row| plan.wire(&states, row)).collect();

    let last = states.last().expect("a cell has inputs");
    let output_x = last.right() + gutter_width(plan.leaving[states.len() - 1].len());
    let joins: Vec<Join> = (0..states.len())
        .filter(|&state| plan.joined[state])
        .map(|state| Join { start: plan.port(&states, state, 0), end: output_x })
        .collect();
    let join_heights = || joins.iter().map(|join| join.start.1);
    let highest = join_heights().fold(f32::INFINITY, f32::min) - MIN_BOX_HEIGHT / 2.0;
    let lowest = join_heights().fold(0.0, f32::max) + MIN_BOX_HEIGHT / 2.0;
    let output = Rect { x: output_x, y: highest, width: BOX_WIDTH, height: lowest - highest };
    let height = last.bottom().max(output.bottom());
    Layout { width: output.right(), height, states, output, wires, joins }
}

/// A pick and the state of its node.
#[derive(Clone, Copy)]
struct Row {
    pick: Pick,
    to: usize,
}

/// The wires and lines that leave each state; they decide how much room every part takes.
struct Tracks {
    /// From top to bottom.
    rows: Vec<Row>,
    /// The rows that read each state, from top to bottom.
    leaving: Vec<Vec<usize>>,
    /// Whether each state is joined to the output.
    joined: Vec<bool>,
}

/// The rows of a node, nearest source first: its wire comes from above and crosses no other row.
fn rows_of(cell: &CellGenotype, node: usize) -> Vec<Row> {
    let mut picks = cell.nodes[node].clone();
    // The two inputs share a column, and the first one stands above the second.
    picks.sort_by_key(|pick| match pick.from {
        input if input < NUM_INPUTS => (true, input),
        state => (false, usize::MAX - state),
    });
    picks.into_iter().map(|pick| Row { pick, to: NUM_INPUTS + node }).collect()
}

impl Tracks {
    fn num_ports(&self, state: usize) -> usize {
        self.leaving[state].len() + usize::from(self.joined[state])
    }

    fn rows_into(&self, state: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.rows.len()).filter(move |&row| self.rows[row].to == state)
    }

    /// The boxes of the inputs, in one column, and of the nodes, in a column each.
    fn states(&self) -> Vec<Rect> {
        let mut boxes: Vec<Rect> = Vec::new();
        for state in 0..self.leaving.len() {
            let rows = self.rows_into(state).count() as f32 * ROW_HEIGHT;
            let ports = (self.num_ports(state) + 1) as f32 * TRACK_GAP;
            let x = match boxes.last() {
                Some(before) if state >= NUM_INPUTS => {
                    let tracks = match state - 1 {
                        second if second < NUM_INPUTS => {
                            self.leaving[0].len() + self.leaving[second].len()
                        }
                        node => self.leaving[node].len(),
                    };
                    before.right() + gutter_width(tracks) + LABEL_WIDTH + ARROW_LENGTH
                }
                _ => 0.0,
            };
            let gap = |before: &Rect| if before.height > 0.0 { BAND_GAP } else { 0.0 };
            let y = boxes.last().map_or(0.0, |before| before.bottom() + gap(before));
            let height = match state {
                0 if self.leaving[0].is_empty() => 0.0,
                _ => rows.max(ports).max(MIN_BOX_HEIGHT),
            };
            boxes.push(Rect { x, y, width: BOX_WIDTH, height });
        }
        boxes
    }

    /// The point where a line leaves a state: first the line to the output, then the wires from
    /// high to low rows.
    fn port(&self, states: &[Rect], state: usize, number: usize) -> (f32, f32) {
        let middle = states[state].center().1;
        (states[state].right(), spread(middle, TRACK_GAP, number, self.num_ports(state)))
    }

    /// The wire of a row.
    ///
    /// The wire to the lowest row leaves its state at the lowest port and takes the leftmost track,
    /// so that the wires of one state never cross each other. The first input stands above the
    /// second one, and its tracks lie to the right.
    fn wire(&self, states: &[Rect], row: usize) -> Wire {
        let Row { pick: Pick { primitive, from }, to } = self.rows[row];
        let number_in = |rows: &[usize]| {
            rows.iter().position(|&other| other == row).expect("the lists hold every row")
        };
        let entering: Vec<usize> = self.rows_into(to).collect();
        let leaving = &self.leaving[from];
        let number = number_in(leaving);
        let first_track = if from == 0 { self.leaving[1].len() } else { 0 };
        let track = first_track + leaving.len() - 1 - number;

        let middle = states[to].center().1;
        let height = spread(middle, ROW_HEIGHT, number_in(&entering), entering.len());
        let label = Rect {
            x: states[to].x - ARROW_LENGTH - LABEL_WIDTH,
            y: height - LABEL_HEIGHT / 2.0,
            width: LABEL_WIDTH,
            height: LABEL_HEIGHT,
        };
        Wire {
            primitive,
            port: self.port(states, from, number + usize::from(self.joined[from])),
            track: states[from].right() + GUTTER_PAD + track as f32 * TRACK_GAP,
            row: height,
            label,
            end: states[to].x,
        }
    }
}

/// The `number`-th of `count` positions around a middle.
fn spread(middle: f32, gap: f32, number: usize, count: usize) -> f32 {
    middle + gap * (number as f32 - (count as f32 - 1.0) / 2.0)
}

fn gutter_width(num_tracks: usize) -> f32 {
    2.0 * GUTTER_PAD + num_tracks.saturating_sub(1) as f32 * TRACK_GAP
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genotype::tests::any_cell;
    use proptest::prelude::*;

    fn overlap(a: &Rect, b: &Rect) -> bool {
        a.x < b.right() && b.x < a.right() && a.y < b.bottom() && b.y < a.bottom()
    }

    /// The straight parts of a wire without its two ends, as rectangles of zero area.
    fn segments(wire: &Wire) -> [Rect; 3] {
        let ((x, y), track, row) = (wire.port, wire.track, wire.row);
        [
            Rect { x: x + 0.5, y, width: track - x - 0.5, height: 0.0 },
            Rect { x: track, y, width: 0.0, height: row - y },
            Rect { x: track, y: row, width: wire.label.x - track - 0.5, height: 0.0 },
        ]
    }

    /// Whether two lines share more than a crossing.
    fn coincide(a: &Rect, b: &Rect) -> bool {
        let near = |a: f32, b: f32| (a - b).abs() < 6.0;
        let meet = |a: f32, a_end: f32, b: f32, b_end: f32| a < b_end && b < a_end;
        match (a.width == 0.0, b.width == 0.0) {
            (true, true) => near(a.x, b.x) && meet(a.y, a.bottom(), b.y, b.bottom()),
            (false, false) => near(a.y, b.y) && meet(a.x, a.right(), b.x, b.right()),
            _ => false,
        }
    }

    fn check(cell: &CellGenotype) {
        let layout = layout(cell);
        let wires = &layout.wires;
        assert_eq!(wires.len(), cell.count(|_| true));
        assert_eq!(layout.joins.len(), cell.concat.len());

        let labels = wires.iter().map(|wire| wire.label);
        let solid: Vec<Rect> =
            layout.states.iter().copied().chain([layout.output]).chain(labels).collect();
        let lines: Vec<[Rect; 3]> = wires.iter().map(segments).collect();
        let joins: Vec<Rect> = layout
            .joins
            .iter()
            .map(|&Join { start: (x, y), end }| Rect {
                x: x + 0.5,
                y,
                width: end - x - 1.0,
                height: 0.0,
            })
            .collect();
        for (number, place) in solid.iter().enumerate() {
            assert!(place.x >= 0.0 && place.y >= 0.0, "{place:?}");
            assert!(place.right() <= layout.width && place.bottom() <= layout.height);
            for other in &solid[..number] {
                assert!(!overlap(place, other), "{place:?} and {other:?}");
            }
            for line in lines.iter().flatten().chain(&joins) {
                assert!(!overlap(place, line), "{line:?} runs through {place:?}");
            }
        }
        let source = |wire: &Wire| {
            let has_port = |place: &Rect| {
                place.right() == wire.port.0 && (place.y..place.bottom()).contains(&wire.port.1)
            };
            layout.states.iter().position(has_port).expect("a wire leaves a state")
        };
        for (number, lower) in wires.iter().enumerate() {
            for upper in &wires[..number] {
                if source(upper) == source(lower) {
                    assert!(upper.port.1 < lower.port.1 && upper.track > lower.track, "a crossing");
                }
                if upper.end == lower.end {
                    assert!(upper.port.0 >= lower.port.0, "the nearest source comes first");
                }
            }
        }
        for (number, line) in lines.iter().enumerate() {
            assert!(line[1].height > 0.0, "a wire goes down");
            for other in lines[..number].iter().flatten().chain(&joins) {
                assert!(line.iter().all(|part| !coincide(part, other)), "{line:?} on {other:?}");
            }
        }
    }

    #[test]
    fn a_cell_whose_first_node_is_read_by_all_others() {
        let pick = |from| Pick { primitive: Primitive::SkipConnect, from };
        let nodes = (0..12).map(|node| vec![pick(if node == 0 { 0 } else { 2 })]).collect();
        check(&CellGenotype { nodes, concat: (2..14).collect() });
    }

    #[test]
    fn a_cell_of_twelve_nodes_with_every_edge() {
        let pick = |from| Pick { primitive: Primitive::SepConv3x3, from };
        let nodes = (0..12).map(|node| (0..node + 2).map(pick).collect()).collect();
        check(&CellGenotype { nodes, concat: vec![9] });
    }

    proptest! {
        #[test]
        fn nothing_overlaps(cell in any_cell()) {
            check(&cell);
        }
    }
}
