//! select_tokens and pack_rows.

use sttabt::Result;
use sttabt::backend::{Backend, ChunkLayout, Region, SelectTokens, Selection, kept_level};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use crate::back_tracking::{BATCHES, SPARE, expected_scores, k, part_of_sets};
use crate::data::{Chunk, Level, Random};
use crate::harness::{Case, Expected, Output, index, poisoned, read_both};
#[cfg(not(target_arch = "wasm32"))]
use crate::harness::{Tokens, check, gpu};
use crate::recursions::{Maps, map, select};

#[derive(Debug, Clone)]
struct SelectCase {
    lengths: Vec<usize>,
    selection: Selection,
    ratio: f64,
    layer: usize,
    maps: Maps,
    num_anchors: usize,
}

const NUM_LAYERS: usize = 3;

impl SelectCase {
    fn chunk(&self) -> Chunk {
        Chunk::with_k(&self.lengths, NUM_LAYERS, &k(&self.lengths, &[self.ratio; NUM_LAYERS]))
    }

    fn forget(&self, chunk: &Chunk, words: &mut [u32], known: usize) {
        (0..=NUM_LAYERS).for_each(|layer| chunk.forget_level(layer, words));
        (known + 1..=NUM_LAYERS).for_each(|layer| chunk.forget_kept(layer, words));
    }

    fn map(&self, chunk: &Chunk, sample: usize) -> Vec<f32> {
        map(self.maps, self.lengths[sample], chunk.kept[self.layer][sample].len(), self.layer)
    }
}

impl Case for SelectCase {
    fn kernel(&self) -> &'static str {
        "select_tokens"
    }

    async fn run<B: Backend>(&self, backend: &mut B) -> Result<Output> {
        let chunk = self.chunk();
        let mut words = chunk.words();
        self.forget(&chunk, &mut words, self.layer);
        let mut index = index(backend, &chunk, &words)?;
        let num_values = chunk.layout.num_map_values;
        let mut maps = poisoned(backend, 1, (self.layer + 1) * num_values)?;
        let mut values = vec![f32::NAN; self.layer * num_values];
        values.extend((0..self.lengths.len()).flat_map(|sample| self.map(&chunk, sample)));
        backend.write_matrix(&mut maps, 0, &values)?;
        let mut scores = poisoned(backend, NUM_LAYERS + SPARE, chunk.layout.num_tokens + SPARE)?;
        let call =
            SelectTokens { maps: &maps, layer: self.layer, selection: self.selection, num_anchors: self.num_anchors };
        backend.select_tokens(call, &mut index, &mut scores)?;
        read_both(backend, &scores, &index, words.len()).await
    }

    fn expected(&self) -> Result<(Vec<Expected>, Vec<u32>), String> {
        let mut chunk = self.chunk();
        let mut samples = Vec::new();
        for sample in 0..self.lengths.len() {
            let positions = &chunk.kept[self.layer][sample];
            samples.push(select(
                self.selection,
                &self.map(&chunk, sample),
                self.lengths[sample],
                positions,
                chunk.k[self.layer][sample],
                self.num_anchors,
            )?);
        }
        chunk.kept[self.layer + 1] = samples.iter().map(|layer| layer.kept.clone()).collect();
        // Sets that come later are not known, but must be nested.
        chunk.kept[self.layer + 2..].fill(vec![vec![0]; self.lengths.len()]);
        let mut words = chunk.words();
        self.forget(&chunk, &mut words, self.layer + 1);
        let mut scores = vec![None; NUM_LAYERS];
        scores[self.layer] = Some(samples.into_iter().map(|layer| layer.scores).collect());
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

table_test!(select_tokens, select_tokens_cases());

fn select_tokens_cases() -> Vec<SelectCase> {
    let mut cases = Vec::new();
    let mut push = |lengths: &[usize], selection, ratio, layer, maps| {
        // What a second anchor changes shows with few tokens, and with one large case.
        let max_anchors = if lengths.iter().all(|&length| length < 256 || length == 1370) { 2 } else { 1 };
        for num_anchors in 1..=max_anchors {
            cases.push(SelectCase { lengths: lengths.to_vec(), selection, ratio, layer, maps, num_anchors });
        }
    };
    for lengths in BATCHES {
        for (maps, layer) in [(Maps::Random, 0), (Maps::Random, 1), (Maps::Ties, 1)] {
            push(lengths, Selection::Largest, 0.4, layer, maps);
            // What a token receives on average is 1 in T.
            let longest = lengths.iter().copied().max().unwrap_or(1);
            push(lengths, Selection::Above(0.7 / longest as f32), 0.0, layer, maps);
        }
    }
    // The largest sums there are.
    push(&[1370], Selection::Largest, 0.4, 0, Maps::Equal);
    push(&[1370], Selection::Above(1.0), 0.0, 0, Maps::Equal);
    // Larger than any score; products with it must not wrap around.
    push(&[1370], Selection::Above(1e6), 0.0, 0, Maps::Equal);
    for threshold in [4.0, 64.0, f32::MAX] {
        push(&[64], Selection::Above(threshold), 0.0, 0, Maps::Equal);
    }
    for maps in [Maps::Random, Maps::Ties, Maps::Equal, Maps::OneUlp] {
        for ratio in [0.0, 0.2, 0.5, 1.0] {
            for layer in [0, NUM_LAYERS - 1] {
                push(&[3, 300, 7], Selection::Largest, ratio, layer, maps);
            }
        }
        for threshold in [0.0, 0.003, 0.2, 1.0] {
            push(&[3, 80, 7], Selection::Above(threshold), 0.0, NUM_LAYERS - 1, maps);
        }
    }
    cases
}

/// The most that this device takes, with the largest sums and products that there are. A browser takes too long.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn as_many_tokens_as_fit() {
    pollster::block_on(async {
        let most = gpu().await.max_pruned_tokens();
        let case =
            |selection, maps| SelectCase { lengths: vec![most], selection, ratio: 0.4, layer: 0, maps, num_anchors: 2 };
        let mut cases: Vec<SelectCase> =
            [Maps::Random, Maps::Ties, Maps::Equal].map(|maps| case(Selection::Largest, maps)).to_vec();
        cases.extend([1.0, f32::MAX].map(|threshold| case(Selection::Above(threshold), Maps::Equal)));
        cases.push(case(Selection::Above(0.6 / most as f32), Maps::Random));
        check(&cases, Tokens::Many).await;
    });
}

