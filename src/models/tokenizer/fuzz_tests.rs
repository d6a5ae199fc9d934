//! Mutated tokenizers: whatever the files are, they give a tokenizer or an error, and each text tokens or an error.
//!
//! What is known to make the `tokenizers` crate panic is refused before it sees it; this looks for more. So it runs at length when its version
//! changes:
//!
//!     STTABT_FUZZ_TOKENIZERS=0..1000000 cargo test --release --locked --lib mutated_tokenizers -- --nocapture

#[path = "../../../tests/common/fuzz.rs"]
mod fuzz;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use fuzz::{Random, mutated, numbers};

/// For reading and for all texts; the slowest is a whole map of characters.
const MAX_TIME: Duration = Duration::from_secs(10);
/// Of the whole process.
const MAX_BYTES: usize = 2 << 30;

const TEXTS: [&str; 8] = [
    "the Quick brown fox",
    "£",
    "b\u{200c}Ab  aa\u{301} é🙂",
    "[CLS] <mask>a<mask> [MASK]  [SEP]",
    " \t\n",
    "世界 bbbb ﬁ①",
    "\0\u{1}b \u{fdd0}\u{200c}\u{fdd1}",
    "▁a▁▁b",
];

fn json_of(path: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families").join(path);
    serde_json::from_slice(&std::fs::read(path).expect("a fixture")).expect("JSON")
}

/// The seed that has a whole character map: slow, so one input of fifty is made of it.
const WHOLE_MAP: usize = 4;

