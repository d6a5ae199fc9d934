//! `sttabt eval --rank`: the metrics of the order that was given, and of the model's.

use crate::command::*;
use crate::common::edit::{check_rows, save, scorer_files};
use crate::common::{engine, load};
use serde_json::{Value, json};
use sttabt::{BackendKind, RankOptions};

const PASSAGES: [&str; 5] = ["w9 w10", "w11", "w12 w13 w14", "w15 w90", "w16"];

fn scorer(name: &str) -> String {
    let folder = scratch(name);
    save(&scorer_files(), &folder.join("model"));
    path(&folder.join("model"))
}

/// The best of [`PASSAGES`] for a query.
fn order(model: &str, query: &str) -> Vec<usize> {
    let mut engine = engine(&load(model.as_ref()), BackendKind::Cpu);
    let options = RankOptions { prune: Some("dense".parse().expect("a rule")), ..RankOptions::default() };
    let ranking = pollster::block_on(engine.rank(query, &PASSAGES, &options, |_| std::ops::ControlFlow::Continue(())));
    ranking.expect("a ranking").results.iter().map(|result| result.index).collect()
}

/// A set with two queries; the judges like what the model puts first, and say of the second query's best that it is best.
fn set(model: &str, folder: &std::path::Path, name: &str) {
    let mut candidates = "qid\tpid\trank\tgrade\tpassage\n".to_owned();
    for query in ["q1", "q2", "q4"] {
        for (place, passage) in PASSAGES.iter().enumerate() {
            candidates += &format!("{query}\tp{place}\t{}\t0\t{passage}\n", place + 1);
        }
    }
    let [first, second] = ["w7 w8", "w20"].map(|query| order(model, query));
    let qrels = format!(
        "qid\tpid\tgrade\nq1\tp{}\t2\nq1\tp{}\t1\nq1\tgone\t0\nq2\tp{}\t3\nq3\tp1\t1\n",
        first[0], first[1], second[0]
    );
    file(folder, &format!("{name}.queries.tsv"), "qid\tquery\nq1\tw7 w8\nq2\tw20\nq3\tw21\nq4\tw22\n");
    file(folder, &format!("{name}.candidates.tsv"), candidates);
    file(folder, &format!("{name}.qrels.tsv"), qrels);
}

fn json_after_notes(ended: Ended) -> Value {
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.lines().all(|line| line.starts_with("note: ")), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("JSON")
}

#[test]
fn json_has_exactly_its_shape() {
    let model = scorer("eval_rank_json");
    let folder = scratch("eval_rank_json_data");
    set(&model, &folder, "b");
    set(&model, &folder, "a");
    let data = path(&folder);
    let ended = run(with_model(&model, "eval", &["--json", "--prune", "dense,topk:0.5", "--rank", &data]));
    let note = |name: &str| {
        format!(
            "note: {data}/{name}.queries.tsv: 1 query without judgements left out: q4\n\
             note: {data}/{name}.queries.tsv: 1 query without candidates left out: q3\n"
        )
    };
    assert_eq!(ended.stderr, note("a") + &note("b"));
    let report = json_after_notes(ended);
    assert_eq!(keys(&report), names("sets results"));
    let sets = report["sets"].as_array().expect("sets");
    assert_eq!(sets.len(), 2);
    for (set, name) in sets.iter().zip(["a", "b"]) {
        assert_eq!(keys(set), names("set queries passages input_order unjudged without_candidates"));
        assert_eq!((&set["set"], &set["queries"], &set["passages"]), (&json!(name), &json!(2), &json!(10)));
        assert_eq!((&set["unjudged"], &set["without_candidates"]), (&json!(["q4"]), &json!(["q3"])));
        assert_eq!(keys(&set["input_order"]), names("ndcg@10 mrr@10 recall@10 recall@100"));
    }
    let results = report["results"].as_array().expect("results");
    let found: Vec<String> = results.iter().map(|result| format!("{} {}", result["set"], result["prune"])).collect();
    assert_eq!(found, ["\"a\" \"dense\"", "\"a\" \"topk:0.5\"", "\"b\" \"dense\"", "\"b\" \"topk:0.5\""]);
    for result in results {
        assert_eq!(keys(result), names("set prune metrics retention gflops gflops_dense ms queries pairs"));
        assert_eq!((&result["queries"], &result["pairs"]), (&json!(2), &json!(10)));
    }
    // The judges liked the dense order.
    let ones = json!({"ndcg@10": 1.0, "mrr@10": 1.0, "recall@10": 1.0, "recall@100": 1.0});
    assert_eq!(results[0]["metrics"], ones);
    assert_eq!((&results[0]["retention"], &results[0]["gflops"]), (&json!(1.0), &results[0]["gflops_dense"]));
    assert!(number(&results[1]["retention"]) < 1.0);
    // The given order has them where they stand.
    let [first, second] = ["w7 w8", "w20"].map(|query| order(&model, query));
    let gain = |place: usize, grade: f64| grade / (place as f64 + 2.0).log2();
    let ndcg = [(gain(first[0], 2.0) + gain(first[1], 1.0)) / (2.0 + 1.0 / 3f64.log2()), gain(second[0], 3.0) / 3.0];
    let mrr = [1.0 / (first[0].min(first[1]) + 1) as f64, 1.0 / (second[0] + 1) as f64];
    let given = &sets[0]["input_order"];
    assert!((number(&given["ndcg@10"]) - f64::midpoint(ndcg[0], ndcg[1])).abs() < 1e-12, "{given}");
    assert!((number(&given["mrr@10"]) - f64::midpoint(mrr[0], mrr[1])).abs() < 1e-12, "{given}");
    // Of the first query alone; and only a grade of 2 is relevant.
    let args = ["--json", "--prune", "dense", "--limit", "1", "--relevant", "2", "--rank", &data];
    let report = json_after_notes(run(with_model(&model, "eval", &args)));
    let given = &report["sets"][0]["input_order"];
    assert!((number(&given["mrr@10"]) - 1.0 / (first[0] + 1) as f64).abs() < 1e-12, "{given}");
    assert_eq!(report["sets"][0]["queries"], 1);
}

