use super::*;
use crate::builtin;
use crate::fake::{Folder, PROTOCOL, STUDY};
use crate::plan::Plan;
use ec_darts_space::Preset;

#[test]
fn every_built_in_study_is_valid_and_says_what_it_is() {
    for (name, text) in builtin::STUDIES {
        let study = Study::open(Path::new(name)).expect(name);
        assert_eq!(study.name, *name);
        assert!(name.ends_with(&study.protocol.name), "{name}");
        assert!(Plan::of(&study, None).expect(name).trials.len() >= study.seeds.len());
        assert!((20..130).contains(&builtin::summary(text).len()), "{name}");
    }
    for (name, text) in builtin::PROTOCOLS {
        assert!(text.starts_with("# ") && builtin::protocol(name).is_some());
    }
}

#[test]
fn a_study_builds_on_another_and_variants_on_the_protocol() {
    let folder = Folder::new(STUDY);
    let under = "[search.search]\nepochs = 7\nbatch_size = 16\n";
    folder.write("p.toml", &format!("{PROTOCOL}{under}"));
    folder.write(
        "over.toml",
        "base = \"s.toml\"\nseeds = [5]\n[[variants]]\nname = \"mine\"\n\
        search = \"darts\"\nset = { search.batch_size = 8, weights.clip_norm = \"none\" }\n",
    );
    let path = folder.out().with_file_name("over.toml");
    let study = Study::open(&path).expect("layered");
    assert_eq!((study.name.as_str(), &study.seeds[..]), ("over", &[5][..]));
    let (variant, config) = study.searches().next().expect("one");
    assert_eq!((variant.name.as_str(), study.variants.len()), ("mine", 1));
    assert_eq!((config.search.epochs, config.search.batch_size), (7, 8));
    assert_eq!(config.weights.clip_norm, None);
}

/// In the folder of a file that builds on it, a study's paths would be others.
#[test]
fn paths_of_a_base_start_at_the_base() {
    let folder = Folder::new("base = \"sub/s.toml\"\nseeds = [7]\n");
    let sub = folder.out().with_file_name("sub");
    std::fs::create_dir(&sub).expect("made");
    let given = "[[variants]]\nname = \"given\"\ngenotype = \"g.json\"\n\
        [[variants]]\nname = \"several\"\ngenotypes = [\"g.json\", \"pdarts\"]\n\
        [[variants]]\nname = \"mine\"\nsearch = \"mine.toml\"\n";
    folder.write("sub/s.toml", &format!("{STUDY}{given}"));
    folder.write("sub/p.toml", &PROTOCOL.replace("[0, 1]", "[4]"));
    folder.write("sub/g.json", &Preset::find("darts_v2").expect("there").genotype().to_json());
    folder.write("sub/mine.toml", "base = \"darts\"\n[search]\nbatch_size = 8\n");
    let study = folder.study().expect("paths beside the base");
    assert_eq!((&study.seeds[..], &study.protocol.training_seeds[..]), (&[7][..], &[4][..]));
    let (_, mine) = study.searches().nth(1).expect("two");
    assert_eq!(mine.search.batch_size, 8);
    let names = |variant: &Variant| match &variant.origin {
        Origin::Given(all) => Some(all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()),
        _ => None,
    };
    let names: Vec<_> = study.variants.iter().filter_map(names).collect();
    assert_eq!(names[1], ["g.json", "pdarts"], "the folder is left out");
}

