//! What must hold for any input: nested sets, independence of neighbours, and pruning nothing equals the dense model.

mod common;

use common::*;
use sttabt::{BackendOptions, Classification, Engine, Input, Outputs, Prune};

const RULES: [&str; 8] = [
    "dense",
    "topk:0.5",
    "topk:0.2",
    "topk:0.9,0.6,0.4,0.1",
    "concrete",
    "oracle:0.4",
    "forward:0.6",
    "forward:0.9,0.5,0.3,0.1",
];

/// A small generator of repeatable texts (xorshift).
struct Texts(u64);

impl Texts {
    fn number(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn text(&mut self, num_words: u64) -> String {
        (0..num_words).map(|_| format!("w{} ", 5 + self.number(92))).collect()
    }
}

fn texts() -> Vec<String> {
    let mut texts = Texts(88172645463325252);
    [1, 2, 30, 3, 62, 1, 63, 64, 125, 7, 17, 100].map(|num_words| texts.text(num_words)).to_vec()
}

fn inputs(texts: &[String]) -> Vec<Input<'_>> {
    let mut inputs: Vec<Input<'_>> = texts.iter().map(|text| Input::Text(text)).collect();
    inputs.push(Input::Pair(&texts[2], &texts[3]));
    inputs
}

fn rules() -> Vec<Prune> {
    RULES.map(|rule| rule.parse().expect("rule")).to_vec()
}

#[test]
fn kept_sets_are_nested_sorted_and_hold_cls() {
    let model = tiny_bert();
    let texts = texts();
    for kind in BACKENDS {
        let mut engine = engine(&model, kind);
        for prune in rules() {
            for result in classify(&mut engine, &inputs(&texts), &prune) {
                assert_eq!(result.kept.len(), model.config().num_hidden_layers + 1);
                for kept in &result.kept {
                    assert!(kept.is_sorted_by(|a, b| a < b), "{prune}: {kept:?}");
                    assert_eq!(kept[0], 0, "{prune}: [CLS] is in every set");
                    assert!((*kept.last().expect("a token") as usize) < result.tokens.len());
                }
                for pair in result.kept.windows(2) {
                    assert!(pair[1].iter().all(|token| pair[0].contains(token)), "{prune}: {pair:?}");
                }
                if prune != Prune::Dense {
                    assert_eq!(result.kept[result.kept.len() - 1], [0], "{prune}");
                }
                let sum: usize = result.kept.iter().map(Vec::len).sum();
                let retention = sum as f64 / (result.kept.len() * result.tokens.len()) as f64;
                assert!((result.retention - retention).abs() < 1e-12 && retention > 0.0 && retention <= 1.0);
            }
        }
    }
}

/// Logits, kept sets and token scores.
type Bits<'a> = (Vec<u32>, &'a [Vec<u32>], Option<Vec<Vec<u32>>>);

/// Everything but the tokens' names, bit for bit.
fn bits(result: &Classification) -> Bits<'_> {
    let words = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
    let scores = result.token_scores.as_ref().map(|scores| scores.iter().map(|layer| words(layer)).collect());
    (words(&result.logits), &result.kept, scores)
}

#[test]
fn a_result_does_not_depend_on_its_neighbours() {
    let texts = texts();
    let inputs = inputs(&texts);
    let outputs = Outputs { token_scores: true, attention_maps: false };
    for kind in BACKENDS {
        let mut engine = engine(&tiny_bert(), kind);
        for prune in rules() {
            let together = classify_with(&mut engine, &inputs, &prune, &outputs);
            let reversed: Vec<Input<'_>> = inputs.iter().rev().copied().collect();
            let mut backwards = classify_with(&mut engine, &reversed, &prune, &outputs);
            backwards.reverse();
            for (index, input) in inputs.iter().enumerate() {
                let alone = classify_with(&mut engine, &[*input], &prune, &outputs).remove(0);
                assert_eq!(bits(&together[index]), bits(&alone), "{kind:?}, {prune}, input {index} alone");
                assert_eq!(
                    bits(&together[index]),
                    bits(&backwards[index]),
                    "{kind:?}, {prune}, input {index} reversed"
                );
            }
        }
    }
}

#[test]
fn pruning_nothing_equals_the_dense_model() {
    let texts = texts();
    for kind in BACKENDS {
        let mut engine = engine(&tiny_bert(), kind);
        let dense = classify(&mut engine, &inputs(&texts), &Prune::Dense);
        for rule in ["topk:1", "oracle:1"] {
            let all = classify(&mut engine, &inputs(&texts), &rule.parse().expect("rule"));
            for (index, (all, dense)) in all.iter().zip(&dense).enumerate() {
                assert_eq!(bits(all).0, bits(dense).0, "{kind:?}, {rule}, input {index}");
            }
        }
    }
}

#[test]
fn a_batch_too_large_for_the_memory_runs_in_chunks_with_the_same_results() {
    let texts = texts();
    let inputs = inputs(&texts);
    for kind in BACKENDS {
        let mut whole = engine(&tiny_bert(), kind);
        // Four layers of maps of the longest text (127 tokens) just fit.
        let options = BackendOptions { kind, adapter: None, max_buffer_bytes: Some(4 * 127 * 127 * 4) };
        let mut chunked = pollster::block_on(Engine::new(&tiny_bert(), &options)).expect("engine");
        for prune in rules() {
            let expected = classify(&mut whole, &inputs, &prune);
            let results = classify(&mut chunked, &inputs, &prune);
            for (index, (result, expected)) in results.iter().zip(&expected).enumerate() {
                assert_eq!(bits(result), bits(expected), "{kind:?}, {prune}, input {index}");
            }
        }
        let options = BackendOptions { kind, adapter: None, max_buffer_bytes: Some(4 * 127 * 127 * 4 - 1) };
        let mut small = pollster::block_on(Engine::new(&tiny_bert(), &options)).expect("engine");
        let error =
            pollster::block_on(small.classify(&inputs, &rules()[1], &Outputs::default())).expect_err("too large");
        assert_eq!(
            error.to_string(),
            "input 9: the attention maps of its 127 tokens: 258064 bytes needed, the limit of a binding of this device is 258063"
        );
    }
}

#[test]
fn no_inputs_give_no_results() {
    for kind in BACKENDS {
        assert_eq!(classify(&mut engine(&tiny_bert(), kind), &[], &Prune::Dense), []);
    }
}
