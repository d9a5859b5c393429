//! Aligned buffers that are used again: fresh pages cost more than the kernels that fill them.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// One cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; 16]);

static FREE: Mutex<Vec<Vec<Line>>> = Mutex::new(Vec::new());

/// Single-precision values on a cache line's boundary; returned to a pool when dropped.
///
/// A buffer starts with whatever its last owner left.
#[derive(Debug)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// `len` values of unspecified content.
    pub fn new(len: usize) -> Self {
        let lines = len.div_ceil(16);
        let mut free = FREE.lock().expect("no holder of the pool panics");
        let fits = |each: &Vec<Line>| each.len() >= lines && each.len() <= lines + lines / 2 + 64;
        let best = free
            .iter()
            .enumerate()
            .filter(|(_, each)| fits(each))
            .min_by_key(|(_, each)| each.len())
            .map(|(position, _)| position);
        let lines = match best {
            Some(position) => free.swap_remove(position),
            None => {
                // What fits nobody leaves, so that the pool does not outgrow its largest use.
                free.pop();
                vec![Line([0.0; 16]); lines]
            }
        };
        Self { lines, len }
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::new(len);
        buffer.fill(0.0);
        buffer
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        FREE.lock().expect("no holder of the pool panics").push(lines);
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `Line` is `repr(C)` around 16 floats without padding, and `len` is at most
        // sixteen times the number of lines.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
