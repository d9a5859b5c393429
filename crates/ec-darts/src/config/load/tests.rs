use super::super::{RetrainConfig, SearchConfig};
use super::*;

fn check(overrides: &[&str], expected: &str) {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    let message = match SearchConfig::cifar10().with(&overrides) {
        Ok(config) => config.to_toml(),
        Err(error) => error.to_string(),
    };
    assert!(message.contains(expected), "{overrides:?}: {message}");
}

#[test]
fn overrides_are_toml_or_bare_words() {
    check(&["weights.momentum=0.5"], "momentum = 0.5");
    check(&["weights.learning_rate=1"], "learning_rate = 1.0");
    check(&["search.order=sequential"], "order = \"sequential\"");
    check(&["search.order='sequential'"], "order = \"sequential\"");
    check(&["search.steps_per_epoch=7"], "steps_per_epoch = 7");
    check(&["network.primitives=['none', 'skip_connect']"], "\"skip_connect\",\n]");
    check(&["search.seed=1", "search.seed=9"], "seed = 9");
    check(&[" weights.momentum = 0.5 "], "momentum = 0.5");
    for off in ["weights.clip_norm=none", "weights.clip_norm="] {
        let without = SearchConfig::cifar10().with(&[off.into()]);
        assert_eq!(without.expect("optional").weights.clip_norm, None);
    }
    let off = ["data.cutout=none".to_string()];
    assert_eq!(SearchConfig::cifar10().with(&off).expect("off"), SearchConfig::cifar10());
}

#[test]
fn overrides_that_depend_on_each_other_come_in_any_order() {
    let (most, least) = ("weights.learning_rate=5e-4", "weights.min_learning_rate=1e-4");
    check(&[most, least], "min_learning_rate = 0.0001");
    check(&[least, most], "learning_rate = 0.0005");
    check(&[most], "--set weights.learning_rate=5e-4: `weights.min_learning_rate` is 0.001");
}

#[test]
fn settings_beyond_toml_are_refused() {
    let mut config = SearchConfig::cifar10();
    config.search.seed = u64::MAX;
    let message = config.with(&["search.epochs=3".into()]).expect_err("seed").to_string();
    assert!(message.starts_with("the settings: `search.seed` is 18446744073709551615"));
}

#[test]
fn wrong_overrides_say_what_is_right() {
    check(
        &["weights.momentun=0.5"],
        "no setting `weights.momentun`; did you mean `weights.momentum`?",
    );
    check(
        &["weights.clip_nrom=none"],
        "no setting `weights.clip_nrom`; did you mean `weights.clip",
    );
    check(&["momentum=0.5"], "no setting `momentum`; did you mean `weights.momentum`?");
    check(&["momentm=0.5"], "no setting `momentm`; did you mean `weights.momentum`?");
    check(&["optimizer.learning_rate=1"], "`alpha.learning_rate`, `weights.learning_rate`");
    check(&["search=1"], "`search` is 1, allowed: a section of keys");
    check(&["xyz=1"], "no setting `xyz`; keys are SECTION.NAME, sections: alpha, data");
    check(&["engine.xyz=1"], "no setting `engine.xyz`; keys are SECTION.NAME, sections: alpha");
    check(&["serch.epochs=1"], "no setting `serch.epochs`; did you mean `search.epochs`?");
    check(&["run.kernels=none"], "`run.kernels` cannot be off");
    check(&["search.epochs=0", "weights.momentum=0.5"], "--set search.epochs=0: `search.epochs`");
    check(&["weights.momentum"], "expected KEY=VALUE");
    check(&["weights.momentum=fast"], "`weights.momentum`: invalid type: string \"fast\"");
    check(&["weights.momentum=none"], "`weights.momentum` cannot be off");
    check(&["weights.momentum=1.5"], "`weights.momentum` is 1.5, allowed: 0 <= momentum < 1");
    check(
        &["search.relaxation=hard"],
        "unknown variant `hard`, expected one of `softmax`, `cross-edge`",
    );
    check(&["search.batch_size=-3"], "invalid value: integer `-3`");
}

#[test]
fn files_are_strict() {
    let text = SearchConfig::quick().to_toml();
    let check = |from: &str, to: &str, expected: &str| {
        let text = text.replacen(from, to, 1);
        let error = SearchConfig::from_toml(&text, "some.toml").expect_err(expected);
        let message = error.to_string();
        assert!(message.starts_with("some.toml: ") && message.contains(expected), "{message}");
    };
    check("flip = true", "flip = 3", "`data.flip`: invalid type: integer `3`, expected a boolean");
    check("flip = true", "flop = true", "no setting `data.flop`; did you mean `data.flip`?");
    check("flip = true", "", "`data.flip` is missing; settings give every key, or build on others");
    check("flip = true", "flip = 'none'", "`data.flip` cannot be off");
    check("[alpha]", "[aplha]", "no setting `aplha.beta1`; did you mean `alpha.beta1`?");
    check("flip = true", "flip =", "line 4, column 7");
    check("seed = 2", "seed = 18446744073709551615", "value was too large");
    check("\"sep_conv_3x3\"", "\"sep_conv_7x7\"", "sep_conv_7x7");
}

#[test]
fn settings_build_on_others() {
    let config = RetrainConfig::from_toml(
        "base = 'retrain_cifar10'\n[data]\ncutout = 'none'\n[retrain]\nepochs = 3",
        "mine.toml",
    );
    let mut expected = RetrainConfig::cifar10();
    (expected.data.cutout, expected.retrain.epochs) = (None, 3);
    assert_eq!(config.expect("valid"), expected);
    let told =
        |text: &str| RetrainConfig::from_toml(text, "mine.toml").expect_err("wrong").to_string();
    let wrong = told("base = 'retrain_cifar10'\n[retrain]\nepochs = 0");
    assert_eq!(wrong, "mine.toml: `retrain.epochs` is 0, allowed: 1 to 100000");
    let wrong = told("base = 'quick'");
    assert_eq!(wrong, "mine.toml: settings of a search, not of a retraining");
    assert!(told("").contains("`data` is missing"), "{}", told(""));
    assert!(told("data = 3").contains("`data` is 3, allowed: a section of keys"));
}

#[test]
fn a_stage_stands_before_keys_that_are_answered() {
    let told = |set: &str| {
        let set = Override::set(set).expect("with a value").in_stage("retrain").expect("its");
        RetrainConfig::cifar10().overridden(&[set]).expect_err("wrong").to_string()
    };
    let expected = "--set retrain.epochs=2: no setting `retrain.epochs`; did you mean \
                    `retrain.retrain.epochs`?";
    assert_eq!(told("retrain.epochs=2"), expected);
    let expected = "--set retrain.retrain.epochs=0: `retrain.retrain.epochs` is 0, allowed: 1 to \
                    100000";
    assert_eq!(told("retrain.retrain.epochs=0"), expected);
    let expected = "--set retrain.data.flip=7: `retrain.data.flip`: invalid type: integer `7`, \
                    expected a boolean";
    assert_eq!(told("retrain.data.flip=7"), expected);
}
