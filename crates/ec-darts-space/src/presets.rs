//! Published genotypes, as their authors' public code states them.

use crate::{Error, Genotype};

/// A published genotype with its source.
///
/// ```
/// use ec_darts_space::Preset;
///
/// let preset = Preset::find("pc_darts_cifar")?;
/// println!("{} ({}): {}", preset.name, preset.source, preset.genotype());
/// # Ok::<(), ec_darts_space::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// The name, in capitals.
    pub name: &'static str,
    /// Repository and file.
    pub source: &'static str,
    /// A remark that a user should read before using the preset.
    pub note: &'static str,
    text: &'static str,
}

impl Preset {
    /// All presets, oldest first.
    pub const ALL: [Self; 7] = [
        DARTS_V1,
        DARTS_V2,
        PC_DARTS_CIFAR,
        PC_DARTS_IMAGENET,
        PDARTS,
        EC_DARTS_CIFAR,
        EC_DARTS_IMAGENET,
    ];

    /// The preset with a given name, in upper or lower case.
    ///
    /// # Errors
    /// [`Error::UnknownName`], with all names.
    pub fn find(name: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|preset| preset.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| Error::UnknownName {
            what: "preset",
            name: name.to_owned(),
            allowed: Self::ALL.map(|preset| preset.name).join(", "),
        })
    }

    /// The genotype.
    pub fn genotype(&self) -> Genotype {
        self.text.parse().expect("the texts of the presets are valid")
    }
}

/// DARTS, first order, searched on CIFAR-10.
pub const DARTS_V1: Preset = Preset {
    name: "DARTS_V1",
    source: "quark0/darts, cnn/genotypes.py",
    note: "searched on CIFAR-10, first order",
    text: "Genotype(
        normal=[
            ('sep_conv_3x3', 1), ('sep_conv_3x3', 0),
            ('skip_connect', 0), ('sep_conv_3x3', 1),
            ('skip_connect', 0), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 0), ('skip_connect', 2),
        ], normal_concat=range(2, 6),
        reduce=[
            ('max_pool_3x3', 0), ('max_pool_3x3', 1),
            ('skip_connect', 2), ('max_pool_3x3', 0),
            ('max_pool_3x3', 0), ('skip_connect', 2),
            ('skip_connect', 2), ('avg_pool_3x3', 0),
        ], reduce_concat=range(2, 6))",
};

/// DARTS, second order, searched on CIFAR-10.
pub const DARTS_V2: Preset = Preset {
    name: "DARTS_V2",
    source: "quark0/darts, cnn/genotypes.py",
    note: "searched on CIFAR-10, second order",
    text: "Genotype(
        normal=[
            ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 1), ('skip_connect', 0),
            ('skip_connect', 0), ('dil_conv_3x3', 2),
        ], normal_concat=range(2, 6),
        reduce=[
            ('max_pool_3x3', 0), ('max_pool_3x3', 1),
            ('skip_connect', 2), ('max_pool_3x3', 1),
            ('max_pool_3x3', 0), ('skip_connect', 2),
            ('skip_connect', 2), ('max_pool_3x3', 1),
        ], reduce_concat=range(2, 6))",
};

/// PC-DARTS, searched on CIFAR-10.
pub const PC_DARTS_CIFAR: Preset = Preset {
    name: "PC_DARTS_CIFAR",
    source: "yuhuixu1993/PC-DARTS, genotypes.py",
    note: "searched on CIFAR-10",
    text: "Genotype(
        normal=[
            ('sep_conv_3x3', 1), ('skip_connect', 0),
            ('sep_conv_3x3', 0), ('dil_conv_3x3', 1),
            ('sep_conv_5x5', 0), ('sep_conv_3x3', 1),
            ('avg_pool_3x3', 0), ('dil_conv_3x3', 1),
        ], normal_concat=range(2, 6),
        reduce=[
            ('sep_conv_5x5', 1), ('max_pool_3x3', 0),
            ('sep_conv_5x5', 1), ('sep_conv_5x5', 2),
            ('sep_conv_3x3', 0), ('sep_conv_3x3', 3),
            ('sep_conv_3x3', 1), ('sep_conv_3x3', 2),
        ], reduce_concat=range(2, 6))",
};

/// PC-DARTS, searched on ImageNet.
pub const PC_DARTS_IMAGENET: Preset = Preset {
    name: "PC_DARTS_IMAGENET",
    source: "yuhuixu1993/PC-DARTS, genotypes.py",
    note: "searched on ImageNet",
    text: "Genotype(
        normal=[
            ('skip_connect', 1), ('sep_conv_3x3', 0),
            ('sep_conv_3x3', 0), ('skip_connect', 1),
            ('sep_conv_3x3', 1), ('sep_conv_3x3', 3),
            ('sep_conv_3x3', 1), ('dil_conv_5x5', 4),
        ], normal_concat=range(2, 6),
        reduce=[
            ('sep_conv_3x3', 0), ('skip_connect', 1),
            ('dil_conv_5x5', 2), ('max_pool_3x3', 1),
            ('sep_conv_3x3', 2), ('sep_conv_3x3', 1),
            ('sep_conv_5x5', 0), ('sep_conv_3x3', 3),
        ], reduce_concat=range(2, 6))",
};

