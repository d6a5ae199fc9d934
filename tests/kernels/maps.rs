//! attention_stats and attention_maps.

use sttabt::Result;
use sttabt::backend::{AttentionMap, Backend, MapKind};
use sttabt::tensor::{Heads, row_stride};

use crate::attention::{HEADS, Qkv, SIZES, Score};
use crate::data::{Chunk, Level};
use crate::harness::{Case, Expected, Output, check, index, poisoned, read_matrix};
use crate::rows::{BATCHES, NUM_LAYERS, expected_rows, level_matrix, output_rows, part_of_rows, rows};

#[derive(Debug, Clone)]
struct MapCase {
    /// Or attention_stats.
    is_map: bool,
    lengths: Vec<usize>,
    level: Level,
    heads: Heads,
    size: f32,
    kind: MapKind,
    /// attention_maps: the layer that it writes.
    layer: usize,
    /// attention_maps reads what attention_stats wrote, and not the oracle's.
    chained: bool,
}

/// Statistics of a row's scores: (maximum, Σ exp) or (mean, 1 / (std + EPS)), each with the scale of its error.
fn stats(scores: &[Score], kind: MapKind) -> [(f64, f64); 2] {
    let size = scores.iter().map(|score| score.size).fold(0.0, f64::max);
    let values = scores.iter().map(|score| score.value);
    match kind {
        MapKind::MeanProbs => {
            let maximum = values.clone().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = values.map(|value| (value - maximum).exp()).sum();
            [(maximum, size + 1e-30), (sum, sum * (1.0 + size))]
        }
        MapKind::MeanPhi => {
            let mean = values.clone().sum::<f64>() / scores.len() as f64;
            let std = (values.map(|value| (value - mean).powi(2)).sum::<f64>() / scores.len() as f64).sqrt();
            let factor = 1.0 / (std + 1e-7);
            // Equal scores have no rounding error that a standard deviation of 0 could magnify.
            let condition = if std < 1e-12 { 0.0 } else { size / std };
            [(mean, size + 1e-30), (factor, factor * (1.0 + condition))]
        }
    }
}

impl MapCase {
    fn scores(&self, chunk: &Chunk, qkv: &Qkv, row: usize, head: usize) -> Vec<Score> {
        let sample = chunk.row_table(self.level)[row].0;
        chunk.rows(self.level, sample).map(|key| qkv.score(row, qkv, key, head)).collect()
    }

    fn stats_width(&self) -> usize {
        2 * self.heads.num_heads
    }

    /// The statistics of all rows, rounded to f32.
    fn oracle_stats(&self, chunk: &Chunk) -> Vec<f32> {
        let qkv = Qkv::new(chunk, self.level, self.heads, self.size);
        let (rows, heads) = (chunk.num_rows(self.level), self.heads.num_heads);
        let pairs = (0..rows * heads).map(|id| stats(&self.scores(chunk, &qkv, id / heads, id % heads), self.kind));
        pairs.flatten().map(|(value, _)| value as f32).collect()
    }

    fn map_value(&self, scores: &[Vec<Score>], stats: &[f32], j: usize) -> Expected {
        let (mut sum, mut scale) = (0.0, 0.0);
        for (scores, pair) in scores.iter().zip(stats.chunks_exact(2)) {
            let (Score { value, size }, first, second) = (scores[j], f64::from(pair[0]), f64::from(pair[1]));
            let size = size + first.abs();
            match self.kind {
                MapKind::MeanProbs => {
                    let p = (value - first).exp() / second;
                    sum += p;
                    // Exponentials below e^−87 may become that.
                    scale += p * (1.0 + size) + 1e-30;
                }
                MapKind::MeanPhi => {
                    let equal = scores.iter().all(|score| score.value == value);
                    sum += if equal { 0.5 } else { 0.5 * libm::erfc((first - value) * second / 2f64.sqrt()) };
                    scale += if equal { 1.0 } else { 1.0 + size * second };
                }
            }
        }
        Expected::Near(sum / scores.len() as f64, scale / scores.len() as f64)
    }
}

