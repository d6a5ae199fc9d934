//! `sttabt classify`: where texts come from, and what `--json` prints.

use std::io::ErrorKind;

use crate::command::*;
use crate::common::edit::{check_rows, edit_config, edit_tensors, save, tiny_files};
use crate::common::{classify, engine, tiny_bert};
use serde_json::{Value, json};
use sttabt::{BackendKind, Input};

/// `text` or `text|pair` of every result.
fn texts(report: &Value) -> Vec<String> {
    let text = |result: &Value| match &result["text_pair"] {
        Value::Null => result["text"].as_str().expect("text").to_owned(),
        pair => format!("{}|{}", result["text"].as_str().expect("text"), pair.as_str().expect("a pair's text")),
    };
    report["results"].as_array().expect("results").iter().map(text).collect()
}

#[test]
fn json_has_exactly_its_shape() {
    for rule in ["dense", "topk:0.5", "topk:0.9,0.7,0.5,0.3", "concrete", "oracle:0.4", "forward:0.6", "ltp:0.03"] {
        let report = run(tiny("classify", &["--json", "--prune", rule, "w7 w8 w9 w10", "w11"])).json();
        let input_keys = "text text_pair tokens input_ids";
        check_report(&report, ("tests/fixtures/tiny-bert", rule), input_keys, &[6, 3]);
        for (result, num_tokens) in report["results"].as_array().expect("results").iter().zip([6, 3]) {
            assert_eq!(result["tokens"].as_array().expect("tokens").len(), num_tokens);
            assert_eq!(result["input_ids"].as_array().expect("ids").len(), num_tokens);
            assert_eq!(result["text_pair"], Value::Null);
        }
    }
}

/// The drawing shows what people read of tokens; `--json` has the tokens themselves.
#[test]
fn tokens_are_drawn_without_their_marks() {
    for (name, text, drawn, first_tokens) in [
        ("roberta", "I re-read café", "<s> I re-read caf…é </s>", ["<s>", "I", "Ġre", "-"]),
        ("xlm-roberta", "I like it, café", "<s> ␣I ␣like it, ␣café </s>", ["<s>", "▁", "I", "▁"]),
        ("bert-relu", "w7 w8", "[CLS] ", ["[CLS]", "w", "##7", "w"]),
    ] {
        let model = format!("tests/fixtures/families/{name}");
        let stdout = run(with_model(&model, "classify", &["--prune", "dense", text])).quiet();
        assert!(stdout.contains(drawn), "{name}: {stdout}");
        let report = run(with_model(&model, "classify", &["--json", "--prune", "dense", text])).json();
        let tokens = report["results"][0]["tokens"].as_array().expect("tokens");
        assert_eq!(tokens[..4], first_tokens, "{name}");
    }
}

/// The command prints what the library computes, in the order of its arguments.
#[test]
fn several_texts_are_one_ragged_batch() {
    let given = ["w51 w41 w11", "w5", "w6 w7 w8 w9 w10 w11 w12 w13", "w7"];
    let report = run(tiny("classify", &[&["--json", "--prune", "topk:0.4"], &given[..]].concat())).json();
    assert_eq!(texts(&report), given);
    let inputs = given.map(Input::Text);
    let mut engine = engine(&tiny_bert(), BackendKind::Cpu);
    let computed = classify(&mut engine, &inputs, &"topk:0.4".parse().expect("rule"));
    check_results(&report, &computed);
    let ids: Vec<&Value> =
        report["results"].as_array().expect("results").iter().map(|result| &result["input_ids"]).collect();
    assert_eq!(json!(ids), json!(computed.iter().map(|result| &result.input_ids).collect::<Vec<_>>()));
}

