//! Where a visitor or mapper is, and which packed tensor it has met.

use std::sync::Arc;

use super::{Layout, Packs, Parts};

/// The path of a visitor through a module with packed tensors.
///
/// Invariant: every visitor of this crate that knows names goes by it, so that a part has one name.
pub(crate) struct Path {
    names: Vec<String>,
    layouts: Vec<Arc<Layout>>,
    /// Packed modules that were entered so far.
    entered: usize,
    /// Whether the visitor is at a tensor of the last of them.
    is_inside: bool,
}

/// A packed tensor that a visitor has met.
pub(crate) struct Met {
    layout: Arc<Layout>,
    /// What the names of its parts begin with.
    prefix: String,
    /// What they end with: `.running_mean`, `.running_var` or nothing.
    suffix: &'static str,
}

/// The fields of [`super::Packed`], and what the names of their parts end with.
const FIELDS: [(&str, &str); 3] =
    [("weights", ""), ("running_mean", ".running_mean"), ("running_var", ".running_var")];

impl Path {
    /// At the root of a module, whose path is `prefix`.
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

    /// The packed tensor where the visitor is, if it is at one.
    pub(crate) fn met(&self) -> Option<Met> {
        let layout = self.is_inside.then(|| self.layouts[self.entered - 1].clone())?;
        let field = self.names.last().map(String::as_str);
        let (_, suffix) = *FIELDS.iter().find(|(name, _)| Some(*name) == field)?;
        // A packed module stands in a field of the module that its parts are named after.
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
