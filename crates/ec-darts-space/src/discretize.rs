//! From strengths to a genotype.

use crate::{
    CellGenotype, CellTopology, Error, Genotype, NUM_INPUTS, PerKind, Pick, Primitive, SearchSpace,
};

/// The genotype of two matrices of strengths, one per kind of cell.
///
/// See [`discretize_cell`] for the rule.
///
/// # Shapes
/// - `strength`: `[num_edges, num_primitives]` per kind, row-major
///
/// # Errors
/// [`Error::StrengthLength`] or [`Error::StrengthNotFinite`].
pub fn discretize(space: &SearchSpace, strength: PerKind<&[f32]>) -> Result<Genotype, Error> {
    let PerKind { normal, reduction } =
        strength.try_map(|strength| discretize_cell(space, strength))?;
    Ok(Genotype { normal, reduction })
}

/// Keeps the strongest edges of each node, each with its strongest primitive.
///
/// ```text
/// best(i->j)  = argmax over o != none of s[i->j, o]
/// picks(j)    = the k edges i->j with the largest s[i->j, best(i->j)], strongest first
/// ```
/// `s` is the strength, `i->j` an edge, `o` a primitive, `k` the number of edges kept. Ties go to
/// the earlier primitive of the space, and to the lower source.
///
/// The strength can be the mixing weights or alpha itself. Under Cross-Edge Normalization the two
/// can give different genotypes, as each primitive has a normalizer of its own.
///
/// ```
/// use ec_darts_space::{CellTopology, Pick, Primitive, SearchSpace, discretize_cell};
///
/// let primitives = vec![Primitive::None, Primitive::SkipConnect, Primitive::SepConv3x3];
/// let space = SearchSpace::new(primitives, CellTopology::new(1, 1)?)?;
/// let cell = discretize_cell(&space, &[0.9, 0.1, 0.0, 0.0, 0.2, 0.3])?;
/// assert_eq!(cell.nodes, [[Pick { primitive: Primitive::SepConv3x3, from: 1 }]]);
/// # Ok::<(), ec_darts_space::Error>(())
/// ```
///
/// # Shapes
/// - `strength`: `[num_edges, num_primitives]`, row-major, edges ordered by target node
///
/// # Errors
/// [`Error::StrengthLength`] or [`Error::StrengthNotFinite`].
///
/// # Source
/// DARTS, `cnn/model_search.py`, `genotype`, which keeps two edges and lists them by source.
/// Deviates: picks are listed strongest first, which no network depends on.
pub fn discretize_cell(space: &SearchSpace, strength: &[f32]) -> Result<CellGenotype, Error> {
    let topology = space.topology();
    check(space, strength)?;
    let rows: Vec<&[f32]> = strength.chunks_exact(space.primitives().len()).collect();
    let nodes = (0..topology.num_nodes())
        .map(|node| strongest_edges(space.primitives(), topology, &rows[topology.edges_into(node)]))
        .collect();
    let concat = (NUM_INPUTS..NUM_INPUTS + topology.num_nodes()).collect();
    Ok(CellGenotype { nodes, concat })
}

fn check(space: &SearchSpace, strength: &[f32]) -> Result<(), Error> {
    let (primitives, num_edges) = (space.primitives(), space.topology().num_edges());
    if strength.len() != num_edges * primitives.len() {
        let (found, num_primitives) = (strength.len(), primitives.len());
        return Err(Error::StrengthLength { found, num_edges, num_primitives });
    }
    match strength.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(position) => Err(Error::StrengthNotFinite {
            edge: position / primitives.len(),
            primitive: primitives[position % primitives.len()],
            value: strength[position],
        }),
    }
}

/// The picks of one node; `rows` are its incoming edges in the order of sources.
fn strongest_edges(
    primitives: &[Primitive],
    topology: &CellTopology,
    rows: &[&[f32]],
) -> Vec<Pick> {
    let mut candidates: Vec<(f32, Pick)> = rows
        .iter()
        .enumerate()
        .map(|(from, row)| {
            let (strength, primitive) = strongest_primitive(primitives, row);
            (strength, Pick { primitive, from })
        })
        .collect();
    // The sort is stable, so equal strengths stay in the order of sources.
    candidates.sort_by(|(a, _), (b, _)| b.partial_cmp(a).expect("strengths are finite"));
    candidates.truncate(topology.edges_kept());
    candidates.into_iter().map(|(_, pick)| pick).collect()
}

