//! What comes out: labels above a threshold, a score, a vector; and what decides it.

use crate::common::edit::*;
use crate::common::*;
use serde_json::json;
use sttabt::{Engine, Error, Input, Model, ModelFiles, Outputs, PoolingMode, Prune, Task};

const INPUTS: [Input<'_>; 3] = [Input::Text("w5 w6 w7 w8 w9 w10"), Input::Pair("w11", "w12 w13"), Input::Text("w5")];

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

#[test]
fn a_multi_label_model_gives_the_labels_above_a_threshold() {
    let model = edited(|files| config("problem_type", json!("multi_label_classification"))(files)).expect("a model");
    assert_eq!(model.config().task, Task::MultiLabel);
    for kind in BACKENDS {
        let mut engine = engine(&model, kind);
        for threshold in [None, Some(0.0), Some(0.2), Some(0.9), Some(1.0)] {
            let outputs = Outputs { threshold, ..Outputs::default() };
            for result in classify_with(&mut engine, &INPUTS, &Prune::Dense, &outputs) {
                let expected: Vec<f32> = result.logits.iter().map(|&logit| sigmoid(logit)).collect();
                assert!(distance(&result.probs, &expected, 0.0) < 1e-6, "{:?}", result.probs);
                let chosen = result.probs.iter().zip(&model.config().labels);
                let chosen = chosen.filter(|(prob, _)| **prob >= threshold.unwrap_or(0.5));
                let chosen: Vec<String> = chosen.map(|(_, label)| label.clone()).collect();
                assert_eq!(result.labels, Some(chosen), "{threshold:?}");
            }
        }
    }
}

#[test]
fn a_score_has_a_sigmoid_on_request() {
    let model = Model::from_bytes(scorer_files()).expect("a model");
    let mut engine = engine(&model, sttabt::BackendKind::Cpu);
    for asked in [false, true] {
        let outputs = Outputs { sigmoid: asked, ..Outputs::default() };
        for result in classify_with(&mut engine, &INPUTS, &Prune::Dense, &outputs) {
            let expected = if asked { vec![sigmoid(result.logits[0])] } else { Vec::new() };
            assert_eq!(result.probs.len(), expected.len());
            assert!(distance(&result.probs, &expected, 0.0) < 1e-6);
            assert_eq!(result.labels, None);
        }
    }
}

fn embedder() -> ModelFiles {
    model_files(&fixture("families/bert-embed-cls"))
}

fn vectors(engine: &mut Engine, inputs: &[Input<'_>], prune: &Prune) -> Vec<Vec<f32>> {
    let results = pollster::block_on(engine.embed(inputs, prune, &Outputs::default())).expect("embeddings");
    results.into_iter().map(|result| result.embedding.expect("an embedding")).collect()
}

fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|value| value * value).sum::<f32>().sqrt()
}

