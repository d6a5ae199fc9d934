//! `sttabt-bench`: what it measures, how its files compare, and what it says about wrong arguments.

use std::process::{Command, Stdio};

use crate::command::*;
use crate::common::edit::check_rows;
use serde_json::{Value, json};

#[test]
fn json_has_its_shape_and_its_numbers_agree() {
    let out = file(&scratch("bench_json"), "out.json", "");
    let rules = "topk:0.5,concrete,oracle:0.5,forward:0.5";
    let args = ["--prune", rules, "--batch", "1,3", "--tokens", "16,40", "--rounds", "3", "--json", &out];
    let stdout = run(tiny_bench(&args)).quiet();
    for heading in ["tiny-bert on cpu, 1 x 16 tokens, 3 rounds", "3 x 40 tokens", "GFLOP/s", "topk:0.5"] {
        assert!(stdout.contains(heading), "{heading}: {stdout}");
    }
    let report = json_of(&out);
    assert_eq!(keys(&report), names("environment runs interrupted"));
    assert_eq!(report["interrupted"], false);
    assert_eq!(keys(&report["environment"]), names("adapter driver cpu cores threads os arch versions"));
    assert_eq!(report["environment"]["adapter"], json!(["CPU"]));
    let runs = report["runs"].as_array().expect("runs");
    let found: Vec<_> =
        runs.iter().map(|run| (run["tokens"].as_u64(), run["batch"].as_u64(), run["prune"].as_str())).collect();
    let mut expected = Vec::new();
    for (tokens, batch) in [(16, 1), (16, 3), (40, 1), (40, 3)] {
        let rules = ["dense", "topk:0.5", "concrete", "oracle:0.5", "forward:0.5"];
        expected.extend(rules.map(|rule| (Some(tokens), Some(batch), Some(rule))));
    }
    assert_eq!(found, expected, "dense is added and comes first");
    for run in runs {
        let shape = "model backend prune batch tokens rounds ms stages_ms rows flops retention gflops_per_s of_dense";
        assert_eq!(keys(run), names(shape));
        assert_eq!((&run["model"], &run["backend"]), (&json!("tiny-bert"), &json!("cpu")));
        assert_eq!(run["rounds"], 3);
        let ms = ["min", "median", "p90"].map(|name| number(&run["ms"][name]));
        assert!(0.0 < ms[0] && ms[0] <= ms[1] && ms[1] <= ms[2], "{run}");
        let flops = |name: &str| number(&run["flops"][name]);
        assert_eq!(flops("pruned") + flops("approx"), flops("total"));
        let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{a}, expected {b}: {run}");
        close(number(&run["gflops_per_s"]), flops("total") / ms[1] / 1e6);
        close(number(&run["of_dense"]["flops"]), flops("total") / flops("dense"));
        let all_rows = number(&run["batch"]) * number(&run["tokens"]) * 4.0;
        if run["prune"] == "dense" {
            assert_eq!((number(&run["rows"]), number(&run["retention"])), (all_rows, 1.0));
            assert_eq!((number(&run["of_dense"]["time"]), flops("total")), (1.0, flops("dense")));
        } else {
            assert!(number(&run["rows"]) < all_rows && number(&run["retention"]) < 1.0, "{run}");
            assert!(number(&run["of_dense"]["time"]) > 0.0);
        }
    }
}

/// Every labelled input is seen once, and the accuracy is that of `sttabt eval`.
#[test]
fn data_sets_give_accuracy() {
    let folder = scratch("bench_data");
    let rows: String = (0..7).map(|row| format!("w{} w{} w{}\t{}\n", 5 + row, 20 + row, 31 + row, row % 5)).collect();
    let data = file(&folder, "data.tsv", format!("sentence\tlabel\n{rows}"));
    let out = file(&folder, "out.json", "");
    let plots = path(&folder.join("plots"));
    let args = ["--prune", "topk:0.5", "--data", &data, "--batch", "2", "--json", &out, "--plot", &plots];
    let stdout = run(tiny_bench(&args)).quiet();
    assert!(stdout.contains("accuracy"), "{stdout}");
    let told = format!("in {plots}: time-retention.svg, accuracy-time.svg, stages.svg\n");
    assert!(stdout.ends_with(&told), "{stdout}");
    for (name, label) in [("time-retention", "ideal"), ("accuracy-time", "topk:0.5"), ("stages", "approx_net")] {
        let svg = std::fs::read_to_string(folder.join("plots").join(format!("{name}.svg"))).expect("a picture");
        assert!(svg.starts_with("<svg") && svg.contains(label) && !svg.contains("NaN"), "{name}: {svg}");
    }
    let report = json_of(&out);
    let evaluated = run(tiny("eval", &["--json", "--prune", "dense,topk:0.5", &data])).json();
    for (run, expected) in
        report["runs"].as_array().expect("runs").iter().zip(evaluated["results"].as_array().expect("results"))
    {
        assert_eq!(run["rounds"], 4, "seven inputs, two at a time");
        assert_eq!(run["tokens"], 5);
        assert_eq!(run["accuracy"], expected["metrics"]["accuracy"]);
        assert!((number(&run["retention"]) - number(&expected["retention"])).abs() < 1e-12);
        let gflops = number(&run["flops"]["total"]) * 4.0 / 7.0 / 1e9;
        assert!((gflops / number(&expected["gflops"]) - 1.0).abs() < 1e-9, "{gflops}, expected {expected}");
    }
    let wrong = file(&folder, "wrong.tsv", "sentence\tlabel\nw5\t0\nw6\t9\n");
    let failure = run(tiny_bench(&["--data", &wrong])).failure();
    assert_eq!(
        failure,
        format!(
            "1 error: {wrong}, line 3: label `9`, expected 0 to 4 or one of: LABEL_0, LABEL_1, LABEL_2, LABEL_3, LABEL_4"
        )
    );
}

