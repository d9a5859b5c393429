//! Golden numbers of an independent PyTorch model, and the comparison with them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use ec_darts_space::{CellGenotype, Genotype, PerKind, Pick, Primitive};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

/// `EC_DARTS_FIXTURES`, or the project's own copy of the files for the everyday tests.
pub fn folder() -> PathBuf {
    match std::env::var_os("EC_DARTS_FIXTURES") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference"),
    }
}

/// `EC_DARTS_RULE_FIXTURES`, or the project's own copy of the files for the everyday tests of
/// rules.
pub fn rule_folder() -> PathBuf {
    match std::env::var_os("EC_DARTS_RULE_FIXTURES") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rules"),
    }
}

#[derive(Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub primitives: Vec<String>,
    pub files: BTreeMap<String, Entry>,
}

#[derive(Clone, Deserialize)]
pub struct Entry {
    pub case: String,
    pub config: serde_json::Value,
    pub tensors: BTreeMap<String, Listing>,
}

#[derive(Clone, Deserialize)]
pub struct Listing {
    pub atol: Option<f64>,
}

pub fn manifest(folder: &Path) -> Manifest {
    let path = folder.join("manifest.json");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("a manifest of fixtures")
}

enum Values {
    Float(Vec<f32>),
    Int(Vec<i64>),
}

/// One file, the device of the comparison, and the answers compared so far.
pub struct Fixture {
    pub entry: Entry,
    pub device: Device,
    tensors: BTreeMap<String, (Vec<usize>, Values)>,
    slack: f64,
    checked: RefCell<BTreeSet<String>>,
    worst: RefCell<(f64, String)>,
    failures: RefCell<Vec<String>>,
}