/// The same model under another `modules.json`: normalised or not, `[CLS]` or the mean of all tokens.
#[test]
fn modules_json_decides_how_a_vector_is_made() {
    let inputs = [Input::Text("a gripping film"), Input::Text("w"), Input::Pair("one", "two three")];
    let module =
        |class: &str, path: &str| json!({"type": format!("sentence_transformers.models.{class}"), "path": path});
    let pooled = |mode: &'static str, normalize: bool| {
        edited_of(embedder(), move |files| {
            let mut modules = vec![module("Transformer", ""), module("Pooling", "1_Pooling/")];
            if normalize {
                modules.push(module("Normalize", "2_Normalize"));
            }
            files.insert("modules.json", json!(modules).to_string().into_bytes());
            let mut pooling = json!({"pooling_mode_mean_tokens": false});
            pooling[mode] = json!(true);
            files.insert("1_Pooling/config.json", pooling.to_string().into_bytes());
        })
        .expect("a model")
    };
    for kind in BACKENDS {
        let raw = vectors(&mut engine(&pooled("pooling_mode_cls_token", false), kind), &inputs, &Prune::Dense);
        let unit = vectors(&mut engine(&pooled("pooling_mode_cls_token", true), kind), &inputs, &Prune::Dense);
        for (raw, unit) in raw.iter().zip(&unit) {
            assert!((length(unit) - 1.0).abs() < 1e-6 && (length(raw) - 1.0).abs() > 0.1, "{}", length(raw));
            let scaled: Vec<f32> = raw.iter().map(|value| value / length(raw)).collect();
            assert!(distance(&scaled, unit, 0.0) < 1e-6);
        }
        let model = pooled("pooling_mode_mean_tokens", false);
        let mean = vectors(&mut engine(&model, kind), &inputs, &Prune::Dense);
        // In a batch and alone: no neighbour's tokens count.
        for (input, together) in inputs.iter().zip(&mean) {
            assert_eq!(vectors(&mut engine(&model, kind), &[*input], &Prune::Dense)[0], *together);
        }
        assert!(distance(&mean[0], &raw[0], 0.0) > 0.05, "the mean is not [CLS]");
        let unit = vectors(&mut engine(&pooled("pooling_mode_mean_tokens", true), kind), &inputs, &Prune::Dense);
        // Of transformers' `last_hidden_state.mean(1)` in f64: a vector's first values, and those of the vector of length 1.
        const MEANS: [(usize, [f32; 4], [f32; 4]); 2] = [
            (
                0,
                [-0.838_703_7, -0.537_610_8, -0.630_566_5, 0.254_582_1],
                [-0.118_444_6, -0.075_923_2, -0.089_050_7, 0.035_952_9],
            ),
            (
                2,
                [-0.296_146, 0.452_941_6, 0.083_713_1, -0.945_556_8],
                [-0.043_252_5, 0.066_152_7, 0.012_226_4, -0.138_099_9],
            ),
        ];
        for (input, expected, expected_unit) in MEANS {
            assert!(distance(&mean[input][..4], &expected, 0.0) < 1e-4, "{:?}", &mean[input][..4]);
            assert!(distance(&unit[input][..4], &expected_unit, 0.0) < 1e-5, "{:?}", &unit[input][..4]);
        }
        assert_eq!(model.pooling().map(|pooling| pooling.mode), Some(PoolingMode::Mean));
        assert_eq!(model.default_prune(), Prune::Dense);
        let error = pollster::block_on(engine(&model, kind).embed(
            &inputs,
            &Prune::top_k(0.5).expect("a ratio"),
            &Outputs::default(),
        ));
        let expected = "rule `topk:0.5` needs an embedding that is made of [CLS] alone (1_Pooling/config.json), and this model has none; `dense` runs";
        assert_eq!(error.expect_err("mean pooling needs all tokens").to_string(), expected);
    }
}

