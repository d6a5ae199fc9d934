//! Tokens are those of transformers, for all families and whatever the settings are; what cannot be read says why.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;

/// Of the fixtures: room for added tokens, 128 tokens, types for pairs.
const LIMITS: TextConfig = TextConfig {
    vocab_size: 440,
    max_position_embeddings: 128,
    position_offset: 0,
    type_vocab_size: 2,
    embedding_size: 48,
};

const FILES: [&str; 2] = ["tokenizer.json", "tokenizer_config.json"];

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn read(path: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn read_json(path: &str) -> Value {
    serde_json::from_slice(&read(path)).expect("JSON")
}

fn family(name: &str) -> ModelFiles {
    let mut files = ModelFiles::new();
    FILES.iter().for_each(|file| files.insert(*file, read(&format!("families/{name}/{file}"))));
    files
}

fn edit(files: &mut ModelFiles, file: &str, edit: impl FnOnce(&mut Value)) {
    let mut value = files.get(file).map_or_else(|| json!({}), |bytes| serde_json::from_slice(bytes).expect("JSON"));
    edit(&mut value);
    files.insert(file, value.to_string().into_bytes());
}

fn input(texts: &[Value]) -> Input<'_> {
    match texts {
        [text] => Input::Text(text.as_str().expect("a text")),
        [text, pair] => Input::Pair(text.as_str().expect("a text"), pair.as_str().expect("a text")),
        _ => panic!("{texts:?}"),
    }
}

fn error_of(files: &ModelFiles, limits: TextConfig) -> String {
    Tokenizer::from_files(files, limits).map_or_else(|error| error.to_string(), |_| "no error".to_owned())
}

#[test]
fn families_have_the_tokens_of_transformers() {
    let families = [
        "bert-embed-cls",
        "bert-gelu-new",
        "bert-multilabel",
        "bert-relu",
        "camembert-score",
        "distilbert",
        "electra",
        "electra-same",
        "roberta",
        "roberta-embed-cls",
        "xlm-roberta",
    ];
    for name in families {
        let type_vocab_size = match name {
            "distilbert" => 0,
            _ if name.starts_with("bert") || name.starts_with("electra") => 2,
            _ => 1,
        };
        let limits = TextConfig { vocab_size: 423, type_vocab_size, ..LIMITS };
        let tokenizer = Tokenizer::from_files(&family(name), limits).unwrap_or_else(|error| panic!("{name}: {error}"));
        let cases = read_json(&format!("families/{name}/cases.json"));
        let cases = cases["cases"].as_array().expect("cases");
        assert!(cases.len() >= 10, "{name}: {} cases", cases.len());
        for case in cases {
            let case = &case["input"];
            let texts: Vec<Value> = ["text", "text_pair"].iter().filter_map(|key| case.get(key).cloned()).collect();
            let tokens = tokenizer.encode(0, &input(&texts)).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(json!(tokens.input_ids), case["input_ids"], "{name}: {texts:?}");
            assert_eq!(tokens.truncated, tokens.input_ids.len() == 128, "{name}: {texts:?}");
            let no_types = json!(vec![0; tokens.input_ids.len()]);
            let types = case.get("token_type_ids").unwrap_or(&no_types);
            assert_eq!(json!(tokens.token_type_ids), *types, "{name}: {texts:?}");
        }
    }
}

/// Sets a value by its path; `__delete__` takes it out.
fn set(value: &mut Value, path: &str, new: &Value) {
    let (front, last) = path.rsplit_once('.').map_or((None, path), |(front, last)| (Some(front), last));
    let mut inner = value;
    for part in front.into_iter().flat_map(|front| front.split('.')) {
        inner = match part.parse::<usize>() {
            Ok(index) => &mut inner[index],
            Err(_) => &mut inner[part],
        };
    }
    if new == "__delete__" {
        inner.as_object_mut().expect("an object").remove(last);
    } else {
        inner[last] = new.clone();
    }
}

/// A folder of `make.py`.
fn changed(base: &str, change: &Value) -> ModelFiles {
    let mut files = family(base);
    for name in change["remove"].as_array().into_iter().flatten() {
        files.remove(name.as_str().expect("a name"));
    }
    for (name, text) in change["text"].as_object().into_iter().flatten() {
        files.insert(name.as_str(), text.as_str().expect("a text").as_bytes().to_vec());
    }
    for (name, edits) in change["json"].as_object().into_iter().flatten() {
        edit(&mut files, name, |value| {
            edits.as_object().expect("edits").iter().for_each(|(path, new)| set(value, path, new));
        });
    }
    for (name, lists) in change["append"].as_object().into_iter().flatten() {
        edit(&mut files, name, |value| {
            for (key, items) in lists.as_object().expect("lists") {
                let list = value[key].as_array_mut().expect("a list");
                list.extend(items.as_array().expect("a list").iter().cloned());
            }
        });
    }
    for name in change["first"].as_object().into_iter().flat_map(|names| names.keys()) {
        edit(&mut files, name, |value| value["normalizer"] = value["normalizer"]["normalizers"][0].take());
    }
    files
}

