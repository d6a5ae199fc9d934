//! A small model with made-up weights, and the answers that it must give. It runs on a GPU before the first use,
//! because some drivers compute something else in silence.

use half::f16;
use serde_json::{Map, Value, json};

use super::request::{Classification, Outputs};
use super::session::{Session, prepare};
use super::worker::Job;
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::models::{Input, Model, ModelFiles};
use crate::platform::Pause;

const TEXT: &str = "d b h a c f e g b d a h";
/// Together they have more rows than a tile of the matrix product.
const NUM_TEXTS: usize = 5;
const VOCAB: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\nd\ne\nf\ng\nh\n";
const NUM_LAYERS: usize = 3;
/// Logits of a working backend differ by a hundredth of this.
const TOLERANCE: f32 = 1e-4;

/// What a rule must give.
struct Expected {
    rule: &'static str,
    kept: [&'static [u32]; NUM_LAYERS + 1],
    logits: [f32; 2],
}

const ALL: &[u32] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];

const EXPECTED: &[Expected] = &[
    Expected { rule: "dense", kept: [ALL, ALL, ALL, ALL], logits: [0.373_261_6, 0.311_699_3] },
    Expected {
        rule: "topk:0.4",
        kept: [&[0, 1, 2, 3, 7, 9, 10, 11, 12], &[0, 1, 2, 3, 7, 9, 10, 12], &[0, 1, 3, 7, 10, 12], &[0]],
        logits: [0.377_368_9, 0.310_399],
    },
    Expected {
        rule: "concrete",
        kept: [
            &[0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13],
            &[0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13],
            &[0, 1, 3, 7, 10, 11, 12],
            &[0],
        ],
        logits: [0.373_355_1, 0.312_037_8],
    },
];

/// The same with int8 weights, whose products other kernels compute.
const EXPECTED_INT8: &[Expected] =
    &[Expected { rule: "dense", kept: [ALL, ALL, ALL, ALL], logits: [0.384_056_7, 0.309_573_1] }];
/// An input between two whole numbers may become either, which moves a logit by less than a thousandth. Without rounding the first is 0.011
/// smaller.
const INT8_TOLERANCE: f32 = 4e-3;

/// Runs the small model on a device and gives it back with its pipelines, which the model that comes after it finds there. With
/// `is_int8` the kernels of int8 weights are run too.
///
/// # Errors
/// [`Error::Gpu`] says what was expected and what came; the other errors are those of [`Engine::classify`](crate::Engine::classify).
pub async fn tested<B: Backend>(backend: B, adapter: &str, is_int8: bool) -> Result<B> {
    let backend = check(backend, &small_model(false)?, adapter, EXPECTED, TOLERANCE).await?;
    if !is_int8 {
        return Ok(backend);
    }
    check(backend, &small_model(true)?, adapter, EXPECTED_INT8, INT8_TOLERANCE).await
}

async fn check<B: Backend>(
    backend: B,
    model: &Model,
    adapter: &str,
    all_expected: &[Expected],
    tolerance: f32,
) -> Result<B> {
    let mut session = Session::new(backend, model, None).await?;
    let pause: Pause = Box::new(|| Box::pin(async {}));
    for expected in all_expected {
        let inputs = [TEXT; NUM_TEXTS].map(Input::Text);
        let job = Job { model, prune: &expected.rule.parse()?, outputs: &Outputs::default(), pause: &pause };
        let results = session.classify(job, std::iter::once(prepare(model, &inputs, 0))).await?;
        let near = |(&found, &wanted): (&f32, &f32)| (found - wanted).abs() < tolerance;
        let is_right = |result: &Classification| {
            let logits = &result.logits;
            result.kept == expected.kept && logits.len() == 2 && logits.iter().zip(&expected.logits).all(near)
        };
        if results.len() != NUM_TEXTS || !results.iter().all(is_right) {
            let wrong = results.iter().find(|result| !is_right(result));
            let (kept, logits) = wrong.map(|result| (&*result.kept, &*result.logits)).unwrap_or_default();
            let message = format!(
                "the self-test failed on {adapter}: `{}` with {} weights gave logits {logits:?} and kept {kept:?}, expected {:?} and {:?}",
                expected.rule,
                model.weights_dtype(),
                expected.logits,
                expected.kept
            );
            return Err(Error::Gpu { message });
        }
    }
    Ok(session.into_backend())
}

