//! A table of 250 002 rows, as XLM-RoBERTa has one: the host keeps its bytes and nothing else, and the device gets none of it.

mod common;

use common::counting::{Counting, counted};
use common::edit::*;
use common::*;
use serde_json::json;
use sttabt::{BackendKind, Bytes, Engine, Input, Model, ModelFiles, Prune};

#[global_allocator]
static COUNTING: Counting = Counting;

const NUM_ROWS: usize = 250_002;
/// Of the main network alone.
const TABLE_BYTES: usize = NUM_ROWS * 48 * 4;

fn files() -> ModelFiles {
    let mut files = tiny_files();
    both_configs("vocab_size", json!(NUM_ROWS))(&mut files);
    edit_all_tensors(&mut files, |tensors| {
        tensors.get_mut("bert.embeddings.word_embeddings.weight").expect("words").resize_rows(NUM_ROWS);
    });
    files
}

/// The one test of this file: what it allocates is counted for the whole process.
#[test]
fn a_large_vocabulary_is_not_copied() {
    let input = [Input::Text("w5 w6 w7 w30 w31")];
    let prune = Prune::top_k(0.5).expect("a ratio");
    let expected = classify(&mut engine(&tiny_bert(), BackendKind::Cpu), &input, &prune);

    // Bytes that are not the process's, as those of a map.
    let mut mapped = files();
    for name in ["model.safetensors", "approx/model.safetensors"] {
        let weights = bytes(&mapped, name);
        mapped.insert(name, Bytes::Shared(Box::new(weights)));
    }
    let (model, peak, _) = counted(|| Model::from_bytes(mapped).expect("a model"));
    assert!(peak < TABLE_BYTES / 8, "loading takes {peak} bytes");
    let (mut engine, peak, _) = counted(|| engine(&model, BackendKind::Cpu));
    assert!(peak < TABLE_BYTES / 8, "an engine takes {peak} bytes");
    let (found, peak, _) = counted(|| classify(&mut engine, &input, &prune));
    assert!(peak < TABLE_BYTES / 8, "a call takes {peak} bytes");
    assert_eq!(found, expected);
    drop(engine);

    // Bytes of its own: the table stays, and the layers go.
    let (mut model, peak, _) = counted(|| Model::from_bytes(files()).expect("a model"));
    assert!(peak > TABLE_BYTES, "{peak} bytes are counted");
    let open = || pollster::block_on(Engine::new_compact(&mut model, &BackendKind::Cpu.into())).expect("an engine");
    let (mut engine, _, kept) = counted(open);
    assert!(kept < (TABLE_BYTES / 8) as isize, "a compact engine keeps {kept} bytes more");
    assert_eq!(classify(&mut engine, &input, &prune), expected);
}
