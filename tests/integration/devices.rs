//! The devices that a test can use on this machine.

use std::io::Write;

use burn::tensor::Device;
use ec_darts::device::DeviceName;

/// A device of a GPU kind; or none, with the reason printed. Names of tests that ask for one
/// contain its name: a build with that feature runs only those.
pub fn gpu(name: DeviceName) -> Option<Device> {
    match name.open() {
        Ok(opened) => Some(opened.device),
        Err(error) => {
            // This bypasses the capture of output of passing tests, in which nobody would see it.
            let _ = writeln!(std::io::stderr(), "skipped on {}: {error}", name.name());
            None
        }
    }
}

/// Without a name, a GPU or else the CPU: never a driver that emulates a GPU.
#[test]
fn the_best_device_is_no_software_driver_of_wgpu() {
    let best = DeviceName::open_or_best(None).expect("the CPU is always there");
    assert!(!best.description.contains("llvmpipe"), "{}", best.description);
    assert_eq!(best.is_cpu, best.description.starts_with("flex"), "{}", best.description);
}

/// An absent driver panics; this is reported as an error, without the panic's message.
#[cfg(feature = "wgpu")]
#[test]
fn wgpu_on_a_machine_without_a_driver() {
    const CHILD: &str = "EC_DARTS_TEST_WITHOUT_A_DRIVER";
    if std::env::var_os(CHILD).is_some() {
        let error = DeviceName::Wgpu.open().expect_err("no driver");
        eprintln!("error: {error}");
        return;
    }
    // No driver at all: neither Vulkan's loader nor OpenGL finds one. Both look once per process.
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "devices::wgpu_on_a_machine_without_a_driver", "--nocapture"])
        .env(CHILD, "1")
        .env("VK_ICD_FILENAMES", "/nonexistent.json")
        .env("VK_DRIVER_FILES", "/nonexistent.json")
        .env("LIBGL_DRIVERS_PATH", "/nonexistent")
        .env("__EGL_VENDOR_LIBRARY_FILENAMES", "/none")
        .output()
        .expect("this program runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("error: device wgpu") && told.contains("driver"), "{told}");
    assert!(!told.contains("panicked"), "{told}");
}