impl Fixture {
    /// Reads a file; `slack` multiplies every stored tolerance.
    pub fn read(path: &Path, entry: &Entry, device: &Device, slack: f64) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let read = |(name, view): (&str, safetensors::tensor::TensorView)| {
            let values = match view.dtype() {
                Dtype::F32 => {
                    let (values, _) = view.data().as_chunks::<4>();
                    Values::Float(values.iter().map(|&four| f32::from_le_bytes(four)).collect())
                }
                Dtype::I64 => {
                    let (values, _) = view.data().as_chunks::<8>();
                    Values::Int(values.iter().map(|&eight| i64::from_le_bytes(eight)).collect())
                }
                other => panic!("{name} is {other:?}"),
            };
            (name.to_string(), (view.shape().to_vec(), values))
        };
        Self {
            entry: entry.clone(),
            device: device.clone().autodiff(),
            tensors: file.iter().map(read).collect(),
            slack,
            checked: RefCell::default(),
            worst: RefCell::new((0.0, String::new())),
            failures: RefCell::default(),
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub fn values(&self, name: &str) -> &[f32] {
        match &self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}")).1 {
            Values::Float(values) => values,
            Values::Int(_) => panic!("{name} is integral"),
        }
    }

    pub fn data(&self, name: &str) -> TensorData {
        TensorData::new(self.values(name).to_vec(), self.tensors[name].0.clone())
    }

    pub fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        Tensor::from_data(self.data(name), &self.device)
    }

    pub fn integers(&self, name: &str) -> &[i64] {
        match &self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}")).1 {
            Values::Int(values) => values,
            Values::Float(_) => panic!("{name} is not integral"),
        }
    }

    /// The values of both kinds of cells, under `prefix.normal` and `prefix.reduce`.
    pub fn pair(&self, prefix: &str) -> PerKind<Vec<f32>> {
        ["normal", "reduce"].map(|kind| self.values(&format!("{prefix}.{kind}")).to_vec()).into()
    }

    /// As [`Self::pair`], for indices.
    pub fn index_pair(&self, prefix: &str) -> PerKind<Vec<usize>> {
        let of_kind = |kind| {
            let indices = self.integers(&format!("{prefix}.{kind}"));
            indices.iter().map(|&index| index as usize).collect()
        };
        ["normal", "reduce"].map(of_kind).into()
    }

    /// Compares the values of both kinds of cells.
    pub fn check_pair(&self, prefix: &str, actual: &PerKind<Vec<f32>>) {
        for (kind, values) in ["normal", "reduce"].into_iter().zip(actual.as_ref().into_values()) {
            self.check(&format!("{prefix}.{kind}"), values);
        }
    }

    /// Compares integers; all must be equal.
    pub fn check_integers(&self, name: &str, actual: &[i64]) {
        self.checked.borrow_mut().insert(name.to_string());
        if actual != self.integers(name) {
            self.failures.borrow_mut().push(format!("{name}: {actual:?}"));
        }
    }

    pub fn labels(&self, name: &str) -> Tensor<1, Int> {
        let labels: Vec<i32> = self.integers(name).iter().map(|&label| label as i32).collect();
        Tensor::from_data(labels.as_slice(), &self.device)
    }

    /// A genotype stored as two `[8, 2]` tensors under `prefix.normal` and `prefix.reduce`.
    pub fn genotype(&self, prefix: &str) -> Genotype {
        let cell = |kind: &str| {
            let picks: Vec<Pick> = self
                .integers(&format!("{prefix}.{kind}"))
                .chunks(2)
                .map(|pick| Pick {
                    primitive: Primitive::DARTS[pick[0] as usize],
                    from: pick[1] as usize,
                })
                .collect();
            CellGenotype {
                nodes: picks.chunks(2).map(<[Pick]>::to_vec).collect(),
                concat: vec![2, 3, 4, 5],
            }
        };
        Genotype { normal: cell("normal"), reduction: Some(cell("reduce")) }
    }

    /// Alpha or mixing weights: the nodes' matrices under `prefix.0` to `prefix.3`, joined.
    pub fn matrix(&self, prefix: &str) -> TensorData {
        let nodes = (0..4).map(|node| self.values(&format!("{prefix}.{node}")));
        let values: Vec<f32> = nodes.flatten().copied().collect();
        let rows = values.len() / 8;
        TensorData::new(values, [rows, 8])
    }

    /// Compares by the rule of the manifest: `max |actual - stored| <= atol`.
    pub fn check(&self, name: &str, actual: &[f32]) {
        let stored = self.values(name);
        assert_eq!(actual.len(), stored.len(), "{name}: number of values");
        let atol = self.entry.tensors[name].atol.expect("answers have a tolerance");
        let miss = actual
            .iter()
            .zip(stored)
            .map(|(a, s)| match (a.is_nan(), s.is_nan()) {
                (true, true) => 0.0,
                (false, false) => (f64::from(*a) - f64::from(*s)).abs(),
                _ => f64::INFINITY,
            })
            .fold(0.0, f64::max);
        self.checked.borrow_mut().insert(name.to_string());
        let ratio = miss / atol;
        if ratio > self.worst.borrow().0 {
            *self.worst.borrow_mut() = (ratio, name.to_string());
        }
        if ratio > self.slack {
            self.failures.borrow_mut().push(format!("{name}: off by {miss:.3e}, atol {atol:.3e}"));
        }
    }

    pub fn check_tensor<const D: usize>(&self, name: &str, actual: Tensor<D>) {
        let actual: Vec<f32> = actual.into_data().try_to_vec().expect("single precision");
        self.check(name, &actual);
    }

    /// Compares a matrix of all edges with its parts, one per node.
    pub fn check_matrix(&self, prefix: &str, actual: Tensor<2>) {
        let actual: Vec<f32> = actual.into_data().try_to_vec().expect("single precision");
        let mut start = 0;
        for node in 0..4 {
            let end = start + (2 + node) * 8;
            self.check(&format!("{prefix}.{node}"), &actual[start..end]);
            start = end;
        }
    }

    pub fn check_genotype(&self, prefix: &str, actual: &Genotype) {
        for kind in ["normal", "reduce"] {
            self.checked.borrow_mut().insert(format!("{prefix}.{kind}"));
        }
        if *actual != self.genotype(prefix) {
            self.failures.borrow_mut().push(format!("{prefix}: {actual}"));
        }
    }

    /// Checks that every stored answer was compared and is close enough. Returns the largest ratio
    /// of a difference to its tolerance.
    pub fn finish(self, title: &str) -> f64 {
        let checked = self.checked.borrow();
        let left: Vec<&str> = self
            .names()
            .filter(|name| name.starts_with("out.") || name.contains(".out."))
            .filter(|name| !checked.contains(*name))
            .collect();
        assert!(left.is_empty(), "{title}: not compared: {left:?}");
        assert!(!checked.is_empty(), "{title}: nothing compared");
        let failures = self.failures.borrow();
        let first: Vec<_> = failures.iter().take(12).collect();
        assert!(failures.is_empty(), "{title}: {} tensors off: {first:#?}", failures.len());
        let (ratio, name) = &*self.worst.borrow();
        println!("{title}: {} answers, worst {ratio:.3} of its tolerance ({name})", checked.len());
        *ratio
    }
}