#[test]
fn settings_count_as_in_transformers() {
    let cases = read_json("tokenizers/cases.json");
    let inputs: Vec<Vec<Value>> = serde_json::from_value(cases["inputs"].clone()).expect("inputs");
    let cases = cases["cases"].as_array().expect("cases");
    assert!(cases.len() > 45, "{} cases", cases.len());
    let mut failures = Vec::new();
    for case in cases {
        let (base, what) = (case["base"].as_str().expect("base"), &case["what"]);
        let tokenizer = match Tokenizer::from_files(&changed(base, &case["change"]), LIMITS) {
            Ok(tokenizer) => tokenizer,
            Err(error) => {
                failures.push(format!("{base}, {what}: {error}"));
                continue;
            }
        };
        for (texts, expected) in inputs.iter().zip(case["results"].as_array().expect("results")) {
            let found = tokenizer.encode(0, &input(texts)).map_or_else(
                |error| json!(error.to_string()),
                |tokens| json!({"ids": tokens.input_ids, "types": tokens.token_type_ids}),
            );
            if found != *expected {
                failures.push(format!("{base}, {what}, {texts:.40?}:\n  {found:.300}\n  {expected:.300}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// What is wrong with a folder, the file and its edit, and what the error says.
type Row = (&'static str, &'static str, fn(&mut Value), &'static str);

#[test]
fn what_is_not_honoured_is_refused() {
    const CONFIG: &str = "tokenizer_config.json";
    const JSON: &str = "tokenizer.json";
    let supported = "supported: BertTokenizer, DistilBertTokenizer, ElectraTokenizer, RobertaTokenizer, XLMRobertaTokenizer, CamembertTokenizer, and PreTrainedTokenizerFast, which takes tokenizer.json as it is";
    let foreign = |name: &str| format!("tokenizer_class `{name}` is not supported; {supported}");
    let rows: &[Row] = &[
        ("bert-relu", CONFIG, |it| it["tokenizer_class"] = json!("BertJapaneseTokenizer"), "BertJapaneseTokenizer"),
        ("bert-relu", CONFIG, |it| it["tokenizer_class"] = json!("BertweetTokenizer"), "BertweetTokenizer"),
        ("bert-relu", CONFIG, |it| *it = json!({"word_tokenizer_type": "mecab"}), "BertJapaneseTokenizer"),
        ("bert-relu", "config.json", |it| it["tokenizer_class"] = json!("XLMTokenizer"), "no error"),
        (
            "bert-relu",
            CONFIG,
            |it| it["tokenizer_class"] = json!(3),
            "tokenizer_config.json: `tokenizer_class` is 3, expected a string",
        ),
        (
            "bert-relu",
            CONFIG,
            |it| it["do_lower_case"] = json!("no"),
            "tokenizer_config.json: `do_lower_case` is \"no\", expected true or false",
        ),
        (
            "bert-relu",
            CONFIG,
            |it| it["truncation_side"] = json!("middle"),
            "tokenizer_config.json: `truncation_side` is \"middle\", expected left or right",
        ),
        (
            "bert-relu",
            CONFIG,
            |it| it["model_max_length"] = json!(0),
            "tokenizer_config.json: `model_max_length` is 0, expected a whole number from 1",
        ),
        (
            "bert-relu",
            CONFIG,
            |it| it["model_max_length"] = json!("512"),
            "tokenizer_config.json: `model_max_length` is \"512\", expected a whole number from 1",
        ),
        (
            "bert-relu",
            CONFIG,
            |it| it["model_max_length"] = json!(2),
            "tokenizer.json: 2 special tokens around a text, of 2 tokens at most",
        ),
        (
            "bert-relu",
            CONFIG,
            |it| it["model_input_names"] = json!("input_ids"),
            "tokenizer_config.json: `model_input_names` is \"input_ids\", expected a list of names",
        ),
        (
            "bert-relu",
            CONFIG,
            |it| it["cls_token"] = json!(["[CLS]"]),
            "tokenizer_config.json: `cls_token` is [\"[CLS]\"], expected a token, or an object with its `content`",
        ),
        (
            "bert-relu",
            CONFIG,
            |it| it["additional_special_tokens"] = json!("<e1>"),
            "tokenizer_config.json: `additional_special_tokens` is \"<e1>\", expected a list of tokens",
        ),
        (
            "bert-relu",
            CONFIG,
            |it| it["added_tokens_decoder"] = json!({"x": {"content": "a"}}),
            "tokenizer_config.json: `added_tokens_decoder` is x, expected added tokens by their ids",
        ),
        (
            "bert-relu",
            CONFIG,
            |it| it["added_tokens_decoder"] = json!({"420": "<e1>"}),
            "tokenizer_config.json: `added_tokens_decoder` is \"<e1>\", expected added tokens by their ids",
        ),
        (
            "bert-relu",
            "added_tokens.json",
            |it| it["<e1>"] = json!(-1),
            "added_tokens.json: `<e1>` is -1, expected an integer from 0 to 4294967295",
        ),
        (
            "bert-relu",
            "special_tokens_map.json",
            |it| *it = json!([]),
            "special_tokens_map.json: expected a JSON object",
        ),
        ("bert-relu", CONFIG, |it| it["cls_token"] = json!("<cls>"), "no error"),
        (
            "bert-relu",
            CONFIG,
            |it| it["tokenizer_class"] = json!("RobertaTokenizer"),
            "tokenizer.json: a model of the kind WordPiece, but a RobertaTokenizer is BPE; where tokenizer.json holds as it is, `tokenizer_class` must be PreTrainedTokenizerFast",
        ),
        (
            "xlm-roberta",
            JSON,
            |it| it["normalizer"]["normalizers"][0]["precompiled_charsmap"] = json!("AAAA"),
            "tokenizer.json: normalizer: a broken map of characters: no length of its trie",
        ),
        (
            "xlm-roberta",
            JSON,
            |it| it["normalizer"]["normalizers"][0]["precompiled_charsmap"] = json!(null),
            "tokenizer.json: normalizer: Precompiled without `precompiled_charsmap`",
        ),
        (
            "xlm-roberta",
            JSON,
            |it| it["model"]["vocab"] = json!([["a", 0.0]]),
            "tokenizer.json: Unable to load vocab UnkIdNotInVocabulary",
        ),
        (
            "roberta",
            JSON,
            |it| it["model"]["merges"] = json!([["a", "none"]]),
            "tokenizer.json: model: the merge of `a` and `none` is not in the vocabulary",
        ),
        (
            "roberta",
            JSON,
            |it| it["model"]["merges"] = json!(["ab"]),
            "tokenizer.json: model: `merges`: \"ab\" is no pair",
        ),
        (
            "roberta",
            JSON,
            |it| it["added_tokens"] = json!([{"content": "a"}]),
            "tokenizer.json: `added_tokens`: {\"content\":\"a\"} is no token with an id",
        ),
    ];
    for (base, file, change, expected) in rows {
        let mut files = family(base);
        edit(&mut files, file, change);
        let expected = if expected.ends_with("Tokenizer") { foreign(expected) } else { (*expected).to_owned() };
        let found = error_of(&files, LIMITS);
        // Where config.json is at hand, a class that it names counts if the settings name none.
        assert_eq!(found, expected, "{base}, {file}");
    }
}

#[test]
fn parts_that_the_crate_panics_on_are_refused() {
    type Row = (fn(&mut Value), &'static str);
    let rows: &[Row] = &[
        (|json| json["normalizer"] = json!({"lowercase": true}), "normalizer: a part without a `type`"),
        (
            |json| json["normalizer"] = json!({"type": "Sequence", "normalizers": [{"type": "Precompiled"}]}),
            "normalizers: Precompiled without `precompiled_charsmap`",
        ),
        (
            |json| {
                let tenfold = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaa"});
                json["normalizer"] = json!({"type": "Sequence", "normalizers": vec![tenfold; 7]});
            },
            "normalizer: it makes a text up to 10000000 times as long, expected at most 64",
        ),
        (|json| json["pre_tokenizer"] = json!({"type": "FixedLength", "length": 0}), "pre_tokenizer: FixedLength of 0"),
        (
            |json| json["normalizer"] = json!({"type": "Replace", "pattern": {"String": ""}, "content": "bb"}),
            "normalizer: Replace puts text between any two characters: its pattern matches an empty text",
        ),
        (
            |json| json["normalizer"] = json!({"type": "Replace", "pattern": {"Regex": "b*"}, "content": "x"}),
            "normalizer: Replace puts text between any two characters: its pattern matches an empty text",
        ),
        (|json| json["pre_tokenizer"] = json!({"length": 0}), "pre_tokenizer: a part without a `type`"),
        (
            |json| json["model"]["max_input_chars_per_word"] = json!(1_000_000),
            "model: `max_input_chars_per_word` is 1000000, expected at most 1000",
        ),
        (
            |json| json["added_tokens"] = json!([{"id": 5, "content": "\u{200c} ", "lstrip": true, "rstrip": true}]),
            "the added token \"\\u{200c} \" is of spaces, with `lstrip` beside `rstrip`",
        ),
        (
            |json| json["post_processor"] = Value::Null,
            "post_processor: expected TemplateProcessing, BertProcessing or RobertaProcessing, which put [CLS] first",
        ),
    ];
    for (change, expected) in rows {
        let mut files = family("bert-relu");
        edit(&mut files, "tokenizer_config.json", |it| it["tokenizer_class"] = json!("PreTrainedTokenizerFast"));
        edit(&mut files, "tokenizer.json", change);
        assert_eq!(error_of(&files, LIMITS), format!("tokenizer.json: {expected}"));
    }
    let mut files = family("roberta");
    edit(&mut files, "tokenizer_config.json", |it| it["tokenizer_class"] = json!("PreTrainedTokenizerFast"));
    edit(&mut files, "tokenizer.json", |it| it["model"]["dropout"] = json!(0.5));
    let expected = "tokenizer.json: model: `dropout` is 0.5: the same text would have other tokens each time";
    assert_eq!(error_of(&files, LIMITS), expected);
    edit(&mut files, "tokenizer.json", |it| {
        it["model"]["dropout"] = Value::Null;
        it["model"]["continuing_subword_prefix"] = json!("too long");
    });
    let error = error_of(&files, LIMITS);
    assert!(error.starts_with("tokenizer.json: model: the merge of "), "{error}");
}

/// huggingface/tokenizers#1349: its normalized form is empty, and would be found everywhere.
#[test]
fn an_added_token_that_its_normalizer_removes_is_never_found() {
    let listed = |content: &str, id: u32| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": true,
            "special": false})
    };
    for class in ["BertTokenizer", "PreTrainedTokenizerFast"] {
        let mut files = family("bert-relu");
        edit(&mut files, "tokenizer_config.json", |it| it["tokenizer_class"] = json!(class));
        edit(&mut files, "tokenizer.json", |json| {
            let tokens = json["added_tokens"].as_array_mut().expect("added tokens");
            tokens.extend([listed("aaaa", 420), listed("\u{200c}", 421), listed("CCfc", 422), listed("ccFC", 423)]);
            tokens.push(listed("bbbb", 424));
        });
        let tokenizer = Tokenizer::from_files(&files, LIMITS).unwrap_or_else(|error| panic!("{error}"));
        let ids = |text: &str| tokenizer.encode(0, &Input::Text(text)).map(|tokens| tokens.input_ids);
        assert_eq!(ids("£"), Ok(vec![2, 1, 3]), "{class}");
        assert_eq!(ids("x\u{200c}CCFC aaaa"), Ok(vec![2, 66, 422, 420, 3]), "{class}");
        // Of two that are the same when normalized, the first.
        assert_eq!(ids("ccfc bbbb"), Ok(vec![2, 422, 424, 3]), "{class}");
    }
}

/// sentence-transformers has a limit of its own, where it is at work.
#[test]
fn the_limit_of_sentence_transformers_counts() {
    const FILE: &str = "sentence_bert_config.json";
    let num_tokens = |files: &ModelFiles| {
        let tokenizer = Tokenizer::from_files(files, LIMITS).map_err(|error| error.to_string())?;
        Ok(tokenizer.encode(0, &Input::Text(&"x ".repeat(200))).expect("tokens").input_ids.len())
    };
    let mut files = family("bert-embed-cls");
    edit(&mut files, FILE, |it| *it = json!({"max_seq_length": 100, "do_lower_case": false}));
    assert_eq!(num_tokens(&files), Ok(128));
    files.insert("modules.json", b"[]".to_vec());
    assert_eq!(num_tokens(&files), Ok(100));
    edit(&mut files, FILE, |it| it["max_seq_length"] = Value::Null);
    assert_eq!(num_tokens(&files), Ok(128));
    edit(&mut files, FILE, |it| it["max_seq_length"] = json!(0));
    let expected = "sentence_bert_config.json: `max_seq_length` is 0, expected an integer from 1 to 1048576";
    assert_eq!(num_tokens(&files), Err(expected.to_owned()));
    let mut with = |settings: Value| {
        edit(&mut files, FILE, |it| *it = json!({"max_seq_length": 100, "processing_kwargs": settings}));
        num_tokens(&files)
    };
    assert_eq!(with(json!({"text": {"max_length": 9, "truncation": true, "padding": true}})), Ok(9));
    let expected = "sentence_bert_config.json: `processing_kwargs.text.truncation` is \"only_first\", expected max_length of text alone, with truncation";
    assert_eq!(with(json!({"text": {"truncation": "only_first"}})), Err(expected.to_owned()));
}

/// The longer text has the odd token, also where both are far longer than the limit; of two that are as long, the second.
#[test]
fn long_pairs_are_halved_by_their_own_lengths() {
    for (side, first, last) in [("right", "a", "b"), ("left", "b", "a")] {
        let mut files = family("bert-relu");
        edit(&mut files, "tokenizer_config.json", |it| it["truncation_side"] = json!(side));
        let tokenizer = Tokenizer::from_files(&files, LIMITS).unwrap_or_else(|error| panic!("{error}"));
        for (lengths, expected) in [
            ([300, 200], [63, 62]),
            ([200, 300], [62, 63]),
            ([200, 200], [62, 63]),
            ([63, 1000], [62, 63]),
            ([64, 63], [63, 62]),
            ([62, 1000], [62, 63]),
            ([1000, 5], [120, 5]),
        ] {
            let text = |length: usize| format!("a {} b", "x ".repeat(length - 2));
            let tokens = tokenizer.encode(0, &Input::Pair(&text(lengths[0]), &text(lengths[1]))).expect("tokens");
            let ends: Vec<usize> = (0..128).filter(|&at| tokens.tokens[at] == "[SEP]").collect();
            assert_eq!([ends[0] - 1, ends[1] - ends[0] - 1], expected, "{side}, {lengths:?}");
            assert_eq!(tokens.token_type_ids.iter().sum::<u32>() as usize, expected[1] + 1, "{side}, {lengths:?}");
            // What is cut is the end, or the beginning.
            let is_cut = expected[0] < lengths[0];
            let part = &tokens.tokens[1..ends[0]];
            assert_eq!(
                [part.contains(&first.to_owned()), part.contains(&last.to_owned())],
                [true, !is_cut],
                "{side}, {lengths:?}"
            );
            assert!(tokens.truncated);
        }
    }
}

/// Its own lowercasing comes before the tokenizer, whatever that does.
#[test]
fn sentence_transformers_lowercases_texts_itself() {
    let mut files = family("roberta");
    let ids = |files: &ModelFiles, text: &str| {
        let tokenizer = Tokenizer::from_files(files, LIMITS).unwrap_or_else(|error| panic!("{error}"));
        tokenizer.encode(0, &Input::Pair(text, text)).expect("tokens").input_ids
    };
    let (upper, lower) = (ids(&files, "THE Fox"), ids(&files, "the fox"));
    assert_ne!(upper, lower);
    edit(&mut files, "sentence_roberta_config.json", |it| *it = json!({"do_lower_case": true}));
    assert_eq!(ids(&files, "THE Fox"), upper);
    files.insert("modules.json", b"[]".to_vec());
    assert_eq!(ids(&files, "THE Fox"), lower);
    // Added tokens stay as they are.
    let mut files = family("bert-relu");
    edit(&mut files, "tokenizer_config.json", |it| it["do_lower_case"] = json!(false));
    edit(&mut files, "sentence_bert_config.json", |it| *it = json!({"do_lower_case": true}));
    files.insert("modules.json", b"[]".to_vec());
    assert_eq!(ids(&files, "A [MASK]"), ids(&files, "a [MASK]"));
    assert_ne!(ids(&files, "A [MASK]"), ids(&files, "a [mask]"));
}

#[test]
fn vocabularies_that_are_not_read_say_so() {
    let with = |names: &[&str]| {
        let mut files = ModelFiles::new();
        names.iter().for_each(|name| files.insert(*name, b"{}".to_vec()));
        error_of(&files, LIMITS)
    };
    let way_out = "a SentencePiece model, which is not read: save tokenizer.json with transformers: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)";
    assert_eq!(with(&["sentencepiece.bpe.model"]), format!("sentencepiece.bpe.model: {way_out}"));
    assert_eq!(with(&["spiece.model"]), format!("spiece.model: {way_out}"));
    assert_eq!(with(&["vocab.json"]), "merges.txt: missing beside vocab.json");
    let missing = "missing, and no vocab.txt either, nor vocab.json with merges.txt: a text model needs one of them";
    assert_eq!(with(&[]), format!("tokenizer.json: {missing}"));
    assert_eq!(with(&["tokenizer_config.json"]), format!("tokenizer.json: {missing}"));
}
