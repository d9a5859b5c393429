//! Devices by name, with an error that names the missing feature or driver.

use std::str::FromStr;

use burn::tensor::Device;
#[cfg(any(
    feature = "wgpu",
    feature = "vulkan",
    feature = "metal",
    feature = "cuda",
    feature = "rocm"
))]
use burn::{backend::DispatchDevice, tensor::DeviceType};

use crate::{Error, Result};

/// A device, by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// The CPU, by Burn's Flex backend.
    Flex,
    /// Any GPU, by WebGPU.
    Wgpu,
    /// Any GPU, by Vulkan.
    Vulkan,
    /// Apple GPUs.
    Metal,
    /// NVIDIA GPUs.
    Cuda,
    /// AMD GPUs.
    Rocm,
}

impl DeviceName {
    /// All names.
    pub const ALL: [Self; 6] =
        [Self::Flex, Self::Wgpu, Self::Vulkan, Self::Metal, Self::Cuda, Self::Rocm];

    /// The name, which is also the name of the feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Cuda => "cuda",
            Self::Rocm => "rocm",
        }
    }

    /// Whether the program was built with this device's feature.
    pub fn is_compiled(self) -> bool {
        match self {
            Self::Flex => cfg!(feature = "flex"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Rocm => cfg!(feature = "rocm"),
        }
    }

    /// The device with this name. Without a name, the best device that answers: a GPU that the
    /// program was built for, else the CPU. A driver that computes on the CPU does not count as a
    /// GPU.
    ///
    /// # Errors
    /// [`Error::Device`] where the named device, or every device, is not compiled in or does not
    /// exist.
    pub fn open_or_best(name: Option<Self>) -> Result<Opened> {
        if let Some(name) = name {
            return name.open();
        }
        let gpus = [Self::Cuda, Self::Rocm, Self::Metal, Self::Vulkan, Self::Wgpu];
        let mut software = None;
        for name in gpus.into_iter().filter(|name| name.is_compiled()) {
            match name.open() {
                Ok(opened) if !opened.is_software() => return Ok(opened),
                Ok(opened) => software = software.or(Some(opened)),
                Err(_) => {}
            }
        }
        match software {
            Some(opened) if !Self::Flex.is_compiled() => Ok(opened),
            _ => Self::Flex.open(),
        }
    }
}

/// A device that answers, and its description.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The device without autodiff.
    pub device: Device,
    /// Whether its memory is the memory of the process.
    pub is_cpu: bool,
    /// Name, and adapter or number of threads.
    pub description: String,
}

impl Opened {
    /// Whether the adapter is one of the known drivers without a GPU.
    fn is_software(&self) -> bool {
        let name = self.description.to_lowercase();
        ["llvmpipe", "lavapipe", "swiftshader", "basic render"].iter().any(|s| name.contains(s))
    }
}

impl DeviceName {
    /// The first device of this name.
    ///
    /// # Errors
    /// [`Error::Device`] where the feature is not compiled in, or the machine has no such device.
    pub fn open(self) -> Result<Opened> {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => {
                let threads = rayon::current_num_threads();
                let description = format!("flex (CPU, {threads} threads)");
                Ok(Opened { device: Device::flex(), is_cpu: true, description })
            }
            #[cfg(feature = "wgpu")]
            Self::Wgpu => self.first(DeviceType::Wgpu, "a Vulkan, Metal or DirectX driver"),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => self.first(DeviceType::Vulkan, "a Vulkan driver"),
            #[cfg(feature = "metal")]
            Self::Metal => self.first(DeviceType::Metal, "an Apple GPU"),
            #[cfg(feature = "cuda")]
            Self::Cuda => self.first(DeviceType::Cuda, "an NVIDIA driver"),
            #[cfg(feature = "rocm")]
            Self::Rocm => self.first(DeviceType::Rocm, "an AMD ROCm driver"),
            #[allow(unreachable_patterns)]
            _ => Err(Error::Device {
                device: self.name(),
                reason: format!("not compiled in; build with --features {}", self.name()),
            }),
        }
    }

    /// The first device that the runtime lists; an absent driver can cause a panic.
    #[cfg(any(
        feature = "wgpu",
        feature = "vulkan",
        feature = "metal",
        feature = "cuda",
        feature = "rocm"
    ))]
    fn first(self, kind: DeviceType, needs: &str) -> Result<Opened> {
        let fail = |reason: String| Error::Device { device: self.name(), reason };
        let none = || fail(format!("this machine has none; it needs {needs}"));
        let probe = || {
            let devices: Vec<Device> = Device::enumerate(kind).into_iter().collect();
            let device = devices.into_iter().next()?;
            // Opening fails late: only a computation shows that the driver works.
            let sum = burn::tensor::Tensor::<1>::ones([4], &device).sum();
            sum.try_into_data().ok().map(|_| device)
        };
        let device = quietly(probe).flatten().ok_or_else(none)?;
        let adapter = device.identity().map_or_else(|| "unnamed".into(), |identity| identity.name);
        let description = format!("{} ({adapter})", self.name());
        Ok(Opened { device, is_cpu: false, description })
    }
}

