//! `sttabt eval`: which columns are read, what is measured, and what is said about a broken file.

use crate::command::*;
use crate::common::edit::{check_rows, edit_config, edit_tensors, save, tiny_files};
use crate::common::{classify, engine, tiny_bert};
use serde_json::{Value, json};
use sttabt::{BackendKind, Input, Prune};

const TEXTS: [&str; 6] = ["w7 w8", "w9", "w10 w11 w12 w13", "w14", "w15 w16", "w17 w90 w91"];

/// What the dense model answers to [`TEXTS`].
fn answers() -> Vec<usize> {
    let results = classify(&mut engine(&tiny_bert(), BackendKind::Cpu), &TEXTS.map(Input::Text), &Prune::Dense);
    results.iter().filter_map(|result| result.label_index).collect()
}

/// A file of [`TEXTS`] whose labels are the dense model's, but for the first `wrong` rows.
fn table(header: &str, wrong: usize, row: impl Fn(&str, usize) -> String) -> String {
    let rows = TEXTS
        .iter()
        .zip(answers())
        .enumerate()
        .map(|(index, (text, answer))| row(text, if index < wrong { (answer + 1) % 5 } else { answer }));
    std::iter::once(header.to_owned()).chain(rows).filter(|line| !line.is_empty()).map(|line| line + "\n").collect()
}

fn accuracy(report: &Value) -> f64 {
    report["results"][0]["metrics"]["accuracy"].as_f64().expect("accuracy")
}

#[test]
fn json_has_exactly_its_shape() {
    let data =
        file(&scratch("eval_json"), "data.tsv", table("sentence\tlabel", 2, |text, label| format!("{text}\t{label}")));
    let rules = "dense,topk:0.9,0.7,0.5,0.3,concrete,oracle:0.5,forward:0.5";
    let report = run(tiny("eval", &["--json", "--prune", rules, &data])).json();
    assert_eq!(keys(&report), names("results"));
    let results = report["results"].as_array().expect("results");
    let rules: Vec<&str> = results.iter().map(|result| result["prune"].as_str().expect("rule")).collect();
    assert_eq!(rules, ["dense", "topk:0.9,0.7,0.5,0.3", "concrete", "oracle:0.5", "forward:0.5"]);
    for result in results {
        assert_eq!(keys(result), names("prune metrics agreement retention gflops gflops_dense ms samples"));
        assert_eq!(result["samples"], 6);
        for (name, value) in result.as_object().expect("an object") {
            let positive = value.as_f64().is_none_or(|number| number > 0.0 && number.is_finite());
            assert!(positive, "{name}: {value}");
        }
    }
    assert_eq!(results[0]["metrics"]["accuracy"].as_f64().expect("accuracy"), 4.0 / 6.0);
    assert_eq!((&results[0]["agreement"], &results[0]["retention"]), (&json!(1.0), &json!(1.0)));
    assert_eq!(results[0]["gflops"], results[0]["gflops_dense"]);
    // Without a dense run there is nothing to agree with.
    let report = run(tiny("eval", &["--json", "--prune", "topk:0.5", &data])).json();
    assert_eq!(report["results"][0].get("agreement"), None);
}

