//! What must hold for any input: nested sets, independence of neighbours, and pruning nothing equals the dense model.

use crate::common::edit::{Random, all_tensors, tiny_vit_files, variant_of};
use crate::common::*;
use sttabt::{BackendOptions, Classification, Engine, Input, Model, Outputs, Picture, Prune};

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

/// A model and what it reads.
struct Subject {
    model: Model,
    texts: Vec<String>,
    pictures: Vec<Picture>,
    /// Rows and maps of the largest input take so many bytes,
    least_bytes: u64,
    /// these need more than one byte less,
    too_large: &'static str,
    /// and these make chunks of several inputs.
    chunk_bytes: u64,
}

impl Subject {
    fn inputs(&self) -> Vec<Input<'_>> {
        let mut inputs: Vec<Input<'_>> = self.texts.iter().map(|text| Input::Text(text)).collect();
        inputs.extend(self.texts.get(2..4).map(|pair| Input::Pair(&pair[0], &pair[1])));
        inputs.extend(self.pictures.iter().map(Input::Image));
        inputs
    }
}

/// Texts of many lengths, and pictures of many sizes, a constant one among them.
fn subjects() -> [Subject; 2] {
    let mut random = Random(88172645463325252);
    let texts = [1, 2, 30, 3, 62, 1, 63, 64, 125, 7, 17, 100].map(|num_words| random.text(num_words)).to_vec();
    let sizes = [(48, 48), (1, 1), (7, 93), (301, 2), (47, 49), (96, 96), (48, 48)];
    let pictures = sizes.map(|(width, height)| random.picture(width, height)).to_vec();
    // Four layers of maps of the longest text: 127 tokens.
    let map_bytes = 4 * 127 * 127 * 4;
    // An image's rows are wider than its maps are large: 192 values of a patch, 37 tokens.
    let row_bytes = 4 * 192 * 37;
    [
        Subject {
            model: tiny_bert(),
            texts,
            pictures: Vec::new(),
            least_bytes: map_bytes,
            too_large: "input 9: the attention maps of its 127 tokens (`dense`, or a shorter input, needs less): 258064 bytes needed, the limit of a binding of this device is 258063",
            chunk_bytes: map_bytes,
        },
        Subject {
            model: tiny_vit(),
            texts: Vec::new(),
            pictures,
            least_bytes: row_bytes,
            too_large: "input 1: the rows of its 37 tokens (a shorter input needs less): 28416 bytes needed, the limit of a binding of this device is 28415",
            chunk_bytes: 5 * row_bytes / 2,
        },
    ]
}

fn rules() -> Vec<Prune> {
    RULES.map(|rule| rule.parse().expect("rule")).to_vec()
}

#[test]
fn kept_sets_are_nested_sorted_and_hold_cls() {
    for subject in subjects() {
        for kind in BACKENDS {
            let mut engine = engine(&subject.model, kind);
            for prune in rules() {
                for result in classify(&mut engine, &subject.inputs(), &prune) {
                    assert_eq!(result.kept.len(), subject.model.config().num_hidden_layers + 1);
                    check_kept(&result, &prune);
                }
            }
        }
    }
}

fn check_kept(result: &Classification, prune: &Prune) {
    let num_tokens = num_tokens(result);
    for kept in &result.kept {
        assert!(kept.is_sorted_by(|a, b| a < b), "{prune}: {kept:?}");
        assert_eq!(kept[0], 0, "{prune}: [CLS] is in every set");
        assert!((*kept.last().expect("a token") as usize) < num_tokens);
    }
    for pair in result.kept.windows(2) {
        assert!(pair[1].iter().all(|token| pair[0].contains(token)), "{prune}: {pair:?}");
    }
    if *prune != Prune::Dense {
        assert_eq!(result.kept[result.kept.len() - 1], [0], "{prune}");
    }
    let sum: usize = result.kept.iter().map(Vec::len).sum();
    let retention = sum as f64 / (result.kept.len() * num_tokens) as f64;
    assert!((result.retention - retention).abs() < 1e-12 && retention > 0.0 && retention <= 1.0);
}

/// Logits, kept sets and token scores.
type Bits<'a> = (Vec<u32>, &'a [Vec<u32>], Option<Vec<Vec<u32>>>);

/// Everything but the tokens' names, bit for bit.
fn bits(result: &Classification) -> Bits<'_> {
    let words = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
    let scores = result.token_scores.as_ref().map(|scores| scores.iter().map(|layer| words(layer)).collect());
    (words(&result.logits), &result.kept, scores)
}

const SCORES: Outputs = Outputs { token_scores: true, attention_maps: false, sigmoid: false, threshold: None };