#[test]
fn the_table_for_people() {
    let model = scorer("eval_rank_table");
    let folder = scratch("eval_rank_table_data");
    set(&model, &folder, "mine");
    let data = path(&folder);
    let ended = run(with_model(&model, "eval", &["--prune", "dense,topk:0.5", "--rank", &data]));
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines[0], format!("mine of {data} on cpu: 2 queries, 10 passages"));
    assert!(lines[2].starts_with("rule         ndcg@10  mrr@10  recall@10  recall@100  retention  GFLOPs  of dense"));
    assert!(lines[3].starts_with("input order   ") && lines[3].ends_with("  -"), "{}", ended.stdout);
    assert!(lines[4].starts_with("dense         1.0000  1.0000     1.0000      1.0000      1.000"), "{}", ended.stdout);
    assert!(lines[5].starts_with("topk:0.5      "), "{}", ended.stdout);
    assert!(lines[7].starts_with("GFLOPs and ms per query") && lines[7].ends_with("grades from 1 for relevant."));
}

/// Long passages are cut or read in windows, and a label of several can give the scores.
#[test]
fn windows_and_labels() {
    let (model, folder) = (scorer("eval_rank_windows"), scratch("eval_rank_windows_data"));
    set(&model, &folder, "t");
    let words: String = (0..400).map(|word| format!("w{} ", 5 + word * 7 % 90)).collect();
    let long = format!("qid\tpid\trank\tpassage\nq1\tp0\t1\tw9\nq2\tp0\t1\t{words}\n");
    file(&folder, "t.candidates.tsv", long);
    let data = path(&folder);
    let pairs = |model: &str, args: &[&str]| {
        let args = [&["--json", "--prune", "dense", "--limit", "2", "--rank", &data], args].concat();
        json_after_notes(run(with_model(model, "eval", &args)))["results"][0]["pairs"].as_u64()
    };
    // Of 400 tokens, 156 are read at once, and 39 of them again.
    assert_eq!((pairs(&model, &[]), pairs(&model, &["--windows"])), (Some(2), Some(5)));
    assert_eq!(pairs("tests/fixtures/tiny-bert", &["--label", "LABEL_1"]), Some(2));
}

#[test]
fn what_cannot_be_measured_is_said() {
    let (model, folder) = (scorer("eval_rank_bad"), scratch("eval_rank_bad_data"));
    let empty = path(&folder);
    let long = scratch("eval_rank_long");
    file(&long, "t.queries.tsv", format!("qid\tquery\nq1\tw7\nq2\t{}\n", "w7 ".repeat(158).trim()));
    file(&long, "t.candidates.tsv", "qid\tpid\trank\tpassage\nq1\ta\t1\tw9\nq2\ta\t1\tw9\n");
    file(&long, "t.qrels.tsv", "qid\tpid\tgrade\nq1\ta\t1\nq2\ta\t1\n");
    let long = path(&long);
    let tiny = "tests/fixtures/tiny-bert";
    let rows: [(&str, &[&str], String); 6] = [
        (&model, &["--rank", &empty], format!("1 error: {empty}: no set to rank, expected NAME.queries.tsv, NAME.candidates.tsv and NAME.qrels.tsv")),
        (&model, &["--rank", "/nonexistent"], "1 error: cannot read /nonexistent: No such file or directory (os error 2)".to_owned()),
        (&model, &["--prune", "dense", "--rank", &long], format!("1 error: {long}/t.queries.tsv, line 3: the query: 158 tokens and 3 special ones leave no room for a passage in the 160 that the model reads; shorten it to 156 tokens or fewer")),
        (tiny, &["--prune", "dense", "--rank", &long], "1 error: `rank` needs one score, and this model has 5 labels (`LABEL_0`, `LABEL_1`, `LABEL_2`, `LABEL_3`, `LABEL_4`): `--label` chooses the one whose probability counts".to_owned()),
        (&model, &["--rank", &long, "Cargo.toml"], "2 error: the argument '--rank <DIR>' cannot be used with '[DATA]'".to_owned()),
        (&model, &["--relevant", "2", "Cargo.toml"], "2 error: the argument '--relevant <GRADE>' cannot be used with '[DATA]'".to_owned()),
    ];
    check_rows(rows.into_iter().map(|(model, args, expected)| {
        (format!("{args:?}"), run(with_model(model, "eval", args)).failure(), expected)
    }));
}
