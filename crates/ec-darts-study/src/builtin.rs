//! Built-in studies and protocols: the files in `studies/` and `protocols/`.

macro_rules! texts {
    ($folder:literal: $($name:literal)*) => {
        &[$(($name, include_str!(concat!("../", $folder, "/", $name, ".toml")))),*]
    };
}

/// Built-in protocols: name and text. The first line of a text is a comment that describes it.
pub const PROTOCOLS: &[(&str, &str)] = texts!["protocols": "smoke" "cpu" "held_out" "gpu" "paper"];

/// Built-in studies: name and text, as in [`PROTOCOLS`].
pub const STUDIES: &[(&str, &str)] = texts!["studies":
    "ablation_smoke" "epochs_smoke" "searches_smoke" "edges_smoke"
    "ablation_cpu" "epochs_cpu" "searches_cpu" "edges_cpu" "best_held_out"
    "ablation_gpu" "epochs_gpu" "searches_gpu" "edges_gpu"
    "ablation_paper" "epochs_paper" "searches_paper" "edges_paper"
];

/// The text of a built-in study.
pub fn study(name: &str) -> Option<&'static str> {
    named(STUDIES, name)
}

/// The text of a built-in protocol.
pub fn protocol(name: &str) -> Option<&'static str> {
    named(PROTOCOLS, name)
}

/// A text's description in one line, its first comment.
pub fn summary(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_start_matches(['#', ' '])
}

fn named(texts: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    texts.iter().find(|(each, _)| *each == name).map(|&(_, text)| text)
}
