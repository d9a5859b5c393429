use std::sync::{Arc, LazyLock};
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use ec_darts_space::{Genotype, Preset};
use proptest::prelude::*;
use rand::RngExt;
use serde_json::Value;

use super::*;
use crate::config::DataConfig;
use crate::data::{DatasetKind, Datasets, Normalization, Purpose, stream_rng};
use crate::device::DeviceName;
use crate::network::{EvaluationConfig, Skeleton, StemKind};
use crate::tensors::to_vec;

const PLAIN: Normalization = Normalization { mean: [0.5; 3], std: [0.25; 3] };

/// A network of NAS-Bench-201's skeleton.
pub(crate) fn nas_bench_201() -> TrainedModel {
    let text =
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|none~0|skip_connect~1|nor_conv_1x1~2|";
    let config =
        EvaluationConfig { init_channels: 4, num_cells: 3, ..EvaluationConfig::nas_bench_201(3) };
    of_genotype(text.parse().expect("a genotype"), &config, 8)
}

/// A small untrained model whose running statistics have changed.
pub(crate) fn small(stem: StemKind, size: usize) -> TrainedModel {
    let genotype = Preset::find("ec_darts_cifar").expect("a preset").genotype();
    let skeleton = Skeleton::Darts;
    let config =
        EvaluationConfig { skeleton, stem, init_channels: 4, num_cells: 3, num_classes: 3 };
    of_genotype(genotype, &config, size)
}

fn of_genotype(genotype: Genotype, config: &EvaluationConfig, size: usize) -> TrainedModel {
    let names = ["cat", "dog", "owl"].map(String::from).to_vec();
    let description = ModelDescription::new(genotype, config, names, [size; 2], &PLAIN, "cifar10");
    let device = DeviceName::Flex.open().expect("the CPU").device.autodiff();
    let network = description.build(&device);
    for cell in &network.cells {
        // The size does not matter to a convolution; cells alone spare the auxiliary head.
        let input = |edge: &ec_darts_kernels::Edge| {
            let side = 8 * edge.stride;
            images([2, edge.channels[0], side, side], 2.0, &device)
        };
        let inputs = &cell.cell.inputs;
        cell.forward(input(&inputs[0]), input(&inputs[inputs.len() - 1]), None);
    }
    TrainedModel::new(description, network).expect("they fit")
}

fn logits(model: &TrainedModel, device: &Device) -> Vec<f32> {
    let [height, width] = model.description.image_size;
    to_vec(model.network.forward(images([2, 3, height, width], 1.0, device)))
}

