//! Arguments that do not fit together: an error that names them, on both backends, and nothing computed.

use sttabt::backend::cpu::CpuBackend;
use sttabt::backend::{
    ALL, Activation, Attention, AttentionMap, BackTracking, BackTrackingRule, Backend, Linear, MapKind, Region, Rows,
    SelectTokens, Selection, kept_level,
};
use sttabt::tensor::{DType, HeadSide, Heads, PackedLayerNorm, PackedLinear, Tensor};
use sttabt::{Error, Result};

use crate::data::Chunk;
use crate::harness::{gpu, index};

const HEADS: Heads = Heads { num_heads: 2, head_size: 6 };

/// A chunk of one sample, its matrices by their rows and width, and a call on it.
struct Fixture<'a, B: Backend> {
    backend: &'a mut B,
    index: B::Index,
    rows: Rows,
    num_words: usize,
}

impl<'a, B: Backend> Fixture<'a, B> {
    fn new(backend: &'a mut B, num_tokens: usize) -> Result<Self> {
        let chunk = Chunk::new(&[num_tokens], 2);
        let words = chunk.words();
        let index = index(backend, &chunk, &words)?;
        Ok(Self { backend, index, rows: Rows { level: ALL, bound: num_tokens }, num_words: words.len() })
    }

    fn matrix(&mut self, num_rows: usize, width: usize) -> Result<B::Matrix> {
        self.backend.create_matrix("matrix", num_rows, width)
    }

    fn gather_rows(mut self, input: usize, columns: std::ops::Range<usize>, output: (usize, usize)) -> Result<()> {
        let (input, mut output) = (self.matrix(10, input)?, self.matrix(output.0, output.1)?);
        self.backend.gather_rows(&input, columns, &self.index, self.rows, &mut output)
    }

    /// A normalisation of 12 columns.
    fn layer_norm(mut self, input: (usize, usize), output: (usize, usize)) -> Result<()> {
        let ones = vec![0u8; 4 * 12];
        let tensor = Tensor { dtype: DType::F32, shape: vec![12], bytes: &ones, scales: &[] };
        let layer_norm = self.backend.create_layer_norm("norm", &PackedLayerNorm::new(&tensor, &tensor, 1e-12))?;
        let (input, mut output) = (self.matrix(input.0, input.1)?, self.matrix(output.0, output.1)?);
        self.backend.layer_norm(&input, &layer_norm, &self.index, self.rows, &mut output)
    }

    /// A layer from 12 to 20 columns, both padded to 16 and 24.
    fn linear(
        mut self,
        input: (usize, usize),
        features: std::ops::Range<usize>,
        residual: Option<(usize, usize)>,
        output_column: usize,
        output: (usize, usize),
    ) -> Result<()> {
        let zeros = vec![0u8; 4 * 12 * 20];
        let weight = Tensor { dtype: DType::F32, shape: vec![20, 12], bytes: &zeros, scales: &[] };
        let bias = Tensor { dtype: DType::F32, shape: vec![20], bytes: &zeros[..80], scales: &[] };
        let linear = self.backend.create_linear("linear", &PackedLinear::stack(&[(weight, bias)], HeadSide::None)?)?;
        let (input, mut output) = (self.matrix(input.0, input.1)?, self.matrix(output.0, output.1)?);
        let residual = residual.map(|(num_rows, width)| self.matrix(num_rows, width)).transpose()?;
        let call = Linear {
            input: &input,
            linear: &linear,
            features,
            activation: Activation::Identity,
            residual: residual.as_ref(),
            rows: self.rows,
            output_column,
        };
        self.backend.linear(call, &self.index, &mut output)
    }

    fn attention(mut self, query: (usize, usize), qkv: (usize, usize), output: (usize, usize)) -> Result<()> {
        let (query, qkv) = (self.matrix(query.0, query.1)?, self.matrix(qkv.0, qkv.1)?);
        let mut output = self.matrix(output.0, output.1)?;
        let (query_rows, key_rows) = (self.rows, self.rows);
        let call = Attention { query: &query, qkv: &qkv, heads: HEADS, query_rows, key_rows };
        self.backend.attention(call, &self.index, &mut output)
    }

    fn attention_maps(
        mut self,
        qkv: (usize, usize),
        stats: (usize, usize),
        layer: usize,
        map_values: usize,
        context: (usize, usize),
    ) -> Result<()> {
        let (qkv, mut stats) = (self.matrix(qkv.0, qkv.1)?, self.matrix(stats.0, stats.1)?);
        let (mut maps, mut context) = (self.matrix(1, map_values)?, self.matrix(context.0, context.1)?);
        let call = AttentionMap { qkv: &qkv, heads: HEADS, kind: MapKind::MeanPhi, rows: self.rows, layer };
        self.backend.attention_maps(call, &self.index, &mut stats, &mut maps, Some(&mut context))
    }

