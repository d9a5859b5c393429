//! Files and folders of random content: read or refused, never a panic.
//!
//! By default a short round runs; `PROPTEST_CASES` makes a long one (CONTRIBUTING.md).

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Fewer cases, because folders are slow to make.
fn cases(usual: u32) -> ProptestConfig {
    let named = std::env::var_os("PROPTEST_CASES").is_some();
    let config = ProptestConfig::default();
    if named { config } else { ProptestConfig { cases: usual, ..config } }
}

/// A change to a file's bytes.
#[derive(Clone, Debug)]
enum Damage {
    Flip(usize, u8),
    Cut(usize),
    Add(Vec<u8>),
    Replace(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, with)| Damage::Flip(at, with)),
        any::<usize>().prop_map(Damage::Cut),
        vec(any::<u8>(), 0..40).prop_map(Damage::Add),
        vec(any::<u8>(), 0..4000).prop_map(Damage::Replace),
    ]
}

impl Damage {
    fn apply(self, mut bytes: Vec<u8>) -> Vec<u8> {
        let length = bytes.len().max(1);
        match self {
            Self::Replace(with) => return with,
            // The header has the lengths: half of all changes are there.
            Self::Flip(at, with) if !bytes.is_empty() => {
                let near = if at % 2 == 0 { length.min(20) } else { length };
                bytes[at / 2 % near] ^= with;
            }
            Self::Flip(..) => {}
            Self::Cut(at) => bytes.truncate(at % length),
            Self::Add(more) => bytes.extend(more),
        }
        bytes
    }
}

/// Loads a set; checks that it agrees with itself where loading succeeds.
fn check(source: &Source) -> Result<Datasets, TestCaseError> {
    let images = match load(source) {
        Ok(images) => images,
        Err(error) => {
            prop_assert!(!error.to_string().is_empty());
            return Err(TestCaseError::reject("refused"));
        }
    };
    for set in [&images.train, &images.test] {
        prop_assert!(!set.is_empty());
        prop_assert!(set.labels().iter().all(|&label| usize::from(label) < set.num_classes()));
        let pixels = set.pixels(set.len() - 1).expect("read before");
        prop_assert_eq!(pixels.len(), 3 * set.size()[0] * set.size()[1]);
    }
    Ok(images)
}

/// A refusal passes as well as a set.
fn either(found: Result<Datasets, TestCaseError>) -> Result<(), TestCaseError> {
    match found {
        Err(TestCaseError::Fail(why)) => Err(TestCaseError::Fail(why)),
        _ => Ok(()),
    }
}

/// A file or folder in a random tree.
#[derive(Clone, Debug)]
enum Node {
    Image,
    Folder,
    Text(Vec<u8>),
    /// A link to the node of this number.
    Link(usize),
    /// A link to a folder this many levels up.
    Up(usize),
    /// A FIFO, on systems that have them.
    Fifo,
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        8 => Just(Node::Image),
        1 => Just(Node::Folder),
        1 => vec(any::<u8>(), 0..40).prop_map(Node::Text),
        1 => any::<usize>().prop_map(Node::Link),
        1 => (0..6_usize).prop_map(Node::Up),
        1 => Just(Node::Fifo),
    ]
}

/// Few different names, so that they collide.
fn name() -> impl Strategy<Value = std::ffi::OsString> {
    let text = prop::sample::select(vec![
        "train", "Train", "training", "test", "val", "valid", "cat", "dog", "cat", "dog", "a.jpg",
        "b.PNG", "c", "d.gif", ".x", "@eaDir", "10", "2", "e.txt",
    ]);
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        let bytes = Just(std::ffi::OsString::from_vec(vec![b'f', 0xff]));
        prop_oneof![19 => text.prop_map(std::ffi::OsString::from), 1 => bytes]
    }
    #[cfg(not(unix))]
    text.prop_map(std::ffi::OsString::from)
}

