//! Scratch memory: rows beyond the kept ones are never written.

use super::*;
use crate::backend::cpu::CpuBackend;
use crate::engine::request::Outputs;
use crate::models::{Input, ModelFiles};

fn tiny_bert() -> Model {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-bert");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    Model::from_bytes(ModelFiles {
        config: read("config.json"),
        weights: Box::new(read("model.safetensors")),
        tokenizer_json: Some(read("tokenizer.json")),
        vocab_txt: None,
        tokenizer_config: None,
        preprocessor_config: None,
        approx: Some(crate::models::ApproxFiles {
            config: read("approx/config.json"),
            weights: Box::new(read("approx/model.safetensors")),
        }),
    })
    .unwrap()
}

fn text(num_words: usize) -> String {
    (0..num_words).map(|word| format!("w{} ", 5 + word * 7 % 90)).collect()
}

fn scratch_rows(results: &[Classification]) -> usize {
    results.iter().map(|result| result.tokens.len()).sum()
}

/// Fills every layer buffer with NaN, runs, and looks for the first row that is still all NaN.
async fn check_rows<B: Backend>(backend: B, prune: &str) {
    let model = tiny_bert();
    let prune: Prune = prune.parse().unwrap();
    let pause: Pause = Box::new(|| Box::pin(async {}));
    let texts: Vec<String> = [41, 17, 90].map(text).to_vec();
    let tokens = || -> Vec<Tokens> {
        texts.iter().enumerate().map(|(i, text)| model.prepare(i, &Input::Text(text)).unwrap()).collect()
    };
    let mut session = Session::new(backend, &model, None).await.unwrap();
    session.classify(&model, tokens(), &prune, &Outputs::default(), &pause).await.unwrap();

    let scratch = session.scratch.as_mut().unwrap();
    let workspace = &mut scratch.main;
    for matrix in workspace.layer_buffers_mut() {
        let poison = vec![f32::NAN; matrix.num_rows() * matrix.stride()];
        session.backend.write_matrix(matrix, &poison).unwrap();
    }
    let results = session.classify(&model, tokens(), &prune, &Outputs::default(), &pause).await.unwrap();
    let num_kept = |layer: usize| results.iter().map(|result| result.kept[layer].len()).sum::<usize>();
    assert!(num_kept(1) < scratch_rows(&results), "{prune} removes no rows before layer 1");

    let workspace = &mut session.scratch.as_mut().unwrap().main;
    for (place, matrix) in workspace.layer_buffers_mut().into_iter().enumerate() {
        let (num_rows, stride) = (matrix.num_rows(), matrix.stride());
        let words = session.backend.read(&[Region::Matrix(matrix, num_rows)]).await.unwrap().remove(0);
        let is_untouched =
            |row: usize| words[row * stride..][..stride].iter().all(|&bits| f32::from_bits(bits).is_nan());
        let num_written = (0..num_rows).rev().find(|&row| !is_untouched(row)).map_or(0, |row| row + 1);
        // Hidden states, their gathered rows and Q, K, V hold K_0 at first; everything else only ever holds K_1 or less.
        let expected = match place {
            0 | 2 => num_kept(0),
            // The forward rule gathers nothing before layer 0, which has all tokens.
            1 if !matches!(prune, Prune::Forward(_)) => num_kept(0),
            _ => num_kept(1),
        };
        assert_eq!(num_written, expected, "{prune}: rows written of layer buffer {place}");
    }
}

#[test]
fn rows_beyond_the_kept_ones_are_never_written_on_the_cpu() {
    for prune in ["topk:0.3", "topk:0.9,0.6,0.4,0.1", "forward:0.5"] {
        pollster::block_on(check_rows(CpuBackend::new(), prune));
    }
}

#[cfg(feature = "gpu")]
#[test]
fn rows_beyond_the_kept_ones_are_never_written_on_the_gpu() {
    use crate::backend::gpu::{GpuBackend, GpuOptions};
    for prune in ["topk:0.3", "topk:0.9,0.6,0.4,0.1", "forward:0.5"] {
        pollster::block_on(async {
            let options = GpuOptions { adapter: None, allow_software: true };
            check_rows(GpuBackend::new(&options).await.unwrap(), prune).await;
        });
    }
}
