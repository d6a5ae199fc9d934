//! Broken model files: every one is an error that names the file, the thing in it and what was expected, and none a panic.

use crate::common::edit::*;
use crate::common::{classify, engine};
use serde_json::{Value, json};
use sttabt::{BackendKind, Input, Model, Prune};

#[test]
fn safetensors_files() {
    check_edits(vec![
        ("empty", weights(|_| Vec::new()), "model.safetensors: an empty file: download it again"),
        (
            "seven bytes",
            weights(|_| vec![0; 7]),
            "model.safetensors: not a valid safetensors file of 7 bytes: header too small",
        ),
        (
            "header length u64::MAX",
            weights(|mut bytes| {
                bytes[..8].fill(0xff);
                bytes
            }),
            "model.safetensors: not a valid safetensors file of 372124 bytes: header too large",
        ),
        (
            "header length beyond the file",
            weights(|mut bytes| {
                let length = bytes.len() as u64;
                bytes[..8].copy_from_slice(&length.to_le_bytes());
                bytes
            }),
            "model.safetensors: not a valid safetensors file of 372124 bytes: invalid header length",
        ),
        (
            "header is not JSON",
            header("{\"a\":", 0),
            "model.safetensors: not a valid safetensors file of 13 bytes: invalid JSON in header: EOF while parsing a value at line 1 column 5",
        ),
        (
            "header is a list",
            header("[]", 0),
            "model.safetensors: not a valid safetensors file of 10 bytes: invalid JSON in header: invalid type: sequence, expected struct HashMetadata at line 1 column 0",
        ),
        ("no tensor", header("{}", 0), "model.safetensors: tensor `bert.embeddings.word_embeddings.weight` is missing"),
        (
            "offsets past the end",
            header(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4),
            "model.safetensors: not a valid safetensors file of 66 bytes: incomplete metadata, file not fully covered: download it again",
        ),
        (
            "data left over",
            header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 8),
            "model.safetensors: not a valid safetensors file of 70 bytes: incomplete metadata, file not fully covered: download it again",
        ),
        (
            "overlap",
            header(
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
                12,
            ),
            "model.safetensors: not a valid safetensors file of 128 bytes: invalid offset for tensor `b`",
        ),
        (
            "reversed",
            header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4),
            "model.safetensors: not a valid safetensors file of 66 bytes: invalid offset for tensor `a`",
        ),
        (
            "other size than the shape",
            header(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8),
            "model.safetensors: not a valid safetensors file of 70 bytes: invalid shape, data type, or offset for tensor",
        ),
        (
            "shape overflows",
            header(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#, 0),
            "model.safetensors: not a valid safetensors file of 82 bytes: overflow computing buffer size from shape and/or element type",
        ),
        (
            "unknown number format",
            header(r#"{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}"#, 4),
            "model.safetensors: not a valid safetensors file of 66 bytes: invalid JSON in header: unknown variant `F33`, expected one of `BOOL`, `F4`, `F6_E2M3`, `F6_E3M2`, `U8`, `I8`, `F8_E5M2`, `F8_E4M3`, `F8_E8M0`, `F8_E4M3FNUZ`, `F8_E5M2FNUZ`, `I16`, `U16`, `F16`, `BF16`, `I32`, `U32`, `F32`, `C64`, `F64`, `I64`, `U64` at line 1 column 54",
        ),
        (
            "negative offset",
            header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}"#, 4),
            "model.safetensors: not a valid safetensors file of 67 bytes: invalid JSON in header: invalid value: integer `-4`, expected usize at line 1 column 55",
        ),
    ]);
}

