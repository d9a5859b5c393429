//! The rows of a target's launches in the table.

use super::gather::{Gather, Source, block_row, gathers, place};
use super::launches::{Plan, PoolKey, Pooled, Rows, Sources, Target};
use super::staged::HALO;
use super::table::{NONE, block, gather, kind, mixed, node, norm, part, source, term};
use super::tile::{Tile, WeightTile};
use crate::edge::{Edge, EdgeOperation};

/// Rows of a target while they are collected.
#[derive(Default)]
pub struct Builder {
    firsts: Vec<[u32; block::LEN]>,
    lasts: Vec<[u32; block::LEN]>,
    seconds: Vec<[u32; block::LEN]>,
    pub pools: Vec<[u32; block::LEN]>,
    norms: [Vec<[u32; norm::LEN]>; 2],
    pub terms: Vec<[u32; term::LEN]>,
    pub nodes: Vec<[u32; node::LEN]>,
    /// The maps of first blocks of two.
    inner: Vec<[u32; source::LEN]>,
    /// New pools of states, by their source, kind and stride.
    pub made_pools: Vec<(PoolKey, Pooled)>,
    /// The terms of pools that read states, with the source as their value.
    pub pool_terms: Vec<[u32; term::LEN]>,
    /// The rows of each mixing weight.
    pub mixed: Vec<[u32; mixed::LEN]>,
    maps_len: usize,
    gathered_len: usize,
}

impl Plan {
    /// Adds rows to the table.
    pub fn rows<const N: usize>(&mut self, rows: &[[u32; N]]) -> Rows {
        let first = self.table.len();
        self.table.extend(rows.iter().flatten());
        Rows { first, count: rows.len() }
    }

