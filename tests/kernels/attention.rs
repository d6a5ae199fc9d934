//! attention, and the queries and keys that the kernels of maps read too.

use sttabt::Result;
use sttabt::backend::{Attention, AttentionMap, Backend, MapKind};
use sttabt::tensor::Heads;

use crate::data::{Chunk, Level};
use crate::harness::{Case, Expected, Output, index, poisoned, read_matrix};
use crate::rows::{BATCHES, NUM_LAYERS, expected_rows, level_matrix, output_rows, part_of_rows, rows};

/// Queries, keys and values of a level's rows, without padding.
pub struct Qkv {
    heads: Heads,
    values: Vec<f32>,
}

/// A score before softmax, and the size of the terms in it.
#[derive(Clone, Copy)]
pub struct Score {
    pub value: f64,
    pub size: f64,
}

impl Qkv {
    pub fn new(chunk: &Chunk, level: Level, heads: Heads, size: f32) -> Self {
        Self { heads, values: chunk.row_values(level, 3 * heads.width(), 5, size) }
    }

    /// Q (0), K (1) or V (2) of a row and a head.
    fn part(&self, row: usize, part: usize, head: usize) -> &[f32] {
        let width = self.heads.width();
        &self.values[row * 3 * width + part * width + head * self.heads.head_size..][..self.heads.head_size]
    }

    /// `parts` of all rows side by side, every head padded with zeros; as the projections leave them.
    pub fn padded(&self, parts: &[usize]) -> Vec<f32> {
        let (stride, num_rows) = (self.heads.stride(), self.values.len() / (3 * self.heads.width()));
        let mut padded = vec![0.0; num_rows * parts.len() * stride];
        for row in 0..num_rows {
            for (place, &part) in parts.iter().enumerate() {
                for head in 0..self.heads.num_heads {
                    let at = (row * parts.len() + place) * stride + head * self.heads.head_stride();
                    padded[at..][..self.heads.head_size].copy_from_slice(self.part(row, part, head));
                }
            }
        }
        padded
    }

    /// The query stands in `self`, the key in `keys`.
    pub fn score(&self, query: usize, keys: &Self, key: usize, head: usize) -> Score {
        let scale = (self.heads.head_size as f64).sqrt().recip();
        let products = self.part(query, 0, head).iter().zip(keys.part(key, 1, head));
        let products = products.map(|(&q, &k)| f64::from(q) * f64::from(k) * scale);
        Score { value: products.clone().sum(), size: products.map(f64::abs).sum() }
    }
}

#[derive(Debug, Clone)]
struct AttentionCase {
    lengths: Vec<usize>,
    /// Queries stand in their own matrix, unless both levels are the same one.
    queries: Level,
    keys: Level,
    own_query: bool,
    heads: Heads,
    size: f32,
    /// What attention_maps gives beside a map of this kind; queries and keys are the same rows then.
    with_map: Option<MapKind>,
}

impl Case for AttentionCase {
    fn kernel(&self) -> &'static str {
        "attention"
    }

    async fn run<B: Backend>(&self, backend: &mut B) -> Result<Output> {
        let chunk = Chunk::new(&self.lengths, NUM_LAYERS);
        let (heads, stride) = (self.heads, self.heads.stride());
        let index = index(backend, &chunk, &chunk.words())?;
        let mut qkv = Qkv::new(&chunk, self.keys, heads, self.size).padded(&[0, 1, 2]);
        if self.own_query {
            // Then nobody has computed the queries beside the keys.
            qkv.chunks_exact_mut(3 * stride).for_each(|row| row[..stride].fill(f32::NAN));
        }
        let qkv = level_matrix(backend, &chunk, self.keys, 3 * stride, &qkv)?;
        let query = Qkv::new(&chunk, self.queries, heads, self.size).padded(&[0]);
        let query = level_matrix(backend, &chunk, self.queries, stride, &query)?;
        let mut output = poisoned(backend, output_rows(&chunk, self.queries), stride)?;
        if let Some(kind) = self.with_map {
            let call = AttentionMap { qkv: &qkv, heads, kind, rows: rows(&chunk, self.keys), layer: 1 };
            let mut stats = poisoned(backend, output_rows(&chunk, self.keys), 2 * heads.num_heads)?;
            let mut maps = poisoned(backend, 1, NUM_LAYERS * chunk.layout.num_map_values)?;
            backend.attention_maps(call, &index, &mut stats, &mut maps, Some(&mut output))?;
            return read_matrix(backend, &output).await;
        }
        let call = Attention {
            query: if self.own_query { &query } else { &qkv },
            qkv: &qkv,
            heads,
            query_rows: rows(&chunk, self.queries),
            key_rows: rows(&chunk, self.keys),
        };
        backend.attention(call, &index, &mut output)?;
        read_matrix(backend, &output).await
    }

    fn expected(&self) -> Result<(Vec<Expected>, Vec<u32>), String> {
        let chunk = Chunk::new(&self.lengths, NUM_LAYERS);
        let queries = Qkv::new(&chunk, self.queries, self.heads, self.size);
        let keys = Qkv::new(&chunk, self.keys, self.heads, self.size);
        let table = chunk.row_table(self.queries);
        Ok(expected_rows(&chunk, self.queries, self.heads.stride(), |row| {
            let mut values = vec![Expected::Exactly(0.0); self.heads.stride()];
            for head in 0..self.heads.num_heads {
                let key_rows = chunk.rows(self.keys, table[row].0);
                let scores: Vec<Score> = key_rows.clone().map(|key| queries.score(row, &keys, key, head)).collect();
                let maximum = scores.iter().map(|score| score.value).fold(f64::NEG_INFINITY, f64::max);
                let size = scores.iter().map(|score| score.size).fold(0.0, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| (score.value - maximum).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for d in 0..self.heads.head_size {
                    let v = key_rows.clone().map(|key| f64::from(keys.part(key, 2, head)[d]));
                    let value = v.clone().zip(&weights).map(|(v, weight)| v * weight).sum::<f64>() / sum;
                    let largest = v.map(f64::abs).fold(0.0, f64::max);
                    values[head * self.heads.head_stride() + d] = Expected::Near(value, largest * (1.0 + size));
                }
            }
            values
        }))
    }

    fn lengths(&self) -> Vec<usize> {
        self.lengths.clone()
    }

    fn alone(&self, sample: usize) -> Self {
        Self { lengths: vec![self.lengths[sample]], ..self.clone() }
    }

    fn part(&self, output: &Output, sample: usize) -> Output {
        let chunk = Chunk::new(&self.lengths, NUM_LAYERS);
        part_of_rows(&chunk, self.queries, self.heads.stride(), output, sample)
    }
}