#[test]
fn tensors_in_them() {
    const QUERY: &str = "bert.encoder.layer.2.attention.self.query.weight";
    fn with(value: f32, index: usize) -> Edit {
        tensors(move |tensors| {
            let tensor = tensors.get_mut(QUERY).expect("query");
            tensor.bytes[4 * index..4 * index + 4].copy_from_slice(&value.to_le_bytes());
        })
    }
    check_edits(vec![
        (
            "transposed",
            tensors(|tensors| {
                tensors.get_mut("bert.encoder.layer.3.output.dense.weight").expect("output").shape.reverse()
            }),
            "model.safetensors: tensor `bert.encoder.layer.3.output.dense.weight` is [96, 48], expected [48, 96]",
        ),
        (
            "flat",
            tensors(|tensors| tensors.get_mut(QUERY).expect("query").shape = vec![48 * 48]),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight` is [2304], expected [48, 48]",
        ),
        (
            "missing weight",
            tensors(|tensors| drop(tensors.remove(QUERY))),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight` is missing",
        ),
        (
            "missing head",
            tensors(|tensors| drop(tensors.remove("classifier.bias"))),
            "model.safetensors: tensor `classifier.bias` is missing; where a model embeds, modules.json or a class such as BertModel in config.json says so",
        ),
        (
            "missing in ApproxNet",
            approx_tensors(|tensors| drop(tensors.remove("bert.pooler.dense.weight"))),
            "approx/model.safetensors: tensor `bert.pooler.dense.weight` is missing",
        ),
        (
            "quantized",
            tensors(|tensors| {
                let tensor = tensors.get_mut(QUERY).expect("query");
                tensor.bytes.truncate(48 * 48);
                tensor.dtype = safetensors::Dtype::I8;
            }),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight` is I8, expected F32, F16, BF16, F64 or integers of 16 to 64 bits; I8 needs `quantization_config` with `quant_method` sttabt-int8 in config.json",
        ),
        (
            "NaN",
            with(f32::NAN, 50),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight` holds NaN at index 50, expected finite numbers",
        ),
        (
            "infinity",
            with(f32::INFINITY, 0),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight` holds inf at index 0, expected finite numbers",
        ),
        (
            "negative infinity, last",
            with(f32::NEG_INFINITY, 48 * 48 - 1),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight` holds -inf at index 2303, expected finite numbers",
        ),
        (
            "f16 infinity",
            tensors(|tensors| {
                let tensor = tensors.get_mut(QUERY).expect("query");
                tensor.round_to_f16();
                tensor.bytes[14..16].copy_from_slice(&half::f16::INFINITY.to_le_bytes());
            }),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight` holds inf at index 7, expected finite numbers",
        ),
        (
            "bf16 NaN",
            tensors(|tensors| {
                let tensor = tensors.get_mut(QUERY).expect("query");
                tensor.round_to_bf16();
                tensor.bytes[2..4].copy_from_slice(&half::bf16::NAN.to_le_bytes());
            }),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight` holds NaN at index 1, expected finite numbers",
        ),
        (
            "NaN in ApproxNet",
            approx_tensors(|tensors| {
                tensors.get_mut("bert.pooler.dense.bias").expect("bias").bytes[..4]
                    .copy_from_slice(&f32::NAN.to_le_bytes());
            }),
            "approx/model.safetensors: tensor `bert.pooler.dense.bias` holds NaN at index 0, expected finite numbers",
        ),
        (
            "NaN threshold",
            tensors(|tensors| {
                tensors.insert("bert.encoder.layer.1.p_logit".to_owned(), HostTensor::f32(&[1], &[f32::NAN]));
            }),
            "model.safetensors: tensor `bert.encoder.layer.1.p_logit` holds NaN at index 0, expected finite numbers",
        ),
        (
            "one threshold of four missing",
            tensors(|tensors| drop(tensors.remove("bert.encoder.layer.2.p_logit"))),
            "model.safetensors: tensor `bert.encoder.layer.2.p_logit` is missing",
        ),
        (
            "two thresholds in one layer",
            tensors(|tensors| {
                tensors.insert("bert.encoder.layer.1.p_logit".to_owned(), HostTensor::f32(&[2], &[0.0, 0.0]));
            }),
            "model.safetensors: tensor `bert.encoder.layer.1.p_logit` is [2], expected [1]",
        ),
    ]);
}

