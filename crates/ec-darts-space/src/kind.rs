//! The kinds of cell, and values for the kinds that a network has.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// The two kinds of cell, each with its own genotype. The network of NAS-Bench-201 has only normal
/// cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellKind {
    /// The cell that keeps the size of its input.
    Normal,
    /// The cell that halves height and width: the edges from its inputs have stride 2.
    Reduction,
}

impl CellKind {
    /// Both kinds, normal first.
    pub const ALL: [Self; 2] = [Self::Normal, Self::Reduction];

    /// The name: `normal` or `reduction`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Reduction => "reduction",
        }
    }
}

impl fmt::Display for CellKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A value for each kind of cell that a network has: the normal cell, and the reduction cell where
/// there is one.
///
/// The cell decides which kinds there are: see [`CellTopology::kinds`](crate::CellTopology::kinds).
///
/// ```
/// use ec_darts_space::{CellKind, CellTopology, PerKind};
///
/// let counts = PerKind::both(6, 2);
/// assert_eq!(*counts.cell(CellKind::Reduction), 2);
/// assert!(counts.map(|count| 2 * count).into_values().eq([12, 4]));
/// // NAS-Bench-201 has one kind.
/// let names = CellTopology::nas_bench_201().per_kind(CellKind::name);
/// assert_eq!(names, PerKind { normal: "normal", reduction: None });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerKind<T> {
    /// The value of the normal cell.
    pub normal: T,
    /// The value of the reduction cell; none where the network has none.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub reduction: Option<T>,
}

impl<T> PerKind<T> {
    /// Values for both kinds.
    pub fn both(normal: T, reduction: T) -> Self {
        Self { normal, reduction: Some(reduction) }
    }

    /// The value of one kind.
    ///
    /// # Panics
    /// Where the network has no reduction cell.
    pub fn cell(&self, kind: CellKind) -> &T {
        match kind {
            CellKind::Normal => &self.normal,
            CellKind::Reduction => {
                self.reduction.as_ref().expect("a network with a reduction cell")
            }
        }
    }

    /// The value of one kind, mutable.
    ///
    /// # Panics
    /// Where the network has no reduction cell.
    pub fn cell_mut(&mut self, kind: CellKind) -> &mut T {
        match kind {
            CellKind::Normal => &mut self.normal,
            CellKind::Reduction => {
                self.reduction.as_mut().expect("a network with a reduction cell")
            }
        }
    }

    /// The result of a function for each value, normal first.
    pub fn map<U>(self, mut of: impl FnMut(T) -> U) -> PerKind<U> {
        let normal = of(self.normal);
        PerKind { normal, reduction: self.reduction.map(of) }
    }

    /// The result for each value of a function that can fail.
    ///
    /// # Errors
    /// The first error of the function; the normal cell's error comes before the reduction cell's.
    pub fn try_map<U, E>(self, mut of: impl FnMut(T) -> Result<U, E>) -> Result<PerKind<U>, E> {
        let normal = of(self.normal)?;
        Ok(PerKind { normal, reduction: self.reduction.map(of).transpose()? })
    }

    /// The values of two, side by side, for the kinds that both have.
    pub fn zip<U>(self, other: PerKind<U>) -> PerKind<(T, U)> {
        PerKind {
            normal: (self.normal, other.normal),
            reduction: self.reduction.zip(other.reduction),
        }
    }

    /// All values by reference.
    pub fn as_ref(&self) -> PerKind<&T> {
        PerKind { normal: &self.normal, reduction: self.reduction.as_ref() }
    }

    /// All values, dereferenced: slices for vectors.
    pub fn as_deref(&self) -> PerKind<&T::Target>
    where
        T: Deref,
    {
        PerKind { normal: &self.normal, reduction: self.reduction.as_deref() }
    }

    /// All values by mutable reference.
    pub fn as_mut(&mut self) -> PerKind<&mut T> {
        PerKind { normal: &mut self.normal, reduction: self.reduction.as_mut() }
    }

    /// All values with their kinds, normal first.
    pub fn iter(&self) -> impl Iterator<Item = (CellKind, &T)> {
        let reduction = self.reduction.iter().map(|value| (CellKind::Reduction, value));
        std::iter::once((CellKind::Normal, &self.normal)).chain(reduction)
    }

    /// All values, normal first.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        std::iter::once(self.normal).chain(self.reduction)
    }
}

impl<T> PerKind<Option<T>> {
    /// All values; none where one is missing.
    pub fn all(self) -> Option<PerKind<T>> {
        self.try_map(|value| value.ok_or(())).ok()
    }
}

/// Takes the normal cell's value first.
impl<T> From<[T; 2]> for PerKind<T> {
    fn from([normal, reduction]: [T; 2]) -> Self {
        Self::both(normal, reduction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_keeps_its_kinds_apart() {
        let mut pair = PerKind::from(CellKind::ALL.map(|kind| kind.name().to_owned()));
        pair.cell_mut(CellKind::Reduction).push('!');
        assert_eq!(pair.as_ref().map(String::len), PerKind::both(6, 10));
        let listed: Vec<_> = pair.iter().map(|(kind, text)| (kind, text.as_str())).collect();
        assert_eq!(listed, [(CellKind::Normal, "normal"), (CellKind::Reduction, "reduction!")]);
        let pairs = pair.as_ref().zip(PerKind::both(1, 2));
        assert_eq!((pairs.normal.1, pairs.cell(CellKind::Reduction).0.as_str()), (1, "reduction!"));
        let failed = pair.as_ref().try_map(|text| text.parse::<u8>().map_err(|_| text.clone()));
        assert_eq!(failed, Err("normal".to_owned()));
        let json = serde_json::to_string(&PerKind::both(1, 2)).unwrap();
        assert_eq!(json, r#"{"normal":1,"reduction":2}"#);
        assert_eq!(PerKind::both(Some(1), None).all(), None);
    }

    #[test]
    fn a_network_of_one_kind_has_no_second_value() {
        let one = PerKind { normal: "normal", reduction: None };
        assert_eq!(one.zip(PerKind::both(1, 2)).into_values().collect::<Vec<_>>(), [("normal", 1)]);
        let json = serde_json::to_string(&one).unwrap();
        assert_eq!(json, r#"{"normal":"normal"}"#);
        assert_eq!(serde_json::from_str::<PerKind<&str>>(&json).unwrap(), one);
        assert!(serde_json::from_str::<PerKind<u8>>(r#"{"reduction":1}"#).is_err());
        assert_eq!(PerKind { normal: Some(1), reduction: None }.all().unwrap().normal, 1);
    }

    #[test]
    #[should_panic(expected = "a network with a reduction cell")]
    fn a_missing_kind_is_told() {
        PerKind { normal: 1, reduction: None }.cell(CellKind::Reduction);
    }
}