    fn back_tracking(mut self, map_values: usize, thresholds: usize, scores: (usize, usize)) -> Result<()> {
        let (maps, thresholds) = (self.matrix(1, map_values)?, self.matrix(1, thresholds)?);
        let mut scores = self.matrix(scores.0, scores.1)?;
        let rule = BackTrackingRule::TopK { impact_weight: 0.1 };
        let call = BackTracking { rule, maps: &maps, thresholds: &thresholds, num_anchors: 1 };
        self.backend.back_tracking(call, &mut self.index, &mut scores)
    }

    fn select_tokens(mut self, map_values: usize, layer: usize, scores: (usize, usize)) -> Result<()> {
        let (maps, mut scores) = (self.matrix(1, map_values)?, self.matrix(scores.0, scores.1)?);
        let call = SelectTokens { maps: &maps, layer, selection: Selection::Largest, num_anchors: 1 };
        self.backend.select_tokens(call, &mut self.index, &mut scores)
    }

    fn pack_rows(mut self, levels: std::ops::Range<usize>) -> Result<()> {
        self.backend.pack_rows(levels, &mut self.index)
    }

    async fn read(mut self, num_rows: usize, past_the_end: usize) -> Result<()> {
        let matrix = self.matrix(4, 8)?;
        let words = 0..self.num_words + past_the_end;
        let regions = [Region::Matrix(&matrix, num_rows), Region::Index(&self.index, words)];
        self.backend.read(&regions).await.map(|_| ())
    }

    fn write(mut self, first_row: usize, values: usize, words: usize) -> Result<()> {
        let mut matrix = self.matrix(4, 8)?;
        self.backend.write_matrix(&mut matrix, first_row, &vec![0.0; values])?;
        self.backend.write_index(&mut self.index, 1, &vec![0; words])
    }
}