#[test]
fn columns_are_found() {
    let folder = scratch("eval_columns");
    let plain = |text: &str, label: usize| format!("{text}\t{label}");
    let indexed = |text: &str, label: usize| format!("7\t{text}\tother\t{label}");
    let rows: [(&str, String, &[&str]); 13] = [
        ("SST-2", table("sentence\tlabel", 3, plain), &[]),
        ("any case", table("Sentence\tLABEL", 3, plain), &[]),
        ("spaces around the names", table(" sentence \tlabel\r", 3, |text, label| format!("{text}\t{label}\r")), &[]),
        ("byte order mark", format!("\u{feff}{}", table("sentence\tlabel", 3, plain)), &[]),
        ("label first", table("label\tsentence", 3, |text, label| format!("{label}\t{text}")), &[]),
        ("labels by name", table("sentence\tlabel", 3, |text, label| format!("{text}\tlabel_{label}")), &[]),
        (
            "quotes are characters",
            table("sentence\tlabel", 3, |text, label| format!("{text}\t{label}"))
                .replace("\tlabel", "\tlabel\tnote\"")
                .replace("\n", "\t\"\n")
                .replace("note\"\t\"", "note\""),
            &[],
        ),
        (
            "named columns",
            table("id\tbody\tx\tclass", 3, indexed),
            &["--text-column", "body", "--label-column", "class"],
        ),
        ("numbered columns", table("id\tbody\tx\tclass", 3, indexed), &["--text-column", "2", "--label-column", "4"]),
        ("no header", table("", 3, indexed), &["--no-header", "--text-column", "2", "--label-column", "4"]),
        ("named over known", table("id\tbody\tsentence\tlabel", 3, indexed), &["--text-column", "body"]),
        ("small batches", table("sentence\tlabel", 3, plain), &["--batch", "1"]),
        ("batches that do not divide", table("sentence\tlabel", 3, plain), &["--batch", "4"]),
    ];
    check_rows(rows.iter().enumerate().map(|(index, (what, text, args))| {
        let data = file(&folder, &format!("{index}.tsv"), text);
        let ended = run(tiny("eval", &[&["--json", "--prune", "dense"], *args, &[&data]].concat()));
        let found = if ended.code == 0 { accuracy(&ended.json()).to_string() } else { ended.failure() };
        ((*what).to_owned(), found, "0.5".to_owned())
    }));
    // Of the first rows, the wrong ones come first.
    let data = file(&folder, "limit.tsv", table("sentence\tlabel", 1, plain));
    for (limit, expected) in [("1", 0.0), ("2", 0.5), ("4", 0.75), ("100", 5.0 / 6.0)] {
        let report = run(tiny("eval", &["--json", "--prune", "dense", "--limit", limit, &data])).json();
        assert_eq!(accuracy(&report), expected, "--limit {limit}");
    }
}

/// A pair is two texts with a separator between them: other tokens, other FLOPs than either alone.
#[test]
fn pairs_by_glue_s_names() {
    let folder = scratch("eval_pairs");
    let model = tiny_bert();
    let result =
        classify(&mut engine(&model, BackendKind::Cpu), &[Input::Pair("w7 w8", "w9")], &Prune::Dense).remove(0);
    let gflops = result.flops.total() as f64 / 1e9;
    let names = [
        "index\tsentence1\tsentence2\tlabel",
        "index\tquestion1\tquestion2\tis_duplicate",
        "index\tpremise\thypothesis\tlabel",
        "index\tquestion\tsentence\tlabel",
        "Quality\t#1 String\t#2 String\t#1 ID",
        "index\tsentence1\tsentence2\tgold_label",
    ];
    for header in names {
        let label = result.label_index.expect("a label");
        let row = if header.starts_with("Quality") {
            format!("{label}\tw7 w8\tw9\t12")
        } else {
            format!("0\tw7 w8\tw9\t{label}")
        };
        let data = file(&folder, "data.tsv", format!("{header}\n{row}\n"));
        let report = run(tiny("eval", &["--json", "--prune", "dense", &data])).json();
        assert_eq!((accuracy(&report), report["results"][0]["gflops"].as_f64()), (1.0, Some(gflops)), "{header}");
    }
    let data = file(&folder, "named.tsv", format!("a\tb\tc\nw7 w8\tw9\t{}\n", result.label_index.expect("a label")));
    let args = ["--text-column", "a", "--pair-column", "2", "--label-column", "c"];
    let report = run(tiny("eval", &[&["--json", "--prune", "dense"], &args[..], &[&data]].concat())).json();
    assert_eq!((accuracy(&report), report["results"][0]["gflops"].as_f64()), (1.0, Some(gflops)));
}

