//! back_tracking, and what it shares with the other kernels that decide which tokens stay.

use sttabt::Result;
use sttabt::backend::{BackTracking, BackTrackingRule, Backend};
use sttabt::tensor::row_stride;

use crate::data::Chunk;
use crate::harness::{Case, Expected, Output, index, poisoned, read_both};
#[cfg(not(target_arch = "wasm32"))]
use crate::harness::{Tokens, check};
use crate::recursions::{Layer, Maps, concrete, map, top_k};

/// Rows and columns of token scores that nobody writes.
pub const SPARE: usize = 3;

/// k of a layer's ratios: the least is 1, and 1.0 is all tokens.
pub fn k(lengths: &[usize], ratios: &[f64]) -> Vec<Vec<usize>> {
    let k = |ratio: f64, length: usize| ((ratio * length as f64).ceil() as usize).max(1);
    ratios.iter().map(|&ratio| lengths.iter().map(|&length| k(ratio, length)).collect()).collect()
}

/// Scores of layers, `None` where a layer is not computed, as a matrix.
pub fn expected_scores(chunk: &Chunk, layers: &[Option<Vec<Vec<f64>>>]) -> Vec<Expected> {
    let stride = row_stride(chunk.layout.num_tokens + SPARE);
    let mut values = vec![Expected::Untouched; (layers.len() + SPARE) * stride];
    for (layer, scores) in layers.iter().enumerate() {
        for (place, &score) in scores.iter().flatten().flatten().enumerate() {
            let scale = score.abs();
            values[layer * stride + place] =
                if score == 0.0 { Expected::Exactly(0.0) } else { Expected::Near(score, scale) };
        }
    }
    values
}

/// A sample's scores, counts and kept tokens at all layers.
pub fn part_of_sets(chunk: &Chunk, output: &Output, sample: usize) -> Output {
    let (layout, stride) = (&chunk.layout, row_stride(chunk.layout.num_tokens + SPARE));
    let (first, length) = (chunk.first_token(sample), chunk.lengths[sample]);
    let mut part = Output::default();
    for layer in 0..layout.num_layers {
        part.values.extend(&output.values[layer * stride + first..][..length]);
    }
    for layer in 0..=layout.num_layers {
        part.words.push(output.words[layout.counts(layer) + sample]);
        part.words.extend(&output.words[layout.kept(layer) + first..][..length]);
    }
    part
}

#[derive(Debug, Clone)]
struct BackTrackingCase {
    lengths: Vec<usize>,
    rule: BackTrackingRule,
    /// Rule 1: one for every layer.
    ratios: Vec<f64>,
    /// Rule 2: logit(p) of every layer.
    thresholds: Vec<f32>,
    maps: Maps,
    num_anchors: usize,
}

impl BackTrackingCase {
    fn num_layers(&self) -> usize {
        self.ratios.len().max(self.thresholds.len())
    }

    fn chunk(&self) -> Chunk {
        Chunk::with_k(&self.lengths, self.num_layers(), &k(&self.lengths, &self.ratios))
    }

    fn sample_maps(&self, length: usize) -> Vec<Vec<f32>> {
        (0..self.num_layers()).map(|layer| map(self.maps, length, length, layer)).collect()
    }

    /// By sample: the sets and scores of all layers.
    fn oracle(&self, chunk: &Chunk) -> Result<Vec<Vec<Layer>>, String> {
        (0..self.lengths.len())
            .map(|sample| {
                let maps = self.sample_maps(self.lengths[sample]);
                match self.rule {
                    BackTrackingRule::TopK { impact_weight } => {
                        let k: Vec<usize> = chunk.k.iter().map(|k| k[sample]).collect();
                        top_k(&maps, self.lengths[sample], &k, impact_weight.into(), self.num_anchors)
                    }
                    BackTrackingRule::Concrete { impact_weight, temperature, hard_threshold } => concrete(
                        &maps,
                        self.lengths[sample],
                        &self.thresholds,
                        [impact_weight.into(), temperature.into(), hard_threshold.into()],
                        self.num_anchors,
                    ),
                }
            })
            .collect()
    }
}