#[test]
fn a_result_does_not_depend_on_its_neighbours() {
    for (subject, kind) in subjects().iter().flat_map(|subject| BACKENDS.map(|kind| (subject, kind))) {
        let inputs = subject.inputs();
        let mut engine = engine(&subject.model, kind);
        for prune in rules() {
            let together = classify_with(&mut engine, &inputs, &prune, &SCORES);
            let reversed: Vec<Input<'_>> = inputs.iter().rev().copied().collect();
            let mut backwards = classify_with(&mut engine, &reversed, &prune, &SCORES);
            backwards.reverse();
            for (index, input) in inputs.iter().enumerate() {
                let alone = classify_with(&mut engine, &[*input], &prune, &SCORES).remove(0);
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
    for (subject, kind) in subjects().iter().flat_map(|subject| BACKENDS.map(|kind| (subject, kind))) {
        let mut engine = engine(&subject.model, kind);
        let dense = classify(&mut engine, &subject.inputs(), &Prune::Dense);
        for rule in ["topk:1", "oracle:1"] {
            let all = classify(&mut engine, &subject.inputs(), &rule.parse().expect("rule"));
            for (index, (all, dense)) in all.iter().zip(&dense).enumerate() {
                assert_eq!(bits(all).0, bits(dense).0, "{kind:?}, {rule}, input {index}");
            }
        }
    }
}

#[test]
fn a_batch_too_large_for_the_memory_runs_in_chunks_with_the_same_results() {
    for (subject, kind) in subjects().iter().flat_map(|subject| BACKENDS.map(|kind| (subject, kind))) {
        let inputs = subject.inputs();
        let limited = |bytes: u64| {
            let options = BackendOptions { kind, max_buffer_bytes: Some(bytes), ..Default::default() };
            pollster::block_on(Engine::new(&subject.model, &options)).expect("engine")
        };
        let (mut whole, mut chunked) = (engine(&subject.model, kind), limited(subject.chunk_bytes));
        for prune in rules() {
            let expected = classify(&mut whole, &inputs, &prune);
            let results = classify(&mut chunked, &inputs, &prune);
            for (index, (result, expected)) in results.iter().zip(&expected).enumerate() {
                assert_eq!(bits(result), bits(expected), "{kind:?}, {prune}, input {index}");
            }
        }
        classify(&mut limited(subject.least_bytes), &inputs, &rules()[1]);
        let mut small = limited(subject.least_bytes - 1);
        let error = pollster::block_on(small.classify(&inputs, &rules()[1], &SCORES)).expect_err("too large");
        assert_eq!(error.to_string(), subject.too_large);
    }
}

#[test]
fn no_inputs_give_no_results() {
    for (subject, kind) in subjects().iter().flat_map(|subject| BACKENDS.map(|kind| (subject, kind))) {
        assert_eq!(classify(&mut engine(&subject.model, kind), &[], &Prune::Dense), []);
    }
}

fn grey(width: usize, height: usize) -> Picture {
    Picture::from_rgb(width, height, vec![90; width * height * 3]).expect("a picture")
}

/// Only the positions tell the patches of a constant picture apart. Its size does not matter, and both backends keep the same.
#[test]
fn a_constant_picture_has_one_answer() {
    let pictures = [grey(48, 48), grey(31, 77), grey(1, 1)];
    let inputs = [0, 1, 2, 0].map(|picture| Input::Image(&pictures[picture]));
    let [mut cpu, mut gpu] = BACKENDS.map(|kind| engine(&tiny_vit(), kind));
    for prune in rules() {
        let results = [&mut cpu, &mut gpu].map(|engine| classify_with(engine, &inputs, &prune, &SCORES));
        for results in &results {
            assert!(results.iter().all(|result| bits(result) == bits(&results[0])), "{prune}");
        }
        assert_eq!(results[0][0].kept, results[1][0].kept, "{prune}");
        assert!(distance(&results[0][0].logits, &results[1][0].logits, 0.0) < 1e-4, "{prune}");
    }
}

/// Without positions nothing tells the patches of a constant picture apart: their scores are equal to the last bit, and ties go to
/// the lower index.
#[test]
fn equal_patches_are_kept_in_order() {
    let flat = variant_of(
        tiny_vit_files(),
        "no positions",
        all_tensors(|tensors| {
            tensors.get_mut("vit.embeddings.position_embeddings").expect("positions").bytes.fill(0);
        }),
    );
    let picture = grey(48, 48);
    for kind in BACKENDS {
        let mut engine = engine(&flat, kind);
        for (rule, k) in [("topk:0.5", 19), ("oracle:0.5", 19), ("forward:0.5", 18), ("concrete", 0)] {
            let prune = rule.parse().expect("rule");
            let result = classify_with(&mut engine, &[Input::Image(&picture)], &prune, &SCORES).remove(0);
            for (layer, scores) in result.token_scores.as_ref().expect("scores").iter().enumerate() {
                let what = format!("{kind:?}, {rule}, layer {layer}: [CLS] has {}, a patch {}", scores[0], scores[1]);
                // The forward rule's scores of layer l choose K_{l+1}, and tokens that are gone have none.
                let (chosen, alive) = match &prune {
                    Prune::Forward(_) => (&result.kept[layer + 1], result.kept[layer].len()),
                    _ => (&result.kept[layer], 37),
                };
                assert!(scores[1..alive].iter().all(|score| score.to_bits() == scores[1].to_bits()), "{what}");
                if prune == Prune::Concrete {
                    assert!([1, 37].contains(&chosen.len()), "{what}, {chosen:?}");
                    continue;
                }
                // [CLS] is one of the k, or kept besides k patches; the first of them either way. What the layer above needs stays.
                let num_kept = if scores[0] >= scores[1] { k } else { k + 1 };
                let num_kept = match &prune {
                    Prune::Forward(_) => num_kept,
                    _ => num_kept.max(result.kept[layer + 1].len()),
                };
                let first: Vec<u32> = (0..num_kept.min(alive) as u32).collect();
                assert_eq!(*chosen, first, "{what}");
            }
        }
    }
}