#[test]
fn tokenizers() {
    /// A `tokenizer.json` that holds as it is, instead of what the class makes of it.
    fn as_it_is(edit: impl Fn(&mut Value) + 'static) -> Edit {
        let class = |json: &mut Value| json["tokenizer_class"] = json!("PreTrainedTokenizerFast");
        all(vec![Box::new(move |files| edit_json(files, "tokenizer_config.json", class)), tokenizer(edit)])
    }
    fn special(value: Value) -> Edit {
        as_it_is(move |json| json["post_processor"]["special_tokens"] = value.clone())
    }
    check_edits(vec![
        (
            "none",
            all(vec![without("tokenizer.json"), without("vocab.txt")]),
            "tokenizer.json: missing, and no vocab.txt either, nor vocab.json with merges.txt: a text model needs one of them",
        ),
        (
            "not JSON",
            Box::new(|files| files.insert("tokenizer.json", b"{".to_vec())),
            "tokenizer.json: not JSON: EOF while parsing an object at line 1 column 1",
        ),
        ("no model", tokenizer(|json| *json = json!({})), "tokenizer.json: Model missing."),
        (
            "unknown model",
            as_it_is(|json| json["model"] = json!({"type": "Words"})),
            "tokenizer.json: data did not match any variant of untagged enum ModelUntagged",
        ),
        (
            "a token beyond the embeddings",
            tokenizer(|json| json["model"]["vocab"]["new"] = json!(97)),
            "tokenizer.json: token `new` has id 97, expected less than `vocab_size`, 97",
        ),
        (
            "an added token beyond the embeddings",
            tokenizer(|json| {
                json["added_tokens"] = json!([{"id": 120, "content": "<x>", "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true}]);
            }),
            "tokenizer.json: token `<x>` has id 97, expected less than `vocab_size`, 97",
        ),
        (
            "a vocabulary of another model",
            vocab(|vocab| vocab + "more\nwords\n"),
            "vocab.txt: token `words` has id 98, expected less than `vocab_size`, 97",
        ),
        ("no [CLS]", vocab(|vocab| vocab.replace("[CLS]", "[NONE]")), "vocab.txt: the token [CLS] is missing"),
        ("no [SEP]", vocab(|vocab| vocab.replace("[SEP]", "[NONE]")), "vocab.txt: the token [SEP] is missing"),
        (
            "not UTF-8",
            all(vec![
                without("tokenizer.json"),
                Box::new(|files| files.insert("vocab.txt", b"[CLS]\n\xff\n".to_vec())),
            ]),
            "vocab.txt: not UTF-8",
        ),
        (
            "settings that are not JSON",
            all(vec![
                without("tokenizer.json"),
                Box::new(|files| files.insert("tokenizer_config.json", b"lower".to_vec())),
            ]),
            "tokenizer_config.json: not JSON: expected value at line 1 column 1",
        ),
        (
            "a normalizer that the tokenizers crate panics on",
            as_it_is(|json| json["normalizer"] = json!({"type": "Sequence", "normalizers": [{"type": "Precompiled"}]})),
            "tokenizer.json: normalizers: Precompiled without `precompiled_charsmap`",
        ),
        (
            "a pre-tokenizer that the tokenizers crate panics on",
            as_it_is(|json| json["pre_tokenizer"] = json!({"type": "FixedLength", "length": 0})),
            "tokenizer.json: pre_tokenizer: FixedLength of 0",
        ),
        (
            "another class's model",
            tokenizer(|json| json["model"] = json!({"type": "BPE", "vocab": {}, "merges": []})),
            "tokenizer.json: a model of the kind BPE, but a BertTokenizer is WordPiece; where tokenizer.json holds as it is, `tokenizer_class` must be PreTrainedTokenizerFast",
        ),
        ("a list", tokenizer(|json| *json = json!([])), "tokenizer.json: expected a JSON object"),
        (
            "a template with an unknown special token",
            special(json!({"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]}})),
            "tokenizer.json: post_processor: `single` names [SEP], which is not in `special_tokens`",
        ),
        (
            "a template without [CLS]",
            as_it_is(|json| drop(json["post_processor"]["single"].as_array_mut().expect("list").remove(0))),
            "tokenizer.json: post_processor: `single` is not [CLS] and then the sequences A, each once",
        ),
        (
            "a template for one text that asks for two",
            as_it_is(|json| json["post_processor"]["single"] = json["post_processor"]["pair"].clone()),
            "tokenizer.json: post_processor: `single` is not [CLS] and then the sequences A, each once",
        ),
        (
            "a template for two texts with the first twice",
            as_it_is(|json| json["post_processor"]["pair"][3]["Sequence"]["id"] = json!("A")),
            "tokenizer.json: post_processor: `pair` is not [CLS] and then the sequences A, B, each once",
        ),
        (
            "more special tokens than positions",
            special(json!({
                "[CLS]": {"id": "[CLS]", "ids": vec![1; 159], "tokens": vec!["[CLS]"; 159]},
                "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]},
            })),
            "tokenizer.json: 160 special tokens around a text, of 160 tokens at most",
        ),
        (
            "another post-processor",
            as_it_is(|json| json["post_processor"] = json!({"type": "Sequence", "processors": []})),
            "tokenizer.json: post_processor: expected TemplateProcessing, BertProcessing or RobertaProcessing, which put [CLS] first",
        ),
    ]);
}

/// Every cut of the header's start, and then some of the rest.
#[test]
fn a_cut_file_is_an_error() {
    let whole = bytes(&tiny_files(), "model.safetensors");
    let lengths = (1..200).chain((200..whole.len()).step_by(1499)).chain([whole.len() - 1]);
    for length in lengths {
        let error =
            edited(|files| files.insert("model.safetensors", whole[..length].to_vec())).map(|_| ()).expect_err("cut");
        let expected = format!("model.safetensors: not a valid safetensors file of {length} bytes: ");
        assert!(error.to_string().starts_with(&expected), "{length} bytes: {error}");
    }
}

/// Flips a few bytes, or cuts the end off.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    if random.below(4) == 0 {
        bytes.truncate(random.below(bytes.len()));
    } else {
        for _ in 0..=random.below(3) {
            let place = random.below(bytes.len());
            bytes[place] ^= 1 << random.below(8);
        }
    }
}

#[test]
fn damaged_files_do_not_panic() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut num_errors, mut num_models) = (0, 0);
    for round in 0..400 {
        let mut files = tiny_files();
        let mut damage_file = |name: &str, random: &mut Random| {
            edit_bytes(&mut files, name, |mut bytes| {
                damage(&mut bytes, random);
                bytes
            });
        };
        match round % 4 {
            0 => damage_file("config.json", &mut random),
            1 => damage_file("tokenizer.json", &mut random),
            // Most of the file is numbers; only the header is delicate.
            2 => edit_bytes(&mut files, "model.safetensors", |mut bytes| {
                let numbers = bytes.split_off(8 + 8240);
                damage(&mut bytes, &mut random);
                bytes.extend(numbers);
                bytes
            }),
            _ => damage_file("model.safetensors", &mut random),
        }
        let Ok(model) = Model::from_bytes(files) else {
            num_errors += 1;
            continue;
        };
        num_models += 1;
        // What passes for a model must not panic when it runs; an error is all right (its numbers may overflow).
        let mut engine = engine(&model, BackendKind::Cpu);
        let inputs = [Input::Text("w51 w41 [SEP] w96"), Input::Pair("w7", "w8 unknown")];
        for prune in [Prune::Dense, model.default_prune()] {
            let _ = pollster::block_on(engine.classify(&inputs, &prune, &Default::default()));
        }
    }
    assert!(num_errors > 100 && num_models > 50, "{num_errors} errors, {num_models} models");
    classify(&mut engine(&Model::from_bytes(tiny_files()).expect("tiny-bert"), BackendKind::Cpu), &[], &Prune::Dense);
}