/// Whether tensors of this device are in the memory of the process.
pub fn is_cpu(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    return device.clone().inner() == Device::flex();
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        false
    }
}

/// Total memory of a GPU in bytes, used or free; none for a CPU, or where the driver does not tell
/// (WebGPU hides it). Opens the device.
pub fn memory_bytes(device: &Device) -> Option<u64> {
    #[cfg(any(
        feature = "wgpu",
        feature = "vulkan",
        feature = "metal",
        feature = "cuda",
        feature = "rocm"
    ))]
    if let DispatchDevice::Cube(device) = device.clone().inner().as_dispatch() {
        return device.client().properties().memory.max_memory();
    }
    let _ = device;
    None
}

/// Runs a probe; a panic means no, and its message is not shown. Several threads may call it at
/// once.
///
/// The panic hook stays installed, and calls the previous hook while no probe runs: removing and
/// restoring a hook would lose it where two threads do so at once. Drivers also panic on their own
/// threads, so the hook checks whether a probe runs, not which thread panics.
#[cfg(any(
    feature = "wgpu",
    feature = "vulkan",
    feature = "metal",
    feature = "cuda",
    feature = "rocm",
    test
))]
fn quietly<T>(probe: impl FnOnce() -> T) -> Option<T> {
    use std::sync::Once;
    use std::sync::atomic::{AtomicUsize, Ordering};
    static HOOK: Once = Once::new();
    static PROBES: AtomicUsize = AtomicUsize::new(0);
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if PROBES.load(Ordering::SeqCst) == 0 {
                before(panic);
            }
        }));
    });
    PROBES.fetch_add(1, Ordering::SeqCst);
    let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(probe)).ok();
    PROBES.fetch_sub(1, Ordering::SeqCst);
    answer
}

/// Number of processors that this process may use.
pub fn processors() -> u16 {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    count.try_into().unwrap_or(u16::MAX)
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // `cpu` is accepted too, since `flex` is only the name of its backend.
        let text = if text == "cpu" { "flex" } else { text };
        let found = Self::ALL.into_iter().find(|name| name.name() == text);
        found.ok_or_else(|| format!("allowed: cpu, {}", Self::ALL.map(Self::name).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier};

    use super::*;

    #[test]
    fn probes_of_many_threads_leave_the_hook_of_the_program() {
        let told = Arc::new(AtomicUsize::new(0));
        let counter = told.clone();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            counter.fetch_add(1, Ordering::SeqCst);
            before(panic);
        }));
        let together = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let answer = quietly(|| {
                            together.wait();
                            if true {
                                panic!("no driver")
                            }
                        });
                        assert!(answer.is_none());
                    }
                });
            }
        });
        let after_probes = told.load(Ordering::SeqCst);
        let joined = std::thread::spawn(|| panic!("a panic that this test counts")).join();
        assert!(joined.is_err());
        assert_eq!(told.load(Ordering::SeqCst), after_probes + 1);
    }
}