#[derive(Debug, Clone)]
struct PackRows {
    lengths: Vec<usize>,
    num_layers: usize,
    /// All levels in one call, or one call to a level.
    at_once: bool,
    /// Levels before this layer's are packed already.
    first_layer: usize,
}

impl Case for PackRows {
    fn kernel(&self) -> &'static str {
        "pack_rows"
    }

    async fn run<B: Backend>(&self, backend: &mut B) -> Result<Output> {
        let chunk = Chunk::new(&self.lengths, self.num_layers);
        let mut words = chunk.words();
        (self.first_layer..=self.num_layers).for_each(|layer| chunk.forget_level(layer, &mut words));
        let mut index = index(backend, &chunk, &words)?;
        let levels = kept_level(self.first_layer)..kept_level(self.num_layers) + 1;
        if self.at_once {
            backend.pack_rows(levels, &mut index)?;
        } else {
            for level in levels {
                backend.pack_rows(level..level + 1, &mut index)?;
            }
        }
        let words = backend.read(&[Region::Index(&index, 0..words.len())]).await?.remove(0);
        Ok(Output { values: Vec::new(), words })
    }

    fn expected(&self) -> Result<(Vec<Expected>, Vec<u32>), String> {
        Ok((Vec::new(), Chunk::new(&self.lengths, self.num_layers).words()))
    }

    fn lengths(&self) -> Vec<usize> {
        self.lengths.clone()
    }

    fn alone(&self, sample: usize) -> Self {
        Self { lengths: vec![self.lengths[sample]], ..self.clone() }
    }

    /// Source rows, counted from the sample's first one.
    fn part(&self, output: &Output, sample: usize) -> Output {
        let chunk = Chunk::new(&self.lengths, self.num_layers);
        let mut words = Vec::new();
        for layer in 0..=self.num_layers {
            let rows = chunk.rows(Level::Kept(layer), sample);
            let parent = if layer == 0 { Level::All } else { Level::Kept(layer - 1) };
            let first = chunk.rows(parent, sample).start as u32;
            let at = chunk.layout.source_row(kept_level(layer));
            words.extend(rows.map(|row| output.words[at + row].wrapping_sub(first)));
        }
        Output { values: Vec::new(), words }
    }
}

table_test!(pack_rows, pack_rows_cases());

fn pack_rows_cases() -> Vec<PackRows> {
    let mut cases = Vec::new();
    let mut lengths: Vec<Vec<usize>> = BATCHES.iter().map(|lengths| lengths.to_vec()).collect();
    let mut random = Random::new(9);
    lengths.push((0..70).map(|_| 1 + random.bits() as usize % 40).collect());
    for lengths in lengths {
        for (num_layers, at_once, first_layer) in
            [(1, true, 0), (3, true, 0), (3, false, 0), (12, true, 0), (12, true, 5)]
        {
            cases.push(PackRows { lengths: lengths.clone(), num_layers, at_once, first_layer });
        }
    }
    cases
}

/// What the host writes is where the kernels look for it.
#[test]
fn host_words() {
    for lengths in BATCHES {
        let chunk = Chunk::with_k(lengths, NUM_LAYERS, &k(lengths, &[0.3, 0.0, 1.0]));
        let (layout, words) = ChunkLayout::host_words(lengths, NUM_LAYERS, &chunk.k, 1);
        assert_eq!(layout, chunk.layout);
        assert_eq!(words, chunk.words()[..words.len()], "{lengths:?}");
    }
}