/// The preset alone is not valid under the protocol.
#[test]
fn a_variant_adapts_a_preset_to_the_protocol() {
    let variant = "[[variants]]\nname = \"pc\"\nsearch = \"pc_darts\"\n";
    let folder = Folder::new(&STUDY.replacen("[[variants]]", &format!("{variant}[[variants]]"), 1));
    folder.write("p.toml", &format!("{PROTOCOL}[search.search]\nepochs = 3\n"));
    let error = folder.study().expect_err("frozen for longer than it searches").to_string();
    // The prefix is that of the file that has the key.
    let wrong =
        STUDY.replacen("search = \"darts\"", "search = \"darts\"\nset = { search.epochs = 0 }", 1);
    folder.write("wrong.toml", &wrong);
    let path = folder.out().with_file_name("wrong.toml");
    let told = Study::open(&path).expect_err("no epochs").to_string();
    assert!(told.contains("`variants.darts.set.search.epochs` is 0"), "{told}");
    assert!(error.contains("alpha.frozen_epochs"), "{error}");
    let set = "search = \"pc_darts\"\nset = { alpha.frozen_epochs = 1 }";
    let text = STUDY.replacen("[[variants]]", &format!("{variant}[[variants]]"), 1);
    folder.write("s.toml", &text.replace("search = \"pc_darts\"", set));
    let study = folder.study().expect("adapted");
    let (_, config) = study.searches().next().expect("one");
    assert_eq!((config.search.epochs, config.alpha.frozen_epochs), (3, 1));
}

/// Expects an error of a study or protocol that differs from a valid one by a replacement.
fn check(file: &str, from: &str, to: &str, expected: &str) {
    let folder = Folder::new(STUDY);
    let text = match file {
        "s.toml" => STUDY,
        _ => PROTOCOL,
    };
    assert!(text.contains(from), "{from}");
    folder.write(file, &text.replacen(from, to, 1));
    let error = folder.study().expect_err(expected).to_string();
    let told = error.split_once(&format!("/{file}: ")).map_or(&*error, |(_, told)| told);
    assert!(told.starts_with(expected), "{to:?}\n  {error}\n  expected {expected}");
}

