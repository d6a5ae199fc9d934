//! `sttabt-bench compare`: a regression, told from noise.

use crate::command::*;
use crate::common::edit::check_rows;
use serde_json::{Value, json};

#[test]
fn compare_tells_a_regression_from_noise() {
    let folder = scratch("bench_compare");
    let old = times("m", [9.8, 10.0, 10.4], 20);
    let rows: [(&str, Value, &str); 9] = [
        ("the same", old.clone(), "0"),
        ("within the spread", times("m", [9.9, 10.3, 10.5], 20), "0"),
        ("faster", times("m", [4.9, 5.0, 5.2], 20), "0 faster"),
        ("slower", times("m", [11.9, 12.0, 12.2], 20), "1 SLOWER"),
        ("slower, but all over the place", times("m", [9.0, 12.0, 16.0], 20), "0"),
        ("a few rounds say little", times("m", [11.9, 12.0, 12.2], 2), "0"),
        ("much slower in a few rounds", times("m", [19.9, 20.0, 20.2], 2), "1 SLOWER"),
        ("another model", times("n", [9.8, 10.0, 10.4], 20), "1 error: the files have no run in common"),
        ("no numbers at all", json!({"name": "sttabt"}), "1 error: new.json: holds no numbers of `run` or `kernels`"),
    ];
    let old = file(&folder, "old.json", old.to_string());
    check_rows(rows.iter().map(|(what, new, expected)| {
        let new = file(&folder, "new.json", new.to_string());
        let ended = run(bench(&["compare", &old, &new]));
        let verdict = ["faster", "SLOWER"].into_iter().find(|verdict| ended.stdout.contains(verdict));
        let error =
            ended.stderr.lines().find(|line| line.contains("error: ")).map(|line| line.replace(&new, "new.json"));
        let said = verdict.map(str::to_owned).or(error).map_or_else(String::new, |said| format!(" {said}"));
        ((*what).to_owned(), format!("{}{said}", ended.code), (*expected).to_owned())
    }));
}

/// Two real runs: the second is held against the first, and against the first with its times halved.
#[test]
fn compare_reads_what_run_writes() {
    let folder = scratch("bench_compare_runs");
    let old = file(&folder, "old.json", "");
    run(tiny_bench(&["--batch", "1", "--tokens", "12", "--rounds", "6", "--json", &old])).quiet();
    let ended = run(bench(&["compare", &old, &old])).quiet();
    assert!(ended.contains("1.000"), "{ended}");
    let mut halved = json_of(&old);
    for run in halved["runs"].as_array_mut().expect("runs") {
        // Without spread, so that only the times differ.
        let ms = number(&run["ms"]["median"]);
        run["ms"] = json!({ "min": ms / 8.0, "median": ms / 8.0, "p90": ms / 8.0 });
    }
    let mut steady = json_of(&old);
    for run in steady["runs"].as_array_mut().expect("runs") {
        let ms = number(&run["ms"]["median"]);
        run["ms"] = json!({ "min": ms, "median": ms, "p90": ms });
    }
    let (halved, steady) =
        (file(&folder, "halved.json", halved.to_string()), file(&folder, "steady.json", steady.to_string()));
    let ended = run(bench(&["compare", &halved, &steady]));
    assert_eq!((ended.code, ended.stderr.as_str()), (1, "error: 3 of 3 became slower than noise explains\n"));
}
