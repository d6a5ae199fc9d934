//! How many tokens of a sample fit the workgroup memory of the kernels that choose tokens.

use super::device::OpenDevice;
use crate::backend::check;
use crate::error::Result;

/// Words of a token in either kernel.
const WORDS_PER_TOKEN: usize = 2;
/// Words of back_tracking's sums over a workgroup.
const PARTIAL_WORDS: usize = 256;
/// back_tracking looks at so many rows at once.
const ROWS: usize = 16;
/// A sum of select_tokens has 12 bits before the point: room for so many rows of 1.
const MAX_SUMMANDS: usize = 4095;

/// Room for most texts, and for a ViT's 197 patches. Software adapters take seconds to compile a kernel that has much workgroup memory.
const FEW_TOKENS: usize = 256;

/// What fits the 16 KiB that WebGPU guarantees.
pub const GUARANTEED_TOKENS: usize = pruned_tokens(16 << 10);

/// The most tokens of a sample in so many bytes of workgroup memory.
pub const fn pruned_tokens(workgroup_bytes: u32) -> usize {
    let words = (workgroup_bytes as usize / 4).saturating_sub(PARTIAL_WORDS);
    let tokens = words / WORDS_PER_TOKEN / ROWS * ROWS;
    if tokens < MAX_SUMMANDS { tokens } else { MAX_SUMMANDS }
}

/// The shaders' `MAX_TOKENS` for samples of up to `num_tokens`, one of three sizes. A device runs fewer workgroups at
/// a time if they have much memory.
pub fn room(open: &OpenDevice, kernel: &'static str, num_tokens: usize) -> Result<(&'static str, f64)> {
    if let Some(size) = [FEW_TOKENS, GUARANTEED_TOKENS].into_iter().find(|size| num_tokens <= *size) {
        return Ok(("MAX_TOKENS", size as f64));
    }
    let most = pruned_tokens(open.device.limits().max_compute_workgroup_storage_size);
    check(num_tokens <= most, kernel, "tokens", num_tokens, most)?;
    Ok(("MAX_TOKENS", most.next_multiple_of(ROWS) as f64))
}