/// `auto` runs what it expects to be faster, says what it expected, and answers as the rule that it took.
#[test]
fn auto_takes_what_it_expects_to_be_faster() {
    for (asked, rule) in [("auto", "topk:0.5"), ("auto:topk:0.4", "topk:0.4"), ("auto:concrete", "concrete")] {
        let report = run(tiny("classify", &["--json", "--prune", asked, "w51 w41 w11", "w5"])).json();
        assert_eq!(report["prune"], format!("auto:{rule}"));
        let [decision] = report["decisions"].as_array().expect("decisions").as_slice() else { panic!("{report}") };
        let ms = |name: &str| decision[name].as_f64().filter(|ms| *ms >= 0.0).expect("milliseconds");
        let taken = if ms("pruned_ms") < ms("dense_ms") { rule } else { "dense" };
        assert_eq!(decision["prune"], taken);
        let alone = run(tiny("classify", &["--json", "--prune", taken, "w51 w41 w11", "w5"])).json();
        for (result, alone) in
            report["results"].as_array().expect("results").iter().zip(alone["results"].as_array().expect("results"))
        {
            assert_eq!(
                (&result["prune"], &result["kept"], &result["logits"]),
                (&json!(taken), &alone["kept"], &alone["logits"])
            );
        }
    }
    let text = run(tiny("classify", &["--prune", "auto", "w51"])).quiet();
    assert!(text.contains("auto: from what this device took, ") && text.contains(" for topk:0.5"), "{text}");
    let report = run(tiny("classify", &["--json", "--prune", "auto:dense", "w51"])).json();
    assert_eq!((&report["prune"], &report["decisions"]), (&json!("dense"), &Value::Null));
    for wrong in ["auto:", "auto:fast", "automatic", "auto:auto"] {
        let failure = run(tiny("classify", &["--prune", wrong, "w51"])).failure();
        assert!(failure.starts_with("2 ") && failure.ends_with("; or auto, auto:RULE"), "{failure}");
    }
}