/// Creates the nodes that can be created: a name may be taken already.
fn plant(place: &Place, tree: &[(Vec<std::ffi::OsString>, Node)]) {
    for (seed, (names, node)) in tree.iter().enumerate() {
        let path = place.path().join(names.iter().collect::<PathBuf>());
        let folder = path.parent().expect("below the root");
        if fs::create_dir_all(folder).is_err() || path.symlink_metadata().is_ok() {
            continue;
        }
        let image = || encoded(&DynamicImage::ImageRgb8(picture(seed as u8)), ImageFormat::Png);
        // A name may be taken, or may lead through a link: then no node is created.
        let _ = match node {
            Node::Image => fs::write(&path, image()),
            Node::Folder => fs::create_dir(&path),
            Node::Text(bytes) => fs::write(&path, bytes),
            Node::Link(to) => {
                let to = place.path().join(tree[to % tree.len()].0.iter().collect::<PathBuf>());
                link(&to, &path)
            }
            Node::Up(count) => link(Path::new(&"../".repeat(*count)), &path),
            Node::Fifo => std::process::Command::new("mkfifo").arg(&path).status().map(drop),
        };
    }
}

#[cfg(unix)]
fn link(to: &Path, from: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(to, from)
}

#[cfg(not(unix))]
fn link(_to: &Path, _from: &Path) -> std::io::Result<()> {
    Ok(())
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn cifar_of_any_bytes(file in 0..6_usize, damage in damage(), hundred: bool) {
        let place = Place::new();
        let (kind, names, heads): (_, &[&str], usize) = match hundred {
            true => (DatasetKind::Cifar100, &["train.bin", "test.bin", "fine_label_names.txt"], 2),
            false => (DatasetKind::Cifar10, &[
                "data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
                "data_batch_5.bin", "test_batch.bin",
            ], 1),
        };
        let record = [vec![3; heads], vec![7; 3072]].concat();
        let whole = [&*record, &*record].concat();
        for (number, name) in names.iter().enumerate() {
            let bytes = if number == file % names.len() {
                damage.clone().apply(whole.clone())
            } else {
                whole.clone()
            };
            place.write(name, bytes);
        }
        either(check(&Source::new(kind, place.path())))?;
    }

    #[test]
    fn idx_of_any_bytes(
        file in 0..4_usize, damage in damage(), packed: bool, before: bool,
    ) {
        let place = Place::new();
        let names = ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"];
        for (number, name) in names.iter().enumerate() {
            let mut bytes = vec![0, 0, 8, if number % 2 == 0 { 3 } else { 1 }];
            let sides: &[u32] = if number % 2 == 0 { &[2, 3, 4] } else { &[2] };
            sides.iter().for_each(|side| bytes.extend(side.to_be_bytes()));
            bytes.extend(vec![1; sides.iter().product::<u32>() as usize]);
            let damaged = |bytes| if number == file { damage.clone().apply(bytes) } else { bytes };
            if before {
                bytes = damaged(bytes);
            }
            if packed {
                bytes = fashion_mnist::gzipped(&bytes);
            }
            if !before {
                bytes = damaged(bytes);
            }
            place.write(&format!("{name}-ubyte{}", if packed { ".gz" } else { "" }), bytes);
        }
        either(check(&Source::new(DatasetKind::FashionMnist, place.path())))?;
    }

    /// Every image is at most once in a set, and in at most one of the two.
    #[test]
    fn folders_of_any_content(
        tree in vec((vec(name(), 1..5), node()), 1..40), fraction in 0.1..0.9_f64, seed in 0..9_u64,
    ) {
        let place = Place::new();
        plant(&place, &tree);
        let source = place.source(DatasetKind::Folder);
        let source = Source { test_fraction: fraction, split_seed: seed, ..source };
        let found = check(&source);
        if let Ok(images) = &found {
            let mut seen = BTreeSet::new();
            for set in [&images.train, &images.test] {
                for image in 0..set.len() {
                    let pixels = set.pixels(image).expect("read before").into_owned();
                    prop_assert!(seen.insert(pixels), "an image twice: {:?}", images.notices);
                }
            }
        }
        either(found)?;
    }

    /// The layouts of the other kinds.
    #[test]
    fn listed_folders_of_any_content(
        tree in vec((vec(name(), 0..3), node()), 0..20), list in "([a-z.]{0,6}[ \t,]{0,2}[0-9n]{0,3}\n){0,5}",
        tiny: bool,
    ) {
        let place = imagenet();
        place.write("val.txt", format!("a.JPEG 1\n{list}"));
        place.write("wnids.txt", "n01 n02");
        let tree: Vec<_> = tree.into_iter().map(|(names, node)| {
            (["train", "n01"].map(Into::into).into_iter().chain(names).collect(), node)
        }).collect();
        plant(&place, &tree);
        let kind = if tiny { DatasetKind::TinyImagenet } else { DatasetKind::Imagenet };
        either(check(&place.source(kind)))?;
    }
}