#[test]
fn broken_tables() {
    let folder = scratch("eval_broken");
    let labels = "expected 0 to 4 or one of: LABEL_0, LABEL_1, LABEL_2, LABEL_3, LABEL_4";
    let texts = "expected `sentence` or `text`, or `sentence1` and `sentence2`, or name one with --text-column";
    let rows: [(&str, &[u8], &[&str], String); 24] = [
        ("empty", b"", &[], "1 error: FILE: the file is empty".to_owned()),
        ("white", b"\n \r\n", &[], "1 error: FILE: the file is empty".to_owned()),
        ("header alone", b"sentence\tlabel\n", &[], "1 error: FILE: no rows".to_owned()),
        ("no text column", b"prose\tlabel\nw7\t0\n", &[], format!("1 error: FILE: no text column; {texts}; the header has `prose`, `label`")),
        ("no label column", b"sentence\tkind\nw7\t0\n", &[], "1 error: FILE: no label column; expected `label`, or name one with --label-column; the header has `sentence`, `kind`".to_owned()),
        ("no such column", b"sentence\tlabel\nw7\t0\n", &["--label-column", "class"], "1 error: FILE: no column `class`; the header has `sentence`, `label`".to_owned()),
        ("column 0", b"sentence\tlabel\nw7\t0\n", &["--text-column", "0"], "1 error: FILE: no column `0`; the header has `sentence`, `label`".to_owned()),
        ("column 3 of 2", b"sentence\tlabel\nw7\t0\n", &["--text-column", "3"], "1 error: FILE: no column `3`; the header has `sentence`, `label`".to_owned()),
        ("pair column alone", b"sentence\tlabel\nw7\t0\n", &["--pair-column", "1"], "2 error: --pair-column needs --text-column".to_owned()),
        ("no header, no columns", b"w7\t0\n", &["--no-header"], "2 error: --no-header needs --text-column and --label-column".to_owned()),
        ("no header, no label column", b"w7\t0\n", &["--no-header", "--text-column", "1"], "2 error: --no-header needs --label-column".to_owned()),
        ("no header, a name", b"w7\t0\n", &["--no-header", "--text-column", "sentence", "--label-column", "2"], "1 error: FILE: no column `sentence`; without a header, columns are given by number from 1".to_owned()),
        ("no header, a column too far", b"w7\t0\nw8\t1\n", &["--no-header", "--text-column", "1", "--label-column", "3"], "1 error: FILE, line 1: 2 columns, expected a column 3".to_owned()),
        ("a label too large", b"sentence\tlabel\nw7\t0\nw8\t5\n", &[], format!("1 error: FILE, line 3: label `5`, {labels}")),
        ("a negative label", b"sentence\tlabel\nw7\t-2\n", &[], format!("1 error: FILE, line 2: label `-2`, {labels}")),
        ("no labels", b"sentence\tlabel\nw7\t-1\n", &[], "1 error: FILE, line 2: no row has a label: they are all `-1`".to_owned()),
        ("no label", b"sentence\tlabel\nw7\t\n", &[], format!("1 error: FILE, line 2: label ``, {labels}")),
        ("a label's name in control characters", b"sentence\tlabel\nw7\t\x1b[2J\n", &[], format!("1 error: FILE, line 2: label `\u{fffd}[2J`, {labels}")),
        ("a short row", b"sentence\tlabel\nw7\t0\nw8\n", &[], "1 error: FILE, line 3: 1 columns, expected 2 as in the header".to_owned()),
        ("a long row", b"sentence\tlabel\nw7\t0\t1\n", &[], "1 error: FILE, line 2: 3 columns, expected 2 as in the header".to_owned()),
        ("no text", b"sentence\tlabel\nw7\t0\n\t1\n", &[], "1 error: FILE, line 3: the text is empty".to_owned()),
        ("a text without words", b"sentence\tlabel\nw7\t0\n\n\x01\t1\n", &["--batch", "1"], "1 error: FILE, line 4: the text is empty, expected at least one word".to_owned()),
        ("not UTF-8", b"sentence\tlabel\nw7\t0\nw\xff\t1\n", &[], "1 error: FILE, line 3: not UTF-8 (byte 0xff); if the file is Latin-1 or Windows-1252, convert it with `iconv -f WINDOWS-1252 -t UTF-8`".to_owned()),
        ("missing", b"", &["FILE.missing"], "1 error: cannot read FILE.missing: No such file or directory (os error 2)".to_owned()),
    ];
    check_rows(rows.iter().enumerate().map(|(index, (what, bytes, args, expected))| {
        let data = file(&folder, &format!("{index}.tsv"), bytes);
        let mut command = tiny("eval", &["--prune", "dense"]);
        command.args(args.iter().map(|arg| arg.replace("FILE", &data)));
        if *what != "missing" {
            command.arg(&data);
        }
        ((*what).to_owned(), run(command).failure(), expected.replace("FILE", &data))
    }));
}

#[test]
fn arguments_that_make_no_sense() {
    let data = file(&scratch("eval_usage"), "data.tsv", "sentence\tlabel\nw7\t0\n");
    let rows: [(&[&str], &str); 7] = [
        (&[], "2 error: the following required arguments were not provided:"),
        (
            &["--prune", "magic", &data],
            "2 error: rule `magic`: expected dense, topk:R, concrete, oracle:R, forward:R or ltp[:T] (R: one ratio, T: one threshold, or one per layer)",
        ),
        (
            &["--prune", "dense,topk:0", &data],
            "2 error: rule `topk:0`: ratio 0 is out of range, expected 0 < ratio <= 1",
        ),
        (&["--prune", "dense,topk:1,1", &data], "1 error: rule `topk:1,1` needs one ratio or 4, one per layer, not 2"),
        (&["--batch", "0", &data], "2 error: invalid value '0' for '--batch <N>': 0 is not in 1..=65536"),
        (&["--limit", "0", &data], "2 error: invalid value '0' for '--limit <N>': 0 is not in 1..=4294967295"),
        (&["--limit", "-1", &data], "2 error: unexpected argument '-1' found"),
    ];
    check_rows(
        rows.into_iter()
            .map(|(args, expected)| (format!("{args:?}"), run(tiny("eval", args)).failure(), expected.to_owned())),
    );
}

