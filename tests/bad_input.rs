//! Bad input to a good model: texts, rules and limits. Every message is exact, and nothing panics.

use crate::common::edit::*;
use crate::common::{BACKENDS, classify, engine, max_tokens, tiny_bert};
use serde_json::json;
use sttabt::{BackendKind, Classification, Input, Model, Outputs, Prune};

/// The error of a batch, or `no error`.
fn failure(model: &Model, inputs: &[Input<'_>], rule: &str) -> String {
    let mut engine = engine(model, BackendKind::Cpu);
    let result = pollster::block_on(engine.classify(inputs, &rule.parse().expect("rule"), &Outputs::default()));
    result.map_or_else(|error| error.to_string(), |_| "no error".to_owned())
}

#[test]
fn texts_without_words() {
    use Input::{Pair, Text};
    let model = tiny_bert();
    let rows: [(&str, &[Input<'_>], &str); 10] = [
        ("empty", &[Text("")], "input 1: the text is empty, expected at least one word"),
        ("spaces", &[Text(" \t\r\n\u{a0}\u{3000}")], "input 1: the text is empty, expected at least one word"),
        (
            "control characters",
            &[Text("\0\u{1}\u{1b}\u{7f}\u{85}")],
            "input 1: the text is empty, expected at least one word",
        ),
        (
            "format characters",
            &[Text("\u{200b}\u{feff}\u{202e}")],
            "input 1: the text is empty, expected at least one word",
        ),
        (
            "the third of three",
            &[Text("w7"), Pair("w8", "w9"), Text("")],
            "input 3: the text is empty, expected at least one word",
        ),
        ("first of a pair", &[Pair("", "w7")], "input 1: the first text is empty, expected at least one word"),
        ("second of a pair", &[Pair("w7", " ")], "input 1: the second text is empty, expected at least one word"),
        ("both of a pair", &[Pair("", "")], "input 1: the first text is empty, expected at least one word"),
        ("one word", &[Text("w7")], "no error"),
        ("one unknown word", &[Text("word")], "no error"),
    ];
    check_rows(rows.iter().flat_map(|(what, inputs, expected)| {
        ["dense", "topk:0.5"]
            .map(|rule| (format!("{what}, {rule}"), failure(&model, inputs, rule), (*expected).to_owned()))
    }));
}

/// Token ids and types that the model has no embedding for, and limits too small for the special tokens.
#[test]
fn tokens_that_the_model_cannot_look_up() {
    let one_type = all(vec![
        config("type_vocab_size", json!(1)),
        tensors(|tensors| {
            tensors.get_mut("bert.embeddings.token_type_embeddings.weight").expect("table").resize_rows(1);
        }),
        without_approx(),
    ]);
    let positions = |count: usize| {
        all(vec![
            config("max_position_embeddings", json!(count)),
            tensors(move |tensors| {
                tensors.get_mut("bert.embeddings.position_embeddings.weight").expect("table").resize_rows(count);
            }),
            without_approx(),
        ])
    };
    // Under BERT's own class the file's processor would be replaced, as in transformers.
    let cls_id = all(vec![
        tokenizer(|json| json["post_processor"]["special_tokens"]["[CLS]"]["ids"] = json!([200])),
        Box::new(|files| {
            let class = br#"{"tokenizer_class": "PreTrainedTokenizerFast"}"#;
            files.insert("tokenizer_config.json", class.to_vec());
        }),
    ]);
    let (text, pair) = ([Input::Text("w7 w8")], [Input::Pair("w7 w8", "w9")]);
    let rows: [(&str, Edit, &[Input<'_>], &str); 8] = [
        (
            "a pair, one token type",
            one_type,
            &pair,
            "input 1: token `w9` has token type 1, expected less than `type_vocab_size`, 1",
        ),
        ("a special id", cls_id, &text, "input 1: token `[CLS]` has id 200, expected less than `vocab_size`, 97"),
        ("3 positions, a text", positions(3), &text, "no error"),
        (
            "3 positions, a pair",
            positions(3),
            &pair,
            "input 1: no room for its words: 3 tokens at most, of which 3 are special",
        ),
        (
            "4 positions, a pair",
            positions(4),
            &pair,
            "input 1: no room for its words: 4 tokens at most, of which 3 are special",
        ),
        ("5 positions, a pair", positions(5), &pair, "no error"),
        (
            "no [UNK]",
            vocab(|vocab| vocab.replace("[UNK]", "[none]")),
            &[Input::Text("word")],
            "input 1: the tokenizer failed: WordPiece error: Missing [UNK] token from the vocabulary",
        ),
        ("no [UNK], known words", vocab(|vocab| vocab.replace("[UNK]", "[none]")), &text, "no error"),
    ];
    check_rows(rows.iter().map(|(what, edit, inputs, expected)| {
        let model = edited(edit).unwrap_or_else(|error| panic!("{what}: {error}"));
        ((*what).to_owned(), failure(&model, inputs, "dense"), (*expected).to_owned())
    }));
}

#[test]
fn rules_that_cannot_be_read() {
    const EXPECTED: &str = "expected dense, topk:R, concrete, oracle:R, forward:R or ltp[:T] (R: one ratio, T: one threshold, or one per layer)";
    const RANGE: &str = "is out of range, expected 0 < ratio <= 1";
    let rows = [
        ("", EXPECTED.to_owned()),
        ("magic", EXPECTED.to_owned()),
        ("Dense", EXPECTED.to_owned()),
        (":0.5", EXPECTED.to_owned()),
        ("spatten", EXPECTED.to_owned()),
        ("dense:0.5", "`dense` takes no ratio".to_owned()),
        ("concrete:", "`concrete` takes no ratio".to_owned()),
        ("topk", "a ratio is missing, as in `topk:0.5`".to_owned()),
        ("oracle", "a ratio is missing, as in `oracle:0.5`".to_owned()),
        ("forward", "a ratio is missing, as in `forward:0.5`".to_owned()),
        ("topk:", "`` is not a number".to_owned()),
        ("topk:half", "`half` is not a number".to_owned()),
        ("topk:0.5,", "`` is not a number".to_owned()),
        ("topk:0.5;0.4", "`0.5;0.4` is not a number".to_owned()),
        ("topk:0.5:0.4", "`0.5:0.4` is not a number".to_owned()),
        ("topk:50%", "`50%` is not a number".to_owned()),
        ("topk:0", format!("ratio 0 {RANGE}")),
        ("topk:-0", format!("ratio -0 {RANGE}")),
        ("topk:-0.5", format!("ratio -0.5 {RANGE}")),
        ("topk:1.0000001", format!("ratio 1.0000001 {RANGE}")),
        ("topk:NaN", format!("ratio NaN {RANGE}")),
        ("topk:inf", format!("ratio inf {RANGE}")),
        ("topk:1e-400", format!("ratio 1e-400 {RANGE}")),
        ("forward:0.9,0.5,2,0.1", format!("ratio 2 {RANGE}")),
    ];
    check_rows(rows.iter().map(|(rule, reason)| {
        let found = rule.parse::<Prune>().map_or_else(|error| error.to_string(), |prune| prune.to_string());
        (format!("{rule:?}"), found, format!("rule `{rule}`: {reason}"))
    }));
    let lists = [
        ("dense,,concrete", "rule `dense,`: expected dense"),
        (",dense", "rule ``: expected dense"),
        ("topk:0.5,nan", "rule `nan`: expected dense"),
        ("dense,0.5", "rule `dense,0.5`: expected dense"),
    ];
    for (list, expected) in lists {
        let error = Prune::parse_list(list).expect_err(list).to_string();
        assert!(error.starts_with(expected), "{list}: {error}");
    }
}

#[test]
fn rules_that_the_model_cannot_follow() {
    let bare = without_approx;
    let untrained = || -> Edit { tensors(|tensors| tensors.retain(|name, _| !name.ends_with("p_logit"))) };
    let no_approx = "an ApproxNet (folder approx/), and this model has none";
    let rows = [
        ("topk:0.9,0.5", all(vec![]), "rule `topk:0.9,0.5` needs one ratio or 4, one per layer, not 2".to_owned()),
        (
            "oracle:1,1,1,1,1",
            all(vec![]),
            "rule `oracle:1,1,1,1,1` needs one ratio or 4, one per layer, not 5".to_owned(),
        ),
        ("forward:1,1,1", all(vec![]), "rule `forward:1,1,1` needs one ratio or 4, one per layer, not 3".to_owned()),
        ("topk:0.5", bare(), format!("rule `topk:0.5` needs {no_approx}")),
        ("concrete", bare(), format!("rule `concrete` needs {no_approx}")),
        (
            "concrete",
            untrained(),
            "rule `concrete` needs learned thresholds (tensors encoder.layer.{i}.p_logit), and this model has none"
                .to_owned(),
        ),
        ("topk:0.5", untrained(), "no error".to_owned()),
        ("oracle:0.5", bare(), "no error".to_owned()),
        ("forward:0.5", bare(), "no error".to_owned()),
        ("dense", bare(), "no error".to_owned()),
    ];
    check_rows(rows.iter().map(|(rule, edit, expected)| {
        let model = edited(edit).expect("a model");
        // Without any input too: what is missing does not depend on the batch.
        let (with, without) = (failure(&model, &[Input::Text("w7")], rule), failure(&model, &[], rule));
        let found = if with == without { with } else { format!("{with}, but with no input: {without}") };
        ((*rule).to_owned(), found, expected.clone())
    }));
    let bare = edited(bare()).expect("a model");
    assert_eq!((bare.default_prune(), bare.has_approx_net()), (Prune::Dense, false));
}

fn words(count: usize) -> String {
    (0..count).map(|word| format!("w{} ", 5 + word * 7 % 92)).collect()
}

/// On the CPU the pruned rules take the tokens of the largest map of one layer, and all layers' maps must fit as well; the dense model
/// has no such limit.
#[test]
fn texts_over_the_limit_of_the_pruned_rules() {
    let model = edited(|files| {
        edit_config(files, |config| config["max_position_embeddings"] = json!(16_400));
        edit_all_tensors(files, |tensors| {
            tensors.get_mut("bert.embeddings.position_embeddings.weight").expect("table").resize_rows(16_400);
        });
        approx_config("max_position_embeddings", json!(16_400))(files);
    });
    let model = model.expect("a model of 16400 positions");
    let (short, long, longest, too_long) = (words(8), words(1368), words(16_382), words(16_383));
    let inputs = [Input::Text(&short), Input::Text(&too_long)];
    let rules = ["topk:0.1", "concrete", "oracle:0.1", "forward:0.1"];
    check_rows(rules.iter().map(|rule| {
        let expected =
            format!("rule `{rule}` needs inputs of at most 16384 tokens, input 2 has 16385; `dense` has no such limit");
        ((*rule).to_owned(), failure(&model, &inputs, rule), expected)
    }));
    check_rows(rules.iter().map(|rule| {
        let expected = "input 1: the attention maps of its 16384 tokens (`dense`, or a shorter input, needs less): 4294967296 bytes needed, \
                        the limit of a binding of this device is 1073741824";
        ((*rule).to_owned(), failure(&model, &[Input::Text(&longest)], rule), expected.to_owned())
    }));
    let inputs = [Input::Text(&short), Input::Text(&long)];
    check_rows(rules.iter().map(|rule| ((*rule).to_owned(), failure(&model, &inputs, rule), "no error".to_owned())));
    let results = classify(&mut engine(&model, BackendKind::Cpu), &inputs, &Prune::Dense);
    assert_eq!((results[1].tokens.len(), results[1].truncated), (1370, false));
}

#[test]
fn long_texts_lose_their_end() {
    let model = tiny_bert();
    let limit = max_tokens(&model);
    let texts = [limit - 2, limit - 1, 5000].map(words);
    for kind in BACKENDS {
        let mut engine = engine(&model, kind);
        for rule in ["dense", "topk:0.5", "concrete"] {
            let prune: Prune = rule.parse().expect("rule");
            let results = classify(&mut engine, &texts.each_ref().map(|text| Input::Text(text)), &prune);
            let lengths: Vec<(usize, bool)> =
                results.iter().map(|result| (result.tokens.len(), result.truncated)).collect();
            assert_eq!(lengths, [(limit, false), (limit, true), (limit, true)], "{kind:?}, {rule}");
            for result in &results[1..] {
                let whole = Classification { truncated: true, ..results[0].clone() };
                assert_eq!(*result, whole, "{kind:?}, {rule}: the result of the text that just fits");
            }
        }
    }
}

/// Of a pair the longer text is cut, then both alike (Hugging Face's `longest_first`).
#[test]
fn long_pairs_lose_the_end_of_the_longer_text() {
    let model = tiny_bert();
    let room = max_tokens(&model) - 3;
    let mut engine = engine(&model, BackendKind::Cpu);
    let rows = [
        ((10, room - 10), (10, room - 10)),
        ((10, room), (10, room - 10)),
        ((room, 10), (room - 10, 10)),
        ((room, room), (room / 2, room - room / 2)),
        ((room + 1, room), (room - room / 2, room / 2)),
        ((1, 100_000), (1, room - 1)),
        ((150_000, 300_000), (room / 2, room - room / 2)),
    ];
    for ((first, second), expected) in rows {
        let (text, pair) = (words(first), words(second));
        let result = classify(&mut engine, &[Input::Pair(&text, &pair)], &Prune::Dense).remove(0);
        let separator = result.tokens.iter().position(|token| token == "[SEP]").expect("[SEP]");
        let found = (separator - 1, result.tokens.len() - separator - 2);
        assert_eq!((found, result.truncated), (expected, first + second > room), "{first} and {second} words");
    }
}

#[test]
fn oddities_of_unicode_do_not_panic() {
    let emoji = "👩‍👩‍👧‍👦🏳️‍🌈 w7";
    let combining = format!("w7 e{} w8", "\u{301}".repeat(5000));
    let long_word = "a".repeat(100_000);
    let long_known = "w7".repeat(50_000);
    let long_symbols = "!?".repeat(50_000);
    let texts = [
        emoji,
        &combining,
        &long_word,
        &long_known,
        &long_symbols,
        "שלום w7 مرحبا \u{202e}w8\u{202c}",
        "w7\0w8 \0",
        "\u{fffd}\u{fffe}\u{ffff} w7",
        "\u{d7ff}\u{e000}\u{10ffff} w9",
        "[CLS] [SEP] [PAD] [MASK] [UNK] [cls]",
        "##7 ## w##7",
        "ﬁ ß İ ı ǅ Ⅷ ½ 片假名",
        "w7\u{85}w8\u{2028}w9\u{2029}",
        "\u{1f1e6}\u{1f1e7}",
        "e\u{301}\u{327}",
        "\u{1b}[31mred\u{1b}[0m",
    ];
    let inputs: Vec<Input<'_>> = texts.iter().map(|text| Input::Text(text)).collect();
    let mut engine = engine(&tiny_bert(), BackendKind::Cpu);
    for rule in ["dense", "topk:0.3", "concrete", "oracle:0.5", "forward:0.5"] {
        for (result, text) in classify(&mut engine, &inputs, &rule.parse().expect("rule")).iter().zip(&texts) {
            assert!(result.logits.iter().all(|logit| logit.is_finite()), "{rule}: {text:.20}");
            assert!(result.tokens.len() >= 3 && result.kept.iter().all(|kept| kept[0] == 0), "{rule}: {text:.20}");
        }
    }
}

/// Weights that are finite and still too large, in the model and in ApproxNet alone.
#[test]
fn numbers_that_overflow_are_an_error() {
    let large = |name: &'static str, shape: [usize; 2]| {
        move |tensors: &mut Tensors| {
            let weight = tensors.get_mut(name).expect("a weight");
            *weight = HostTensor::f32(&shape, &vec![f32::MAX; shape[0] * shape[1]]);
        }
    };
    let classifier = edited(|files| edit_tensors(files, large("classifier.weight", [5, 48]))).expect("a model");
    let query = large("bert.encoder.layer.1.attention.self.query.weight", [24, 24]);
    let approx = edited(approx_tensors(query)).expect("a model");
    for kind in BACKENDS {
        for (model, rule) in [(&classifier, "dense"), (&approx, "topk:0.5"), (&approx, "concrete")] {
            let mut engine = engine(model, kind);
            let input = [Input::Text("w7 w8 w9")];
            let result = pollster::block_on(engine.classify(&input, &rule.parse().expect("rule"), &Outputs::default()));
            let error = result.expect_err(rule).to_string();
            let expected = format!("numbers under `{rule}` are not finite: the weights overflow");
            assert_eq!(error, expected, "{kind:?}, {rule}");
        }
        // Without ApproxNet nothing is wrong.
        classify(&mut engine(&approx, kind), &[Input::Text("w7")], &Prune::Dense);
    }
}

/// A failed request leaves the engine as it was.
#[test]
fn an_engine_survives_bad_input() {
    for kind in BACKENDS {
        let mut engine = engine(&tiny_bert(), kind);
        let rule: Prune = "topk:0.5".parse().expect("rule");
        let inputs = [Input::Text("w7 w8 w9"), Input::Text("w10")];
        let before = classify(&mut engine, &inputs, &rule);
        let bad = [Input::Text("w7 w8 w9"), Input::Text("")];
        pollster::block_on(engine.classify(&bad, &rule, &Outputs::default())).expect_err("an empty text");
        let wrong: Prune = "topk:0.5,0.5".parse().expect("rule");
        pollster::block_on(engine.classify(&inputs, &wrong, &Outputs::default())).expect_err("two ratios");
        assert_eq!(classify(&mut engine, &inputs, &rule), before, "{kind:?}");
    }
}