#[test]
fn images_are_timed_with_and_without_labels() {
    let out = file(&scratch("bench_images"), "out.json", "");
    let model = ["run", "--backend", "cpu", "--model", "tests/fixtures/tiny-vit", "--batch", "2", "--json", &out];
    run(bench(&[&model[..], &["--rounds", "2"]].concat())).quiet();
    let noise = json_of(&out);
    assert_eq!(noise["runs"][0].get("accuracy"), None);
    assert!(number(&noise["runs"][0]["tokens"]) > 1.0);
    let ended = run(bench(&[&model[..], &["--images", "demo/photos", "--limit", "2"]].concat()));
    let left_out = "note: demo/photos: left out 1 file that is not PNG, JPEG, WebP, GIF or BMP (README.md)\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (0, left_out));
    let photos = json_of(&out);
    assert_eq!(photos["runs"][0]["rounds"], 1);
    assert_eq!(photos["runs"][0]["tokens"], noise["runs"][0]["tokens"]);
}

#[test]
fn wrong_arguments_are_named() {
    let folder = scratch("bench_wrong");
    let broken = file(&folder, "broken.json", "{");
    let plain = file(&folder, "plain.json", times("m", [1.0, 1.0, 1.0], 5).to_string());
    let inside = path(&folder.join("no/such/out.json"));
    let nothing = path(&folder.join("nothing.json"));
    let tiny = ["run", "--backend", "cpu", "--model", "tests/fixtures/tiny-bert"];
    let with = |args: &[&str]| run(bench(&[&tiny[..], args].concat())).failure();
    let rows = [
        (
            "rule",
            with(&["--prune", "topk:2"]),
            "2 error: rule `topk:2`: ratio 2 is out of range, expected 0 < ratio <= 1".to_owned(),
        ),
        ("tokens", with(&["--tokens", "161"]), "2 error: --tokens 161: this model takes at most 160".to_owned()),
        (
            "few tokens",
            with(&["--tokens", "2"]),
            "2 error: invalid value '2' for '--tokens <T,…>': 2 is not in 3..=4294967295".to_owned(),
        ),
        (
            "batch",
            with(&["--batch", "0"]),
            "2 error: invalid value '0' for '--batch <N,…>': 0 is not in 1..=65536".to_owned(),
        ),
        ("backend", with(&["--backend", "tpu"]), "2 error: invalid value 'tpu' for '--backend <BACKEND,…>'".to_owned()),
        (
            "adapter",
            with(&["--adapter", "x"]),
            "2 error: --adapter names a GPU adapter, and --backend cpu uses none".to_owned(),
        ),
        (
            "limit of nothing",
            with(&["--limit", "8"]),
            "2 error: --limit, --labels and the columns are of --data or --images, and neither is given".to_owned(),
        ),
        (
            "both",
            with(&["--tokens", "8", "--data", "d.tsv"]),
            "2 error: the argument '--tokens <T,…>' cannot be used with '--data <DATA>'".to_owned(),
        ),
        (
            "json",
            with(&["--json", &inside]),
            format!("1 error: cannot write {inside}: No such file or directory (os error 2)"),
        ),
        (
            "plot, with nothing measured before",
            with(&["--plot", "Cargo.toml"]),
            "1 error: cannot make Cargo.toml: File exists (os error 17)".to_owned(),
        ),
        (
            "images need another model",
            run(bench(&["run", "--backend", "cpu", "--model", "tests/fixtures/tiny-vit", "--tokens", "8"])).failure(),
            "2 error: --tokens is for texts, and this model classifies images".to_owned(),
        ),
        (
            "no file",
            run(bench(&["compare", &nothing, &plain])).failure(),
            format!("1 error: cannot read {nothing}: No such file or directory (os error 2)"),
        ),
        (
            "no JSON",
            run(bench(&["compare", &plain, &broken])).failure(),
            format!("1 error: {broken}: not a file of sttabt-bench: EOF while parsing an object at line 1 column 1"),
        ),
    ];
    check_rows(rows.into_iter().map(|(what, found, expected)| (what.to_owned(), found, expected)));
}