/// Random values in (-scale, scale), the same every time. They do not come from the device's
/// generator, which is shared with tests that run at the same time.
pub(crate) fn images(shape: [usize; 4], scale: f32, device: &Device) -> Tensor<4> {
    let mut rng = stream_rng(3, Purpose::Listed, 0, 0);
    let values: Vec<f32> =
        (0..shape.iter().product()).map(|_| rng.random_range(-scale..scale)).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn flex() -> Device {
    DeviceName::Flex.open().expect("the CPU").device
}

#[test]
fn a_loaded_model_is_the_saved_one() {
    for (stem, size) in [(StemKind::Cifar, 16), (StemKind::Stride2, 16), (StemKind::Imagenet, 64)] {
        let model = small(stem, size);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        model.save(&path).expect("written");
        let loaded = TrainedModel::load(&path, &flex()).expect("read");
        assert_eq!(loaded.description, model.description);
        let bytes = model.to_bytes().expect("finite");
        assert_eq!(loaded.to_bytes().expect("finite"), bytes, "{stem:?}");
        let again = TrainedModel::from_bytes(&bytes, &flex()).expect("read");
        assert_eq!(logits(&again, &flex()), logits(&loaded, &flex()));
        assert_ne!(logits(&again, &flex()), {
            let untrained = again.description.build(&flex());
            let untrained = TrainedModel::new(again.description.clone(), untrained);
            logits(&untrained.expect("they fit"), &flex())
        });
    }
}

/// Expects the file with a changed description to be refused with this text.
fn check(change: impl FnOnce(&mut Value), expected: &str) {
    let (snapshot, text) = Snapshot::from_bytes(&SMALL).expect("a snapshot");
    let mut description: Value = serde_json::from_str(&text).expect("JSON");
    change(&mut description);
    let bytes = snapshot.to_bytes(&description.to_string());
    let began = Instant::now();
    let error = TrainedModel::from_bytes(&bytes, &flex()).expect_err(expected).to_string();
    assert!(began.elapsed().as_secs_f64() < 1.0, "{expected} took {:?}", began.elapsed());
    assert!(error.contains(expected), "{expected:?} in: {error}");
}

#[test]
fn files_that_are_no_model() {
    check(|all| all["format"] = 2.into(), "format 2, this version reads format 1");
    check(|all| all["progress"] = Value::Null, "a checkpoint of a run");
    check(|all| all["stem"] = "mnist".into(), "description cannot be read");
    check(|all| all["init_channels"] = 3.into(), "`init_channels` is 3");
    check(|all| all["init_channels"] = 6.into(), "parameters, the network that it describes has");
    check(|all| all["num_cells"] = 2.into(), "`num_cells` is 2");
    check(|all| all["num_cells"] = 4.into(), "parameters, the network that it describes has");
    check(|all| all["image_size"] = vec![8, 6].into(), "cifar with images of 8x6");
    check(|all| all["num_classes"] = 4.into(), "3 class names, `num_classes` is 4");
    check(
        |all| all["num_classes"] = 1_000_000.into(),
        "`num_classes` is 1000000, allowed: 1 to 65536",
    );
    check(
        |all| {
            (all["init_channels"], all["num_cells"]) = (4096.into(), 1000.into());
        },
        "`num_cells` is 1000, its tensors are those of at most ",
    );
    check(
        |all| all["init_channels"] = 4096.into(),
        "parameters, the network that it describes has",
    );
    check(
        |all| all["image_size"] = vec![1_u64 << 63; 2].into(),
        "`image_size` is [9223372036854775808",
    );
    check(
        |all| all["image_size"] = vec![1_000_000; 2].into(),
        "`image_size` is [1000000, 1000000]",
    );
    check(
        |all| {
            let mut data = DataConfig::new(DatasetKind::Cifar10);
            data.crop_padding = 1000;
            all["data"] = serde_json::to_value(data).expect("JSON");
        },
        "`data.crop_padding` is 1000, allowed: 0 to 32 pixels",
    );
    check(
        |all| {
            all["data"] =
                serde_json::to_value(DataConfig::new(DatasetKind::Imagenet)).expect("JSON")
        },
        "`data.dataset` is imagenet, `dataset` is cifar10",
    );
    check(
        |all| {
            let data = DataConfig { image_size: Some(16), ..DataConfig::new(DatasetKind::Cifar10) };
            all["data"] = serde_json::to_value(data).expect("JSON");
        },
        "`data.image_size` is 16, `image_size` is [8, 8]",
    );
    check(
        |all| all["digests"] = serde_json::json!({"train": "x", "test": "y"}),
        "`digests` is \"x\", allowed: 64 hexadecimal digits each",
    );
    let many = vec![serde_json::json!([{"primitive": "skip_connect", "from": 0}]); 65];
    check(|all| all["genotype"]["normal"]["nodes"] = many.into(), "65 nodes");
    check(|all| all["std"] = vec![0.0; 3].into(), "`std` is [0.0, 0.0, 0.0]");
    check(
        |all| {
            all["num_classes"] = 2.into();
            all["class_names"] = vec!["a", "b"].into();
        },
        "parameters, the network that it describes has",
    );
    let cut = &small(StemKind::Cifar, 8).to_bytes().expect("finite")[..500];
    let error = TrainedModel::from_bytes(cut, &flex()).expect_err("a part").to_string();
    assert!(error.contains("not a trained model"), "{error}");
}

#[test]
fn other_data_is_refused() {
    let model = small(StemKind::Cifar, 4);
    let check = |size: [usize; 2], names: &[&str], expected: &str| {
        let names = names.iter().map(ToString::to_string).collect();
        let pixels = vec![0; 3 * size[0] * size[1]];
        let dataset = ImageDataset::new(size, pixels, vec![0], names).expect("a set");
        let found = model.check_data(&dataset, Path::new("folder"));
        let found = found.map_or_else(|error| error.to_string(), |()| String::new());
        assert_eq!(found, expected);
    };
    check([4, 4], &["cat", "dog", "owl"], "");
    check([4, 4], &["0", "1", "2"], "");
    check([4, 4], &["dog", "owl"], "");
    check([4, 4], &["a", "b"], "folder: 2 classes, the model knows 3, and no class a");
    check([4, 4], &["a", "b", "c", "d"], "folder: 4 classes, the model knows 3");
    check([4, 4], &["cat", "owl", "dog"], "folder: class 1 is owl, in the model it is dog");
    check([4, 4], &["10", "11", "12"], "folder: class 0 is 10, in the model it is cat");
    check([4, 4], &["0", "2", "1"], "folder: class 0 is 0, in the model it is cat");
    check([4, 8], &["0", "1", "2"], "folder: images of 4x8, the model wants 4x4");
}

/// A model does not change and gives the same answer, whatever its device and that of the images.
#[test]
fn using_a_model_never_changes_it() {
    let bytes = small(StemKind::Cifar, 8).to_bytes().expect("finite");
    let plain = flex();
    let tracked = plain.clone().autodiff();
    let expected = {
        let model = TrainedModel::from_bytes(&bytes, &plain).expect("read");
        to_vec(model.logits(images([3, 3, 8, 8], 1.0, &plain)))
    };
    for device in [&plain, &tracked] {
        let mut model = TrainedModel::from_bytes(&bytes, device).expect("read");
        for round in 0..2 {
            for of_images in [&plain, &tracked] {
                let input = || images([3, 3, 8, 8], 1.0, of_images);
                let logits = model.logits(input());
                assert_eq!(&logits.device(), of_images);
                assert_eq!(to_vec(logits), expected, "{device:?} {of_images:?} {round}");
                assert_eq!(model.classify(input(), 1).len(), 3);
                let features = model.features(input());
                let width = model.network.classifier.weight.dims()[0];
                assert_eq!((features.dims(), &features.device()), ([3, width], of_images));
                assert_eq!(to_vec(model.clone().logits(input())), expected);
                assert_eq!(model.to_bytes().expect("finite"), bytes);
            }
            // A user puts in a network that could be trained.
            model.network = model.network.train();
        }
    }
}

#[test]
fn a_network_of_another_description_is_refused() {
    let check = |change: &dyn Fn(&mut ModelDescription), expected: &str| {
        let TrainedModel { mut description, network } = small(StemKind::Cifar, 8);
        change(&mut description);
        let error = TrainedModel::new(description, network).expect_err(expected).to_string();
        assert!(error.starts_with("the model in memory: ") && error.contains(expected), "{error}");
    };
    check(&|all| all.init_channels = 6, "parameters, the network that it describes has");
    check(&|all| all.num_cells = 4, "parameters, the network that it describes has");
    check(&|all| all.num_classes = 2, "3 class names, `num_classes` is 2");
    check(&|all| all.std[1] = f32::NAN, "`std` is [0.25, NaN, 0.25]");
    check(&|all| all.mean[2] = f32::INFINITY, "`mean` is [0.5, 0.5, inf]");
    // The same number of parameters, but of other operations.
    let swap = |all: &mut ModelDescription| {
        let reduction = all.genotype.reduction.as_mut().expect("a pair");
        std::mem::swap(&mut all.genotype.normal, reduction);
    };
    check(&swap, "not the network it describes");
}

#[test]
fn what_is_no_number_is_not_saved() {
    let model = small(StemKind::Cifar, 8);
    for value in [f32::NAN, f32::INFINITY] {
        let mut broken = model.clone();
        broken.network.classifier.weight =
            broken.network.classifier.weight.map(|weight| weight.mul_scalar(value));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        let error = broken.save(&path).expect_err("no number").to_string();
        let expected = format!(
            "{}: not saved: network.classifier.weight has values that are not finite",
            path.display()
        );
        assert_eq!(error, expected);
        assert!(!path.exists());
        assert!(broken.export(ExportFormat::Torch, &folder.path().join("torch")).is_err());
        let network = broken.network;
        assert!(TrainedModel::new(model.description.clone(), network).is_err());
    }
}

#[test]
fn other_images_and_logits_that_are_no_number_have_no_accuracy() {
    let mut model = small(StemKind::Cifar, 8);
    let set = |names: &[&str], count: usize| {
        let names = names.iter().map(ToString::to_string).collect();
        Arc::new(
            ImageDataset::new([8, 8], vec![9; count * 192], vec![0; count], names).expect("a set"),
        )
    };
    let found = |model: &TrainedModel, names: &[&str], count: usize| {
        evaluate(model, set(names, count), 2, &flex(), &mut |_| ())
            .map(|all| (all.num_images, all.top5))
            .map_err(|error| error.to_string())
    };
    let own = ["cat", "dog", "owl"];
    assert_eq!(found(&model, &own, 3), Ok((3, None)));
    let error = "images: class 1 is cow, in the model it is dog";
    assert_eq!(found(&model, &["cat", "cow", "owl"], 3), Err(error.into()));
    assert_eq!(found(&model, &own, 0), Err("images: none to evaluate on".into()));
    model.network.classifier.weight =
        model.network.classifier.weight.map(|weight| weight * f32::NAN);
    let error = "the model in memory: a logit of image 0 is no number";
    assert_eq!(found(&model, &own, 3), Err(error.into()));
    assert_eq!(model.classify(images([1, 3, 8, 8], 1.0, &flex()), 2), [vec![]]);
}

#[test]
fn images_that_are_no_set_are_named() {
    let check = |size, pixels: usize, labels: &[u16], classes: usize, expected: &str| {
        let names = (0..classes).map(|class| class.to_string()).collect();
        let found = ImageDataset::new(size, vec![1; pixels], labels.to_vec(), names);
        assert_eq!(found.expect_err(expected).to_string(), format!("images: {expected}"));
    };
    check([0, 4], 0, &[], 1, "`size` is 0x4, allowed: sides of 1 pixel or more");
    check([2, 2], 11, &[0], 1, "`pixels` has 11 values, expected 1 labels x 3 x 2 x 2");
    check([1, 1], 6, &[0, 3], 3, "label 3 of image 1, allowed: below 3 classes");
    let side = usize::MAX / 2;
    let text = format!("`pixels` has 3 values, expected 1 labels x 3 x {side} x {side}");
    check([side; 2], 3, &[0], 1, &text);
    let set = |side: usize, classes: usize| {
        let names = (0..classes).map(|class| class.to_string()).collect();
        ImageDataset::new([side; 2], vec![1; 3 * side * side], vec![0], names).expect("a set")
    };
    assert!(Datasets::new(set(4, 2), set(4, 3)).is_err());
    assert!(Datasets::new(set(4, 2), set(8, 2)).is_err());
    let other = Normalization { mean: [0.5; 3], std: [0.0; 3] };
    assert!(set(4, 2).with_normalization(other).is_err());
    let set = set(4, 2).with_normalization(PLAIN).expect("usable");
    assert_eq!(set.normalization(), PLAIN);
}

#[test]
fn single_bits_of_a_file_count() {
    let bytes = small(StemKind::Cifar, 8).to_bytes().expect("finite");
    let mut rng = stream_rng(7, Purpose::Listed, 0, 0);
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    for number in 0..ProptestConfig::default().cases {
        // Half of the changes are in the header, which is short.
        let end = if number % 2 == 0 { bytes.len() } else { header };
        let bit = rng.random_range(0..8 * end);
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let refused = TrainedModel::from_bytes(&flipped, &flex()).is_err();
        assert!(refused, "bit {bit} of a file of {} bytes, {header} of them header", bytes.len());
    }
}

/// A small model's file.
static SMALL: LazyLock<Vec<u8>> =
    LazyLock::new(|| small(StemKind::Cifar, 8).to_bytes().expect("finite"));

/// A value for some place in a description.
fn values() -> impl Strategy<Value = Value> {
    let numbers = prop_oneof![
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| serde_json::json!(number)),
        (0_u64..300).prop_map(Value::from),
    ];
    let plain =
        prop_oneof![numbers, any::<bool>().prop_map(Value::from), ".{0,8}".prop_map(Value::from)];
    plain.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{1,8}", inner, 0..4)
                .prop_map(|all| Value::Object(all.into_iter().collect())),
        ]
    })
}