/// Labels equal to the answers correlate perfectly, their negatives the other way round.
#[test]
fn regression_is_measured_by_correlation() {
    let folder = scratch("eval_regression");
    let mut files = tiny_files();
    edit_config(&mut files, |config| config["id2label"] = json!({"0": "similarity"}));
    edit_tensors(&mut files, |tensors| {
        for name in ["classifier.weight", "classifier.bias"] {
            tensors.get_mut(name).expect("classifier").resize_rows(1);
        }
    });
    save(&files, &folder.join("model"));
    let model = path(&folder.join("model"));
    let results = classify(
        &mut engine(&crate::common::load(&folder.join("model")), BackendKind::Cpu),
        &TEXTS.map(Input::Text),
        &Prune::Dense,
    );
    for sign in [1.0, -1.0] {
        let rows = TEXTS.iter().zip(&results).map(|(text, result)| format!("{text}\t{}\n", sign * result.logits[0]));
        let data = file(&folder, "data.tsv", format!("sentence\tscore\n{}", rows.collect::<String>()));
        let eval = |args: &[&str]| {
            run(sttabt([&["eval", "--backend", "cpu", "--prune", "dense", "--model", &model, &data], args].concat()))
        };
        let metrics = eval(&["--json"]).json()["results"][0]["metrics"].clone();
        let metric = |name: &str| metrics[name].as_f64().expect("a metric");
        assert!(
            (metric("pearson") - f64::from(sign)).abs() < 1e-6 && (metric("spearman") - f64::from(sign)).abs() < 1e-12,
            "{metrics}"
        );
        assert!(eval(&[]).quiet().contains("\nrule   pearson  spearman  retention"));
        let data = file(&folder, "bad.tsv", "sentence\tscore\nw7\thigh\n");
        let failure = run(sttabt(["eval", "--backend", "cpu", "--model", &model, &data])).failure();
        assert_eq!(failure, format!("1 error: {data}, line 2: label `high`, expected a number"));
    }
}

/// Two labels bring F1 and Matthews; the table for people has the numbers of the JSON.
#[test]
fn the_table_for_people() {
    let folder = scratch("eval_table");
    let mut files = tiny_files();
    edit_config(&mut files, |config| config["id2label"] = json!({"0": "no", "1": "yes"}));
    edit_tensors(&mut files, |tensors| {
        for name in ["classifier.weight", "classifier.bias"] {
            tensors.get_mut(name).expect("classifier").resize_rows(2);
        }
    });
    save(&files, &folder.join("model"));
    let model = path(&folder.join("model"));
    let rows: String = TEXTS.iter().map(|text| format!("{text}\tyes\n")).collect();
    let data = file(&folder, "data.tsv", format!("sentence\tlabel\n{rows}"));
    let args = ["eval", "--backend", "cpu", "--prune", "dense,topk:0.9,0.7,0.5,0.3", "--model", &model, &data];
    let report = run(sttabt([&args[..], &["--json"]].concat())).json();
    let dense = &report["results"][0]["metrics"];
    let share = dense["accuracy"].as_f64().expect("accuracy");
    // Every label is 1: precision 1, recall = accuracy.
    assert!((dense["f1"].as_f64().expect("f1") - 2.0 * share / (1.0 + share)).abs() < 1e-12);
    assert_eq!(dense["matthews"], 0.0);
    let stdout = run(sttabt(args)).quiet();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], format!("6 samples of {data} on cpu"));
    assert_eq!(lines[2], "rule                  accuracy     f1  matthews  = dense  retention  GFLOPs  of dense    ms");
    assert!(lines[3].starts_with(&format!("dense                 {:>8.2}  ", 100.0 * share)), "{stdout}");
    assert!(lines[4].starts_with("topk:0.9,0.7,0.5,0.3  "), "{stdout}");
    assert_eq!((lines[3].len(), lines[4].len()), (lines[2].len(), lines[2].len()), "columns line up:\n{stdout}");
    assert_eq!(lines[6], "Metrics in per cent; GFLOPs and ms per sample, ApproxNet included.");
}
