//! The two kinds of cell, and values for both.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// The two kinds of cell, each with a genotype of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellKind {
    /// Keeps the size of its input.
    Normal,
    /// Halves height and width: the edges from its inputs have stride 2.
    Reduction,
}

impl CellKind {
    /// Both kinds, normal first.
    pub const ALL: [Self; 2] = [Self::Normal, Self::Reduction];

    /// `normal` or `reduction`.
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

/// A value for each kind of cell.
///
/// ```
/// use ec_darts_space::{CellKind, PerKind};
///
/// let counts = PerKind { normal: 6, reduction: 2 };
/// assert_eq!(*counts.cell(CellKind::Reduction), 2);
/// assert_eq!(counts.map(|count| 2 * count).into_array(), [12, 4]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerKind<T> {
    /// That of the normal cell.
    pub normal: T,
    /// That of the reduction cell.
    pub reduction: T,
}

impl<T> PerKind<T> {
    /// The values of a function, normal first.
    pub fn from_fn(mut of: impl FnMut(CellKind) -> T) -> Self {
        let normal = of(CellKind::Normal);
        Self { normal, reduction: of(CellKind::Reduction) }
    }

    /// The values of a function that can fail; the normal cell's error comes first.
    ///
    /// # Errors
    /// The first one of the function.
    pub fn try_from_fn<E>(mut of: impl FnMut(CellKind) -> Result<T, E>) -> Result<Self, E> {
        let normal = of(CellKind::Normal)?;
        Ok(Self { normal, reduction: of(CellKind::Reduction)? })
    }

    /// The value of a kind.
    pub fn cell(&self, kind: CellKind) -> &T {
        match kind {
            CellKind::Normal => &self.normal,
            CellKind::Reduction => &self.reduction,
        }
    }

    /// The value of a kind, to be changed.
    pub fn cell_mut(&mut self, kind: CellKind) -> &mut T {
        match kind {
            CellKind::Normal => &mut self.normal,
            CellKind::Reduction => &mut self.reduction,
        }
    }

    /// What a function makes of each value, normal first.
    pub fn map<U>(self, mut of: impl FnMut(T) -> U) -> PerKind<U> {
        let normal = of(self.normal);
        PerKind { normal, reduction: of(self.reduction) }
    }

    /// What a function that can fail makes of each value.
    ///
    /// # Errors
    /// The first one of the function, the normal cell's before the other's.
    pub fn try_map<U, E>(self, mut of: impl FnMut(T) -> Result<U, E>) -> Result<PerKind<U>, E> {
        let normal = of(self.normal)?;
        Ok(PerKind { normal, reduction: of(self.reduction)? })
    }

    /// The values of two pairs side by side.
    pub fn zip<U>(self, other: PerKind<U>) -> PerKind<(T, U)> {
        PerKind {
            normal: (self.normal, other.normal),
            reduction: (self.reduction, other.reduction),
        }
    }

    /// Both values by reference.
    pub fn as_ref(&self) -> PerKind<&T> {
        PerKind { normal: &self.normal, reduction: &self.reduction }
    }

    /// Both values by reference to what they own: slices of vectors.
    pub fn as_deref(&self) -> PerKind<&T::Target>
    where
        T: Deref,
    {
        PerKind { normal: &self.normal, reduction: &self.reduction }
    }

    /// Both values by mutable reference.
    pub fn as_mut(&mut self) -> PerKind<&mut T> {
        PerKind { normal: &mut self.normal, reduction: &mut self.reduction }
    }

    /// Both values with their kinds, normal first.
    pub fn iter(&self) -> impl Iterator<Item = (CellKind, &T)> {
        [(CellKind::Normal, &self.normal), (CellKind::Reduction, &self.reduction)].into_iter()
    }

    /// Both values, normal first.
    pub fn into_array(self) -> [T; 2] {
        [self.normal, self.reduction]
    }
}

/// Normal first.
impl<T> From<[T; 2]> for PerKind<T> {
    fn from([normal, reduction]: [T; 2]) -> Self {
        Self { normal, reduction }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_keeps_its_kinds_apart() {
        let mut pair = PerKind::from_fn(|kind| kind.name().to_owned());
        pair.cell_mut(CellKind::Reduction).push('!');
        assert_eq!(pair.as_ref().map(String::len), PerKind { normal: 6, reduction: 10 });
        let listed: Vec<_> = pair.iter().map(|(kind, text)| (kind, text.as_str())).collect();
        assert_eq!(listed, [(CellKind::Normal, "normal"), (CellKind::Reduction, "reduction!")]);
        let both = pair.as_ref().zip(PerKind::from([1, 2]));
        assert_eq!((both.normal.1, both.reduction.0.as_str()), (1, "reduction!"));
        let failed = pair.as_ref().try_map(|text| text.parse::<u8>().map_err(|_| text.clone()));
        assert_eq!(failed, Err("normal".to_owned()));
        let json = serde_json::to_string(&PerKind { normal: 1, reduction: 2 }).unwrap();
        assert_eq!(json, r#"{"normal":1,"reduction":2}"#);
        assert!(serde_json::from_str::<PerKind<u8>>(r#"{"normal":1}"#).is_err());
    }
}
