//! Broken `config.json`: every one is an error that names the key, what it is and what was expected.

use crate::common::edit::*;
use serde_json::json;

fn bytes(config: &'static [u8]) -> Edit {
    Box::new(move |files| files.insert("config.json", config.to_vec()))
}

#[test]
fn the_file() {
    check_edits(vec![
        ("empty", bytes(b""), "config.json: an empty file: download it again"),
        ("cut", bytes(b"{\"hidden_size\":"), "config.json: not JSON: EOF while parsing a value at line 1 column 15"),
        (
            "not UTF-8",
            bytes(b"{\"a\":\"\xff\"}"),
            "config.json: not JSON: invalid unicode code point at line 1 column 7",
        ),
        ("a list", bytes(b"[]"), "config.json: expected a JSON object"),
        (
            "a byte order mark",
            bytes(b"\xef\xbb\xbf{}"),
            "config.json: it begins with a byte order mark: save it as UTF-8 without one",
        ),
        ("UTF-16", bytes(b"\xff\xfe{\0}\0"), "config.json: it is UTF-16: save it as UTF-8"),
        ("NaN in a broken file", bytes(b"{\"a\": NaN,\n2}"), "config.json: not JSON: key must be a string at line 2"),
        ("null", bytes(b"null"), "config.json: expected a JSON object"),
        (
            "no key",
            bytes(b"{}"),
            "architecture `(none)` is not supported; supported: BertForSequenceClassification, BertModel, \
             DistilBertForSequenceClassification, DistilBertModel, RobertaForSequenceClassification, RobertaModel, \
             XLMRobertaForSequenceClassification, XLMRobertaModel, CamembertForSequenceClassification, CamembertModel, \
             ElectraForSequenceClassification, ElectraModel, ViTForImageClassification, ViTModel, DeiTForImageClassification, \
             DeiTForImageClassificationWithTeacher, DeiTModel, Dinov2Model; and timm's vit and deit",
        ),
        (
            "ApproxNet's is not JSON",
            Box::new(|files| files.insert("approx/config.json", b"?".to_vec())),
            "approx/config.json: not JSON: expected value at line 1 column 1",
        ),
    ]);
}

#[test]
fn sizes() {
    check_edits(vec![
        (
            "no layers",
            config("num_hidden_layers", json!(0)),
            "config.json: `num_hidden_layers` is 0, expected an integer from 1 to 256",
        ),
        (
            "too many layers",
            config("num_hidden_layers", json!(5)),
            "model.safetensors: tensor `bert.encoder.layer.4.attention.self.query.weight` is missing",
        ),
        (
            "absurd",
            config("hidden_size", json!(1e18)),
            "config.json: `hidden_size` is 1e+18, expected an integer from 1 to 65536",
        ),
        (
            "u64::MAX",
            config("hidden_size", json!(u64::MAX)),
            "config.json: `hidden_size` is 18446744073709551615, expected an integer from 1 to 65536",
        ),
        (
            "negative",
            config("intermediate_size", json!(-96)),
            "config.json: `intermediate_size` is -96, expected an integer from 1 to 262144",
        ),
        (
            "a fraction",
            config("hidden_size", json!(48.5)),
            "config.json: `hidden_size` is 48.5, expected an integer from 1 to 65536",
        ),
        (
            "a string",
            config("hidden_size", json!("48")),
            "config.json: `hidden_size` is \"48\", expected an integer from 1 to 65536",
        ),
        (
            "null",
            config("vocab_size", json!(null)),
            "config.json: `vocab_size` is null, expected an integer from 1 to 16777216",
        ),
        (
            "missing",
            without_config("hidden_size"),
            "config.json: `hidden_size` is missing, expected an integer from 1 to 65536",
        ),
        (
            "other width",
            config("hidden_size", json!(44)),
            "model.safetensors: tensor `bert.embeddings.word_embeddings.weight` is [97, 48], expected [97, 44]",
        ),
        (
            "heads do not divide",
            config("num_attention_heads", json!(5)),
            "config.json: `num_attention_heads` is 5, expected a divisor of `hidden_size`, 48",
        ),
        (
            "no heads",
            config("num_attention_heads", json!(0)),
            "config.json: `num_attention_heads` is 0, expected an integer from 1 to 4096",
        ),
        (
            "vocabulary above the table",
            config("vocab_size", json!(98)),
            "model.safetensors: tensor `bert.embeddings.word_embeddings.weight` is [97, 48], expected [98, 48]",
        ),
        (
            "no room for a word",
            config("max_position_embeddings", json!(2)),
            "config.json: `max_position_embeddings` is 2, expected an integer from 3 to 1048576",
        ),
        (
            "positions above the table",
            config("max_position_embeddings", json!(161)),
            "model.safetensors: tensor `bert.embeddings.position_embeddings.weight` is [160, 48], expected [161, 48]",
        ),
        (
            "no token type",
            config("type_vocab_size", json!(0)),
            "config.json: `type_vocab_size` is 0, expected an integer from 1 to 1024",
        ),
        (
            "eps 0",
            config("layer_norm_eps", json!(0)),
            "config.json: `layer_norm_eps` is 0, expected a number from 1e-30 to 1e-1",
        ),
        (
            "eps negative",
            config("layer_norm_eps", json!(-1e-12)),
            "config.json: `layer_norm_eps` is -1e-12, expected a number from 1e-30 to 1e-1",
        ),
        (
            "eps NaN, as Python writes it",
            literal("config.json", "layer_norm_eps", "NaN"),
            "config.json: `layer_norm_eps` is \"NaN\", expected a number from 1e-30 to 1e-1",
        ),
        (
            "a size beyond all numbers",
            literal("config.json", "hidden_size", "1e999"),
            "config.json: `hidden_size` is \"Infinity\", expected an integer from 1 to 65536",
        ),
        (
            "a constant below all numbers",
            literal("config.json", "sttabt.topk_impact_weight", "-Infinity"),
            "config.json: `sttabt.topk_impact_weight` is \"-Infinity\", expected a number from 0e0 to 1e0",
        ),
        (
            "a length that is no number",
            literal("tokenizer_config.json", "model_max_length", "NaN"),
            "tokenizer_config.json: `model_max_length` is \"NaN\", expected a whole number from 1",
        ),
        (
            "eps NaN as a string",
            config("layer_norm_eps", json!("NaN")),
            "config.json: `layer_norm_eps` is \"NaN\", expected a number from 1e-30 to 1e-1",
        ),
        (
            "a long value",
            config("hidden_size", json!("x".repeat(10_000))),
            "config.json: `hidden_size` is \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…, expected an integer from 1 to 65536",
        ),
    ]);
}