/// After Ctrl-C the file is whole, with what had been measured, and the exit code is a shell's for it.
#[cfg(unix)]
#[test]
fn ctrl_c_leaves_a_valid_file() {
    let out = file(&scratch("bench_interrupt"), "out.json", "");
    let args = ["--batch", "1,2", "--tokens", "20", "--rounds", "1000000", "--json", &out];
    let mut child = tiny_bench(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
    // The file is there before the work begins; some rounds later the first setting is far from its end.
    while std::fs::read(&out).expect("a file").is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    std::thread::sleep(std::time::Duration::from_millis(1000));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(killed.success());
    let code = child.wait().expect("an end").code();
    assert_eq!(code, Some(130));
    let report = json_of(&out);
    assert_eq!(report["interrupted"], true);
    let runs = report["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 3, "{report}");
    let rounds: Vec<u64> = runs.iter().filter_map(|run| run["rounds"].as_u64()).collect();
    assert!(rounds[0] > 0 && rounds[0] < 1_000_000 && rounds.iter().all(|&count| count == rounds[0]), "{rounds:?}");
}

/// All kernels on the CPU, each beside what the ceilings allow.
#[test]
fn kernels_are_held_to_the_roofline() {
    let out = file(&scratch("bench_kernels"), "out.json", "");
    let stdout = run(bench(&["kernels", "--backend", "cpu", "--json", &out])).quiet();
    assert!(stdout.starts_with("kernels on cpu; at best "), "{stdout}");
    let report = json_of(&out);
    assert_eq!(keys(&report), names("environment ceiling kernels interrupted"));
    let kernels = report["kernels"].as_array().expect("kernels");
    let found: std::collections::BTreeSet<&str> = kernels.iter().filter_map(|run| run["kernel"].as_str()).collect();
    let all = "linear layer_norm gather_rows attention attention_maps back_tracking select_tokens pack_rows";
    assert_eq!(found, names(all));
    for run in kernels {
        assert_eq!(keys(run), names("backend kernel shape ms flops bytes gflops_per_s gb_per_s of_ceiling bound"));
        let share = number(&run["of_ceiling"]);
        // A busy machine lowers the ceiling, and what fits a cache is read faster than the best copy.
        assert!(share > 0.0 && share <= 20.0, "{run}");
    }
    assert!(run(bench(&["compare", &out, &out])).quiet().contains("cpu attention_maps 8 x 197, 3 heads of 16"));
}

/// On both backends every stage has its time, and together they are about the time of a call.
#[cfg(feature = "gpu")]
#[test]
fn stages_add_up() {
    let out = file(&scratch("bench_stages"), "out.json", "");
    let model = ["run", "--model", "tests/fixtures/tiny-bert", "--backend", "cpu,gpu", "--json", &out];
    let args = ["--prune", "topk:0.5,oracle:0.5,forward:0.5", "--batch", "4", "--tokens", "100", "--rounds", "9"];
    let ended = run(bench(&[&model[..], &args].concat()));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let report = json_of(&out);
    let adapters = report["environment"]["adapter"].as_array().expect("adapters");
    assert_eq!(adapters.len(), 2);
    for run in report["runs"].as_array().expect("runs") {
        let stages = run["stages_ms"].as_object().expect("stages");
        let layers = "embeddings head host layer_0 layer_1 layer_2 layer_3";
        let expected = match run["prune"].as_str().expect("a rule") {
            "dense" | "forward:0.5" => layers.to_owned(),
            _ => format!("approx_net back_tracking {layers}"),
        };
        assert_eq!(keys(&run["stages_ms"]), names(&expected), "{run}");
        assert!(stages.iter().all(|(_, ms)| number(ms) >= 0.0), "{run}");
        let sum: f64 = stages.values().map(number).sum();
        // Other processes may slow either down; an error of units or a stage that is missing would be more.
        let share = sum / number(&run["ms"]["median"]);
        assert!((0.1..10.0).contains(&share), "{share}: {run}");
        let layer = number(&run["stages_ms"]["layer_0"]);
        assert!(layer > 0.0 && layer < sum, "{run}");
    }
}

/// Counters see that a run that nobody measures does no more for it: one compute pass in each submit, and one map.
#[cfg(feature = "gpu")]
#[test]
fn a_plain_run_pays_nothing_for_stages() {
    let mut engine = crate::common::engine(&crate::common::tiny_bert(), sttabt::BackendKind::Gpu);
    let inputs = [sttabt::Input::Text("w7 w8 w9")];
    let rule = "topk:0.5".parse().expect("a rule");
    let mut counters = |timed: bool| {
        crate::common::classify(&mut engine, &inputs, &rule);
        let gpu = engine.gpu().expect("a GPU");
        let before = gpu.counters();
        assert_eq!(gpu.set_stage_timing(timed), timed);
        let results = crate::common::classify(&mut engine, &inputs, &rule);
        let gpu = engine.gpu().expect("a GPU");
        let after = gpu.counters();
        let names: Vec<String> = gpu.take_stages_ms().iter().map(|(stage, _)| stage.to_string()).collect();
        let dispatched = (after.submits - before.submits, after.dispatches - before.dispatches);
        (results, dispatched, (after.passes - before.passes, after.maps - before.maps), names.join(" "))
    };
    let (plain, timed, again) = (counters(false), counters(true), counters(false));
    assert_eq!(plain, again);
    assert_eq!(((&plain.0, plain.1), plain.2), ((&timed.0, timed.1), (plain.1.0, 1)), "a pass a submit, one map");
    assert_eq!((timed.2, plain.3.as_str()), ((8, 2), ""));
    assert_eq!(timed.3, "approx_net back_tracking embeddings layer_0 layer_1 layer_2 layer_3 head");
}

/// The adapter is for those backends of a list that take one.
#[cfg(feature = "gpu")]
#[test]
fn an_adapter_beside_the_cpu() {
    let tiny = ["run", "--model", "tests/fixtures/tiny-bert", "--tokens", "8", "--batch", "1", "--rounds", "1"];
    let with = |args: &[&str]| run(bench(&[&tiny[..], args].concat()));
    let name = crate::common::engine(&crate::common::tiny_bert(), sttabt::BackendKind::Gpu).backend().adapter.clone();
    assert_eq!(with(&["--backend", "cpu,gpu", "--adapter", &name]).code, 0);
    let failure = with(&["--backend", "cpu,gpu", "--adapter", "Voodoo 2"]).failure();
    assert!(failure.contains("Voodoo 2"), "{failure}");
}

/// What scripts ask for that time others in turn with this one; a wrong request gets an error, and the next an answer.
#[test]
fn calls_are_answered_line_by_line() {
    let requests = [
        r#"{"prune": "topk:0.5", "texts": ["w7 w8 w9", "w10"]}"#,
        r#"{"prune": "topk:5", "texts": ["w7"]}"#,
        "nonsense",
        r#"{"prune": "dense", "images": ["no.png"]}"#,
        r#"{"prune": "dense", "texts": ["w7"]}"#,
    ];
    let command = bench(&["calls", "--backend", "cpu", "--model", "tests/fixtures/tiny-bert"]);
    let stdout = run_with_stdin(command, (requests.join("\n") + "\n").as_bytes()).quiet();
    let answers: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), requests.len(), "{stdout}");
    assert_eq!(keys(&answers[0]), names("ms input_ids logits flops retention"));
    assert_eq!(answers[0]["input_ids"][0].as_array().expect("ids").len(), 5);
    assert_eq!(answers[0]["logits"].as_array().expect("logits").len(), 2);
    let computed = crate::common::classify(
        &mut crate::common::engine(&crate::common::tiny_bert(), sttabt::BackendKind::Cpu),
        &[sttabt::Input::Text("w7")],
        &sttabt::Prune::Dense,
    );
    assert_eq!(answers[4]["input_ids"], json!([computed[0].input_ids]));
    assert_eq!(answers[4]["flops"]["total"], json!(computed[0].flops.total() as f64));
    let errors: Vec<&str> = answers[1..4].iter().filter_map(|answer| answer["error"].as_str()).collect();
    assert_eq!(errors[0], "rule `topk:5`: ratio 5 is out of range, expected 0 < ratio <= 1");
    assert!(errors[1].starts_with("not a request: "), "{errors:?}");
    assert!(errors[2].starts_with("cannot read no.png"), "{errors:?}");
}
