//! Which devices a test can use here.

use burn::tensor::Device;

/// A WebGPU device, or nothing with the reason printed.
pub fn wgpu() -> Option<Device> {
    match ec_darts::device::DeviceName::Wgpu.open() {
        Ok(opened) => Some(opened.device),
        Err(error) => {
            println!("skipped on wgpu: {error}");
            None
        }
    }
}

/// Without a name a GPU, else the CPU: never a driver that only looks like a GPU.
#[test]
fn the_best_device_is_no_software_driver() {
    let best = ec_darts::device::DeviceName::open_or_best(None).expect("the CPU is always there");
    assert!(!best.description.contains("llvmpipe"), "{}", best.description);
    assert_eq!(best.is_cpu, best.description.starts_with("flex"), "{}", best.description);
}
