//! Aligned buffers that are reused: fresh pages cost more than the kernels that fill them.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Mutex;

use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty};

/// Bytes of a cache line.
const LINE: usize = 64;
/// Bytes of a huge page: kernels stream the maps of a batch, and small pages stall the prefetcher.
const HUGE: usize = 2 << 20;

/// Initialized memory, aligned to a cache line, or to a huge page where it is that large.
#[derive(Debug)]
struct Allocation {
    first: NonNull<f32>,
    layout: Layout,
    /// The request for a large allocation that was the last before this one was returned.
    returned: u64,
}

// SAFETY: an allocation owns its memory, as a boxed slice would.
unsafe impl Send for Allocation {}
// SAFETY: as above; a shared allocation is only read.
unsafe impl Sync for Allocation {}

impl Allocation {
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
            Self { first: first.cast(), layout, returned: 0 }
        }
    }

    /// Number of values for which there is room.
    fn len(&self) -> usize {
        self.layout.size() / size_of::<f32>()
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout.
        unsafe { dealloc(self.first.as_ptr().cast(), self.layout) };
    }
}

/// Blocks without a user.
struct Pool {
    /// By the values that there is room for; the last returned first.
    free: BTreeMap<usize, Vec<Allocation>>,
    /// For allocations of a huge page or more.
    requests: u64,
}

/// Requests that a large allocation waits for before it leaves: a few steps of a search.
const PATIENCE: u64 = 1 << 13;

static POOL: Mutex<Pool> = Mutex::new(Pool { free: BTreeMap::new(), requests: 0 });

/// Single-precision values, aligned to a cache line; returned to a pool when dropped.
///
/// A new buffer has the content that its last owner left.
#[derive(Debug)]
pub struct Buffer {
    /// Present until dropped.
    allocation: Option<Allocation>,
    len: usize,
}

impl Buffer {
    /// `len` values of unspecified content.
    pub fn new(len: usize) -> Self {
        let mut pool = POOL.lock().expect("no holder of the pool panics");
        let is_large = len * size_of::<f32>() >= HUGE;
        pool.requests += u64::from(is_large);
        let fitting = pool.free.range_mut(len..=len + len / 2 + 1024);
        let best = fitting.filter_map(|(_, allocations)| allocations.pop()).next();
        let allocation = best.unwrap_or_else(|| {
            let requests = pool.requests;
            if is_large {
                for allocations in pool.free.values_mut() {
                    allocations.retain(|each| each.returned + PATIENCE > requests);
                }
                pool.free.retain(|_, allocations| !allocations.is_empty());
            }
            drop(pool);
            Allocation::new(len)
        });
        Self { allocation: Some(allocation), len }
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::new(len);
        buffer.fill(0.0);
        buffer
    }

    fn allocation(&self) -> &Allocation {
        self.allocation.as_ref().expect("present until dropped")
    }

    fn first(&self) -> *mut f32 {
        self.allocation().first.as_ptr()
    }

    fn bytes(&self) -> usize {
        self.len * size_of::<f32>()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut pool = POOL.lock().expect("no holder of the pool panics");
        if let Some(mut allocation) = self.allocation.take() {
            allocation.returned = pool.requests;
            pool.free.entry(allocation.len()).or_default().push(allocation);
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: the allocation is initialized and has room for `len` values.
        unsafe { std::slice::from_raw_parts(self.first(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.first(), self.len) }
    }
}

/// The memory of a Burn tensor for the results of a cell, which returns to the pool too.
impl AllocationController for Buffer {
    fn alloc_align(&self) -> usize {
        self.allocation().layout.align()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(
        &mut self,
        _policy: AccessPolicy,
    ) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        // SAFETY: as in `deref_mut`, seen as bytes.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.first().cast(), self.bytes()) })
    }

    fn memory(&self, _policy: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        // SAFETY: as in `deref`, seen as bytes.
        Ok(unsafe { std::slice::from_raw_parts(self.first().cast(), self.bytes()) })
    }
}
