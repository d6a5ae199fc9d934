//! Inputs: seeded numbers, and chunks with everything that their index buffer can hold.

use std::ops::Range;

use sttabt::backend::{ALL, ChunkLayout, kept_level};

/// Fills what a kernel must not touch: a NaN as f32, and no row or sample number.
pub const POISON: u32 = 0xffff_ffff;

/// Xorshift64*: the same numbers on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // An odd factor keeps seed + 1 > 0 from becoming the fixed point 0.
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 29) as f32 / (1u64 << 24) as f32
    }

    /// Uniform in [−size, size).
    pub fn signed(&mut self, size: f32) -> f32 {
        (2.0 * self.unit() - 1.0) * size
    }

    pub fn values(&mut self, len: usize, size: f32) -> Vec<f32> {
        (0..len).map(|_| self.signed(size)).collect()
    }
}

/// The rows that a case computes.
#[derive(Debug, Clone, Copy)]
pub enum Level {
    All,
    Kept(usize),
    First,
}

/// Samples with their kept tokens. What belongs to a sample is drawn from its length alone, so that a sample of the same
/// length has the same data wherever it stands in a batch.
#[derive(Debug, Clone)]
pub struct Chunk {
    pub lengths: Vec<usize>,
    pub layout: ChunkLayout,
    /// \[layer\]\[sample\]: sorted positions; nested, with position 0, and only that at the end.
    pub kept: Vec<Vec<Vec<usize>>>,
    pub k: Vec<Vec<usize>>,
}

impl Chunk {
    pub fn new(lengths: &[usize], num_layers: usize) -> Self {
        Self::with_k(lengths, num_layers, &[])
    }

    pub fn with_k(lengths: &[usize], num_layers: usize, k: &[Vec<usize>]) -> Self {
        let (layout, _) = ChunkLayout::host_words(lengths, num_layers, k, 1);
        let sample_kept: Vec<_> = lengths.iter().map(|&length| nested_sets(length, num_layers)).collect();
        let kept = (0..=num_layers).map(|layer| sample_kept.iter().map(|sets| sets[layer].clone()).collect()).collect();
        Self { lengths: lengths.to_vec(), layout, kept, k: k.to_vec() }
    }

    pub fn level(&self, level: Level) -> usize {
        match level {
            Level::All => ALL,
            Level::Kept(layer) => kept_level(layer),
            Level::First => self.layout.first_level(),
        }
    }

    /// The positions of a sample's rows in a level.
    pub fn positions(&self, level: Level, sample: usize) -> Vec<usize> {
        match level {
            Level::All => (0..self.lengths[sample]).collect(),
            Level::Kept(layer) => self.kept[layer][sample].clone(),
            Level::First => vec![0],
        }
    }

    /// The rows of a sample in a level.
    pub fn rows(&self, level: Level, sample: usize) -> Range<usize> {
        let start = (0..sample).map(|sample| self.positions(level, sample).len()).sum();
        start..start + self.positions(level, sample).len()
    }

    pub fn num_rows(&self, level: Level) -> usize {
        (0..self.lengths.len()).map(|sample| self.positions(level, sample).len()).sum()
    }

    /// Sample, position and row in the parent level, for every row of a level.
    pub fn row_table(&self, level: Level) -> Vec<(usize, usize, usize)> {
        let parent = match level {
            Level::Kept(layer) if layer > 0 => Level::Kept(layer - 1),
            _ => Level::All,
        };
        let mut table = Vec::new();
        for sample in 0..self.lengths.len() {
            let parents = self.positions(parent, sample);
            let start = self.rows(parent, sample).start;
            for position in self.positions(level, sample) {
                let rank = parents.iter().position(|&parent| parent == position).expect("sets are nested");
                table.push((sample, position, start + rank));
            }
        }
        table
    }

    /// First value of a sample's map within a layer's.
    pub fn map_offset(&self, sample: usize) -> usize {
        self.lengths[..sample].iter().map(|length| length * length).sum()
    }

    /// First token of a sample.
    pub fn first_token(&self, sample: usize) -> usize {
        self.lengths[..sample].iter().sum()
    }

    /// The whole index buffer as it should be in the end, computed without the crate's code but for addresses.
    pub fn words(&self) -> Vec<u32> {
        let layout = &self.layout;
        let mut words = vec![POISON; layout.num_words()];
        // The host clears all that it writes.
        words[..layout.offsets(kept_level(0))].fill(0);
        let levels = (0..=layout.num_layers).map(Level::Kept).chain([Level::All, Level::First]);
        for level in levels {
            let at = self.level(level);
            for sample in 0..self.lengths.len() {
                words[layout.offsets(at) + sample] = self.rows(level, sample).start as u32;
            }
            words[layout.num_rows(at)] = self.num_rows(level) as u32;
            for (row, (sample, _, source)) in self.row_table(level).into_iter().enumerate() {
                words[layout.sample_of_row(at) + row] = sample as u32;
                words[layout.source_row(at) + row] = source as u32;
            }
        }
        for sample in 0..self.lengths.len() {
            words[layout.map_offsets() + sample] = self.map_offset(sample) as u32;
            for (layer, k) in self.k.iter().enumerate() {
                words[layout.k(layer) + sample] = k[sample] as u32;
            }
            for (layer, kept) in self.kept.iter().enumerate() {
                words[layout.counts(layer) + sample] = kept[sample].len() as u32;
                for (place, &position) in kept[sample].iter().enumerate() {
                    words[layout.kept(layer) + self.first_token(sample) + place] = position as u32;
                }
            }
        }
        words
    }

    /// `counts` and `kept` of a layer, poisoned in `words`.
    pub fn forget_kept(&self, layer: usize, words: &mut [u32]) {
        let layout = &self.layout;
        words[layout.counts(layer)..][..layout.num_samples].fill(POISON);
        words[layout.kept(layer)..][..layout.num_tokens].fill(POISON);
    }

    /// Offsets and tables of a kept level, poisoned in `words`.
    pub fn forget_level(&self, layer: usize, words: &mut [u32]) {
        let (layout, level) = (&self.layout, kept_level(layer));
        words[layout.offsets(level)..][..=layout.num_samples].fill(POISON);
        words[layout.sample_of_row(level)..][..2 * layout.num_tokens].fill(POISON);
    }

    /// `width` values for every row of a level, drawn from its sample's length and its position.
    pub fn row_values(&self, level: Level, width: usize, seed: u64, size: f32) -> Vec<f32> {
        self.row_table(level)
            .iter()
            .flat_map(|&(sample, position, _)| {
                Random::new(seed << 40 | (self.lengths[sample] as u64) << 20 | position as u64).values(width, size)
            })
            .collect()
    }
}

/// About three quarters of the tokens from one layer to the next.
fn nested_sets(length: usize, num_layers: usize) -> Vec<Vec<usize>> {
    let mut random = Random::new(length as u64);
    let mut sets: Vec<Vec<usize>> = vec![(0..length).filter(|&token| token == 0 || random.unit() < 0.9).collect()];
    for _ in 1..num_layers {
        let parent = sets.last().expect("a set").clone();
        sets.push(parent.into_iter().filter(|&token| token == 0 || random.unit() < 0.75).collect());
    }
    sets.push(vec![0]);
    sets
}