fn strongest_primitive(primitives: &[Primitive], row: &[f32]) -> (f32, Primitive) {
    let candidates = row.iter().copied().zip(primitives.iter().copied());
    candidates
        .filter(|&(_, primitive)| primitive != Primitive::None)
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .expect("a search space has a primitive other than `none`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Nodes apart by `|`, picks by `,`, strongest first.
    fn check(space: &SearchSpace, strength: &[f32], expected: &str) {
        let cell = discretize_cell(space, strength).unwrap();
        cell.validate().unwrap();
        let node = |picks: &Vec<Pick>| {
            let picks = picks.iter().map(|pick| format!("{} {}", pick.primitive, pick.from));
            picks.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(cell.nodes.iter().map(node).collect::<Vec<_>>().join(" | "), expected);
    }

    fn error(space: &SearchSpace, strength: &[f32]) -> String {
        discretize_cell(space, strength).unwrap_err().to_string()
    }

    // The cases below and their answers are those of an independent PyTorch reference:
    //
    //     best = [(row[op], op, source) for source, row in enumerate(strength.tolist())
    //             for op in [max(range(1, len(row)), key=lambda k: row[k])]]
    //     best.sort(key=lambda entry: -entry[0])
    //     picks = [(PRIMITIVES[op], source) for _, op, source in best[:2]]
    //
    // Random numbers (torch.randn) are rounded to two digits after the point.

    #[test]
    fn equal_strengths_give_the_first_primitive_and_the_first_sources() {
        let node = "max_pool_3x3 0, max_pool_3x3 1";
        check(&SearchSpace::darts(), &[0.25; 14 * 8], &[node; 4].join(" | "));
    }

    #[test]
    fn tied_primitives_and_tied_edges() {
        let row = [-0.02, 0.11, 0.06, 2.0, 0.05, 2.0, 2.0, -0.16];
        let node = "skip_connect 0, skip_connect 1";
        check(&SearchSpace::darts(), &row.repeat(14), &[node; 4].join(" | "));
    }

    #[test]
    fn first_and_last_edge_tie_at_the_top_and_the_others_below() {
        let space = SearchSpace::darts();
        let mut strength = vec![0.0; 14 * 8];
        for node in 0..4 {
            let edges = space.topology().edges_into(node);
            let (first, last) = (edges.start, edges.end - 1);
            edges.for_each(|edge| strength[edge * 8 + 2] = 1.0);
            strength[first * 8 + 7] = 1.5;
            strength[last * 8 + 4] = 1.5;
        }
        let node = |last| format!("dil_conv_5x5 0, sep_conv_3x3 {last}");
        check(&space, &strength, &[1, 2, 3, 4].map(node).join(" | "));
    }

    #[test]
    fn none_does_not_count_even_where_it_is_largest() {
        #[rustfmt::skip]
        let strength = [
            9.0,  1.53,  1.99,  0.43, -1.00,  0.37,  0.81,  0.74,
            9.0,  1.40,  1.71,  0.08, -0.60, -1.46, -0.16, -0.32,

            9.0, -0.86,  0.14, -0.46,  0.11,  1.50,  0.04,  1.93,
            9.0, -1.16, -0.47, -0.39,  0.60,  0.11,  0.63,  1.47,
            9.0, -0.21,  0.79,  0.51, -0.18,  1.10,  0.09,  0.62,

            9.0, -0.95, -0.77, -0.07, -0.53,  0.41, -0.36,  0.48,
            9.0,  0.90, -0.54, -0.80, -0.27,  0.74,  1.30,  0.71,
            9.0,  0.20,  0.48, -1.52,  1.69, -1.49, -2.04,  0.63,
            9.0,  1.15, -0.42,  0.42, -0.16, -0.90,  1.38,  0.61,

            9.0,  0.44,  0.69,  0.78, -0.79,  0.58,  0.88, -0.22,
            9.0,  1.31, -0.11,  1.21, -0.66, -0.45,  1.63, -0.59,
            9.0, -2.03,  0.07,  0.40, -0.65, -0.43,  1.06,  0.48,
            9.0,  0.25,  0.07, -1.20, -1.35, -1.41,  0.57,  0.43,
            9.0, -0.56, -1.09, -0.16,  0.10,  0.48,  0.99,  2.34,
        ];
        check(
            &SearchSpace::darts(),
            &strength,
            "avg_pool_3x3 0, avg_pool_3x3 1 | dil_conv_5x5 0, dil_conv_5x5 1 | \
             sep_conv_3x3 2, dil_conv_3x3 3 | dil_conv_5x5 4, dil_conv_3x3 1",
        );
    }

    #[test]
    fn negative_strengths_are_as_good_as_positive_ones() {
        #[rustfmt::skip]
        let strength = [
            -1.19, -1.89, -1.06, -2.17, -2.34, -1.11, -1.12, -1.07,
            -1.67, -2.09, -1.10, -1.46, -2.46, -1.97, -1.30, -1.78,

            -2.18, -1.90, -1.09, -1.81, -1.42, -2.73, -1.52, -1.94,
            -1.64, -3.10, -1.58, -1.60, -2.13, -1.17, -2.43, -1.79,
            -2.71, -1.24, -1.29, -2.16, -1.19, -1.65, -1.49, -1.30,
        ];
        let space = SearchSpace::new(Primitive::DARTS.to_vec(), CellTopology::new(2, 2).unwrap());
        let expected = "avg_pool_3x3 0, avg_pool_3x3 1 | avg_pool_3x3 0, sep_conv_5x5 1";
        check(&space.unwrap(), &strength, expected);
    }

    #[test]
    fn other_spaces() {
        let primitives = vec![Primitive::SepConv3x3, Primitive::SkipConnect, Primitive::None];
        let space = |edges_kept| {
            let topology = CellTopology::new(2, edges_kept).unwrap();
            SearchSpace::new(primitives.clone(), topology).unwrap()
        };
        #[rustfmt::skip]
        let strength = [
            0.1, 0.1, 5.0,
            0.3, 0.2, 5.0,

            0.0, 0.4, 5.0,
            0.5, 0.6, 5.0,
            0.1, 0.2, 5.0,
        ];
        check(&space(1), &strength, "sep_conv_3x3 1 | skip_connect 1");
        // The first node has two edges only, and keeps them both.
        check(
            &space(9),
            &strength,
            "sep_conv_3x3 1, sep_conv_3x3 0 | skip_connect 1, skip_connect 0, skip_connect 2",
        );
    }

    #[test]
    fn a_matrix_of_another_size_or_without_numbers_is_refused() {
        let space = SearchSpace::darts();
        assert_eq!(
            error(&space, &[0.0; 111]),
            "111 strengths, expected 14 edges times 8 primitives, which is 112"
        );
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut strength = [0.0; 112];
            strength[3 * 8 + 5] = value;
            let message = "the strength of `sep_conv_5x5` on edge 3 is";
            assert_eq!(error(&space, &strength), format!("{message} {value}, not a finite number"));
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_at_least_as_strong_as_what_is_not(
            strength in prop::collection::vec(-3_i8..3, 14 * 8)
        ) {
            let space = SearchSpace::darts();
            let strength: Vec<f32> = strength.into_iter().map(f32::from).collect();
            let cell = discretize_cell(&space, &strength).unwrap();
            cell.validate().unwrap();
            for (node, picks) in cell.nodes.iter().enumerate() {
                let of = |from: usize, column: usize| {
                    strength[space.topology().edge_number(from, node) * 8 + column]
                };
                let kept = picks.iter().map(|p| of(p.from, p.primitive as usize));
                let weakest = kept.fold(f32::INFINITY, f32::min);
                for from in (0..node + 2).filter(|&from| picks.iter().all(|p| p.from != from)) {
                    prop_assert!((1..8).all(|column| of(from, column) <= weakest));
                }
            }
        }
    }
}