impl Case for BackTrackingCase {
    fn kernel(&self) -> &'static str {
        match self.rule {
            BackTrackingRule::TopK { .. } => "back_tracking top-k",
            BackTrackingRule::Concrete { .. } => "back_tracking concrete",
        }
    }

    async fn run<B: Backend>(&self, backend: &mut B) -> Result<Output> {
        let (chunk, num_layers) = (self.chunk(), self.num_layers());
        let mut words = chunk.words();
        for layer in 0..=num_layers {
            chunk.forget_level(layer, &mut words);
            chunk.forget_kept(layer, &mut words);
        }
        let mut index = index(backend, &chunk, &words)?;
        let samples: Vec<Vec<Vec<f32>>> = self.lengths.iter().map(|&length| self.sample_maps(length)).collect();
        let values: Vec<f32> =
            (0..num_layers).flat_map(|layer| samples.iter().flat_map(move |maps| maps[layer].clone())).collect();
        let mut maps = backend.create_matrix("maps", 1, values.len())?;
        backend.write_matrix(&mut maps, 0, &values)?;
        let mut thresholds = backend.create_matrix("thresholds", 1, num_layers)?;
        backend.write_matrix(&mut thresholds, 0, &self.thresholds)?;
        let mut scores = poisoned(backend, num_layers + SPARE, chunk.layout.num_tokens + SPARE)?;
        let call =
            BackTracking { rule: self.rule, maps: &maps, thresholds: &thresholds, num_anchors: self.num_anchors };
        backend.back_tracking(call, &mut index, &mut scores)?;
        read_both(backend, &scores, &index, words.len()).await
    }

    fn expected(&self) -> Result<(Vec<Expected>, Vec<u32>), String> {
        let mut chunk = self.chunk();
        let samples = self.oracle(&chunk)?;
        let mut scores = Vec::new();
        for layer in 0..self.num_layers() {
            chunk.kept[layer] = samples.iter().map(|layers| layers[layer].kept.clone()).collect();
            scores.push(Some(samples.iter().map(|layers| layers[layer].scores.clone()).collect()));
        }
        let last = self.lengths.iter().map(|&length| (0..self.num_anchors.min(length)).collect());
        chunk.kept[self.num_layers()] = last.collect();
        let mut words = chunk.words();
        (0..=self.num_layers()).for_each(|layer| chunk.forget_level(layer, &mut words));
        Ok((expected_scores(&chunk, &scores), words))
    }

    fn lengths(&self) -> Vec<usize> {
        self.lengths.clone()
    }

    fn alone(&self, sample: usize) -> Self {
        Self { lengths: vec![self.lengths[sample]], ..self.clone() }
    }

    fn part(&self, output: &Output, sample: usize) -> Output {
        part_of_sets(&self.chunk(), output, sample)
    }
}

/// One token; a prime; around a workgroup's 256 columns; ragged; more than a thousand; and around what fits in the workgroup memory that
/// WebGPU guarantees, 1920.
pub const BATCHES: &[&[usize]] = &[
    &[1],
    &[7],
    &[197],
    &[255],
    &[256],
    &[257],
    &[5, 1, 12, 4],
    &[3, 65, 7],
    &[2, 1281, 3],
    &[1370],
    &[1920],
    &[2, 1921, 3],
];

table_test!(top_k, back_tracking_top_k_cases());

