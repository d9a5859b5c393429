//! `ec-darts export` and `ec-darts import`.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use ec_darts::Error;
use ec_darts::config::DataConfig;
use ec_darts::data::DatasetKind;
use ec_darts::device::DeviceName;
use ec_darts::model::{ExportFormat, ModelDescription, TorchFile, TrainedModel};

use crate::args::{ExportArguments, ExportKind, ImportArguments, NetworkArguments, NetworkKind};
use crate::cost::network;
use crate::given::read;
use crate::{output, print};

pub fn export(arguments: ExportArguments) -> anyhow::Result<()> {
    let format = match arguments.format {
        ExportKind::Burnpack => ExportFormat::Burnpack,
        ExportKind::Safetensors => ExportFormat::Safetensors,
        ExportKind::Torch => ExportFormat::Torch,
        ExportKind::Onnx => ExportFormat::Onnx,
    };
    for file in format.files(&arguments.out) {
        output::spare(&file, [&arguments.model])?;
    }
    let device = DeviceName::Flex.open()?.device;
    let model = TrainedModel::load(&arguments.model, &device)?;
    for file in model.export(format, &arguments.out)? {
        print(&format!("wrote {}\n", file.display()))?;
    }
    Ok(())
}

pub fn import(arguments: ImportArguments) -> anyhow::Result<()> {
    let genotype = arguments.genotype.as_ref().map(PathBuf::from);
    let read = [Some(&arguments.file), genotype.as_ref(), arguments.class_names.as_ref()];
    output::spare(&arguments.out, read.into_iter().flatten())?;
    let device = DeviceName::Flex.open()?.device;
    let file = TorchFile::read(&arguments.file)?;
    let description = match (&file.description, &arguments.genotype) {
        (_, Some(genotype)) => described(&arguments, genotype)?,
        (Some(description), None) => description.clone(),
        (None, None) => {
            bail!("{}: does not say its genotype, give --genotype", arguments.file.display())
        }
    };
    let model = file.model(description, &device)?;
    output::write(&arguments.out, &model.to_bytes()?)?;
    print(&format!("wrote {}\n", arguments.out.display()))
}

/// The test transform of the public code, where it is not the whole square: for ImageNet the
/// shorter side becomes 256 pixels, and the middle is cut out.
///
/// # Source
/// DARTS, `cnn/train_imagenet.py`.
fn recipe(kind: DatasetKind) -> Option<DataConfig> {
    let resize = (kind == DatasetKind::Imagenet).then_some(256)?;
    Some(DataConfig { resize: Some(resize), crop_padding: 0, ..DataConfig::new(kind) })
}

/// The description of a network of the public DARTS code by the command line.
fn described(arguments: &ImportArguments, genotype: &str) -> anyhow::Result<ModelDescription> {
    let genotype = read(genotype)?;
    let (config, side) = network(&NetworkArguments {
        kind: arguments.network,
        channels: arguments.channels,
        cells: arguments.cells,
        classes: arguments.classes,
    })?;
    let class_names: Vec<String> = match &arguments.class_names {
        None => (0..config.num_classes).map(|class| class.to_string()).collect(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Into::into).collect()
        }
    };
    ensure!(
        class_names.len() == config.num_classes,
        Error::ConfigSyntax {
            origin: "--class-names".into(),
            reason: format!("{} names, --classes is {}", class_names.len(), config.num_classes),
        }
    );
    let kind = match (arguments.network, config.num_classes) {
        (NetworkKind::Cifar | NetworkKind::NasBench201, 100) => DatasetKind::Cifar100,
        (NetworkKind::Cifar | NetworkKind::NasBench201, _) => DatasetKind::Cifar10,
        (NetworkKind::TinyImagenet, _) => DatasetKind::TinyImagenet,
        (NetworkKind::Imagenet, _) => DatasetKind::Imagenet,
    };
    let (dataset, normalization) = (kind.name(), kind.normalization().expect("published"));
    let size = [side; 2];
    let description =
        ModelDescription::new(genotype, &config, class_names, size, &normalization, dataset);
    Ok(ModelDescription { data: recipe(kind), ..description })
}