    /// Adds the rows of all launches for the edges into a state, after this number of mixing
    /// weights.
    pub fn gather(
        &mut self,
        to: Source,
        input: Option<usize>,
        edges: &[(Source, &Edge)],
        builder: &mut Builder,
        num_mixed: usize,
        all_norms: &mut Vec<([u32; norm::LEN], usize, usize)>,
    ) {
        let (batch, channels) = (self.batch, self.channels);
        let size: usize = to.size.iter().product();
        let mut coefficient = || {
            self.num_coefficients += 1;
            place(self.num_coefficients - 1)
        };
        let count = batch * size;
        for (from, edge) in edges {
            let mut parameters = edge.parameters;
            let mut statistics = edge.statistics;
            // The next normalization: its number, and the place of its gamma.
            let mut next_norm = |parameters: &mut usize| {
                let gamma = if edge.affine { place(*parameters) } else { NONE };
                *parameters += if edge.affine { 2 * channels } else { 0 };
                let number = place(all_norms.len());
                all_norms.push(([number, gamma, NONE], statistics, count));
                statistics += channels;
                (number, gamma)
            };
            for &operation in &edge.operations {
                let weight = place(num_mixed + builder.mixed.len());
                let mut row = [0; term::LEN];
                row[term::VALUE] = place(from.place);
                row[term::HEIGHT] = place(from.size[0]);
                row[term::WIDTH] = place(from.size[1]);
                row[term::STRIDE] = place(edge.stride);
                row[term::NORM] = NONE;
                row[term::MIXING] = weight;
                row[term::GRADIENT] = place(to.gradient);
                row[term::COEFFICIENTS] = coefficient();
                (row[term::TO_HEIGHT], row[term::TO_WIDTH]) =
                    (place(to.size[0]), place(to.size[1]));
                row[term::GAMMA] = NONE;
                builder.mixed.push([row[term::COEFFICIENTS], input.map_or(NONE, place)]);
                let alike = from.channels == channels;
                match operation {
                    EdgeOperation::Identity => {
                        assert!(alike && edge.stride == 1, "an identity keeps its shape");
                        row[term::KIND] = kind::IDENTITY;
                    }
                    EdgeOperation::MaxPool { norm } | EdgeOperation::AvgPool { norm } => {
                        assert!(alike, "a pool keeps its channels");
                        let is_max = matches!(operation, EdgeOperation::MaxPool { .. });
                        row[term::KIND] = if is_max { kind::MAX_POOL } else { kind::MEAN_POOL };
                        if norm {
                            let way = if is_max { gather::MAX_POOL } else { gather::MEAN_POOL };
                            let mut pool = block_row(from, &Gather::pool(way, edge.stride));
                            let (number, gamma) = next_norm(&mut parameters);
                            pool[block::INPUTS] = place(channels);
                            pool[block::OUTPUTS] = place(channels);
                            pool[block::SLOT] = place(builder.norms[0].len());
                            (row[term::NORM], row[term::GAMMA]) = (number, gamma);
                            pool[block::MAP] = NONE;
                            let mut alike = NONE;
                            // Two inputs have the same place in their buffers.
                            if input.is_none() {
                                let key = (pool[block::SOURCE], way, pool[block::STRIDE]);
                                builder.pool_terms.push(row);
                                if let Some(pooled) = self.pooled.get(&key) {
                                    alike = pooled.norm;
                                    pool[block::MAP] = pooled.map;
                                } else {
                                    let map = place(self.pooled_len);
                                    self.pooled_len += batch * channels * size;
                                    pool[block::MAP] = map;
                                    builder.made_pools.push((key, Pooled { norm: number, map }));
                                }
                                row[term::KIND] = kind::POOLED;
                                row[term::VALUE] = pool[block::MAP];
                            }
                            builder.norms[0].push([number, gamma, alike]);
                            if alike == NONE {
                                builder.pools.push(pool);
                            }
                        }
                    }
                    _ => {
                        row[term::KIND] = kind::MAP;
                        let blocks = gathers(operation, edge.stride, from);
                        let num_blocks = blocks.len();
                        let mut source = *from;
                        let mut source_norm = NONE;
                        for (number, halves) in blocks.into_iter().enumerate() {
                            let is_last = number + 1 == num_blocks;
                            let reads_map = number > 0;
                            let slots = &mut builder.norms[usize::from(reads_map)];
                            let slot = place(slots.len());
                            let map = builder.maps_len;
                            builder.maps_len += batch * channels * size;
                            let of_norm =
                                if is_last { row[term::COEFFICIENTS] } else { coefficient() };
                            let mut rows = Vec::new();
                            let outputs = channels / halves.len();
                            for (half, gather) in halves.iter().enumerate() {
                                let inputs = match gather.way {
                                    gather::WINDOW => 9 * source.channels,
                                    _ => source.channels,
                                };
                                let mut block = block_row(&source, gather);
                                block[block::SOURCE_NORM] = source_norm;
                                block[block::DEPTHWISE] = place(parameters);
                                parameters += gather.taps() * source.channels;
                                block[block::POINTWISE] = place(parameters);
                                parameters += inputs * outputs;
                                block[block::INPUTS] = place(inputs);
                                block[block::OUTPUTS] = place(outputs);
                                block[block::MAP] = place(map);
                                block[block::FIRST] = place(half * outputs);
                                block[block::SLOT] = slot;
                                block[block::COEFFICIENTS] = of_norm;
                                block[block::MIXING] = if is_last { weight } else { NONE };
                                block[block::GRADIENT] = place(to.gradient);
                                block[block::GATHERED] =
                                    place(self.states_len + builder.gathered_len);
                                builder.gathered_len += batch * inputs * size;
                                rows.push(block);
                            }
                            let (norm, gamma) = next_norm(&mut parameters);
                            builder.norms[usize::from(reads_map)].push([norm, gamma, NONE]);
                            for block in &mut rows {
                                (block[block::NORM], block[block::GAMMA]) = (norm, gamma);
                            }
                            if is_last {
                                (row[term::NORM], row[term::GAMMA]) = (norm, gamma);
                            } else {
                                let gradient = self.states_len + builder.gathered_len;
                                builder.gathered_len += batch * channels * size;
                                for block in &mut rows {
                                    block[block::GRADIENT] = place(gradient);
                                    block[block::SUMS] = place(builder.inner.len());
                                }
                                let mut made = [0; source::LEN];
                                made[source::PLACE] = place(map);
                                made[source::HEIGHT] = place(to.size[0]);
                                made[source::WIDTH] = place(to.size[1]);
                                made[source::GRADIENT] = place(gradient);
                                made[source::NORM] = norm;
                                made[source::CHANNELS] = place(channels);
                                made[source::SPLIT] = 1;
                                builder.inner.push(made);
                                let size = to.size;
                                source = Source { input: 0, place: map, channels, size, gradient };
                                source_norm = norm;
                            }
                            row[term::VALUE] = place(map);
                            match (reads_map, is_last) {
                                (true, _) => builder.seconds.extend(rows),
                                (false, true) => builder.lasts.extend(rows),
                                (false, false) => builder.firsts.extend(rows),
                            }
                        }
                    }
                }
                builder.terms.push(row);
            }
        }
        self.scratch_len = self.scratch_len.max(builder.gathered_len);
        self.num_inner_sources = self.num_inner_sources.max(builder.inner.len());
    }