fn back_tracking_top_k_cases() -> Vec<BackTrackingCase> {
    let mut cases = Vec::new();
    let mut push = |lengths: &[usize], ratios: &[f64], impact_weight, maps| {
        cases.push(BackTrackingCase {
            lengths: lengths.to_vec(),
            rule: BackTrackingRule::TopK { impact_weight },
            ratios: ratios.to_vec(),
            thresholds: Vec::new(),
            maps,
            num_anchors: 1,
        });
    };
    for lengths in BATCHES {
        push(lengths, &[0.6, 0.3], 0.1, Maps::Random);
        push(lengths, &[0.5, 0.3], 0.1, Maps::Ties);
    }
    for maps in [Maps::Random, Maps::Ties, Maps::Equal] {
        push(&[3, 65, 7], &[0.0, 0.0, 0.0], 0.1, maps);
        push(&[3, 65, 7], &[1.0, 1.0], 0.1, maps);
        push(&[3, 65, 7], &[0.2, 0.9, 0.1, 0.5], 0.5, maps);
        push(&[6, 31, 2, 9], &[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.4, 0.3, 0.3, 0.2, 0.2, 0.1], 0.1, maps);
    }
    two_anchors(cases)
}

table_test!(concrete, back_tracking_concrete_cases());

fn back_tracking_concrete_cases() -> Vec<BackTrackingCase> {
    let mut cases = Vec::new();
    let mut push = |lengths: &[usize], thresholds: &[f32], impact_weight, temperature, hard_threshold, maps| {
        cases.push(BackTrackingCase {
            lengths: lengths.to_vec(),
            rule: BackTrackingRule::Concrete { impact_weight, temperature, hard_threshold },
            ratios: Vec::new(),
            thresholds: thresholds.to_vec(),
            maps,
            num_anchors: 1,
        });
    };
    for lengths in BATCHES {
        push(lengths, &[-0.4, -1.1], 0.1, 0.1, 0.5, Maps::Phi);
    }
    for maps in [Maps::Phi, Maps::Equal] {
        push(&[3, 65, 7], &[-40.0, -40.0], 0.1, 0.1, 0.5, maps);
        push(&[3, 65, 7], &[40.0, 40.0], 0.1, 0.1, 0.5, maps);
        push(&[3, 65, 7], &[-0.3, 1.0, -2.0], 0.5, 0.5, 0.3, maps);
        push(
            &[6, 31, 2, 9],
            &[-0.2, -0.3, -0.4, -0.5, -0.6, -0.7, -0.8, -0.9, -1.0, -1.1, -1.2, -1.3],
            0.1,
            0.1,
            0.5,
            maps,
        );
    }
    two_anchors(cases)
}

/// The most that this device takes. A browser takes too long.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn as_many_tokens_as_fit() {
    pollster::block_on(async {
        let most = crate::harness::gpu().await.max_pruned_tokens();
        let case = |num_tokens: usize, maps| BackTrackingCase {
            lengths: vec![num_tokens],
            rule: BackTrackingRule::TopK { impact_weight: 0.1 },
            ratios: vec![0.5, 0.3],
            thresholds: Vec::new(),
            maps,
            num_anchors: 2,
        };
        // Llvmpipe binds no more than these 16 maps.
        let many_layers = BackTrackingCase { ratios: vec![0.9; 16], ..case(1440, Maps::Ties) };
        let cases = [case(most, Maps::Random), case(most - 1, Maps::Ties), case(most, Maps::Equal), many_layers];
        check(&cases, Tokens::Many).await;
        let case = BackTrackingCase {
            rule: BackTrackingRule::Concrete { impact_weight: 0.1, temperature: 0.1, hard_threshold: 0.5 },
            ratios: Vec::new(),
            thresholds: vec![-0.4, -1.1],
            ..case(most, Maps::Phi)
        };
        check(&[case], Tokens::Many).await;
    });
}

/// The cases, and some of them again with a second token that always stays.
fn two_anchors(mut cases: Vec<BackTrackingCase>) -> Vec<BackTrackingCase> {
    let is_small = |case: &&BackTrackingCase| {
        let longest = case.lengths.iter().copied().max().unwrap_or(0);
        (case.lengths.len() > 1 && longest <= 80) || [197, 257, 1370].contains(&longest)
    };
    let some = cases.iter().filter(is_small).cloned();
    let more: Vec<_> = some.map(|case| BackTrackingCase { num_anchors: 2, ..case }).collect();
    cases.extend(more);
    cases
}