#[test]
fn texts_from_files_and_standard_input() {
    let folder = scratch("classify_files");
    const NOTHING: &str =
        "2 error: nothing to classify: give a TEXT, `-`, --file or --image (see sttabt classify --help)";
    let rows: [(&str, &[&str], &[u8], &str); 29] = [
        ("lines", &["--file", "FILE"], b"w7 w8\nw9\n", "w7 w8, w9"),
        ("no newline at the end", &["--file", "FILE"], b"w7\nw9", "w7, w9"),
        ("CRLF", &["--file", "FILE"], b"w7\r\nw9\r\n", "w7, w9"),
        ("byte order mark", &["--file", "FILE"], b"\xef\xbb\xbfw7\nw8", "w7, w8"),
        ("a tab without --pair", &["--file", "FILE"], b"w7\tw8", "w7\tw8"),
        ("after the texts", &["w5", "--file", "FILE", "w6"], b"w7\n", "w5, w6, w7"),
        ("standard input", &["-"], b"w7\r\nw8\n", "w7, w8"),
        ("standard input in between", &["w5", "-", "w6"], b"w7\n", "w5, w7, w6"),
        ("pairs", &["--pair", "--file", "FILE"], b"w7\tw8\nw9 w10\tw11\n", "w7|w8, w9 w10|w11"),
        ("pairs, two tabs", &["--pair", "--file", "FILE"], b"w7\tw8\tw9\n", "w7|w8\tw9"),
        ("pairs from standard input", &["--pair", "-"], b"w7\tw8\n", "w7|w8"),
        ("pairs as arguments", &["--pair", "w7", "w8", "w9", "w10"], b"", "w7|w8, w9|w10"),
        (
            "empty line",
            &["--file", "FILE"],
            b"w7\n\nw8\n",
            "1 error: FILE, line 2: a text is empty, expected at least one word",
        ),
        (
            "line of spaces",
            &["--file", "FILE"],
            b"w7\n \r\nw8\n",
            "1 error: FILE, line 2: a text is empty, expected at least one word",
        ),
        ("blank lines at the end", &["--file", "FILE"], b"w7\nw8 \n\n \t\r\n\n", "w7, w8 "),
        ("pairs, blank lines at the end", &["--pair", "-"], b"w7\tw8\n\t\n\n", "w7|w8"),
        ("blank lines alone", &["-"], b"\n \n", NOTHING),
        (
            "UTF-16",
            &["--file", "FILE"],
            b"\xff\xfew\x007\x00\n\x00",
            "1 error: FILE: UTF-16, expected UTF-8; convert it with `iconv -f UTF-16 -t UTF-8`",
        ),
        (
            "UTF-16 from standard input",
            &["-"],
            b"\xfe\xff\x00w\x007\x00\n",
            "1 error: standard input: UTF-16, expected UTF-8; convert it with `iconv -f UTF-16 -t UTF-8`",
        ),
        (
            "UTF-16 without a mark",
            &["-"],
            b"w\x007\x00\n\x00",
            "1 error: standard input: UTF-16LE, expected UTF-8; convert it with `iconv -f UTF-16LE -t UTF-8`",
        ),
        ("gzip", &["-"], b"\x1f\x8b\x08\x00", "1 error: standard input: compressed by gzip, expected text in UTF-8"),
        (
            "no tab",
            &["--pair", "--file", "FILE"],
            b"w7\tw8\nw9\n",
            "1 error: FILE, line 2: no tab, expected two texts with a tab between them",
        ),
        (
            "nothing after the tab",
            &["--pair", "--file", "FILE"],
            b"w7\t\n",
            "1 error: FILE, line 1: a text is empty, expected at least one word",
        ),
        (
            "not UTF-8",
            &["--file", "FILE"],
            b"w7\nw\xff8\n",
            "1 error: FILE, line 2: not UTF-8 (byte 0xff); if the file is Latin-1 or Windows-1252, convert it with `iconv -f WINDOWS-1252 -t UTF-8`",
        ),
        (
            "standard input is not UTF-8",
            &["-"],
            b"\xc3",
            "1 error: standard input, line 1: not UTF-8 (byte 0xc3); if the file is Latin-1 or Windows-1252, convert it with `iconv -f WINDOWS-1252 -t UTF-8`",
        ),
        ("empty line of standard input", &["-"], b"\n", NOTHING),
        ("empty file", &["--file", "FILE"], b"", NOTHING),
        (
            "control characters alone",
            &["--file", "FILE"],
            b"w7\n\x01\x02\n",
            "1 error: input 2: the text is empty, expected at least one word",
        ),
        (
            "missing file",
            &["--file", "FILE.missing"],
            b"",
            "1 error: cannot read FILE.missing: No such file or directory (os error 2)",
        ),
    ];
    check_rows(rows.into_iter().enumerate().map(|(index, (what, args, bytes, expected))| {
        let name = file(&folder, &format!("{index}.txt"), bytes);
        let args: Vec<String> = args.iter().map(|arg| arg.replace("FILE", &name)).collect();
        let mut command = tiny("classify", &["--json"]);
        command.args(args);
        let ended = run_with_stdin(command, bytes);
        let found = if ended.code == 0 { texts(&ended.json()).join(", ") } else { ended.failure() };
        (what.to_owned(), found, expected.replace("FILE", &name))
    }));
}

#[test]
fn arguments_that_make_no_sense() {
    const RANGE: &str = "is out of range, expected 0 < ratio <= 1";
    let rows: [(&[&str], String); 16] = [
        (&[], "2 error: nothing to classify: give a TEXT, `-`, --file or --image (see sttabt classify --help)".to_owned()),
        (&["--pair", "w7"], "2 error: --pair takes texts two by two, and there are 1".to_owned()),
        (&["--pair", "w7", "w8", "w9"], "2 error: --pair takes texts two by two, and there are 3".to_owned()),
        (&["--pair", "w7", "-"], "2 error: with --pair, `-` stands alone: its lines hold both texts".to_owned()),
        (&["-", "-"], "2 error: `-` reads standard input, which can be read only once".to_owned()),
        (&["--nonsense", "w7"], "2 error: unexpected argument '--nonsense' found".to_owned()),
        (&["--prune", "magic", "w7"], "2 error: invalid value 'magic' for '--prune <RULE>': expected dense, topk:R, concrete, oracle:R, forward:R or ltp[:T] (R: one ratio, T: one threshold, or one per layer); or auto, auto:RULE".to_owned()),
        (&["--prune", "topk:2", "w7"], format!("2 error: invalid value 'topk:2' for '--prune <RULE>': ratio 2 {RANGE}")),
        (&["--prune", "dense:0.5", "w7"], "2 error: invalid value 'dense:0.5' for '--prune <RULE>': `dense` takes no ratio".to_owned()),
        (&["--prune", "dense,topk:0.5", "w7"], "2 error: invalid value 'dense,topk:0.5' for '--prune <RULE>': expected dense, topk:R, concrete, oracle:R, forward:R or ltp[:T] (R: one ratio, T: one threshold, or one per layer); or auto, auto:RULE".to_owned()),
        (&["--prune", "topk:0.5,0.5", "w7"], "1 error: rule `topk:0.5,0.5` needs one ratio or 4, one per layer, not 2".to_owned()),
        (&["--prune"], "2 error: a value is required for '--prune <RULE>' but none was supplied".to_owned()),
        (&["--adapter", "llvmpipe", "w7"], "2 error: --adapter names a GPU adapter, and --backend cpu uses none".to_owned()),
        (&["w7", ""], "1 error: input 2: the text is empty, expected at least one word".to_owned()),
        (&["--pair", "w7", " "], "1 error: input 1: the second text is empty, expected at least one word".to_owned()),
        (&["--json", "--json", "w7"], "2 error: the argument '--json' cannot be used multiple times".to_owned()),
    ];
    check_rows(
        rows.into_iter().map(|(args, expected)| (format!("{args:?}"), run(tiny("classify", args)).failure(), expected)),
    );
}

