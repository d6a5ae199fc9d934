//! Scratch memory, of which rows beyond the kept ones are never written, and the split of a batch.
#![cfg(feature = "files")]

use super::*;
use crate::backend::cpu::CpuBackend;
use crate::backend::{ChunkLayout, Region};
use crate::engine::request::Outputs;
use crate::engine::scratch::Capacity;
use crate::models::{Input, ModelFiles, Picture};
use crate::platform::Pause;
use crate::pruning::Prune;

#[cfg(feature = "threads")]
#[path = "parallel_tests.rs"]
mod parallel;

/// What a model of the fixtures reads: three texts of different lengths, or three pictures.
enum Samples {
    Texts([String; 3]),
    Pictures([Picture; 3]),
}

fn tiny_bert() -> (Model, Samples) {
    let text = |num_words: usize| (0..num_words).map(|word| format!("w{} ", 5 + word * 7 % 90)).collect();
    (model("tiny-bert"), Samples::Texts([41, 17, 90].map(text)))
}

fn tiny_vit() -> (Model, Samples) {
    let picture = |step: usize| {
        let rgb = (0..48 * 48 * 3).map(|value| (value * value / 7 * step) as u8).collect();
        Picture::from_rgb(48, 48, rgb).unwrap()
    };
    (model("tiny-vit"), Samples::Pictures([1, 3, 11].map(picture)))
}

fn model(name: &str) -> Model {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    Model::from_bytes(ModelFiles::from_dir(folder).unwrap()).unwrap()
}

/// Fills every layer buffer with NaN, runs, and looks for the first row that is still all NaN.
async fn check_rows<B: Backend>(backend: B, (model, samples): &(Model, Samples), prune: &str) {
    let prune: Prune = prune.parse().unwrap();
    let pause: Pause = Box::new(|| Box::pin(async {}));
    let outputs = Outputs::default();
    let job = Job { model, prune: &prune, outputs: &outputs, pause: &pause };
    let inputs: Vec<Input<'_>> = match samples {
        Samples::Texts(texts) => texts.iter().map(|text| Input::Text(text)).collect(),
        Samples::Pictures(pictures) => pictures.iter().map(Input::Image).collect(),
    };
    let tokens =
        || -> Vec<Tokens> { inputs.iter().enumerate().map(|(i, input)| model.prepare(i, input).unwrap()).collect() };
    let mut session = Session::new(backend, model, None).await.unwrap();
    session.classify(job, std::iter::once(Ok(tokens()))).await.unwrap();

    let scratch = session.worker.scratch.as_mut().unwrap();
    let workspace = &mut scratch.main;
    for matrix in workspace.layer_buffers_mut() {
        let poison = vec![f32::NAN; matrix.num_rows() * matrix.stride()];
        session.worker.backend.write_matrix(matrix, 0, &poison).unwrap();
    }
    let results = session.classify(job, std::iter::once(Ok(tokens()))).await.unwrap();
    let num_kept = |layer: usize| results.iter().map(|result| result.kept[layer].len()).sum::<usize>();
    assert!(num_kept(1) < tokens().iter().map(Tokens::len).sum(), "{prune} removes no rows before layer 1");

    // What chooses layer by layer gathers nothing before layer 0, which has all tokens.
    let gathers_first = !Plan::of(&prune, &model.facts(), &[1]).unwrap().is_layer_by_layer();
    let is_image = matches!(samples, Samples::Pictures(_));
    let workspace = &mut session.worker.scratch.as_mut().unwrap().main;
    for (place, matrix) in workspace.layer_buffers_mut().into_iter().enumerate() {
        let (num_rows, stride) = (matrix.num_rows(), matrix.stride());
        let words = session.worker.backend.read(&[Region::Matrix(matrix, num_rows)]).await.unwrap().remove(0);
        let is_untouched =
            |row: usize| words[row * stride..][..stride].iter().all(|&bits| f32::from_bits(bits).is_nan());
        let num_written = (0..num_rows).rev().find(|&row| !is_untouched(row)).map_or(0, |row| row + 1);
        let expected = match place {
            // Hidden states, their gathered rows and Q, K, V hold K_0 at first; everything else only ever holds K_1 or less.
            0 | 2 => num_kept(0),
            1 if gathers_first => num_kept(0),
            // What is normalised before attention is all of K_0.
            5 if is_image => num_kept(0),
            // Gathered patches become hidden states once, before layer 0.
            8 => num_kept(0) * usize::from(gathers_first),
            _ => num_kept(1),
        };
        assert_eq!(num_written, expected, "{prune}: rows written of layer buffer {place}");
    }
}

