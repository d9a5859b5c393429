//! Trained networks in other formats, and the output of PyTorch with the same weights.

use std::path::Path;
use std::process::Command;

use burn::store::{BurnpackStore, ModuleSnapshot, SafetensorsStore};
use burn::tensor::{Device, Distribution, Tensor};
use ec_darts::data::Normalization;
use ec_darts::device::DeviceName;
use ec_darts::model::{ExportFormat, ModelDescription, TorchFile, TrainedModel};
use ec_darts::network::{EvaluationConfig, EvaluationNetwork, Skeleton, StemKind};
use ec_darts::snapshot::{NamedTensors, Snapshot};
use ec_darts_space::{Genotype, Preset};

fn device() -> Device {
    DeviceName::Flex.open().expect("the CPU").device
}

fn model(stem: StemKind, size: usize) -> TrainedModel {
    let genotype = Preset::find("EC_DARTS_CIFAR").expect("a preset").genotype();
    of_genotype(genotype, stem, size)
}

/// A model whose normalizations are not identities.
pub fn of_genotype(genotype: Genotype, stem: StemKind, size: usize) -> TrainedModel {
    let skeleton = match genotype.reduction {
        Some(_) => Skeleton::Darts,
        None => Skeleton::NasBench201,
    };
    let config =
        EvaluationConfig { skeleton, stem, init_channels: 8, num_cells: 6, num_classes: 10 };
    let names = (0..10).map(|class| class.to_string()).collect();
    let plain = Normalization { mean: [0.5; 3], std: [0.25; 3] };
    let description = ModelDescription::new(genotype, &config, names, [size; 2], &plain, "cifar10");
    let network = description.build(&device());
    let mut snapshot = Snapshot::default();
    snapshot.save(&network, "");
    for (name, data) in &mut snapshot.tensors {
        let distribution = match name.rsplit('.').next().expect("a name") {
            "gamma" | "running_var" => Distribution::Uniform(0.5, 1.5),
            "beta" | "running_mean" => Distribution::Normal(0.0, 0.3),
            _ => continue,
        };
        *data = Tensor::<1>::random([data.num_elements()], distribution, &device()).into_data();
    }
    let network = snapshot.load(network, "").expect("its own names");
    TrainedModel::new(description, network).expect("they fit")
}

/// The tensors of a network for Burn's stores.
fn named(network: &EvaluationNetwork) -> NamedTensors {
    let mut snapshot = Snapshot::default();
    snapshot.save(network, "network");
    NamedTensors::new(&snapshot, "network", &device())
}

fn filled(network: EvaluationNetwork, named: &NamedTensors) -> EvaluationNetwork {
    let mut snapshot = Snapshot::default();
    snapshot.save(named, "network");
    snapshot.load(network, "network").expect("the names of the network")
}

/// The stems with the image sizes that they are made for.
pub const STEMS: [(StemKind, usize); 3] =
    [(StemKind::Cifar, 32), (StemKind::Stride2, 64), (StemKind::Imagenet, 224)];

#[test]
fn burn_reloads_every_format_bit_for_bit() {
    for (stem, size) in STEMS {
        let model = model(stem, size);
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let fresh = || model.description.build(&device());
        assert_ne!(
            bytes(&TrainedModel::new(model.description.clone(), fresh()).expect("they fit")),
            bytes(&model)
        );

        model.export(ExportFormat::Burnpack, &path("model.bpk")).expect("written");
        let mut burnpack = named(&fresh());
        burnpack.load_from(&mut BurnpackStore::from_file(path("model.bpk"))).expect("burnpack");
        let burnpack = filled(fresh(), &burnpack);

        model.export(ExportFormat::Safetensors, &path("model.safetensors")).expect("written");
        let mut safetensors = named(&fresh());
        let mut store = SafetensorsStore::from_file(path("model.safetensors"));
        safetensors.load_from(&mut store).expect("safetensors");
        let safetensors = filled(fresh(), &safetensors);

        model.export(ExportFormat::Torch, &path("torch")).expect("written");
        let file = TorchFile::read(&path("torch/model.safetensors")).expect("torch");
        assert_eq!(file.description.as_ref(), Some(&model.description));
        let torch = file.model(model.description.clone(), &device()).expect("torch").network;

        for (format, network) in
            [("burnpack", burnpack), ("safetensors", safetensors), ("torch", torch)]
        {
            let again = TrainedModel::new(model.description.clone(), network).expect(format);
            assert_eq!(bytes(&again), bytes(&model), "{format}, {stem:?}");
        }
    }
}

fn bytes(model: &TrainedModel) -> Vec<u8> {
    model.to_bytes().expect("finite")
}

const SCRIPT: &str = r#"
import sys
import torch
from pathlib import Path
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
from model import load

network, _ = load(folder / "model.safetensors")
with torch.no_grad():
    logits = network(load_file(folder / "images.safetensors")["images"])
