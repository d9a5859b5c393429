//! The output of onnxruntime for an exported network.
//!
//! `cargo test --release --test integration onnx -- --nocapture` prints the table of differences.

use std::path::Path;
use std::process::Command;

use burn::tensor::{Distribution, Tensor};
use ec_darts::device::DeviceName;
use ec_darts::model::{ExportFormat, TrainedModel};
use ec_darts::network::StemKind;
use ec_darts_space::{Genotype, Primitive};
use serde_json::Value;

use crate::export::{STEMS, of_genotype};

const BATCHES: [usize; 2] = [1, 3];
/// The levels of the script.
const LEVELS: [&str; 2] = ["without", "with"];

/// Runs every network of a folder on its images, with and without graph optimizations.
const SCRIPT: &str = r#"
import json
import sys
from pathlib import Path

import numpy
import onnxruntime

folder = Path(sys.argv[1])
levels = {
    "without": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "with": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
for path in sorted(folder.glob("*.onnx")):
    try:
        import onnx
        onnx.checker.check_model(str(path), full_check=True)
    except ImportError:
        pass
    for name, level in levels.items():
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for images in sorted(folder.glob(path.stem + ".*.images")):
            images_of = numpy.fromfile(images, dtype="<f4")
            (put,), (out,) = session.get_inputs(), session.get_outputs()
            images_of = images_of.reshape(-1, *put.shape[1:])
            (logits,) = session.run([out.name], {put.name: images_of})
            logits.astype("<f4").tofile(images.with_suffix("." + name))
    told = {
        "metadata": session.get_modelmeta().custom_metadata_map,
        "input": [put.name, put.type, put.shape],
        "output": [out.name, out.type, out.shape],
    }
    (folder / (path.stem + ".json")).write_text(json.dumps(told))
print(onnxruntime.__version__)
"#;

/// Every primitive, in both cells and from both inputs, where a reduction cell halves the map.
fn every_primitive() -> Genotype {
    let nodes = "[('sep_conv_3x3', 0), ('dil_conv_5x5', 1), ('max_pool_3x3', 0), \
                 ('sep_conv_5x5', 1), ('avg_pool_3x3', 1), ('skip_connect', 0), \
                 ('dil_conv_3x3', 0), ('skip_connect', 4)]";
    let text = format!(
        "Genotype(normal={nodes}, normal_concat=range(2, 6), reduce={nodes}, \
         reduce_concat=[5, 2, 3])"
    );
    let genotype: Genotype = text.parse().expect("a genotype");
    for primitive in Primitive::DARTS.into_iter().skip(1) {
        assert!(genotype.normal.count(|each| each == primitive) > 0, "{primitive}");
    }
    genotype
}

fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("written");
    bytes.as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four)).collect()
}

/// The metadata of the graph, read back by onnxruntime.
fn check_metadata(model: &TrainedModel, told: &Value) {
    let description = &model.description;
    let [height, width] = description.image_size;
    let of = |key: &str| -> Value {
        let text = told["metadata"][key].as_str().expect(key);
        serde_json::from_str(text).unwrap_or(text.into())
    };
    assert_eq!(
        told["input"],
        serde_json::json!(["images", "tensor(float)", ["batch", 3, height, width]])
    );
    assert_eq!(told["output"], serde_json::json!(["logits", "tensor(float)", ["batch", 10]]));
    assert_eq!(of("classes"), serde_json::json!(description.class_names));
    assert_eq!(of("mean"), serde_json::json!(description.mean));
    assert_eq!(of("std"), serde_json::json!(description.std));
    assert_eq!(of("image_size"), serde_json::json!(description.image_size));
    assert_eq!(of("genotype"), serde_json::json!(description.genotype));
    assert_eq!(of("version"), Value::from(description.version.as_str()));
    assert_eq!(of("ec-darts"), serde_json::to_value(description).expect("plain values"));
    assert!(of("input").as_str().is_some_and(|text| text.contains("divided by `std`")));
}

#[test]
fn onnxruntime_gives_the_same_logits() {
    let probe = Command::new("python3").args(["-c", "import onnxruntime"]).output();
    match probe {
        Err(error) => return println!("not compared with onnxruntime: no python3: {error}"),
        Ok(output) if !output.status.success() => {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            return println!("not compared with onnxruntime: python3 does not have it: {why}");
        }
        Ok(_) => {}
    }
    let device = DeviceName::Flex.open().expect("the CPU").device;
    let folder = tempfile::tempdir().expect("a folder");
    let (mut models, mut expected) = (Vec::new(), Vec::new());
    let stems = STEMS.map(|(stem, size)| (stem, size, every_primitive()));
    let one =
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|none~0|skip_connect~1|nor_conv_1x1~2|";
    let benchmark = (StemKind::Cifar, 32, one.parse().expect("a genotype"));
    for (stem, size, genotype) in stems.into_iter().chain([benchmark]) {
        let mut model = of_genotype(genotype, stem, size);
        model.description.class_names[2] = "čáp, \"white\"\n".into();
        let name = format!("{stem:?}-{}", model.description.skeleton.name()).to_lowercase();
        let path = |end: &str| folder.path().join(format!("{name}.{end}"));
        model.export(ExportFormat::Onnx, &path("onnx")).expect("written");
        for batch in BATCHES {
            let normal = Distribution::Normal(0.0, 1.0);
            let images = Tensor::<4>::random([batch, 3, size, size], normal, &device);
            let bytes = images.to_data().as_bytes().to_vec();
            std::fs::write(path(&format!("{batch}.images")), bytes).expect("written");
            let logits: Vec<f32> = model.logits(images).into_data().iter().collect();
            expected.push((name.clone(), batch, logits));
        }
        models.push((name, model));
    }
    let output = Command::new("python3")
        .args(["-c", SCRIPT, folder.path().to_str().expect("a path")])
        .output()
        .expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    println!("onnxruntime {}", String::from_utf8_lossy(&output.stdout));
    println!("| stem | batch | optimizations | largest logit | largest difference | relative |");
    println!("| --- | ---: | --- | ---: | ---: | ---: |");
    for (name, batch, ours) in expected {
        for level in LEVELS {
            let theirs = floats(&folder.path().join(format!("{name}.{batch}.{level}")));
            assert_eq!(theirs.len(), ours.len());
            let largest = ours.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            let apart = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!(
                "| {name} | {batch} | {level} | {largest:.4} | {apart:.1e} | {:.1e} |",
                apart / largest
            );
            assert!(largest > 0.0 && apart <= 1e-5 * largest, "{name}: {ours:?} {theirs:?}");
        }
    }
    for (name, model) in models {
        let told = std::fs::read(folder.path().join(name + ".json")).expect("written");
        check_metadata(&model, &serde_json::from_slice(&told).expect("JSON"));
    }
}
