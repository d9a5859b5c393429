//! Tables that many launches read, uploaded once.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeDevice, cubecl};
use cubecl::prelude::*;
use cubecl::server::Handle;

use super::launch::Values;

type Tables = HashMap<(CubeDevice, Arc<Vec<u32>>), Handle>;

static TABLES: LazyLock<Mutex<Tables>> = LazyLock::new(Default::default);

/// An auxiliary model brings new tables every epoch: the old ones are dropped together.
const MOST_TABLES: usize = 512;

/// A table on the device of a tensor.
pub fn table(like: &CubeTensor, table: &Arc<Vec<u32>>) -> Values {
    let key = (like.device.clone(), table.clone());
    let mut tables = TABLES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if tables.len() >= MOST_TABLES {
        tables.clear();
    }
    let upload = || like.client.create_from_slice(u32::as_bytes(table));
    let handle = tables.entry(key).or_insert_with(upload).clone();
    Values { handle, len: table.len() }
}