    /// Adds a target with the rows of its states.
    pub fn add_target(
        &mut self,
        inputs_read: Vec<usize>,
        size: [usize; 2],
        edges: &[(Source, &Edge)],
        mut builder: Builder,
        parts: &mut Vec<[u32; part::LEN]>,
    ) {
        let channels = self.channels;
        let with_weights = || builder.firsts.iter().chain(&builder.lasts).chain(&builder.seconds);
        let most =
            |column: usize| with_weights().map(|row| row[column]).max().unwrap_or(1) as usize;
        let (inputs, outputs) = (most(block::INPUTS), most(block::OUTPUTS));
        // Two or [`HALO`] for second blocks, whose windows are small in the search space; for others one value, which saves
        // compilations.
        let small = builder.seconds.iter().all(|row| row[block::TILE_PADDING] <= 2);
        let halos = [HALO, if small { 2 } else { HALO }];
        let has_parts = with_weights().any(|row| row[block::PARTS] > 1);
        let weights = WeightTile::new(outputs, inputs, self.batch, size);
        let (firsts, lasts, seconds) =
            (&mut builder.firsts, &mut builder.lasts, &mut builder.seconds);
        let mut has_depthwise = false;
        for row in firsts.iter_mut().chain(lasts).chain(seconds) {
            let [inputs, outputs] = [block::INPUTS, block::OUTPUTS].map(|at| row[at] as usize);
            let mut add = |to: u32, num: usize, size: usize| {
                let from = self.partials_len;
                parts.push([place(from), place(num), place(size), to]);
                self.partials_len += num * size;
                place(from)
            };
            row[block::POINTWISE_PARTIALS] =
                add(row[block::POINTWISE], weights.pointwise.count, inputs * outputs);
            if row[block::GATHER] == gather::DEPTHWISE {
                has_depthwise = true;
                let taps = (row[block::KERNEL] * row[block::KERNEL]) as usize;
                row[block::DEPTHWISE_PARTIALS] =
                    add(row[block::DEPTHWISE], weights.depthwise.count, inputs * taps);
            }
        }
        let pools = self.rows(&builder.pools);
        let firsts = self.rows(&builder.firsts);
        let lasts = self.rows(&builder.lasts);
        let seconds = self.rows(&builder.seconds);
        for (number, made) in builder.inner.iter_mut().enumerate() {
            (made[source::NUM_BLOCKS], made[source::BLOCKS]) = (1, place(self.table.len()));
            self.table.push(place(seconds.first + number * block::LEN));
        }
        let mut distinct: Vec<Source> = Vec::new();
        for (from, _) in edges {
            if !distinct.contains(from) {
                distinct.push(*from);
            }
        }
        let mut sources = Vec::new();
        for from in &distinct {
            let reads = |row: &[u32; block::LEN]| {
                row[block::SOURCE] == place(from.place) && row[block::INPUT] == place(from.input)
            };
            // The windows of dilated convolutions lie in the first part of a source.
            let of_first =
                |row: &[u32; block::LEN]| row[block::STAGED] != NONE && row[block::PARTS] == 1;
            let numbered = |rows: Rows, all: &[[u32; block::LEN]]| -> Vec<(bool, u32)> {
                let of_source = all.iter().enumerate().filter(|(_, row)| reads(row));
                let at = |number| place(rows.first + number * block::LEN);
                of_source.map(|(number, row)| (of_first(row), at(number))).collect()
            };
            let mut blocks = numbered(firsts, &builder.firsts);
            blocks.extend(numbered(lasts, &builder.lasts));
            blocks.sort_by_key(|(of_first, _)| *of_first);
            let num_split = blocks.iter().filter(|(of_first, _)| !of_first).count();
            let halves = edges.iter().all(|(of, edge)| of != from || edge.stride == 2);
            let split = if halves && !blocks.is_empty() { 2 } else { 1 };
            let terms: Vec<_> = builder
                .terms
                .iter()
                .filter(|row| {
                    row[term::KIND] == kind::IDENTITY && row[term::VALUE] == place(from.place)
                })
                .copied()
                .collect();
            let mut row = [0; source::LEN];
            row[source::PLACE] = place(from.place);
            row[source::HEIGHT] = place(from.size[0]);
            row[source::WIDTH] = place(from.size[1]);
            row[source::GRADIENT] = place(from.gradient);
            row[source::NORM] = NONE;
            row[source::CHANNELS] = place(from.channels);
            row[source::INPUT] = place(from.input);
            row[source::NUM_BLOCKS] = place(blocks.len());
            row[source::BLOCKS] = place(self.table.len());
            row[source::SPLIT] = place(split);
            row[source::NUM_SPLIT] = place(num_split);
            self.table.extend(blocks.iter().map(|(_, at)| at));
            let rows = self.rows(&terms);
            (row[source::NUM_TERMS], row[source::TERMS]) = (place(rows.count), place(rows.first));
            sources.push(row);
        }
        let input_pools = if inputs_read.is_empty() {
            Sources::default()
        } else {
            self.pools_of(&distinct, &builder.terms)
        };
        let terms = self.rows(&builder.terms);
        for row in &mut builder.nodes {
            row[node::TERMS] = place(terms.first + row[node::TERMS] as usize * term::LEN);
        }
        let splits: Vec<usize> = sources.iter().map(|row| row[source::SPLIT] as usize).collect();
        let part_of = |at: usize| {
            let sizes =
                distinct.iter().zip(&splits).map(|(from, &split)| from.size[at].div_ceil(split));
            sizes.max().unwrap_or(0)
        };
        let sources = Sources {
            rows: self.rows(&sources),
            size: [part_of(0), part_of(1)],
            num_parts: splits.iter().map(|split| split * split).max().unwrap_or(1),
            channels: distinct.iter().map(|from| from.channels).max().unwrap_or(0),
        };
        let target = Target {
            inputs_read,
            size,
            pools,
            blocks: [Rows { first: firsts.first, count: firsts.count + lasts.count }, seconds],
            norms: [self.rows(&builder.norms[0]), self.rows(&builder.norms[1])],
            node: self.rows(&builder.nodes),
            terms,
            last: Rows { first: lasts.first, count: lasts.count + seconds.count },
            first: firsts,
            inner_sources: self.rows(&builder.inner),
            sources,
            maps_len: builder.maps_len,
            inputs,
            outputs,
            tile: Tile::new(size, channels),
            weights,
            has_depthwise,
            halos,
            has_parts,
            input_pools,
            state_pools: Sources::default(),
        };
        self.targets.push(target);
    }