/// Calls and their messages; the sample has 10 tokens, but for the calls that say otherwise.
async fn outcomes<B: Backend>(backend: &mut B) -> Vec<(Result<()>, String)> {
    let mut outcomes = Vec::new();
    macro_rules! call {
        ($tokens:expr, $kernel:ident($($argument:expr),*), $message:expr) => {
            outcomes.push((
                Fixture::new(backend, $tokens).and_then(|it| it.$kernel($($argument),*)),
                $message.to_string(),
            ))
        };
    }
    let most = backend.max_pruned_tokens();
    let more = most + 1;
    call!(10, gather_rows(24, 8..28, (10, 24)), "gather_rows: `columns` is 28, expected 24");
    call!(10, gather_rows(24, 0..24, (10, 16)), "gather_rows: `output` is 16, expected 24");
    call!(10, gather_rows(24, 0..24, (9, 24)), "gather_rows: `rows` is 10, expected 9");
    call!(10, layer_norm((10, 13), (10, 12)), "layer_norm: `input` is 13, expected 12");
    call!(10, layer_norm((10, 12), (10, 11)), "layer_norm: `output` is 11, expected 12");
    call!(10, layer_norm((9, 12), (12, 12)), "layer_norm: `rows` is 10, expected 9");
    call!(10, layer_norm((12, 12), (8, 12)), "layer_norm: `rows` is 10, expected 8");
    call!(10, linear((10, 17), 0..24, None, 0, (10, 20)), "linear: `input` is 24, expected 16");
    call!(10, linear((10, 12), 8..28, None, 0, (10, 20)), "linear: `features` is 8..28, expected 24");
    call!(10, linear((10, 12), 0..24, None, 4, (10, 20)), "linear: `output` is 24, expected 28");
    call!(10, linear((10, 12), 0..24, None, 0, (9, 20)), "linear: `rows` is 10, expected 9");
    call!(10, linear((8, 12), 0..24, None, 0, (9, 20)), "linear: `rows` is 10, expected 8");
    call!(10, linear((10, 12), 0..24, Some((10, 16)), 0, (10, 20)), "linear: `residual` is 16, expected 24");
    call!(10, linear((10, 12), 0..24, Some((9, 20)), 0, (10, 20)), "linear: `residual rows` is 9, expected 10");
    call!(10, attention((10, 8), (10, 48), (10, 16)), "attention: `query` is 8, expected 16");
    call!(10, attention((10, 16), (10, 40), (10, 16)), "attention: `qkv` is 40, expected 48");
    call!(10, attention((10, 16), (10, 48), (10, 24)), "attention: `output` is 24, expected 16");
    call!(10, attention((8, 16), (10, 48), (9, 16)), "attention: `rows` is 10, expected 8");
    call!(10, attention((10, 16), (9, 48), (10, 16)), "attention: `key rows` is 10, expected 9");
    call!(10, attention_maps((10, 56), (10, 4), 0, 200, (10, 16)), "attention_maps: `qkv` is 56, expected 48");
    call!(10, attention_maps((10, 48), (10, 3), 0, 200, (10, 16)), "attention_maps: `stats` is 3, expected 4");
    call!(10, attention_maps((9, 48), (10, 4), 0, 200, (10, 16)), "attention_maps: `rows` is 10, expected 9");
    call!(10, attention_maps((10, 48), (7, 4), 0, 200, (10, 16)), "attention_maps: `rows` is 10, expected 7");
    call!(10, attention_maps((10, 48), (10, 4), 2, 200, (10, 16)), "attention_maps: `maps` is 200, expected 300");
    call!(10, attention_maps((10, 48), (10, 4), 0, 200, (10, 24)), "attention_maps: `context` is 24, expected 16");
    call!(10, attention_maps((10, 48), (10, 4), 0, 200, (9, 16)), "attention_maps: `context rows` is 9, expected 10");
    call!(10, back_tracking(192, 2, (2, 10)), "back_tracking: `maps` is 192, expected 200");
    call!(10, back_tracking(200, 0, (2, 10)), "back_tracking: `thresholds` is 0, expected 2");
    call!(10, back_tracking(200, 2, (1, 10)), "back_tracking: `token_scores` is 1, expected 2");
    call!(10, back_tracking(200, 2, (2, 9)), "back_tracking: `token_scores` is 9, expected 10");
    call!(more, back_tracking(8, 2, (2, more)), format!("back_tracking: `tokens` is {more}, expected {most}"));
    call!(10, select_tokens(96, 0, (2, 10)), "select_tokens: `maps` is 96, expected 100");
    call!(10, select_tokens(300, 2, (3, 10)), "select_tokens: `layer` is 2, expected less than 2");
    call!(10, select_tokens(200, 1, (1, 10)), "select_tokens: `token_scores` is 1, expected 2");
    call!(10, select_tokens(200, 1, (2, 9)), "select_tokens: `token_scores` is 9, expected 10");
    call!(more, select_tokens(8, 0, (2, more)), format!("select_tokens: `tokens` is {more}, expected {most}"));
    call!(10, pack_rows(ALL..kept_level(1)), "pack_rows: `levels` is 0..2, expected 4");
    call!(10, pack_rows(kept_level(1)..kept_level(4)), "pack_rows: `levels` is 2..5, expected 4");
    for (num_rows, past_the_end, message) in
        [(5, 0, "read: `rows` is 5, expected 4"), (4, 1, "read: `words` is 147, expected 146")]
    {
        let outcome = match Fixture::new(backend, 10) {
            Ok(it) => it.read(num_rows, past_the_end).await,
            Err(error) => Err(error),
        };
        outcomes.push((outcome, message.to_owned()));
    }
    call!(10, write(0, 33, 0), "write_matrix: `values` is 33, expected 32");
    call!(10, write(3, 9, 0), "write_matrix: `values` is 9, expected 8");
    call!(10, write(5, 0, 0), "write_matrix: `first_row` is 5, expected 4");
    call!(10, write(0, 32, 146), "write_index: `words` is 147, expected 146");
    outcomes
}

device_test!(wrong_sizes, check_sizes());

async fn check_sizes() {
    let mut failures = Vec::new();
    let mut cases = outcomes(&mut CpuBackend::new()).await.into_iter().map(|case| ("twin", case)).collect::<Vec<_>>();
    let mut gpu = gpu().await;
    cases.extend(outcomes(&mut gpu).await.into_iter().map(|case| ("GPU", case)));
    // Vectors of four cannot start or end elsewhere.
    for (columns, message) in [
        (2..10, "gather_rows: `columns` is 2..10, expected multiples of 4"),
        (0..10, "gather_rows: `columns` is 0..10, expected multiples of 4"),
    ] {
        let outcome = Fixture::new(&mut gpu, 10).and_then(|it| it.gather_rows(24, columns, (10, 24)));
        cases.push(("GPU", (outcome, message.to_owned())));
    }
    for (features, message) in [
        (2..10, "linear: `features` is 2..10, expected multiples of 4"),
        (0..10, "linear: `features` is 0..10, expected multiples of 4"),
    ] {
        let outcome = Fixture::new(&mut gpu, 10).and_then(|it| it.linear((10, 12), features, None, 0, (10, 20)));
        cases.push(("GPU", (outcome, message.to_owned())));
    }
    for (backend, (outcome, message)) in cases {
        match outcome {
            Err(error @ Error::Shape { .. }) if error.to_string() == message => {}
            other => failures.push(format!("{backend}: {other:?}, expected {message}")),
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