const RULES: [&str; 4] = ["topk:0.3", "topk:0.9,0.6,0.4,0.1", "forward:0.5", "ltp:0.06"];

#[test]
fn rows_beyond_the_kept_ones_are_never_written_on_the_cpu() {
    for (subject, prune) in [tiny_bert(), tiny_vit()].iter().flat_map(|subject| RULES.map(|rule| (subject, rule))) {
        pollster::block_on(check_rows(CpuBackend::new(), subject, prune));
    }
}

#[cfg(feature = "gpu")]
#[test]
fn rows_beyond_the_kept_ones_are_never_written_on_the_gpu() {
    use crate::backend::gpu::{GpuBackend, GpuOptions};
    for (subject, prune) in [tiny_bert(), tiny_vit()].iter().flat_map(|subject| RULES.map(|rule| (subject, rule))) {
        pollster::block_on(async {
            let options = GpuOptions { adapter: None, allow_software: true };
            check_rows(GpuBackend::new(&options).await.unwrap(), subject, prune).await;
        });
    }
}

/// Scratch is rounded up, but never beyond what a chunk may have.
#[test]
fn rounded_capacities_stay_within_the_limit() {
    let limits = ChunkLimits { max_binding_bytes: 12_288 * 1000, max_multiply_adds: u64::MAX, row_bytes: 12_288 };
    for num_tokens in [1, 64, 65, 900, 999, 1000] {
        let (layout, _) = ChunkLayout::host_words(&[num_tokens], 3, &[], 1);
        let capacity = Capacity::new(&layout, true, &limits);
        assert!((num_tokens..=1000).contains(&capacity.num_rows), "{num_tokens}: {capacity:?}");
        let num_values = 3 * num_tokens * num_tokens;
        assert!(
            (num_values..=num_values.max(3_072_000)).contains(&capacity.num_map_values),
            "{num_tokens}: {capacity:?}"
        );
    }
}

/// Equal parts for all threads, as large as they can be; a few samples, or few tokens, are not worth a part each.
#[test]
fn a_batch_is_shared_out() {
    let (model, _) = tiny_bert();
    let of_128 = model.config().encoder_size().dense(128) / 2;
    let chunks = |lengths: &[usize], num_threads: usize, max_multiply_adds: u64| -> Vec<usize> {
        let limits = ChunkLimits { max_binding_bytes: u64::MAX, max_multiply_adds, row_bytes: 1 };
        let share = share(lengths, model.config(), &limits, num_threads);
        split(0, lengths, share, model.config(), true, &limits).unwrap().into_iter().map(|chunk| chunk.len()).collect()
    };
    let any = u64::MAX;
    assert_eq!(chunks(&[128; 8], 1, any), [8]);
    assert_eq!(chunks(&[128; 8], 2, any), [2; 4]);
    assert_eq!(chunks(&[128; 8], 4, any), [2; 4]);
    assert_eq!(chunks(&[128; 8], 6, any), [2; 4], "who has no chunk helps the others");
    assert_eq!(chunks(&[128; 64], 2, any), [16; 4]);
    assert_eq!(chunks(&[128; 64], 16, any), [2; 32]);
    assert_eq!(chunks(&[128; 10], 3, any), [3, 4, 3], "five parts would leave a thread without work");
    assert_eq!(chunks(&[128; 12], 2, 2 * of_128), [2; 6], "not two to a chunk and one to the next");
    assert_eq!(
        chunks(&[128; 20], 4, 2 * of_128),
        [2, 1, 2, 2, 1, 2, 2, 1, 2, 2, 1, 2],
        "ten parts would leave two threads without work"
    );
    assert_eq!(chunks(&[64; 28], 4, 5 * of_128 / 2), [3, 4, 3, 4, 3, 4, 3, 4], "four parts would be too large");
    assert_eq!(chunks(&[128; 64], 2, 2 * of_128), [2; 32]);
    assert_eq!(chunks(&[16; 8], 8, any), [8]);
    assert_eq!(chunks(&[300, 2, 2, 300], 2, any), [2, 2]);
    assert_eq!(chunks(&[600], 8, any), [1]);
    assert_eq!(chunks(&[], 8, any), [0; 0]);
}
