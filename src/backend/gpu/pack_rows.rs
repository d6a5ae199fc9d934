//! Offsets and row tables of levels, from the kept tokens of every sample.

use std::ops::Range;

use super::buffers::GpuIndex;
use super::kernel::{params, shader};
use super::queue::{Dispatch, Recorder};
use crate::backend::{ALL, check, kept_level};
use crate::error::Result;

params! {
    struct Params {
        first_layer: u32,
        num_levels: u32,
        num_samples: u32,
        num_tokens: u32,
        all_offsets_at: u32,
        counts_at: u32,
        kept_at: u32,
        first_offsets_at: u32,
        first_tables_at: u32,
    }
}

shader!("pack_rows", [], [ReadWrite]);

pub fn dispatch(recorder: &mut Recorder, levels: Range<usize>, index: &GpuIndex) -> Result<()> {
    let layout = index.layout;
    let end = kept_level(layout.num_layers) + 1;
    check(levels.start >= kept_level(0) && levels.end <= end, "pack_rows", "levels", format_args!("{levels:?}"), end)?;
    let params = Params {
        first_layer: (levels.start - kept_level(0)) as u32,
        num_levels: levels.len() as u32,
        num_samples: layout.num_samples as u32,
        num_tokens: layout.num_tokens as u32,
        all_offsets_at: layout.offsets(ALL) as u32,
        counts_at: layout.counts(0) as u32,
        kept_at: layout.kept(0) as u32,
        first_offsets_at: layout.offsets(levels.start) as u32,
        first_tables_at: layout.sample_of_row(levels.start) as u32,
    };
    recorder.dispatch(Dispatch {
        shader: &SHADER,
        constants: &[],
        params: bytemuck::bytes_of(&params),
        buffers: &[&index.buffer],
        num_workgroups: levels.len(),
        multiply_adds: layout.num_tokens as u64 * levels.len() as u64,
    });
    Ok(())
}
