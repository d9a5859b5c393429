//! Checks that a cell can be computed from given tensors; an error names the argument of the first
//! fault.

use burn::tensor::Tensor;

use crate::edge::{Cell, Edge, EdgeOperation};

#[cfg(test)]
mod tests;

/// A fault of the description, with the allowed values.
fn fault(place: &str, found: impl std::fmt::Debug, allowed: &str) -> Result<(), String> {
    Err(format!("`{place}` is {found:?}, allowed: {allowed}"))
}

/// Returns a [`fault`] unless a condition holds.
fn require(
    holds: bool,
    place: &str,
    found: impl std::fmt::Debug,
    allowed: &str,
) -> Result<(), String> {
    if holds { Ok(()) } else { fault(place, found, allowed) }
}

impl Edge {
    /// Checks channels, stride and every operation; messages call the edge `place`.
    fn check(&self, place: &str) -> Result<(), String> {
        let Self { operations, channels: [from, to], stride, .. } = self;
        let at = |field: &str| format!("{place}.{field}");
        require(*from > 0 && *to > 0, &at("channels"), self.channels, "numbers above 0")?;
        require(*stride > 0, &at("stride"), stride, "a number above 0")?;
        for (number, &operation) in operations.iter().enumerate() {
            let at = |field: &str| format!("{place}.operations[{number}]{field}");
            let alike = |holds: bool, allowed: &str| require(holds, &at(""), operation, allowed);
            match operation {
                EdgeOperation::Identity => alike(
                    *stride == 1 && from == to,
                    "an identity at stride 1 between the same channels",
                )?,
                EdgeOperation::MaxPool { .. } | EdgeOperation::AvgPool { .. } => {
                    alike(from == to, "a pool between the same channels")?;
                }
                EdgeOperation::Pointwise | EdgeOperation::Convolution { .. } => {}
                EdgeOperation::FactorizedReduce => alike(
                    *stride == 2 && to.is_multiple_of(2),
                    "a factorized reduction at stride 2 to an even number of channels",
                )?,
                EdgeOperation::Separable { kernel, dilation, repeats } => {
                    let odd = !kernel.is_multiple_of(2);
                    require(odd, &at(".kernel"), kernel, "an odd number")?;
                    require(dilation > 0, &at(".dilation"), dilation, "a number above 0")?;
                    require(repeats > 0, &at(".repeats"), repeats, "a number above 0")?;
                    alike(
                        repeats == 1 || from == to,
                        "a repeated block between the same channels",
                    )?;
                }
            }
        }
        Ok(())
    }

    /// Refuses an edge without operations.
    fn check_operations(&self, place: &str) -> Result<(), String> {
        let operations = &self.operations;
        let place = format!("{place}.operations");
        require(!operations.is_empty(), &place, operations, "one operation or more")
    }

    /// Height and width of the output.
    fn size(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        [height.div_ceil(self.stride), width.div_ceil(self.stride)]
    }
}

impl Cell {
    /// Checks that edges, nodes and `concat` make a valid cell.
    ///
    /// # Errors
    /// The first invalid field, its value and the allowed values.
    pub fn check(&self) -> Result<(), String> {
        let num_inputs = self.inputs.len();
        require((1..=2).contains(&num_inputs), "cell.inputs", num_inputs, "one or two edges")?;
        let (channels, parts) = (self.inputs[0].channels[1], self.parts);
        let allowed = format!("1, or more equal parts of {channels} channels");
        require(parts > 0 && channels.is_multiple_of(parts), "cell.parts", parts, &allowed)?;
        for (number, edge) in self.inputs.iter().enumerate() {
            let place = format!("cell.inputs[{number}]");
            edge.check(&place)?;
            edge.check_operations(&place)?;
            let allowed = format!("{channels} channels out, as the first edge has");
            let makes = edge.channels[1] == channels;
            require(makes, &format!("{place}.channels"), edge.channels, &allowed)?;
        }
        let through = channels / parts;
        for (node, edges) in self.nodes.iter().enumerate() {
            let place = format!("cell.nodes[{node}]");
            require(!edges.is_empty(), &place, edges, "one edge or more")?;
            for (number, (state, edge)) in edges.iter().enumerate() {
                let place = format!("{place}[{number}]");
                let before = num_inputs + node;
                let allowed = format!("a state from 0 to {}", before - 1);
                require(*state < before, &format!("{place}.0"), state, &allowed)?;
                let place = format!("{place}.1");
                edge.check(&place)?;
                let alike = edge.channels == [through; 2];
                let allowed = match parts {
                    1 => format!("{channels} channels in and out, as every state has"),
                    _ => format!("{through} channels in and out, a part of those of a state"),
                };
                require(alike, &format!("{place}.channels"), edge.channels, &allowed)?;
                match parts {
                    1 => edge.check_operations(&place)?,
                    _ => {
                        let (place, stride) = (format!("{place}.stride"), edge.stride);
                        require(stride <= 2, &place, stride, "1 or 2 in a cell of several parts")?;
                    }
                }
            }
        }
        let num_states = num_inputs + self.nodes.len();
        let mut seen = vec![false; num_states];
        let once = self
            .concat
            .iter()
            .all(|&state| seen.get_mut(state).is_some_and(|seen| !std::mem::replace(seen, true)));
        let allowed = format!("one or more of the states 0 to {}, each once", num_states - 1);
        require(once && !self.concat.is_empty(), "cell.concat", &self.concat, &allowed)?;
        let parameters = self.edges().map(Edge::parameter_range).collect();
        let statistics = self.edges().map(Edge::statistic_range).collect();
        for (name, ranges) in [("parameters", parameters), ("statistics", statistics)] {
            let mut ranges: Vec<std::ops::Range<usize>> = ranges;
            ranges.retain(|range| !range.is_empty());
            ranges.sort_by_key(|range| range.start);
            let overlap = ranges.windows(2).find(|pair| pair[0].end > pair[1].start);
            if let Some(pair) = overlap {
                return fault(&format!("{name} of two edges"), pair, "places that do not overlap");
            }
        }
        Ok(())
    }