fn small_model(is_int8: bool) -> Result<Model> {
    let mut files = ModelFiles::new();
    files.insert("config.json", config(24, 48));
    files.insert("model.safetensors", weights(24, 48, 1));
    files.insert("vocab.txt", VOCAB.as_bytes().to_vec());
    files.insert("approx/config.json", config(12, 20));
    files.insert("approx/model.safetensors", weights(12, 20, 2));
    Model::from_bytes(if is_int8 { files.into_int8(None)? } else { files })
}

fn config(hidden_size: usize, intermediate_size: usize) -> Vec<u8> {
    let config = json!({
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "vocab_size": VOCAB.lines().count(),
        "max_position_embeddings": 16,
        "type_vocab_size": 2,
        "hidden_size": hidden_size,
        "intermediate_size": intermediate_size,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "id2label": { "0": "no", "1": "yes" },
    });
    config.to_string().into_bytes()
}

/// A safetensors file of pseudo-random multiples of 1/512, as f16.
fn weights(hidden_size: usize, intermediate_size: usize, seed: u32) -> Vec<u8> {
    let (mut header, mut bytes, mut state) = (Map::new(), Vec::new(), seed);
    let mut tensor = |name: &str, shape: &[usize]| {
        let begin = bytes.len();
        for _ in 0..shape.iter().product() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes.extend(f16::from_f32((((state >> 24) as f32) - 127.5) / 256.0).to_le_bytes());
        }
        let offsets = [begin, bytes.len()];
        header.insert(name.to_owned(), json!({ "dtype": "F16", "shape": shape, "data_offsets": offsets }));
    };
    let (h, i) = (hidden_size, intermediate_size);
    let embeddings = "bert.embeddings";
    tensor(&format!("{embeddings}.word_embeddings.weight"), &[VOCAB.lines().count(), h]);
    tensor(&format!("{embeddings}.position_embeddings.weight"), &[16, h]);
    tensor(&format!("{embeddings}.token_type_embeddings.weight"), &[2, h]);
    let mut layers = vec![(format!("{embeddings}.LayerNorm"), vec![h])];
    for layer in 0..NUM_LAYERS {
        let prefix = format!("bert.encoder.layer.{layer}");
        tensor(&format!("{prefix}.p_logit"), &[1]);
        for name in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
            layers.push((format!("{prefix}.{name}"), vec![h, h]));
        }
        layers.push((format!("{prefix}.attention.output.LayerNorm"), vec![h]));
        layers.push((format!("{prefix}.intermediate.dense"), vec![i, h]));
        layers.push((format!("{prefix}.output.dense"), vec![h, i]));
        layers.push((format!("{prefix}.output.LayerNorm"), vec![h]));
    }
    layers.push(("bert.pooler.dense".to_owned(), vec![h, h]));
    layers.push(("classifier".to_owned(), vec![2, h]));
    for (name, shape) in layers {
        tensor(&format!("{name}.weight"), &shape);
        tensor(&format!("{name}.bias"), &shape[..1]);
    }
    let header = Value::Object(header).to_string();
    [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes(), &bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::CpuBackend;
    #[cfg(feature = "gpu")]
    use crate::backend::gpu::{GpuBackend, GpuOptions, Variant, Variants};

    /// The stored answers are those of the CPU path.
    #[test]
    fn the_cpu_path_passes() {
        pollster::block_on(tested(CpuBackend::new(), "CPU", true)).expect("the stored answers");
    }

    #[cfg(feature = "gpu")]
    #[test]
    fn a_gpu_passes_with_every_variant() {
        let options = GpuOptions { adapter: None, allow_software: true };
        let mut gpu = pollster::block_on(GpuBackend::new(&options)).expect("a GPU");
        for variant in Variant::ALL {
            gpu.set_variants(Variants::all(variant));
            gpu = pollster::block_on(tested(gpu, "a GPU", true)).expect("the stored answers");
        }
    }

    /// What the self-test compiles, the model that follows it does not compile again.
    #[cfg(feature = "gpu")]
    #[test]
    fn pipelines_stay() {
        let options = GpuOptions { adapter: None, allow_software: true };
        let gpu = pollster::block_on(GpuBackend::new(&options)).expect("a GPU");
        let gpu = pollster::block_on(tested(gpu, "a GPU", true)).expect("the stored answers");
        let pipelines = gpu.counters().pipelines;
        assert!(pipelines > 0);
        let gpu = pollster::block_on(tested(gpu, "a GPU", true)).expect("the stored answers");
        assert_eq!(gpu.counters().pipelines, pipelines);
    }
}