#[test]
fn bad_keys_and_values_of_a_study() {
    let check = |from: &str, to: &str, expected: &str| check("s.toml", from, to, expected);
    check("kind = \"ablation\"\n", "", "missing field `kind`");
    check("ablation", "ablate", "`kind`: unknown variant `ablate`, expected one of `ablation`");
    check("seeds", "seed", "`seed`: unknown field `seed`, expected one of");
    check("[0, 1]", "[0, 0]", "`seeds` is [0, 0], allowed: 1 to 10000 different numbers");
    check("[0, 1]", "[]", "`seeds` is [], allowed: 1 to 10000 different numbers");
    check("[0, 1]", "[-1]", "`seeds[0]`: invalid value: integer `-1`, expected u64");
    check("[0, 1]", "3", "`seeds`: invalid type: integer `3`");
    check("p.toml", "gone.toml", "`protocol` is \"gone.toml\": cannot read");
    check(
        "protocol",
        "epochs = 3\nprotocol",
        "`epochs` is 3, allowed: a number in a study of the kind",
    );
    check(
        "\"darts\"\nsearch",
        "\"Darts\"\nsearch",
        "`variants.name` is \"Darts\", allowed: 1 to 64",
    );
    check("\"darts\"\nsearch", "\"../x\"\nsearch", "`variants.name` is \"../x\", allowed: 1 to 64");
    check("\"darts\"\nsearch", "\"random\"\nsearch", "`variants.name` is [\"random\", \"random\"]");
    check("search = \"darts\"", "", "`variants.darts` is none of them, allowed: exactly one of");
    check(
        "random = [",
        "search = \"darts\"\nrandom = [",
        "`variants.random` is search and random, allowed",
    );
    check("search = \"darts\"", "search = \"dart\"", "`variants.darts.search` is \"dart\": ");
    check(
        "search = \"darts\"",
        "genotype = \"x\"",
        "`variants.darts.genotype` is \"x\": cannot read",
    );
    check(
        "search = \"darts\"",
        "search = \"retrain_quick\"",
        "retrain_quick: settings of a retraining",
    );
    check(
        "search = \"darts\"",
        "genotypes = [\"darts_v2\"]",
        "`variants.darts.genotypes` is 1 names, allowed: 2 to 10000 names",
    );
    check(
        "search = \"darts\"",
        "genotypes = [\"darts_v2\", \"darts_v1\", \"DARTS_V2\"]",
        "`variants.darts.genotypes` is \"DARTS_V2\", allowed: another network than that of",
    );
    check(
        "search = \"darts\"",
        "genotypes = [\"darts_v2\", \"a\\nb\"]",
        "`variants.darts.genotypes` is \"a\\nb\", allowed: names without control",
    );
    check(
        "search = \"darts\"",
        "genotypes = [\"darts_v2\", \"x\"]",
        "`variants.darts.genotypes` is \"x\": cannot read",
    );
    check(
        "search = \"darts\"",
        "genotype = \"darts_v2\"\ngenotypes = [\"darts_v1\", \"darts_v2\"]",
        "`variants.darts` is genotype and genotypes, allowed",
    );
    check("random = [0, 1, 2]", "random = []", "`variants.random.random` is [], allowed");
    check(
        "random = [0, 1, 2]",
        "random = [1]\nset = { search.epochs = 1 }",
        "`variants.random.set` is ",
    );
    let set = |set: &str| format!("search = \"darts\"\nset = {{ {set} }}");
    for (set, expected) in [
        (set("search.epochs = 0"), "`variants.darts.set.search.epochs` is 0, allowed: 1 to"),
        (
            set("search.seed = 1"),
            "`variants.darts.set.search.seed` is 1, allowed: no value: `seeds`",
        ),
        (set("search.epoch = 1"), "no setting `variants.darts.set.search.epoch`; did you mean"),
        (set("epochs = 1"), "`variants.darts.set.epochs` is 1, allowed: a section of keys"),
        (set("data.image_size = 16"), "`variants.darts.set.data` is cifar10 read in another way"),
    ] {
        check("search = \"darts\"", &set, expected);
    }
    let twin = "search = \"darts\"\n[[variants]]\nname = \"twin\"\nsearch = \"darts\"";
    check(
        "search = \"darts\"",
        twin,
        "`variants.twin` is the same search, allowed: other settings",
    );
    check("ablation", "searches", "`variants.random` is no search, allowed: `search`");
    check("kind", "base = 3\nkind", "`base` is 3, allowed: a study, as text");
    check("kind", "base = \"s.toml\"\nkind", "more than 8 studies build on each other by `base`");
}

#[test]
fn bad_keys_and_values_of_a_protocol() {
    let check = |from: &str, to: &str, expected: &str| check("p.toml", from, to, expected);
    check("[0, 1]", "[1, 1]", "`training_seeds` is [1, 1], allowed: 1 to 10000 different numbers");
    check("training_seeds = [0, 1]\n", "", "missing field `training_seeds`");
    check(
        "base = \"retrain_quick\"",
        "",
        "`retrain.base` is not set, allowed: settings of a retraining",
    );
    check("\"retrain_quick\"", "\"quick\"", "quick: settings of a search, not of a retraining");
    check("\"retrain_quick\"", "\"gone\"", "`retrain.base` is \"gone\": cannot read");
    let after = "\"retrain_quick\"\n";
    check(
        after,
        "\"retrain_quick\"\n[retrain.retrain]\nseed = 1",
        "`retrain.retrain.seed` is 1, allowed: no",
    );
    check(
        after,
        "\"retrain_quick\"\n[retrain.retrain]\nepochs = 0",
        "`retrain.retrain.epochs` is 0, allowed",
    );
    check(
        after,
        "\"retrain_quick\"\n[search.search]\nseed = 1",
        "`search.search.seed` is 1, allowed: no",
    );
    check(
        after,
        "\"retrain_quick\"\n[search.search]\nepochs = \"x\"",
        "`search.search.epochs`: invalid type",
    );
    check(
        after,
        "\"retrain_quick\"\n[other]\nx = 1",
        "`other`: unknown field `other`, expected one of",
    );
}