    /// Heights and widths of the states, from those of the inputs.
    fn check_sizes(&self, inputs: &[[usize; 2]]) -> Result<(), String> {
        let mut sizes: Vec<[usize; 2]> = Vec::new();
        let through = |edge: &Edge, size: [usize; 2], place: &str| {
            let even = size.iter().all(|side| side.is_multiple_of(2));
            let reduces = edge.operations.contains(&EdgeOperation::FactorizedReduce);
            let allowed = "even numbers of rows and columns before a factorized reduction";
            require(!reduces || even, &format!("the size that {place} reads"), size, allowed)?;
            let pools = self.parts > 1 && edge.stride == 2 && place.starts_with("cell.nodes");
            let allowed = "even numbers of rows and columns before channels that go by at stride 2";
            require(!pools || even, &format!("the size that {place} reads"), size, allowed)?;
            Ok::<_, String>(edge.size(size))
        };
        for (number, (edge, &size)) in self.inputs.iter().zip(inputs).enumerate() {
            sizes.push(through(edge, size, &format!("cell.inputs[{number}]"))?);
        }
        for (node, edges) in self.nodes.iter().enumerate() {
            let mut own: Option<[usize; 2]> = None;
            for (number, (state, edge)) in edges.iter().enumerate() {
                let place = format!("cell.nodes[{node}][{number}]");
                let size = through(edge, sizes[*state], &place)?;
                let first = *own.get_or_insert(size);
                let allowed = format!("{first:?}, as the node's first edge");
                require(size == first, &format!("the size that {place} makes"), size, &allowed)?;
            }
            sizes.extend(own);
        }
        let joined: Vec<_> = self.concat.iter().map(|&state| sizes[state]).collect();
        let alike = joined.iter().all(|size| *size == joined[0]);
        require(alike, "the sizes that `cell.concat` joins", joined, "one size")
    }

    /// Panics where the description or a tensor's shape is wrong.
    #[track_caller]
    pub(crate) fn assert_fits(
        &self,
        inputs: &[Tensor<4>],
        parameters: &Tensor<1>,
        mixing: &Tensor<1>,
        running: &[Tensor<1>; 2],
        factors: Option<&[f32]>,
    ) {
        let lengths = [parameters, mixing, &running[0], &running[1]].map(|each| each.dims()[0]);
        let shapes: Vec<_> = inputs.iter().map(Tensor::dims).collect();
        let fits = self.check().and_then(|()| self.check_shapes(&shapes, lengths, factors));
        if let Err(fault) = fits {
            panic!("{fault}");
        }
    }

    fn check_shapes(
        &self,
        inputs: &[[usize; 4]],
        [parameters, mixing, mean, variance]: [usize; 4],
        factors: Option<&[f32]>,
    ) -> Result<(), String> {
        let allowed = format!("{} tensors, one for each of `cell.inputs`", self.inputs.len());
        require(inputs.len() == self.inputs.len(), "inputs.len()", inputs.len(), &allowed)?;
        let batch = inputs[0][0];
        for (number, (&shape, edge)) in inputs.iter().zip(&self.inputs).enumerate() {
            let fits = shape[..2] == [batch, edge.channels[0]] && !shape.contains(&0);
            let allowed = format!("[batch, {}, height, width], all above 0", edge.channels[0]);
            require(fits, &format!("inputs[{number}].dims()"), shape, &allowed)?;
        }
        let end = |range: fn(&Edge) -> std::ops::Range<usize>| {
            self.edges().map(range).map(|range| range.end).max().unwrap_or(0)
        };
        let (most, statistics) = (end(Edge::parameter_range), end(Edge::statistic_range));
        let allowed = format!("{most} or more, where the last edge's parameters end");
        require(parameters >= most, "parameters.dims()", [parameters], &allowed)?;
        let allowed = format!("two of one length, {statistics} or more");
        let fit = mean == variance && mean >= statistics;
        require(fit, "running lengths", [mean, variance], &allowed)?;
        let weights = self.num_mixing_weights();
        let allowed = match self.parts {
            1 => format!("[{weights}], one weight for each operation"),
            _ => format!("[{weights}], one weight for each operation and for what goes by it"),
        };
        require(mixing == weights, "mixing.dims()", [mixing], &allowed)?;
        if let Some(factors) = factors {
            let allowed = format!("{weights} operations times {batch} images");
            require(factors.len() == weights * batch, "factors.len()", factors.len(), &allowed)?;
            require(self.parts == 1, "factors", "given", "none in a cell of several parts")?;
        }
        let sizes: Vec<_> = inputs.iter().map(|&[_, _, height, width]| [height, width]).collect();
        self.check_sizes(&sizes)
    }
}
