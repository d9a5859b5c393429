//! Aligned buffers that are used again: fresh pages cost more than the kernels that fill them.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Mutex;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Bytes of a huge page: maps of a batch are streamed, and small pages stall the prefetcher.
const HUGE: usize = 2 << 20;

/// Initialized memory on a cache line's boundary, or a huge page's where it is that large.
#[derive(Debug)]
struct Block {
    first: NonNull<f32>,
    layout: Layout,
}

// SAFETY: a block owns its memory, as a boxed slice would.
unsafe impl Send for Block {}
// SAFETY: as above; a shared block is only read.
unsafe impl Sync for Block {}

impl Block {
    fn new(len: usize) -> Self {
        let bytes = (len * size_of::<f32>()).next_multiple_of(LINE).max(LINE);
        let align = if bytes >= HUGE { HUGE } else { LINE };
        let layout = Layout::from_size_align(bytes, align).expect("a size that memory can have");
        // SAFETY: the layout is not empty; all bytes are set to zero, which is a number.
        unsafe {
            let Some(first) = NonNull::new(alloc(layout)) else { handle_alloc_error(layout) };
            #[cfg(target_os = "linux")]
            if bytes >= HUGE {
                // A hint: where it fails, the pages are small.
                libc::madvise(first.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE);
            }
            first.write_bytes(0, bytes);
            Self { first: first.cast(), layout }
        }
    }

    /// Values that there is room for.
    fn len(&self) -> usize {
        self.layout.size() / size_of::<f32>()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout.
        unsafe { dealloc(self.first.as_ptr().cast(), self.layout) };
    }
}

static FREE: Mutex<Vec<Block>> = Mutex::new(Vec::new());

/// Single-precision values on a cache line's boundary; returned to a pool when dropped.
///
/// A buffer starts with whatever its last owner left.
#[derive(Debug)]
pub struct Buffer {
    /// Present until dropped.
    block: Option<Block>,
    len: usize,
}

impl Buffer {
    /// `len` values of unspecified content.
    pub fn new(len: usize) -> Self {
        let mut free = FREE.lock().expect("no holder of the pool panics");
        let fits = |each: &Block| each.len() >= len && each.len() <= len + len / 2 + 1024;
        let best = free
            .iter()
            .enumerate()
            .filter(|(_, each)| fits(each))
            .min_by_key(|(_, each)| each.len())
            .map(|(position, _)| position);
        let (block, useless) = match best {
            Some(position) => (Some(free.swap_remove(position)), None),
            // What fits nobody leaves, so that the pool does not outgrow its largest use.
            None => (None, free.pop()),
        };
        drop(free);
        drop(useless);
        Self { block: Some(block.unwrap_or_else(|| Block::new(len))), len }
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::new(len);
        buffer.fill(0.0);
        buffer
    }

    fn first(&self) -> *mut f32 {
        self.block.as_ref().expect("present until dropped").first.as_ptr()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        FREE.lock().expect("no holder of the pool panics").extend(self.block.take());
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: the block is initialized and has room for `len` values.
        unsafe { std::slice::from_raw_parts(self.first(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.first(), self.len) }
    }
}