save_file({"logits": logits}, folder / "logits.safetensors")
state = network.state_dict()
torch.save(state, folder / "state.pt")
optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
network.train()(torch.randn(2, 3, int(sys.argv[2]), int(sys.argv[2])))[0].sum().backward()
optimizer.step()
state = {"module." + name: value for name, value in load_file(folder / "model.safetensors").items()}
checkpoint = {"epoch": 3, "state_dict": state, "optimizer": optimizer.state_dict()}
torch.save(checkpoint, folder / "checkpoint.pth.tar")
torch.save({"state_dict": {k: v.half() for k, v in network.state_dict().items()}}, folder / "half.pt")
"#;

#[test]
fn pytorch_gives_the_same_logits_and_its_checkpoints_are_read() {
    let probe = Command::new("python3").args(["-c", "import torch, safetensors"]).output();
    match probe {
        Err(error) => return println!("not compared: python3 does not run: {error}"),
        Ok(output) if !output.status.success() => {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            return println!("not compared: python3 has no torch or safetensors: {why}");
        }
        Ok(_) => {}
    }
    for (stem, size) in STEMS {
        let model = model(stem, size);
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        model.export(ExportFormat::Torch, folder.path()).expect("written");
        let shape = [2, 3, size, size];
        let images = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device());
        write(&path("images.safetensors"), "images", images.clone());
        let output = Command::new("python3")
            .args(["-c", SCRIPT, folder.path().to_str().expect("a path"), &size.to_string()])
            .output()
            .expect("python3 runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

        let ours: Vec<f32> = model.logits(images).into_data().iter().collect();
        let theirs = read(&path("logits.safetensors"), "logits");
        let largest = theirs.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let apart = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{stem:?}: apart by {:.1e} of the largest logit", apart / largest);
        assert!(ours.len() == 20 && apart <= 1e-5 * largest, "{stem:?}: {ours:?} {theirs:?}");

        for name in ["state.pt", "checkpoint.pth.tar"] {
            let file = TorchFile::read(&path(name)).expect(name);
            let read = file.model(model.description.clone(), &device()).expect(name);
            assert_eq!(bytes(&read), bytes(&model), "{name}, {stem:?}");
        }
        let half = TorchFile::read(&path("half.pt")).expect("half precision");
        half.model(model.description.clone(), &device()).expect("half precision");
    }
}

fn write(path: &Path, name: &str, tensor: Tensor<4>) {
    let data = tensor.into_data();
    let view = safetensors::tensor::TensorView::new(
        safetensors::Dtype::F32,
        data.shape().to_vec(),
        data.as_bytes(),
    );
    let bytes = safetensors::serialize([(name, view.expect("a tensor"))], None).expect("bytes");
    std::fs::write(path, bytes).expect("written");
}

fn read(path: &Path, name: &str) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("read");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let (values, _) = file.tensor(name).expect("a tensor").data().as_chunks::<4>();
    values.iter().map(|&four| f32::from_le_bytes(four)).collect()
}

/// Expects changed tensors of an export to be refused with this text.
fn check(change: impl FnOnce(&mut Vec<(String, Tensor<1>)>), expected: &str) {
    let model = model(StemKind::Cifar, 32);
    let folder = tempfile::tempdir().expect("a folder");
    model.export(ExportFormat::Torch, folder.path()).expect("written");
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).expect("read");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut extra = Vec::new();
    change(&mut extra);
    let data: Vec<_> = extra.into_iter().map(|(name, tensor)| (name, tensor.into_data())).collect();
    let mut all: std::collections::BTreeMap<String, safetensors::tensor::TensorView> =
        file.iter().map(|(name, view)| (name.to_string(), view)).collect();
    for (name, data) in &data {
        let shape = data.shape().to_vec();
        if shape == [0] {
            all.remove(name);
            continue;
        }
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, data.as_bytes());
        all.insert(name.clone(), view.expect("a tensor"));
    }
    std::fs::write(&path, safetensors::serialize(all, None).expect("bytes")).expect("written");
    let file = TorchFile::read(&path).expect("a file");
    assert!(file.description.is_none());
    let found = file.model(model.description.clone(), &device());
    let found = found.map_or_else(|error| error.to_string(), |_| String::new());
    let prefix = format!("{}: ", path.display());
    assert_eq!(found.strip_prefix(&prefix).unwrap_or(&found), expected);
}

#[test]
fn wrong_tensors_are_named_with_what_was_expected() {
    let of = |length: usize| Tensor::<1>::ones([length], &device());
    check(|_| {}, "");
    check(
        |all| all.push(("classifier.bias".into(), of(7))),
        "classifier.bias: expected [10], found [7]",
    );
    check(
        |all| all.push(("stem.1.weight".into(), of(0))),
        "stem.1.weight: expected [24], found nothing",
    );
    check(
        |all| all.push(("cells.6.bias".into(), of(3))),
        "cells.6.bias: expected nothing of this name, found [3]",
    );
    check(
        |all| all.push(("stem.1.bias".into(), of(24) * f32::NAN)),
        "stem.1.bias has values that are not finite",
    );
}
