//! The position of a visitor or mapper, and the packed tensor that it has met.

use std::sync::Arc;

use super::{Layout, Packs, Parts};

/// The path of a visitor through a module with packed tensors.
///
/// Invariant: every visitor of this crate that uses names takes them from here, so that a part has
/// one name.
pub(crate) struct Path {
    names: Vec<String>,
    layouts: Vec<Arc<Layout>>,
    /// Number of packed modules entered so far.
    entered: usize,
    /// Whether the visitor is at a tensor of the last of them.
    is_inside: bool,
}

/// A packed tensor that a visitor has met.
pub(crate) struct Met {
    layout: Arc<Layout>,
    /// The prefix of the names of its parts.
    prefix: String,
    /// The suffix of the names: `.running_mean`, `.running_var` or empty.
    suffix: &'static str,
}

/// The fields of [`super::Packed`], and the suffixes of the names of their parts.
const FIELDS: [(&str, &str); 3] =
    [("weights", ""), ("running_mean", ".running_mean"), ("running_var", ".running_var")];

impl Path {
    /// The path at the root of a module, with the path `prefix`.
    pub(crate) fn new<M: Packs>(module: &M, prefix: &str) -> Self {
        Self {
            names: if prefix.is_empty() { vec![] } else { vec![prefix.to_string()] },
            layouts: module.packs().iter().map(|packed| packed.layout.clone()).collect(),
            entered: 0,
            is_inside: false,
        }
    }

    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        self.names.push(name.to_string());
        self.is_inside = container == "Struct:Packed";
        if self.is_inside && name == FIELDS[0].0 {
            self.entered += 1;
        }
    }

    pub(crate) fn exit(&mut self) {
        self.names.pop();
        self.is_inside = false;
    }

    /// The name of a tensor that is not packed.
    pub(crate) fn name(&self) -> String {
        self.names.join(".")
    }

    /// The packed tensor at the visitor's position, if there is one.
    pub(crate) fn met(&self) -> Option<Met> {
        let layout = self.is_inside.then(|| self.layouts[self.entered - 1].clone())?;
        let field = self.names.last().map(String::as_str);
        let (_, suffix) = *FIELDS.iter().find(|(name, _)| Some(*name) == field)?;
        // The parts are named after the module of which the packed module is a field.
        let holder = self.names.len().saturating_sub(2);
        Some(Met { layout, prefix: self.names[..holder].join("."), suffix })
    }
}

impl Met {
    pub(crate) fn parts(&self) -> &Parts {
        if self.suffix.is_empty() { &self.layout.weights } else { &self.layout.statistics }
    }

    /// The name of each part, in their order.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        let (prefix, suffix) = (&self.prefix, self.suffix);
        let dot = if prefix.is_empty() { "" } else { "." };
        self.parts().parts.iter().map(move |part| format!("{prefix}{dot}{}{suffix}", part.name))
    }
}