impl Case for MapCase {
    fn kernel(&self) -> &'static str {
        if self.is_map { "attention_maps" } else { "attention_stats" }
    }

    async fn run<B: Backend>(&self, backend: &mut B) -> Result<Output> {
        let chunk = Chunk::new(&self.lengths, NUM_LAYERS);
        let (heads, stride) = (self.heads, self.heads.stride());
        let index = index(backend, &chunk, &chunk.words())?;
        let mut qkv = Qkv::new(&chunk, self.level, heads, self.size).padded(&[0, 1, 2]);
        // The last map of a pass has no values beside its keys.
        qkv.chunks_exact_mut(3 * stride).for_each(|row| row[2 * stride..].fill(f32::NAN));
        let qkv = level_matrix(backend, &chunk, self.level, 3 * stride, &qkv)?;
        let call = || AttentionMap { qkv: &qkv, heads, kind: self.kind, rows: rows(&chunk, self.level) };
        let mut stats = poisoned(backend, output_rows(&chunk, self.level), self.stats_width())?;
        if !self.is_map || self.chained {
            backend.attention_stats(call(), &index, &mut stats)?;
        }
        if !self.is_map {
            return read_matrix(backend, &stats).await;
        }
        if !self.chained {
            let values = self.oracle_stats(&chunk);
            stats = level_matrix(backend, &chunk, self.level, self.stats_width(), &values)?;
        }
        let mut maps = poisoned(backend, 1, NUM_LAYERS * chunk.layout.num_map_values)?;
        backend.attention_maps(call(), &stats, self.layer, &index, &mut maps)?;
        read_matrix(backend, &maps).await
    }

    fn expected(&self) -> Result<(Vec<Expected>, Vec<u32>), String> {
        let chunk = Chunk::new(&self.lengths, NUM_LAYERS);
        let qkv = Qkv::new(&chunk, self.level, self.heads, self.size);
        let row_scores = |row: usize| -> Vec<Vec<Score>> {
            (0..self.heads.num_heads).map(|head| self.scores(&chunk, &qkv, row, head)).collect()
        };
        if !self.is_map {
            return Ok(expected_rows(&chunk, self.level, self.stats_width(), |row| {
                let pairs = row_scores(row).iter().flat_map(|scores| stats(scores, self.kind)).collect::<Vec<_>>();
                let mut values: Vec<Expected> =
                    pairs.into_iter().map(|(value, scale)| Expected::Near(value, scale)).collect();
                values.resize(row_stride(self.stats_width()), Expected::Untouched);
                values
            }));
        }
        let stats = self.oracle_stats(&chunk);
        let num_values = chunk.layout.num_map_values;
        let mut values = vec![Expected::Untouched; row_stride(NUM_LAYERS * num_values)];
        for (row, (sample, ..)) in chunk.row_table(self.level).into_iter().enumerate() {
            let (rows, scores) = (chunk.rows(self.level, sample), row_scores(row));
            let at = self.layer * num_values + chunk.map_offset(sample) + (row - rows.start) * self.lengths[sample];
            for j in 0..rows.len() {
                let stats = &stats[row * self.stats_width()..][..self.stats_width()];
                values[at + j] = self.map_value(&scores, stats, j);
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
        if !self.is_map {
            return part_of_rows(&chunk, self.level, self.stats_width(), output, sample);
        }
        let at = self.layer * chunk.layout.num_map_values + chunk.map_offset(sample);
        Output { values: output.values[at..][..self.lengths[sample].pow(2)].to_vec(), words: Vec::new() }
    }
}

fn map_cases(is_map: bool, kind: MapKind) -> Vec<MapCase> {
    let case = MapCase {
        is_map,
        lengths: vec![3, 65, 7],
        level: Level::Kept(1),
        heads: HEADS[2],
        size: 1.5,
        kind,
        layer: 1,
        chained: false,
    };
    let mut cases = Vec::new();
    for lengths in BATCHES {
        // A single score has a standard deviation of 0, which magnifies the rounding of statistics from elsewhere.
        let chained = lengths.contains(&1) || lengths.len() > 1;
        for (level, layer) in [(Level::All, 0), (Level::Kept(1), NUM_LAYERS - 1)] {
            cases.push(MapCase { lengths: lengths.to_vec(), level, layer, chained, ..case.clone() });
        }
    }
    for heads in HEADS {
        cases.extend(SIZES.map(|size| MapCase { heads, size, ..case.clone() }));
    }
    for num_heads in 1..=12 {
        cases.push(MapCase { lengths: vec![2, 9, 5], heads: Heads { num_heads, head_size: 7 }, ..case.clone() });
    }
    cases
}

device_test!(
    attention_stats,
    check(&[map_cases(false, MapKind::MeanProbs), map_cases(false, MapKind::MeanPhi)].concat())
);

device_test!(attention_maps, check(&[map_cases(true, MapKind::MeanProbs), map_cases(true, MapKind::MeanPhi)].concat()));
