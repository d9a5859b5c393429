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