/// The places of a value, as JSON pointers.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_string());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| places(value, &format!("{at}/{key}"), all));
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, value)| places(value, &format!("{at}/{index}"), all));
        }
        _ => {}
    }
}

proptest! {
    /// A well-formed file with another description is refused, or gives a model that works.
    #[test]
    fn any_description_is_refused_or_of_a_model_that_works(
        place in any::<prop::sample::Index>(),
        value in values(),
    ) {
        let whole = &*SMALL;
        let (snapshot, text) = Snapshot::from_bytes(whole).expect("a snapshot");
        let mut description: Value = serde_json::from_str(&text).expect("JSON");
        let data = DataConfig { image_size: Some(8), ..DataConfig::new(DatasetKind::Cifar10) };
        description["data"] = serde_json::to_value(data).expect("JSON");
        let mut all = Vec::new();
        places(&description, "", &mut all);
        let place = place.get(&all);
        *description.pointer_mut(place).expect("a place") = value;
        let bytes = snapshot.to_bytes(&description.to_string());
        let read = || TrainedModel::from_bytes(&bytes, &flex());
        // Other work may delay the machine now and then, but not in every try.
        let is_quick = |_| {
            let began = Instant::now();
            let _ = read();
            began.elapsed().as_secs_f64() < 1.0
        };
        prop_assert!((0..5).any(is_quick), "{description} takes long");
        if let Ok(model) = read() {
            let [height, width] = model.description.image_size;
            if height * width <= 1024 {
                let found = model.classify(images([1, 3, height, width], 1.0, &flex()), 1);
                prop_assert_eq!(found.len(), 1);
            }
        }
    }

    /// Bytes of no model file are refused.
    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..512), cut in any::<prop::sample::Index>()) {
        prop_assert!(TrainedModel::from_bytes(&bytes, &flex()).is_err());
        let whole = &*SMALL;
        let cut = cut.index(whole.len());
        prop_assert!(TrainedModel::from_bytes(&whole[..cut], &flex()).is_err());
        let joined = [&whole[..cut], &bytes[..], &whole[cut..]].concat();
        prop_assert!(bytes.is_empty() || TrainedModel::from_bytes(&joined, &flex()).is_err());
    }
}
