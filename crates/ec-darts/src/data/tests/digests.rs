//! Digests of files, and their storage.

use super::digest::{digest_of, digests};
use super::walk::Entry;
use super::*;

fn entries(place: &Place, names: &[&str]) -> Vec<Entry> {
    let entry = |name: &&str| {
        let metadata = fs::metadata(place.path().join(name)).expect("there");
        Entry::new(name.into(), &metadata)
    };
    names.iter().map(entry).collect()
}

/// Sets the time of the last change.
fn change_at(path: &Path, seconds: u64) {
    let file = fs::File::options().write(true).open(path).expect("there");
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    file.set_modified(time).expect("set");
}

#[test]
fn files_are_read_once_until_they_change() {
    let (place, kept) = (Place::new(), Place::new());
    let names = ["a.jpg", "b.jpg", "c.jpg"];
    for name in names {
        change_at(&place.write(name, name), 1000);
    }
    let read = || digests(place.path(), &entries(&place, &names), Some(kept.path()));
    let first = read();
    assert_eq!(first, names.map(|name| digest_of(name.as_bytes())));
    // The same size and time: the stored digest counts.
    change_at(&place.write("a.jpg", "A.jpg"), 1000);
    assert_eq!(read(), first);
    // Another time, another size.
    change_at(&place.write("a.jpg", "A.jpg"), 1001);
    change_at(&place.write("b.jpg", "longer"), 1000);
    let [a, b] = ["A.jpg", "longer"].map(|text| digest_of(text.as_bytes()));
    assert_eq!(read(), [a, b, first[2]]);
    // A file that changed just now may change again within the clock's tick.
    place.write("c.jpg", "a third text");
    read();
    let file = kept_file(&kept);
    assert!(!fs::read_to_string(&file).expect("kept").contains(" 12 "));
    assert_eq!(digests(place.path(), &entries(&place, &["none.jpg"][..0]), None), []);
}

fn kept_file(kept: &Place) -> PathBuf {
    let mut files = fs::read_dir(kept.path().join("digests")).expect("made");
    files.next().expect("one file").expect("listed").path()
}

#[test]
fn damage_to_what_is_kept_costs_time_only() {
    let (place, kept) = (Place::new(), Place::new());
    change_at(&place.write("a.jpg", "content"), 1000);
    let read = || digests(place.path(), &entries(&place, &["a.jpg"]), Some(kept.path()));
    let whole = read();
    let file = kept_file(&kept);
    let text = fs::read(&file).expect("kept");
    for place in 0..text.len() {
        let mut damaged = text.clone();
        damaged[place] ^= 1;
        fs::write(&file, damaged).expect("written");
        assert_eq!(read(), whole, "byte {place}");
    }
    fs::write(&file, "").expect("written");
    assert_eq!(read(), whole);
    // A folder that cannot be created.
    let blocked = kept.write("blocked", "a file");
    assert_eq!(digests(place.path(), &entries(&place, &["a.jpg"]), Some(&blocked)), whole);
}

#[test]
fn one_changed_byte_changes_the_digest_of_a_set() {
    let place = imagenet();
    place.write("val.txt", "a.JPEG 1\n");
    let digest = || place.load(DatasetKind::Imagenet).expect("whole").digests();
    let before = digest();
    let path = place.path().join("train/n01/n01_2.JPEG");
    let mut bytes = fs::read(&path).expect("there");
    // Behind the end marker, where no decoder looks.
    bytes.push(0);
    fs::write(&path, &bytes).expect("written");
    let after = digest();
    assert_ne!(after.train, before.train);
    assert_eq!(after.test, before.test);
}
