//! attention_maps: the maps, alone and beside a context. What the context holds is a case of attention.

use sttabt::Result;
use sttabt::backend::{AttentionMap, Backend, MapKind};
use sttabt::tensor::{Heads, row_stride};

use crate::attention::{HEADS, MANY_KEYS, Qkv, SIZES, Score, WIDE_HEADS};
use crate::data::{Chunk, Level};
use crate::harness::{Case, Expected, Output, index, poisoned, read_matrix};
use crate::rows::{BATCHES, NUM_LAYERS, level_matrix, output_rows, rows};

#[derive(Debug, Clone)]
struct MapCase {
    lengths: Vec<usize>,
    level: Level,
    heads: Heads,
    size: f32,
    kind: MapKind,
    /// The layer that it writes.
    layer: usize,
    /// Whether attention runs too, which finds the statistics of probabilities.
    with_context: bool,
}

impl MapCase {
    fn scores(&self, chunk: &Chunk, qkv: &Qkv, row: usize, head: usize) -> Vec<Score> {
        let sample = chunk.row_table(self.level)[row].0;
        chunk.rows(self.level, sample).map(|key| qkv.score(row, qkv, key, head)).collect()
    }

    /// One head's part of a row of the map: values, each with the scale of its error.
    fn head_values(&self, scores: &[Score]) -> Vec<(f64, f64)> {
        let values = scores.iter().map(|score| score.value);
        let largest = scores.iter().map(|score| score.size).fold(0.0, f64::max);
        match self.kind {
            MapKind::MeanProbs => {
                let maximum = values.clone().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = values.clone().map(|value| (value - maximum).exp()).sum();
                // Exponentials below e^−87 may become that.
                values.map(|value| (value - maximum).exp() / sum).map(|p| (p, p * (1.0 + largest) + 1e-30)).collect()
            }
            MapKind::MeanPhi => {
                let mean = values.clone().sum::<f64>() / scores.len() as f64;
                let std =
                    (values.clone().map(|value| (value - mean).powi(2)).sum::<f64>() / scores.len() as f64).sqrt();
                let phi = |value: f64| 0.5 * libm::erfc((mean - value) / (std + 1e-7) / 2f64.sqrt());
                // Equal scores have no rounding error that a standard deviation of 0 could magnify.
                if std < 1e-12 {
                    return vec![(0.5, 1.0); scores.len()];
                }
                values.map(|value| (phi(value), 1.0 + largest / std)).collect()
            }
        }
    }
}

impl Case for MapCase {
    fn kernel(&self) -> &'static str {
        "attention_maps"
    }

    async fn run<B: Backend>(&self, backend: &mut B) -> Result<Output> {
        let chunk = Chunk::new(&self.lengths, NUM_LAYERS);
        let (heads, stride) = (self.heads, self.heads.stride());
        let index = index(backend, &chunk, &chunk.words())?;
        let mut qkv = Qkv::new(&chunk, self.level, heads, self.size).padded(&[0, 1, 2]);
        if !self.with_context {
            // The last map of a pass has no values beside its keys.
            qkv.chunks_exact_mut(3 * stride).for_each(|row| row[2 * stride..].fill(f32::NAN));
        }
        let qkv = level_matrix(backend, &chunk, self.level, 3 * stride, &qkv)?;
        let rows = rows(&chunk, self.level);
        let call = AttentionMap { qkv: &qkv, heads, kind: self.kind, rows, layer: self.layer };
        let mut stats = poisoned(backend, output_rows(&chunk, self.level), 2 * heads.num_heads)?;
        let mut maps = poisoned(backend, 1, NUM_LAYERS * chunk.layout.num_map_values)?;
        let mut context = poisoned(backend, output_rows(&chunk, self.level), stride)?;
        backend.attention_maps(call, &index, &mut stats, &mut maps, self.with_context.then_some(&mut context))?;
        read_matrix(backend, &maps).await
    }

    fn expected(&self) -> Result<(Vec<Expected>, Vec<u32>), String> {
        let chunk = Chunk::new(&self.lengths, NUM_LAYERS);
        let qkv = Qkv::new(&chunk, self.level, self.heads, self.size);
        let num_values = chunk.layout.num_map_values;
        let mut values = vec![Expected::Untouched; row_stride(NUM_LAYERS * num_values)];
        for (row, (sample, ..)) in chunk.row_table(self.level).into_iter().enumerate() {
            let rows = chunk.rows(self.level, sample);
            let at = self.layer * num_values + chunk.map_offset(sample) + (row - rows.start) * self.lengths[sample];
            let num_heads = self.heads.num_heads;
            let heads: Vec<_> =
                (0..num_heads).map(|head| self.head_values(&self.scores(&chunk, &qkv, row, head))).collect();
            for j in 0..rows.len() {
                let mean = |part: fn(&(f64, f64)) -> f64| {
                    heads.iter().map(|values| part(&values[j])).sum::<f64>() / num_heads as f64
                };
                values[at + j] = Expected::Near(mean(|pair| pair.0), mean(|pair| pair.1));
            }
        }
        Ok((values, Vec::new()))
    }

    fn lengths(&self) -> Vec<usize> {
        self.lengths.clone()
    }

    fn alone(&self, sample: usize) -> Self {
        Self { lengths: vec![self.lengths[sample]], ..self.clone() }
    }

    fn part(&self, output: &Output, sample: usize) -> Output {
        let chunk = Chunk::new(&self.lengths, NUM_LAYERS);
        let at = self.layer * chunk.layout.num_map_values + chunk.map_offset(sample);
        Output { values: output.values[at..][..self.lengths[sample].pow(2)].to_vec(), words: Vec::new() }
    }
}

fn map_cases(kind: MapKind) -> Vec<MapCase> {
    let case = MapCase {
        lengths: vec![3, 65, 7],
        level: Level::Kept(1),
        heads: HEADS[2],
        size: 1.5,
        kind,
        layer: 1,
        with_context: false,
    };
    let mut cases = Vec::new();
    for lengths in BATCHES {
        for (level, layer) in [(Level::All, 0), (Level::Kept(1), NUM_LAYERS - 1)] {
            cases.push(MapCase { lengths: lengths.to_vec(), level, layer, ..case.clone() });
        }
    }
    for heads in HEADS {
        cases.extend(SIZES.map(|size| MapCase { heads, size, ..case.clone() }));
    }
    for &heads in WIDE_HEADS {
        cases.push(MapCase { lengths: MANY_KEYS.to_vec(), level: Level::All, heads, ..case.clone() });
    }
    for num_heads in 1..=12 {
        cases.push(MapCase { lengths: vec![2, 9, 5], heads: Heads { num_heads, head_size: 7 }, ..case.clone() });
    }
    let beside: Vec<MapCase> = cases.iter().map(|case| MapCase { with_context: true, ..case.clone() }).collect();
    cases.extend(beside);
    cases
}

table_test!(table, [map_cases(MapKind::MeanProbs), map_cases(MapKind::MeanPhi)].concat());
