//! The sets that can be fetched: their addresses, lengths and checksums.

/// The names of sets that can be fetched.
pub const NAMES: [&str; 4] = ["cifar10", "cifar100", "fashion-mnist", "tiny-imagenet"];

/// One file of a set.
pub(super) struct Remote {
    pub name: &'static str,
    /// The published length; a longer file is refused.
    pub bytes: u64,
    /// The checksum in hexadecimal digits.
    pub sha256: &'static str,
}

/// A set in its published form.
pub(super) struct Archive {
    /// The address of the folder with the files.
    pub from: &'static str,
    pub files: &'static [Remote],
    /// The folder for `--data` afterwards: the one in the archive, or the folder of the files.
    pub folder: &'static str,
}

/// The published archives.
///
/// # Source
/// The web pages of the sets. The checksums are from TensorFlow Datasets, TorchVision for Ruby and
/// the readers of Fashion-MNIST.
pub(super) fn archive(name: &str) -> Option<Archive> {
    Some(match name {
        "cifar10" => Archive {
            from: "https://www.cs.toronto.edu/~kriz",
            files: &[Remote {
                name: "cifar-10-binary.tar.gz",
                bytes: 170_052_171,
                sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            }],
            folder: "cifar-10-batches-bin",
        },
        "cifar100" => Archive {
            from: "https://www.cs.toronto.edu/~kriz",
            files: &[Remote {
                name: "cifar-100-binary.tar.gz",
                bytes: 168_513_733,
                sha256: "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            }],
            folder: "cifar-100-binary",
        },
        "fashion-mnist" => Archive {
            from: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            files: &[
                Remote {
                    name: "train-images-idx3-ubyte.gz",
                    bytes: 26_421_880,
                    sha256: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                },
                Remote {
                    name: "train-labels-idx1-ubyte.gz",
                    bytes: 29_515,
                    sha256: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                },
                Remote {
                    name: "t10k-images-idx3-ubyte.gz",
                    bytes: 4_422_102,
                    sha256: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                },
                Remote {
                    name: "t10k-labels-idx1-ubyte.gz",
                    bytes: 5_148,
                    sha256: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                },
            ],
            folder: "fashion-mnist",
        },
        "tiny-imagenet" => Archive {
            from: "http://cs231n.stanford.edu",
            files: &[Remote {
                name: "tiny-imagenet-200.zip",
                bytes: 248_100_043,
                sha256: "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
            }],
            folder: "tiny-imagenet-200",
        },
        _ => return None,
    })
}
