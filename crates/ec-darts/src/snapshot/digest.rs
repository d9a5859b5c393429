//! SHA-256 over a whole file, stored in the file's last bytes.
//!
//! Invariant: the digest covers every bit of the file. It is stored as a tensor of bytes, which the
//! format puts behind the tensors of single precision, so that other readers of the format see a
//! well-formed file.

use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

/// Name of the tensor with the digest.
pub const NAME: &str = "sha256";

/// Length of the digest, in bytes.
pub const LEN: usize = 32;

/// Writes the digest of everything before it into the last bytes.
///
/// # Panics
/// Where the file has fewer bytes than a digest.
pub fn seal(file: &mut [u8]) {
    let (content, digest) = file.split_last_chunk_mut::<LEN>().expect("a file with a digest");
    digest.copy_from_slice(&Sha256::digest(&*content));
}

/// Checks that the file is, bit for bit, the one that was sealed.
///
/// # Errors
/// The file has no digest, or the digest does not match its content.
pub fn check(file: &[u8]) -> Result<(), String> {
    let parsed = SafeTensors::deserialize(file).map_err(|error| error.to_string())?;
    if parsed.tensor(NAME).is_err() {
        return Err(
            "it has no SHA-256 digest: a file in format 1 of an older ec-darts, which cannot be \
                checked, or damaged"
                .into(),
        );
    }
    match file.split_last_chunk::<LEN>() {
        Some((content, digest)) if Sha256::digest(content)[..] == digest[..] => Ok(()),
        _ => Err("damaged: its content is not that of its SHA-256 digest".into()),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use crate::snapshot::Snapshot;

    fn file() -> Vec<u8> {
        let mut snapshot = Snapshot::default();
        snapshot.tensors.insert("a.weight".into(), TensorData::from([[1.0_f32, 2.0]]));
        snapshot.tensors.insert("a.bias".into(), TensorData::from([-0.5_f32]));
        snapshot.to_bytes(r#"{"format":2}"#)
    }

    #[test]
    fn every_single_bit_counts() {
        let whole = file();
        let (read, description) = Snapshot::from_bytes(&whole).expect("whole");
        assert_eq!((read.tensors.len(), &description[..]), (2, r#"{"format":2}"#));
        assert_eq!(read.to_bytes(&description), whole);
        for bit in 0..8 * whole.len() {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Snapshot::from_bytes(&flipped).is_err(), "bit {bit} of {}", whole.len());
        }
    }

    #[test]
    fn a_file_without_a_digest_is_told_apart() {
        let metadata = [("ec-darts".to_string(), "{}".to_string())].into();
        let none: [(&str, safetensors::tensor::TensorView<'_>); 0] = [];
        let old = safetensors::serialize(none, Some(metadata)).expect("a file");
        let error = Snapshot::from_bytes(&old).expect_err("no digest");
        assert!(
            error.contains("no SHA-256 digest: a file in format 1 of an older ec-darts"),
            "{error}"
        );
    }
}
