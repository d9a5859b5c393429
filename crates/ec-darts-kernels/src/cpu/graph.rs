//! From a cell and the shapes of its inputs to the plans of its edges.

use std::iter;
use std::ops::Range;

use super::plan::{EdgePlan, Pool, Term};
use super::simd::{Isa, Isas};
use crate::edge::{Cell, Edge};

/// The source of an edge: an input of the cell or one of its states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Input(usize),
    State(usize),
}

/// An edge with its place in the cell.
#[derive(Debug)]
pub struct Link {
    pub isa: Isa,
    pub plan: EdgePlan,
    pub from: Origin,
    pub to: usize,
    /// Its ranges of the packed parameters, of the mixing weights and of the statistics.
    pub parameters: Range<usize>,
    pub mixing: Range<usize>,
    pub statistics: Range<usize>,
    /// The index of the mixing weight of the bypassing channels, in a cell of several parts.
    pub around: Option<usize>,
    /// The group of the edge, if it has terms without weights.
    pub group: Option<usize>,
}

/// Edges with the same source and the same stride: their operations without weights, pools and
/// identities, give the same results.
#[derive(Debug)]
pub struct Group {
    pub from: Origin,
    pub links: Vec<usize>,
    /// The pools of [`Pool::ALL`] that an edge normalizes.
    pub normalized: [bool; Pool::ALL.len()],
}

/// All edges of a cell at one size, in the order of their targets.
#[derive(Debug)]
pub struct Graph {
    pub links: Vec<Link>,
    pub groups: Vec<Group>,
    /// Height and width of each state.
    pub sizes: Vec<[usize; 2]>,
    pub batch: usize,
    /// Number of channels of every state.
    pub channels: usize,
    /// Number of equal parts of the channels; the operations of the edges into nodes read the first
    /// part.
    pub parts: usize,
    pub isas: Isas,
}

impl Graph {
    /// # Panics
    /// Where edges and shapes do not fit each other.
    pub fn new(cell: &Cell, shapes: &[[usize; 4]], isas: Isas) -> Self {
        assert_eq!(shapes.len(), cell.inputs.len(), "one shape for each input");
        let batch = shapes[0][0];
        let channels = cell.inputs[0].channels[1];
        let mut graph = Self {
            links: Vec::new(),
            groups: Vec::new(),
            sizes: Vec::new(),
            batch,
            channels,
            parts: cell.parts,
            isas,
        };
        for (input, (edge, &shape)) in cell.inputs.iter().zip(shapes).enumerate() {
            assert_eq!(shape[0], batch, "all inputs have one batch");
            graph.link(edge, Origin::Input(input), input, shape);
        }
        for (node, edges) in cell.nodes.iter().enumerate() {
            assert!(!edges.is_empty(), "every node has an edge");
            for (state, edge) in edges {
                assert!(*state < cell.inputs.len() + node, "edges come from earlier states");
                let [height, width] = graph.sizes[*state];
                let shape = [batch, channels / cell.parts, height, width];
                let target = cell.inputs.len() + node;
                graph.link(edge, Origin::State(*state), target, shape);
            }
        }
        graph
    }

    fn link(&mut self, edge: &Edge, from: Origin, to: usize, shape: [usize; 4]) {
        let (isa, channels) = match from {
            Origin::Input(_) => (self.isas.inputs, self.channels),
            Origin::State(_) => (self.isas.nodes, self.channels / self.parts),
        };
        let plan = EdgePlan::new(edge, shape, isa.lanes());
        assert_eq!(plan.channels[1], channels, "all states have the same channels");
        match self.sizes.get(to) {
            Some(&size) => assert_eq!(plan.out_size, size, "edges of a node make one size"),
            None => self.sizes.push(plan.out_size),
        }
        let behind = |last: &Link| last.around.map_or(last.mixing.end, |around| around + 1);
        let mixing = self.links.last().map_or(0, behind);
        let mixing = mixing..mixing + plan.terms.len();
        let goes_by = self.parts > 1 && matches!(from, Origin::State(_));
        let even = shape[2..].iter().all(|side| side.is_multiple_of(edge.stride));
        assert!(!goes_by || (edge.stride <= 2 && even), "windows of 2x2 pixels go by");
        debug_assert_eq!(plan.packed_len, edge.num_parameters(), "one count of parameters");
        let group = plan.is_direct().then(|| self.group(from, &plan));
        self.links.push(Link {
            isa,
            group,
            around: goes_by.then_some(mixing.end),
            from,
            to,
            parameters: edge.parameter_range(),
            mixing,
            statistics: edge.statistic_range(),
            plan,
        });
    }

    /// The group of the next edge.
    fn group(&mut self, from: Origin, plan: &EdgePlan) -> usize {
        let links = &self.links;
        let alike =
            |group: &Group| group.from == from && links[group.links[0]].plan.stride == plan.stride;
        let number = self.groups.iter().position(alike).unwrap_or(self.groups.len());
        if number == self.groups.len() {
            self.groups.push(Group { from, links: Vec::new(), normalized: Default::default() });
        }
        let group = &mut self.groups[number];
        group.links.push(links.len());
        for term in &plan.terms {
            if let Term::Pool { pool, norm: Some(_) } = *term {
                group.normalized[pool as usize] = true;
            }
        }
        number
    }

    pub fn num_inputs(&self) -> usize {
        self.links.iter().filter(|link| matches!(link.from, Origin::Input(_))).count()
    }

    /// Whether an edge reads a source without weights, and so in blocks.
    pub fn is_direct(&self, from: Origin) -> bool {
        self.groups.iter().any(|group| group.from == from)
    }

    /// States whose edges run side by side: the inputs together, then one node after the other.
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = Range<usize>> + use<> {
        let inputs = self.num_inputs();
        let nodes = inputs..self.sizes.len();
        iter::once(0..inputs).chain(nodes.map(|node| node..node + 1))
    }

    /// The edges into some states.
    pub fn edges_into(&self, states: Range<usize>) -> impl Iterator<Item = (usize, &Link)> {
        self.links.iter().enumerate().filter(move |(_, link)| states.contains(&link.to))
    }

    /// The edges into some states; edges with the same source are in different rounds.
    pub fn rounds_into(&self, states: Range<usize>) -> Vec<Vec<(usize, &Link)>> {
        let mut rounds: Vec<Vec<(usize, &Link)>> = Vec::new();
        for edge in self.edges_into(states) {
            let differs = |round: &Vec<(usize, &Link)>| {
                round.iter().all(|(_, other)| other.from != edge.1.from)
            };
            match rounds.iter().position(differs) {
                Some(free) => rounds[free].push(edge),
                None => rounds.push(vec![edge]),
            }
        }
        rounds
    }

    /// Whether an edge reads a state.
    pub fn reads(&self, state: usize) -> bool {
        self.links.iter().any(|link| link.from == Origin::State(state))
    }
}