#[test]
fn texts_that_begin_with_a_dash() {
    let report = run(tiny("classify", &["--json", "--", "-w7", "--help", "- w8"])).json();
    assert_eq!(texts(&report), ["-w7", "--help", "- w8"]);
}

#[test]
fn long_texts_say_that_they_were_cut() {
    let text = "w7 ".repeat(200);
    let report = run(tiny("classify", &["--json", &text, "w8"])).json();
    let results = &report["results"];
    assert_eq!((&results[0]["truncated"], &results[1]["truncated"]), (&json!(true), &json!(false)));
    assert_eq!(results[0]["tokens"].as_array().expect("tokens").len(), 160);
    let stdout = run(tiny("classify", &[&text, "w8"])).quiet();
    let note = "the text is longer than the 160 tokens that are read; the rest was cut off\n";
    assert_eq!(stdout.matches(note).count(), 1, "{stdout}");
}

#[test]
fn a_regression_model_has_a_number_and_no_probabilities() {
    let folder = scratch("classify_regression");
    let mut files = tiny_files();
    edit_config(&mut files, |config| config["id2label"] = json!({"0": "similarity"}));
    edit_tensors(&mut files, |tensors| {
        for name in ["classifier.weight", "classifier.bias"] {
            tensors.get_mut(name).expect("classifier").resize_rows(1);
        }
    });
    save(&files, &folder);
    let folder = path(&folder);
    let classify =
        |args: &[&str]| run(sttabt([&["classify", "--backend", "cpu", "--model", &folder, "w7"], args].concat()));
    let result = classify(&["--json"]).json()["results"][0].clone();
    assert_eq!((&result["probs"], &result["label"]), (&json!([]), &json!("similarity")));
    let logit = numbers(&result["logits"])[0];
    let stdout = classify(&[]).quiet();
    assert!(stdout.contains(&format!("\nsimilarity {logit:.3}   retention ")), "{stdout}");
}