/// Heads of 1 to 70 values, with and without padding inside a head and after the last one.
pub const HEADS: [Heads; 10] = [
    Heads { num_heads: 1, head_size: 1 },
    Heads { num_heads: 2, head_size: 4 },
    Heads { num_heads: 3, head_size: 6 },
    Heads { num_heads: 12, head_size: 6 },
    Heads { num_heads: 4, head_size: 12 },
    Heads { num_heads: 11, head_size: 12 },
    Heads { num_heads: 5, head_size: 31 },
    Heads { num_heads: 3, head_size: 33 },
    Heads { num_heads: 2, head_size: 64 },
    Heads { num_heads: 1, head_size: 70 },
];

/// Those that a tile does not hold at once, and keys of several tiles.
pub const WIDE_HEADS: &[Heads] = HEADS.split_at(7).1;
pub const MANY_KEYS: &[usize] = &[5, 197, 7];

/// From equal scores to some that leave all but one probability at 0.
pub const SIZES: [f32; 3] = [0.0, 1.5, 12.0];

table_test!(table, attention_cases());

fn attention_cases() -> Vec<AttentionCase> {
    let mut cases = Vec::new();
    let levels = [
        (Level::All, Level::All, false),
        (Level::Kept(1), Level::Kept(1), true),
        (Level::Kept(2), Level::Kept(1), true),
        (Level::Kept(NUM_LAYERS), Level::Kept(2), true),
        (Level::First, Level::All, true),
    ];
    let case = |lengths: &[usize], (queries, keys, own_query), heads, size| AttentionCase {
        lengths: lengths.to_vec(),
        queries,
        keys,
        own_query,
        heads,
        size,
        with_map: None,
    };
    for lengths in BATCHES {
        cases.extend(levels.map(|levels| case(lengths, levels, HEADS[2], 1.5)));
    }
    for heads in HEADS {
        cases.extend(SIZES.map(|size| case(&[3, 65, 7], levels[2], heads, size)));
    }
    for &heads in WIDE_HEADS {
        cases.push(case(MANY_KEYS, levels[0], heads, 1.5));
    }
    for num_heads in 1..=12 {
        cases.push(case(&[2, 9, 5], levels[0], Heads { num_heads, head_size: 7 }, 1.5));
    }
    for with_map in [Some(MapKind::MeanProbs), Some(MapKind::MeanPhi)] {
        let of_level = |level| (level, level, false);
        for lengths in BATCHES {
            let both = [Level::All, Level::Kept(1)];
            cases.extend(both.map(|level| AttentionCase { with_map, ..case(lengths, of_level(level), HEADS[2], 1.5) }));
        }
        for heads in HEADS {
            cases.push(AttentionCase { with_map, ..case(&[3, 65, 7], of_level(Level::Kept(1)), heads, 1.5) });
        }
        for &heads in WIDE_HEADS {
            cases.push(AttentionCase { with_map, ..case(MANY_KEYS, of_level(Level::All), heads, 1.5) });
        }
    }
    cases
}
