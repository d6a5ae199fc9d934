//! Where offsets, counts and row tables of a chunk stand in its one packed index buffer.
//!
//! One buffer, because WebGPU guarantees only eight storage buffers to a kernel.

/// The level that holds every token of every sample.
pub const ALL: usize = 0;

/// The level that holds the rows of K_layer.
pub const fn kept_level(layer: usize) -> usize {
    layer + 1
}

/// Word addresses in the index buffer of a chunk with B samples, N tokens and L layers.
///
/// Levels: [`ALL`]; [`kept_level`]`(l)` for l = 0 … L; and [`ChunkLayout::first_level`], the first row (`[CLS]`) of each
/// sample of [`ALL`]. The parent of a level is the one before it; that of the first rows is [`ALL`].
///
/// The words in order:
///
/// 1. What the host writes: offsets of `ALL` and of the first rows, map offsets, k, row tables of both.
/// 2. What kernels write: offsets and row tables of the kept levels.
/// 3. What is read back: counts, kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkLayout {
    /// L
    pub num_layers: usize,
    /// B
    pub num_samples: usize,
    /// N, tokens of all samples
    pub num_tokens: usize,
    /// Tokens of the longest sample
    pub max_tokens: usize,
    /// Σ T² over the samples: values of one layer's attention maps
    pub num_map_values: usize,
}

impl ChunkLayout {
    /// The level of each sample's anchors, the first rows of it in [`ALL`]: `[CLS]`.
    pub const fn first_level(&self) -> usize {
        self.num_layers + 2
    }

    /// A level's place in the buffer: those that the host writes come first.
    const fn slot(&self, level: usize) -> usize {
        if level == ALL {
            0
        } else if level == self.first_level() {
            1
        } else {
            level + 1
        }
    }

    const fn tables(&self) -> usize {
        2 * (self.num_samples + 1) + self.num_samples + self.num_layers * self.num_samples
    }

    const fn kept_offsets(&self) -> usize {
        self.tables() + 4 * self.num_tokens
    }

    const fn kept_tables(&self) -> usize {
        self.kept_offsets() + (self.num_layers + 1) * (self.num_samples + 1)
    }

    /// offsets\[level\]: first row of every sample and, last, the number of rows; `[B + 1]`.
    pub const fn offsets(&self, level: usize) -> usize {
        let slot = self.slot(level);
        if slot < 2 { slot * (self.num_samples + 1) } else { self.kept_offsets() + (slot - 2) * (self.num_samples + 1) }
    }

    /// The word that holds the number of rows of a level.
    pub const fn num_rows(&self, level: usize) -> usize {
        self.offsets(level) + self.num_samples
    }

    /// First value of every sample's map within a layer's maps; `[B]`.
    pub const fn map_offsets(&self) -> usize {
        2 * (self.num_samples + 1)
    }

    /// k of a layer: how many tokens its rule picks in every sample; `[B]`.
    pub const fn k(&self, layer: usize) -> usize {
        self.map_offsets() + self.num_samples + layer * self.num_samples
    }

    /// The sample of every row of a level; `[N]`.
    pub const fn sample_of_row(&self, level: usize) -> usize {
        let slot = self.slot(level);
        if slot < 2 {
            self.tables() + 2 * slot * self.num_tokens
        } else {
            self.kept_tables() + 2 * (slot - 2) * self.num_tokens
        }
    }

    /// The row of the parent level that every row of a level comes from; `[N]`.
    pub const fn source_row(&self, level: usize) -> usize {
        self.sample_of_row(level) + self.num_tokens
    }

    /// |K_layer| of every sample; `[B]`.
    pub const fn counts(&self, layer: usize) -> usize {
        self.kept_tables() + 2 * (self.num_layers + 1) * self.num_tokens + layer * self.num_samples
    }

    /// The sorted token positions of K_layer: those of a sample start at its offset in [`ALL`]; `[N]`.
    pub const fn kept(&self, layer: usize) -> usize {
        self.counts(self.num_layers + 1) + layer * self.num_tokens
    }

    /// Words in all.
    pub const fn num_words(&self) -> usize {
        self.kept(self.num_layers + 1)
    }

    /// The words that the host writes at the start of a chunk.
    ///
    /// `lengths` has the tokens of every sample, `k[layer][sample]` the rule's picks (empty: none); the first `num_anchors` tokens stay to the end.
    pub fn host_words(lengths: &[usize], num_layers: usize, k: &[Vec<usize>], num_anchors: usize) -> (Self, Vec<u32>) {
        let num_tokens = lengths.iter().sum();
        let layout = Self {
            num_layers,
            num_samples: lengths.len(),
            num_tokens,
            max_tokens: lengths.iter().copied().max().unwrap_or(0),
            // Beyond `usize` it is no number of values that a rule could use; `dense` looks at none.
            num_map_values: lengths
                .iter()
                .fold(0, |sum: usize, length| sum.saturating_add(length.saturating_mul(*length))),
        };
        let mut words = vec![0; layout.kept_offsets()];
        let first = layout.first_level();
        let (mut row, mut map, mut first_row) = (0, 0_usize, 0);
        for (sample, &length) in lengths.iter().enumerate() {
            words[layout.offsets(ALL) + sample] = row as u32;
            words[layout.offsets(first) + sample] = first_row as u32;
            words[layout.map_offsets() + sample] = map as u32;
            for (layer, counts) in k.iter().enumerate() {
                words[layout.k(layer) + sample] = counts[sample] as u32;
            }
            for anchor in row..row + num_anchors.min(length) {
                words[layout.sample_of_row(first) + first_row] = sample as u32;
                words[layout.source_row(first) + first_row] = anchor as u32;
                first_row += 1;
            }
            for token in row..row + length {
                words[layout.sample_of_row(ALL) + token] = sample as u32;
                words[layout.source_row(ALL) + token] = token as u32;
            }
            row += length;
            map = map.saturating_add(length.saturating_mul(length));
        }
        words[layout.num_rows(ALL)] = row as u32;
        words[layout.num_rows(first)] = first_row as u32;
        (layout, words)
    }
}
