//! Offsets and row tables of levels, from the kept tokens of every sample.

use std::ops::Range;

use super::CpuIndex;
use crate::backend::{ALL, check, kept_level};
use crate::error::Result;

pub fn pack_rows(levels: Range<usize>, index: &mut CpuIndex) -> Result<()> {
    let layout = index.layout;
    let num_levels = kept_level(layout.num_layers) + 1;
    check(
        levels.start >= kept_level(0) && levels.end <= num_levels,
        "pack_rows",
        "levels",
        format_args!("{levels:?}"),
        num_levels,
    )?;
    for level in levels {
        let layer = level - kept_level(0);
        let mut row = 0;
        let mut parent_start = 0;
        for sample in 0..layout.num_samples {
            index.words[layout.offsets(level) + sample] = row as u32;
            let positions = index.kept(layer, sample).to_vec();
            for &position in &positions {
                // The row of the parent level: K_{l−1} is sorted and holds every token of K_l.
                let rank = match layer {
                    0 => position as usize,
                    _ => index.kept(layer - 1, sample).partition_point(|&parent| parent < position),
                };
                index.words[layout.sample_of_row(level) + row] = sample as u32;
                index.words[layout.source_row(level) + row] = (parent_start + rank) as u32;
                row += 1;
            }
            parent_start += match layer {
                0 => index.sample_rows(ALL, sample).len(),
                _ => index.kept(layer - 1, sample).len(),
            };
        }
        index.words[layout.num_rows(level)] = row as u32;
    }
    Ok(())
}