    /// Rows of those of the sources that pools among these terms read; pools of one kind and shape come one after the
    /// other.
    pub fn pools_of(&mut self, sources: &[Source], terms: &[[u32; term::LEN]]) -> Sources {
        let mut all = Sources { channels: self.channels, ..Sources::default() };
        let mut rows = Vec::new();
        for from in sources {
            let reads = |row: &&[u32; term::LEN]| {
                let is_pool = [kind::MAX_POOL, kind::MEAN_POOL].contains(&row[term::KIND]);
                is_pool && row[term::VALUE] == place(from.place)
            };
            let shape = |row: &[u32; term::LEN]| {
                [term::KIND, term::STRIDE, term::TO_HEIGHT, term::TO_WIDTH].map(|at| row[at])
            };
            let mut pools: Vec<_> = terms.iter().filter(reads).copied().collect();
            pools.sort_by_key(shape);
            for at in 0..pools.len() {
                let alike = pools[at..].iter().take_while(|row| shape(row) == shape(&pools[at]));
                pools[at][term::ALIKE] = place(alike.count());
            }
            if pools.is_empty() {
                continue;
            }
            all.size = [0, 1].map(|at| all.size[at].max(from.size[at]));
            let pools = self.rows(&pools);
            let mut row = [0; source::LEN];
            row[source::PLACE] = place(from.place);
            row[source::HEIGHT] = place(from.size[0]);
            row[source::WIDTH] = place(from.size[1]);
            row[source::GRADIENT] = place(from.gradient);
            row[source::CHANNELS] = place(from.channels);
            (row[source::NUM_TERMS], row[source::TERMS]) = (place(pools.count), place(pools.first));
            rows.push(row);
        }
        all.rows = self.rows(&rows);
        all
    }
}