#[test]
fn what_is_not_computed() {
    check_edits(vec![
        (
            "another model",
            config("architectures", json!(["DebertaV2ForSequenceClassification"])),
            "architecture `DebertaV2ForSequenceClassification` is not supported: its attention adds scores of relative positions",
        ),
        (
            "another head",
            config("architectures", json!(["BertForMaskedLM"])),
            "architecture `BertForMaskedLM` is not supported: its head predicts words, and every token is an output; an embedder has modules.json too",
        ),
        (
            "another type",
            config("model_type", json!("roberta")),
            "model.safetensors: tensor `roberta.embeddings.word_embeddings.weight` is missing",
        ),
        (
            "type only",
            all(vec![without_config("architectures"), config("model_type", json!("modernbert"))]),
            "architecture `modernbert` is not supported: its positions rotate queries and keys, and most of its layers attend to \
             neighbours alone",
        ),
        ("a number for a type", config("model_type", json!(7)), "config.json: `model_type` is 7, expected a string"),
        ("decoder", config("is_decoder", json!(true)), "config.json: `is_decoder` is true, expected false"),
        (
            "pruned heads",
            config("pruned_heads", json!({"0": [3]})),
            "setting `pruned_heads = {\"0\":[3]}` is not supported: layers with fewer heads than others are not computed here, nor by transformers 5",
        ),
        (
            "cross-attention",
            config("add_cross_attention", json!(true)),
            "config.json: `add_cross_attention` is true, expected false",
        ),
        (
            "register tokens",
            config("architectures", json!(["Dinov2WithRegistersModel"])),
            "architecture `Dinov2WithRegistersModel` is not supported: its register tokens are not read",
        ),
        (
            "DINOv3",
            config("architectures", json!(["DINOv3ViTModel"])),
            "architecture `DINOv3ViTModel` is not supported: its positions rotate queries and keys",
        ),
        (
            "half of a pair",
            config("architectures", json!(["SiglipModel"])),
            "architecture `SiglipModel` is not supported: it is half of a model that compares pictures with texts",
        ),
        (
            "convolutions",
            config("architectures", json!(["ResNetForImageClassification"])),
            "architecture `ResNetForImageClassification` is not supported: it has convolutions instead of attention, and no tokens to prune",
        ),
        (
            "another activation",
            config("hidden_act", json!("silu")),
            "activation `silu` is not supported; supported: gelu, gelu_new, gelu_pytorch_tanh, gelu_python, gelu_python_tanh, \
             gelu_fast, gelu_accurate, relu, quick_gelu, tanh",
        ),
        (
            "relative positions",
            config("position_embedding_type", json!("relative_key")),
            "position embedding `relative_key` is not supported; supported: absolute",
        ),
        (
            "another problem",
            config("problem_type", json!("ranking")),
            "problem type `ranking` is not supported; supported: single_label_classification, multi_label_classification, \
             regression with one label",
        ),
        (
            "regression with five labels",
            config("problem_type", json!("regression")),
            "config.json: `problem_type` is regression, expected one label for regression",
        ),
    ]);
}