/// P-DARTS, searched on CIFAR-10.
pub const PDARTS: Preset = Preset {
    name: "PDARTS",
    source: "chenxin061/pdarts, genotypes.py",
    note: "searched on CIFAR-10",
    text: "Genotype(
        normal=[
            ('skip_connect', 0), ('dil_conv_3x3', 1),
            ('skip_connect', 0), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 1), ('sep_conv_3x3', 3),
            ('sep_conv_3x3', 0), ('dil_conv_5x5', 4),
        ], normal_concat=range(2, 6),
        reduce=[
            ('avg_pool_3x3', 0), ('sep_conv_5x5', 1),
            ('sep_conv_3x3', 0), ('dil_conv_5x5', 2),
            ('max_pool_3x3', 0), ('dil_conv_3x3', 1),
            ('dil_conv_3x3', 1), ('dil_conv_5x5', 3),
        ], reduce_concat=range(2, 6))",
};

/// The CIFAR genotype of a public port of EC-DARTS; not the network of the paper.
pub const EC_DARTS_CIFAR: Preset = Preset {
    name: "EC_DARTS_CIFAR",
    source: "xfey/EC-DARTS, genotypes.py",
    note: "of a public port, not the paper's network: 3.61 M parameters where the paper \
           says 3.2 M; the paper printed no genotype",
    text: "Genotype(
        normal=[
            ('skip_connect', 0), ('sep_conv_3x3', 1),
            ('dil_conv_3x3', 2), ('sep_conv_3x3', 0),
            ('sep_conv_3x3', 2), ('sep_conv_3x3', 0),
            ('sep_conv_3x3', 0), ('dil_conv_5x5', 4),
        ], normal_concat=range(2, 6),
        reduce=[
            ('skip_connect', 0), ('max_pool_3x3', 1),
            ('max_pool_3x3', 0), ('max_pool_3x3', 1),
            ('max_pool_3x3', 0), ('dil_conv_3x3', 3),
            ('skip_connect', 2), ('max_pool_3x3', 0),
        ], reduce_concat=range(2, 6))",
};

/// The ImageNet genotype of a public port of EC-DARTS; not the network of the paper.
pub const EC_DARTS_IMAGENET: Preset = Preset {
    name: "EC_DARTS_IMAGENET",
    source: "xfey/EC-DARTS, genotypes.py",
    note: "of a public port, not the paper's network: 668 M multiply-adds where the paper \
           says 572 M; the paper printed no genotype",
    text: "Genotype(
        normal=[
            ('sep_conv_3x3', 1), ('sep_conv_5x5', 0),
            ('sep_conv_3x3', 1), ('skip_connect', 0),
            ('sep_conv_3x3', 2), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 4), ('sep_conv_5x5', 3),
        ], normal_concat=range(2, 6),
        reduce=[
            ('max_pool_3x3', 0), ('max_pool_3x3', 1),
            ('dil_conv_5x5', 1), ('dil_conv_5x5', 2),
            ('sep_conv_3x3', 0), ('dil_conv_3x3', 3),
            ('dil_conv_5x5', 4), ('sep_conv_3x3', 3),
        ], reduce_concat=range(2, 6))",
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CellKind, Primitive};

    #[test]
    fn every_preset_is_a_cell_pair_of_darts() {
        for preset in Preset::ALL {
            let genotype = preset.genotype();
            assert_eq!(Preset::find(&preset.name.to_lowercase()).unwrap(), preset);
            for cell in CellKind::ALL.map(|kind| genotype.cell(kind)) {
                assert_eq!(cell.concat, [2, 3, 4, 5], "{}", preset.name);
                assert_eq!(cell.nodes.len(), 4, "{}", preset.name);
            }
            assert!(genotype.to_flat().is_ok(), "{}", preset.name);
        }
    }

    #[test]
    fn known_counts() {
        let skips = |name: &str| {
            let cell = Preset::find(name).unwrap().genotype().normal;
            cell.count(|primitive| primitive == Primitive::SkipConnect)
        };
        let counts = ["DARTS_V1", "DARTS_V2", "PDARTS", "EC_DARTS_IMAGENET"].map(skips);
        assert_eq!(counts, [3, 2, 2, 1]);
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        assert_eq!(
            Preset::find("DARTS").unwrap_err().to_string(),
            "unknown preset `DARTS`, expected one of DARTS_V1, DARTS_V2, PC_DARTS_CIFAR, \
             PC_DARTS_IMAGENET, PDARTS, EC_DARTS_CIFAR, EC_DARTS_IMAGENET"
        );
    }
}