/// Whole files that inputs are made of, with as few tokens as will do, and parts that stand in for others.
fn seeds() -> (Vec<[Value; 2]>, Vec<Value>) {
    let mut seeds = Vec::new();
    for family in ["bert-relu", "roberta", "xlm-roberta"] {
        let (mut json, config) =
            (json_of(&format!("{family}/tokenizer.json")), json_of(&format!("{family}/tokenizer_config.json")));
        let mut as_it_is = config.clone();
        as_it_is["tokenizer_class"] = json!("PreTrainedTokenizerFast");
        if family == "xlm-roberta" {
            seeds.push([json.clone(), config.clone()]);
            json["normalizer"]["normalizers"][0]["precompiled_charsmap"] = json!(small_map());
        }
        seeds.extend([[json.clone(), config], [json, as_it_is]]);
    }
    let token = |content: &str, normalized: bool| {
        json!({"id": 420, "content": content, "single_word": false, "lstrip": true, "rstrip": false, "normalized": normalized,
            "special": false})
    };
    let others = vec![
        token("\u{200c}", true),
        token(" ", false),
        token("Ab", true),
        json!([token("é", true), token("e", true), token("aa", false)]),
        json!({"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]}),
        json!({"type": "Replace", "pattern": {"Regex": "b*"}, "content": ""}),
        json!({"type": "Replace", "pattern": {"String": "b"}, "content": "bb"}),
        json!({"type": "Precompiled", "precompiled_charsmap": small_map()}),
        json!({"type": "Prepend", "prepend": "▁"}),
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false}),
        json!({"type": "Split", "pattern": {"Regex": "\\s*|b"}, "behavior": "MergedWithNext", "invert": false}),
        json!({"type": "Split", "pattern": {"String": ""}, "behavior": "Removed", "invert": true}),
        json!({"type": "FixedLength", "length": 2}),
        json!({"type": "Digits", "individual_digits": true}),
        json!({"type": "UnicodeScripts"}),
        json!({"type": "Punctuation", "behavior": "Isolated"}),
        json!({"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "CharDelimiterSplit", "delimiter": "b"}]}),
        json!({"type": "WordLevel", "vocab": {"b": 1, "[UNK]": 2}, "unk_token": "[UNK]"}),
        json!({"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}),
        json!("PreTrainedTokenizerFast"),
        json!("left"),
        json!(7),
    ];
    (seeds, others)
}

/// Base64 of a trie with one key, `b`, and the replacement `x`.
fn small_map() -> String {
    let mut trie = vec![0_u32; 256];
    trie[usize::from(b'b')] = u32::from(b'b') | 1 << 8 | 1 << 10;
    trie[usize::from(b'b') ^ 1] = 1 << 31;
    let mut bytes = 1024_u32.to_le_bytes().to_vec();
    bytes.extend(trie.iter().flat_map(|unit| unit.to_le_bytes()));
    bytes.extend(b"x\0\0\0");
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32, shift: u32| char::from(DIGITS[(bits >> shift) as usize & 63]);
    // 1032 bytes: whole groups of three.
    let groups = bytes.chunks_exact(3).map(|group| group.iter().fold(0, |bits, &byte| bits << 8 | u32::from(byte)));
    groups.flat_map(|bits| [18, 12, 6, 0].map(|shift| digit(bits, shift))).collect()
}

/// The files of a number.
fn files(number: u64, seeds: &[[Value; 2]], others: &[Value]) -> ModelFiles {
    let mut random = Random::of(number);
    let seed = match random.below(50) {
        0 => WHOLE_MAP,
        _ => [0, 1, 2, 3, 5, 6][random.below(6)],
    };
    let [json, config] = &seeds[seed];
    let mut files = ModelFiles::new();
    let which = random.below(4);
    let mut file = |name: &str, value: &Value, is_mutated: bool, random: &mut Random| {
        let bytes = if is_mutated { mutated(value, others, random) } else { value.to_string().into_bytes() };
        files.insert(name, bytes);
    };
    file("tokenizer.json", json, which != 1, &mut random);
    file("tokenizer_config.json", config, which == 1 || which == 2, &mut random);
    if which == 3 {
        let map =
            json!({"additional_special_tokens": ["<e1>", {"content": "Ab", "lstrip": true}], "cls_token": "[CLS]"});
        file("special_tokens_map.json", &map, true, &mut random);
        file("added_tokens.json", &json!({"<e1>": 420, "é": 421}), true, &mut random);
    }
    files
}

/// What went wrong, or whether it is a tokenizer.
fn check(files: &ModelFiles) -> Result<bool, String> {
    let limits = TextConfig {
        vocab_size: 440,
        max_position_embeddings: 20,
        position_offset: 0,
        type_vocab_size: 2,
        embedding_size: 48,
    };
    let Ok(tokenizer) = Tokenizer::from_files(files, limits) else { return Ok(false) };
    let pairs = TEXTS.iter().zip(TEXTS.iter().skip(1)).map(|(text, pair)| Input::Pair(text, pair));
    for input in TEXTS.iter().map(|text| Input::Text(text)).chain(pairs) {
        match tokenizer.encode(0, &input) {
            Ok(tokens) if tokens.input_ids.len() > 20 => return Err(format!("{} tokens", tokens.input_ids.len())),
            Err(error) if error.to_string().contains("panicked") => return Err(format!("{input:?}: {error}")),
            _ => {}
        }
    }
    Ok(true)
}

#[test]
fn mutated_tokenizers_are_tokenizers_or_errors() {
    let (seeds, others) = seeds();
    assert_eq!(seeds.len(), 7);
    assert!(seeds[WHOLE_MAP][0].to_string().len() > 100_000);
    let numbers = numbers("STTABT_FUZZ_TOKENIZERS");
    let (mut num_tokenizers, mut failures) = (0, Vec::new());
    for number in numbers.clone() {
        if number % 10_000 == 0 {
            println!("from {number}");
        }
        let started = Instant::now();
        let files = files(number, &seeds, &others);
        match catch_unwind(AssertUnwindSafe(|| check(&files))) {
            Ok(Ok(is_tokenizer)) => num_tokenizers += u64::from(is_tokenizer),
            Ok(Err(failure)) => failures.push(format!("input {number}: {failure}")),
            Err(_) => failures.push(format!("input {number}: panicked")),
        }
        if started.elapsed() > MAX_TIME {
            failures.push(format!("input {number}: {:?}", started.elapsed()));
        }
    }
    println!("{num_tokenizers} of {} are tokenizers", numbers.end - numbers.start);
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    // Mutations that break every file would test nothing else.
    let num_inputs = numbers.end - numbers.start;
    assert!(num_inputs < 1_000 || num_tokenizers * 5 > num_inputs, "{num_tokenizers} tokenizers");
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        let peak: usize = peak.expect("the peak of memory");
        assert!(peak * 1024 < MAX_BYTES, "{peak} kB");
    }
}