#[test]
fn labels() {
    const EXPECTED: &str = "expected an object with a name for every index from \"0\"";
    let row = |what, value, found: &str| -> (String, Edit, String) {
        (String::from(what), config("id2label", value), format!("config.json: `id2label` is {found}, {EXPECTED}"))
    };
    let rows = vec![
        row("a hole", json!({"0": "a", "2": "c"}), "without a name for \"1\""),
        row("names for numbers", json!({"a": "0", "b": "1"}), "without a name for \"0\""),
        row("a list", json!(["a", "b"]), "[\"a\",\"b\"]"),
        row("empty", json!({}), "{}"),
    ];
    check_rows(rows.into_iter().map(|(what, edit, expected)| (what, outcome(edit), expected)));
    check_edits(vec![
        (
            "fewer than the head",
            config("id2label", json!({"0": "a", "1": "b"})),
            "model.safetensors: tensor `classifier.weight` is [5, 48], expected [2, 48]: config.json has 2 labels (`id2label`, or `num_labels`)",
        ),
        (
            "a count that is another",
            all(vec![config("id2label", json!({"0": "a", "1": "b"})), config("num_labels", json!(3))]),
            "model.safetensors: tensor `classifier.weight` is [5, 48], expected [3, 48]: config.json has 3 labels (`id2label`, or `num_labels`)",
        ),
        (
            "no names",
            config("id2label", json!({"0": "a", "1": true})),
            "config.json: `id2label.1` is true, expected a name",
        ),
        (
            "null for a name",
            config("id2label", json!({"0": null})),
            "config.json: `id2label.0` is null, expected a name",
        ),
        (
            "none, and a count of 0",
            all(vec![without_config("id2label"), config("num_labels", json!(0))]),
            "config.json: `num_labels` is 0, expected an integer from 1 to 1048576",
        ),
    ]);
}

#[test]
fn pruning_constants() {
    check_edits(vec![
        ("not an object", config("sttabt", json!([1])), "config.json: `sttabt` is [1], expected an object"),
        (
            "unknown rule",
            config("sttabt.default_prune", json!("magic")),
            "config.json: `sttabt.default_prune` is \"magic\", expected dense, topk:R, concrete, oracle:R, forward:R or ltp[:T] (R: one ratio, T: one threshold, or one per layer)",
        ),
        (
            "ratio out of range",
            config("sttabt.default_prune", json!("topk:2")),
            "config.json: `sttabt.default_prune` is \"topk:2\", expected a rule: ratio 2 is out of range, expected 0 < ratio <= 1",
        ),
        (
            "not text",
            config("sttabt.default_prune", json!(0.5)),
            "config.json: `sttabt.default_prune` is 0.5, expected a string",
        ),
        (
            "temperature 0",
            config("sttabt.concrete_temperature", json!(0)),
            "config.json: `sttabt.concrete_temperature` is 0, expected a number from 1e-6 to 1e6",
        ),
        (
            "threshold above 1",
            config("sttabt.concrete_hard_threshold", json!(1.5)),
            "config.json: `sttabt.concrete_hard_threshold` is 1.5, expected a number from 0e0 to 1e0",
        ),
        (
            "impact negative",
            config("sttabt.topk_impact_weight", json!(-0.1)),
            "config.json: `sttabt.topk_impact_weight` is -0.1, expected a number from 0e0 to 1e0",
        ),
        (
            "impact a string",
            config("sttabt.concrete_impact_weight", json!("0.1")),
            "config.json: `sttabt.concrete_impact_weight` is \"0.1\", expected a number from 0e0 to 1e0",
        ),
    ]);
}

/// ApproxNet must be the main network's in everything but its width.
#[test]
fn approx_net() {
    check_edits(vec![
        (
            "layers",
            approx_config("num_hidden_layers", json!(3)),
            "approx/config.json: `num_hidden_layers` is 3, expected 4 as in the main model",
        ),
        (
            "heads",
            approx_config("num_attention_heads", json!(6)),
            "approx/config.json: `num_attention_heads` is 6, expected 4 as in the main model",
        ),
        (
            "vocabulary",
            all(vec![
                approx_config("vocab_size", json!(96)),
                approx_tensors(|tensors| {
                    tensors.get_mut("bert.embeddings.word_embeddings.weight").expect("table").resize_rows(96)
                }),
            ]),
            "approx/config.json: `vocab_size` is 96, expected 97 as in the main model",
        ),
        (
            "positions",
            all(vec![
                approx_config("max_position_embeddings", json!(80)),
                approx_tensors(|tensors| {
                    tensors.get_mut("bert.embeddings.position_embeddings.weight").expect("table").resize_rows(80)
                }),
            ]),
            "approx/config.json: `max_position_embeddings` is 80, expected 160 as in the main model",
        ),
        (
            "token types",
            all(vec![
                approx_config("type_vocab_size", json!(1)),
                approx_tensors(|tensors| {
                    tensors.get_mut("bert.embeddings.token_type_embeddings.weight").expect("table").resize_rows(1)
                }),
            ]),
            "approx/config.json: `type_vocab_size` is 1, expected 2 as in the main model",
        ),
        (
            "width",
            approx_config("hidden_size", json!(12)),
            "approx/model.safetensors: tensor `bert.embeddings.word_embeddings.weight` is [97, 24], expected [97, 12]",
        ),
        (
            "activation",
            approx_config("hidden_act", json!("silu")),
            "activation `silu` is not supported; supported: gelu, gelu_new, gelu_pytorch_tanh, gelu_python, gelu_python_tanh, \
             gelu_fast, gelu_accurate, relu, quick_gelu, tanh",
        ),
    ]);
}
