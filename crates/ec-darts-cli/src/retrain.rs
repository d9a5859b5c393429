//! `ec-darts retrain`.

use ec_darts::config::{RetrainConfig, Source};
use ec_darts::cost::NetworkCost;
use ec_darts::data::Datasets;
use ec_darts::preflight::{self, Room};
use ec_darts::train::run::{self, Outcome};
use ec_darts::train::{Measured, MeasuredOn};
use ec_darts_space::Genotype;

use crate::args::RetrainArguments;
use crate::given::read;
use crate::session::Session;
use crate::{print, settings, trace};

pub fn run(arguments: RetrainArguments) -> anyhow::Result<()> {
    let genotype = read(&arguments.genotype)?;
    let arguments = arguments.run;
    let source = Source::open(&arguments.config)?;
    let config: RetrainConfig = settings::of_one(&source, &arguments.changes)?;
    let mut session = Session::start(&arguments)?;
    let images = session.load(&config.data, &arguments.data)?;
    match retrain(config, &genotype, &images, &mut session)? {
        Outcome::Finished(_) if arguments.json => Ok(()),
        Outcome::Finished(measured) => {
            let num_classes = images.train.num_classes();
            print(&format!("{}\n", describe(&measured, num_classes)))
        }
        Outcome::Stopped { checkpoint, total_step } => Err(session.stopped(checkpoint, total_step)),
    }
}

/// One line about the measured accuracy.
pub fn describe(measured: &Measured, num_classes: usize) -> String {
    let on = match measured.on {
        MeasuredOn::Test => "test",
        MeasuredOn::Validation => "held-out training",
    };
    // With five classes or fewer, top-5 is always right.
    let among_five = match num_classes {
        0..=5 => String::new(),
        _ => format!(" (right class among the first five: {:.2} %)", 100.0 * measured.top5),
    };
    format!(
        "accuracy {:.2} %{among_five} of {} {on} images after epoch {}",
        100.0 * measured.accuracy,
        measured.images,
        measured.epoch + 1
    )
}

/// Prints the settings, then retrains.
pub fn retrain(
    config: RetrainConfig,
    genotype: &Genotype,
    images: &Datasets,
    session: &mut Session,
) -> anyhow::Result<Outcome<Measured>> {
    let (train, test) = (&images.train, &images.test);
    config.network.check_genotype(genotype)?;
    let room = Room::of(&session.opened.device);
    let needed = preflight::describe_retraining(&config, genotype, train, &room);
    let shape = config.network.evaluation(train.num_classes());
    let cost = NetworkCost::new(genotype, &shape, train.size()[0]);
    let network = format!(
        "{} cells, {} channels, {:.2} M parameters, {:.1} M multiply-adds, batch {}",
        shape.num_cells,
        shape.init_channels,
        cost.cost.parameters as f64 / 1e6,
        cost.cost.multiply_adds as f64 / 1e6,
        config.retrain.batch_size
    );
    let counts = format!(
        "{} training and {} test images of {} classes",
        train.len(),
        test.len(),
        train.num_classes()
    );
    session.report.head(&[
        ("device", session.opened.description.clone()),
        ("data", counts),
        ("network", network),
        ("memory", needed.text.clone()),
        ("run", session.options.out.display().to_string()),
    ])?;
    session.require(&needed)?;
    let (device, options) = (session.opened.device.clone(), session.options.clone());
    trace::log_into(&options.out);
    let outcome = session.saving(|session| {
        let listen = &mut |notice: run::Notice<_>| session.listen(&notice);
        run::retrain(config, genotype, images, &device, &options, listen)
    });
    let told = session.close();
    let outcome = outcome?;
    told.map(|()| outcome)
}