/// The first numbers of the whole vector, which is normalised before it is cut.
#[test]
fn truncate_dim_cuts_the_vector() {
    let whole =
        vectors(&mut engine(&Model::from_bytes(embedder()).expect("a model"), BACKENDS[0]), &INPUTS, &Prune::Dense);
    for (dim, expected) in [(16, 16), (1, 1), (10_000, whole[0].len())] {
        let model = edited_of(embedder(), |files| {
            files.insert("config_sentence_transformers.json", format!(r#"{{"truncate_dim": {dim}}}"#).into_bytes());
            files.insert("1_Pooling/config.json", br#"{"pooling_mode": ["cls"]}"#.to_vec());
        });
        let cut = vectors(&mut engine(&model.expect("a model"), BACKENDS[0]), &INPUTS, &Prune::Dense);
        let expected: Vec<&[f32]> = whole.iter().map(|vector| &vector[..expected]).collect();
        assert_eq!(cut, expected, "{dim}");
    }
}

#[test]
fn what_cannot_be_pooled_is_named() {
    let modules = |value: serde_json::Value| -> Edit {
        Box::new(move |files| files.insert("modules.json", value.to_string().into_bytes()))
    };
    let pooling = |value: serde_json::Value| -> Edit {
        Box::new(move |files| files.insert("1_Pooling/config.json", value.to_string().into_bytes()))
    };
    const POOLING: &str = "is not supported; supported: cls_token or mean_tokens, one of them";
    let rows: Vec<(&str, Edit, String)> = vec![
        (
            "no list",
            modules(json!({})),
            "modules.json: no list of modules".to_owned(),
        ),
        (
            "a dense layer",
            modules(json!([{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}])),
            "module of modules.json `sentence_transformers.models.Dense` is not supported; supported: Transformer, Pooling, Normalize"
                .to_owned(),
        ),
        (
            "a transformer elsewhere",
            modules(json!([{"type": "sentence_transformers.models.Transformer", "path": "0_Transformer"}])),
            "modules.json: the transformer is in the folder `0_Transformer`, where it is not looked for: save the model again with sentence-transformers"
                .to_owned(),
        ),
        (
            "normalised hidden states",
            modules(json!([{"type": "a.Transformer", "path": ""}, {"type": "a.Normalize", "path": "1_Normalize"}, {"type": "a.Pooling", "path": "1_Pooling"}])),
            "module of modules.json `a.Normalize` is not supported: vectors are made of hidden states as they are, and normalised after that"
                .to_owned(),
        ),
        (
            "a normalisation of tokens",
            Box::new(|files| {
                files.insert("modules.json", br#"[{"type": "a.Pooling", "path": "1_Pooling"}, {"type": "a.Normalize", "path": "2"}]"#.to_vec());
                files.insert("2/config.json", br#"{"module_input_name": "token_embeddings"}"#.to_vec());
            }),
            "2/config.json: `module_input_name` is \"token_embeddings\", expected sentence_embedding".to_owned(),
        ),
        (
            "no pooling",
            modules(json!([{"type": "a.Transformer", "path": ""}])),
            "modules.json: no Pooling in it, which says how a vector is made: save the model with sentence-transformers"
                .to_owned(),
        ),
        (
            "a number for a pooling",
            pooling(json!({"pooling_mode": 3})),
            "1_Pooling/config.json: `pooling_mode` is 3, expected a way of pooling".to_owned(),
        ),
        ("a list of two", pooling(json!({"pooling_mode": ["cls", "max"]})), format!("pooling `cls + max` {POOLING}")),
        (
            "two ways",
            pooling(json!({"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true, "pooling_mode_mean_tokens": false})),
            format!("pooling `cls_token + max_tokens` {POOLING}"),
        ),
        // sentence-transformers takes the mean unless the file says otherwise.
        ("an unsaid mean", pooling(json!({"pooling_mode_cls_token": true})), format!("pooling `cls_token + mean_tokens` {POOLING}")),
        ("none", pooling(json!({"pooling_mode_mean_tokens": false})), format!("pooling `(none)` {POOLING}")),
        ("the last token", pooling(json!({"pooling_mode": "lasttoken"})), format!("pooling `lasttoken` {POOLING}")),
        (
            "no file",
            without("1_Pooling/config.json"),
            "1_Pooling/config.json: missing, and modules.json names it".to_owned(),
        ),
    ];
    check_rows(
        rows.into_iter().map(|(what, edit, expected)| (what.to_owned(), outcome_of(embedder(), edit), expected)),
    );
}

/// Whatever class the file names, if modules.json says that the model embeds; and tokens beyond its own limit are cut.
#[test]
fn an_embedder_of_another_class() {
    let expected =
        vectors(&mut engine(&Model::from_bytes(embedder()).expect("a model"), BACKENDS[0]), &INPUTS, &Prune::Dense);
    let model = edited_of(embedder(), |files| {
        config("architectures", json!(["BertForMaskedLM"]))(files);
        edit_json(files, "approx/config.json", |config| config["architectures"] = json!(["BertForMaskedLM"]));
        files.insert("sentence_bert_config.json", br#"{"max_seq_length": 8, "do_lower_case": false}"#.to_vec());
    })
    .expect("a model");
    let mut engine = engine(&model, BACKENDS[0]);
    let long = "film ".repeat(40);
    let results = classify_with(&mut engine, &[Input::Text(&long), INPUTS[2]], &Prune::Dense, &Outputs::default());
    assert_eq!((results[0].tokens.len(), results[0].truncated), (8, true));
    assert_eq!(results[1].embedding.as_ref(), Some(&expected[2]));
}

/// As sentence-transformers' `encode` does: the prompt that the file names, before every text.
#[test]
fn a_default_prompt_stands_before_every_text() {
    let with_prompts = |name: serde_json::Value, pooling: serde_json::Value| {
        edited_of(embedder(), move |files| {
            let prompts = json!({"default_prompt_name": name, "prompts": {"query": "w5 w6: ", "document": ""}});
            files.insert("config_sentence_transformers.json", prompts.to_string().into_bytes());
            files.insert("1_Pooling/config.json", pooling.to_string().into_bytes());
        })
    };
    let cls = || json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false, "include_prompt": false});
    let of = |model: &Model, inputs: &[Input<'_>]| vectors(&mut engine(model, BACKENDS[0]), inputs, &Prune::Dense);
    let plain = Model::from_bytes(embedder()).expect("a model");
    for name in [json!(null), json!("document")] {
        let model = with_prompts(name, cls()).expect("a model");
        assert_eq!((model.default_prompt(), of(&model, &INPUTS)), ("", of(&plain, &INPUTS)));
    }
    let model = with_prompts(json!("query"), cls()).expect("a model");
    let prompted =
        [Input::Text("w5 w6: w5 w6 w7 w8 w9 w10"), Input::Pair("w5 w6: w11", "w12 w13"), Input::Text("w5 w6: w5")];
    assert_eq!(of(&model, &INPUTS), of(&plain, &prompted));
    let outcome =
        pollster::block_on(engine(&model, BACKENDS[0]).embed(&[Input::Text(" ")], &Prune::Dense, &Outputs::default()));
    assert_eq!(
        outcome.expect_err("an empty text").to_string(),
        "input 1: the text is empty, expected at least one word"
    );
    // A cross-encoder's stands before the first text.
    let scorer = edited_of(tiny_files(), |files| {
        let prompts = json!({"model_type": "CrossEncoder", "default_prompt_name": "q", "prompts": {"q": "w5 w6: "}});
        files.insert("config_sentence_transformers.json", prompts.to_string().into_bytes());
        files.insert("modules.json", br#"[{"type": "a.Transformer", "path": ""}]"#.to_vec());
    });
    let of = |model: &Model, text: &str| {
        let inputs = [Input::Pair(text, "w12 w13")];
        classify_with(&mut engine(model, BACKENDS[0]), &inputs, &Prune::Dense, &Outputs::default()).remove(0).logits
    };
    assert_eq!(of(&scorer.expect("a model"), "w11"), of(&tiny_bert(), "w5 w6: w11"));
    // That of another kind of model is not its own.
    for (kind, modules) in [("SentenceTransformer", true), ("CrossEncoder", false)] {
        let scorer = edited_of(tiny_files(), |files| {
            let prompts = json!({"model_type": kind, "default_prompt_name": "q", "prompts": {"q": "w5 w6: "}});
            files.insert("config_sentence_transformers.json", prompts.to_string().into_bytes());
            if modules {
                files.insert("modules.json", br#"[{"type": "a.Transformer", "path": ""}]"#.to_vec());
            }
        });
        assert_eq!(of(&scorer.expect("a model"), "w11"), of(&tiny_bert(), "w11"), "{kind}");
    }
    for (name, pooling, expected) in [
        (
            json!("quer"),
            cls(),
            "config_sentence_transformers.json: `default_prompt_name` is `quer`, expected a name that `prompts` has a text for",
        ),
        (
            json!("query"),
            json!({"include_prompt": false}),
            "pooling `include_prompt = false` is not supported: a mean without the tokens of the default prompt is not computed here",
        ),
    ] {
        assert_eq!(with_prompts(name, pooling).err().expect("refused").to_string(), expected);
    }
}

#[test]
fn a_call_for_another_head_says_which_to_make() {
    let mut embedding = engine(&Model::from_bytes(embedder()).expect("a model"), BACKENDS[0]);
    let error =
        pollster::block_on(embedding.classify(&INPUTS, &Prune::Dense, &Outputs::default())).expect_err("an embedder");
    assert!(matches!(error, Error::Head { .. }));
    assert_eq!(
        error.to_string(),
        "`classify` needs labels or a score (`embed` gives vectors), and this model is an embedder"
    );
    let error =
        pollster::block_on(engine(&tiny_bert(), BACKENDS[0]).embed(&INPUTS, &Prune::Dense, &Outputs::default()));
    let expected = "`embed` needs an embedder (`classify` gives labels), and this model is a single-label classifier";
    assert_eq!(error.expect_err("a classifier").to_string(), expected);
}
