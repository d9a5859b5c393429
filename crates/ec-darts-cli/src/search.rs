//! `ec-darts search`.

use ec_darts::config::{SearchConfig, Source};
use ec_darts::data::Datasets;
use ec_darts::preflight::{self, Room};
use ec_darts::train::Best;
use ec_darts::train::run::{self, Outcome};

use crate::args::SearchArguments;
use crate::genotype::table;
use crate::session::Session;
use crate::{print, settings, trace};

pub fn run(arguments: SearchArguments) -> anyhow::Result<()> {
    let arguments = arguments.run;
    let source = Source::open(&arguments.config)?;
    let config: SearchConfig = settings::of_one(&source, &arguments.changes)?;
    let mut session = Session::start(&arguments)?;
    let images = session.load(&config.data, &arguments.data)?;
    match search(config, &images, &mut session)? {
        Outcome::Finished(_) if arguments.json => Ok(()),
        Outcome::Finished(best) => print(&format!(
            "genotype of epoch {}, also in {}\n{}",
            best.epoch + 1,
            arguments.out.join("genotype.txt").display(),
            table(&best.genotype)
        )),
        Outcome::Stopped { checkpoint, total_step } => Err(session.stopped(checkpoint, total_step)),
    }
}

/// Prints the settings, then searches.
pub fn search(
    config: SearchConfig,
    images: &Datasets,
    session: &mut Session,
) -> anyhow::Result<Outcome<Best>> {
    let train = &images.train;
    let needed = preflight::describe(&config, train, &Room::of(&session.opened.device))?;
    let (shape, batch) = (&config.network, config.search.batch_size);
    let network =
        format!("{} cells, {} channels, batch {batch}", shape.num_cells, shape.init_channels);
    session.report.head(&[
        ("device", session.opened.description.clone()),
        ("data", format!("{} images of {} classes", train.len(), train.num_classes())),
        ("network", network),
        ("memory", needed.text.clone()),
        ("run", session.options.out.display().to_string()),
    ])?;
    session.require(&needed)?;
    let (device, options) = (session.opened.device.clone(), session.options.clone());
    trace::log_into(&options.out);
    let outcome = session.saving(|session| {
        let listen = &mut |notice: run::Notice<_>| session.listen(&notice);
        run::search(config, train.clone(), &device, &options, listen)
    });
    let told = session.close();
    let outcome = outcome?;
    told.map(|()| outcome)
}