#[test]
fn the_model_folder_is_found_or_missed_by_name() {
    let (tiny, missing) = (tiny_folder(), "/nonexistent/model");
    let classify = |model: Option<&str>, variable: Option<&str>| {
        let mut command = sttabt(["classify", "--backend", "cpu", "--json", "w7"]);
        command.args(model.map_or(vec![], |model| vec!["--model", model]));
        command.envs(variable.map(|variable| ("STTABT_MODEL", variable)));
        let ended = run(command);
        if ended.code == 0 { ended.json()["model"].as_str().expect("model").to_owned() } else { ended.failure() }
    };
    assert_eq!(classify(None, Some(&tiny)), tiny);
    assert_eq!(classify(Some(&tiny), Some(missing)), tiny);
    assert_eq!(
        classify(Some(missing), Some(&tiny)),
        format!("1 error: no model folder at {missing} (given by --model)")
    );
    assert_eq!(classify(None, Some(missing)), format!("1 error: no model folder at {missing} (given by STTABT_MODEL)"));
    let file = format!("{tiny}/config.json");
    let expected =
        format!("1 error: no model folder at {file} (given by --model): it is a file; name its folder, {tiny}");
    assert_eq!(classify(Some(&file), None), expected);
    let way_out = |name: &str| {
        format!(
            "nothing is downloaded here; if this is a model of the hub, run `hf download {name} --local-dir DIR` and name DIR"
        )
    };
    for (name, repository) in [
        ("distilbert/distilbert-base-uncased", "distilbert/distilbert-base-uncased"),
        ("bert-base-uncased", "bert-base-uncased"),
        ("https://huggingface.co/BAAI/bge-small-en", "BAAI/bge-small-en"),
    ] {
        let expected = format!("1 error: no model folder at {name} (given by --model): {}", way_out(repository));
        assert_eq!(classify(Some(name), None), expected);
    }
    let empty = scratch("classify_empty_model");
    let expected =
        format!("1 error: cannot read {0}/config.json: No such file or directory (os error 2)", empty.display());
    assert_eq!(classify(Some(&path(&empty)), None), expected);
    save(&tiny_files(), &empty);
    std::fs::write(empty.join("model.safetensors"), b"").expect("a file");
    let expected = format!("1 error: {}: model.safetensors: an empty file: download it again", empty.display());
    assert_eq!(classify(Some(&path(&empty)), None), expected);
}

/// The only test with files outside the target folder: above that one lies the repository, with its models.
#[test]
#[cfg(unix)]
fn without_a_model_it_says_where_it_looked() {
    let folder = std::env::temp_dir().join(format!("sttabt-no-model-{}", std::process::id()));
    let (bin, work) = (folder.join("bin"), folder.join("work"));
    std::fs::create_dir_all(&bin).and_then(|()| std::fs::create_dir_all(&work)).expect("folders");
    let program = bin.join("sttabt");
    std::fs::copy(env!("CARGO_BIN_EXE_sttabt"), &program).expect("a copy");
    let end = |args: &[&str]| {
        let mut command = std::process::Command::new(&program);
        command.args(args).current_dir(&work).env_remove("STTABT_MODEL").env("NODEVICE_SELECT", "1");
        // Another test's process may still hold the copy open for writing, between its fork and its exec.
        loop {
            match command.output() {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                output => break Ended::from(output.expect("the copy starts")),
            }
        }
    };
    let (ended, info) = (end(&["classify", "--backend", "cpu", "w7"]), end(&["info"]));
    let folder = folder.canonicalize().expect("the folder");
    let mut places: Vec<_> =
        work.canonicalize().expect("the folder").ancestors().map(|path| path.join("models/sst2-minilm")).collect();
    places.push(folder.join("bin/models/sst2-minilm"));
    let places: Vec<String> = places.iter().map(|place| format!("  {}\n", place.display())).collect();
    std::fs::remove_dir_all(&folder).expect("removed");
    let expected =
        format!("no model: --model and STTABT_MODEL are not given, and there is no folder at\n{}", places.concat());
    assert_eq!((ended.code, ended.stderr), (1, format!("error: {expected}")));
    // The adapters of this machine are worth knowing without one.
    let info = info.quiet();
    assert!(info.starts_with("adapter ") && info.ends_with(&format!("\n\n{expected}")), "{info}");
}

/// Nobody named the rule that cannot run.
#[test]
fn a_default_rule_that_the_model_cannot_run_says_what_can() {
    let mut files = tiny_files();
    files.remove_folder("approx");
    edit_config(&mut files, |config| config["sttabt"]["default_prune"] = json!("topk:0.5"));
    let folder = scratch("default_without_approx");
    save(&files, &folder);
    let expected = "1 error: the model's default rule `topk:0.5` needs an ApproxNet (folder approx/), and this model has none; \
                    name another one, as in --prune dense";
    assert_eq!(run(with_model(&path(&folder), "classify", &["w7"])).failure(), expected);
    assert!(run(with_model(&path(&folder), "classify", &["--prune", "dense", "w7"])).quiet().contains("dense on"));
}
