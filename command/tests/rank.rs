//! `sttabt rank`: where passages come from, what is printed, and what is said of a broken call.

use crate::command::*;
use crate::common::edit::{check_rows, save, scorer_files};
use crate::common::{engine, load};
use serde_json::{Value, json};
use sttabt::{BackendKind, RankOptions, Ranking};

const PASSAGES: [&str; 4] = ["w9 w10", "w11", "w12 w13 w14", "w15 w90"];

/// The folder of a tiny scorer.
fn scorer(name: &str) -> String {
    let folder = scratch(name);
    save(&scorer_files(), &folder.join("model"));
    path(&folder.join("model"))
}

fn rank<'a>(model: &'a str, args: &[&'a str]) -> std::process::Command {
    with_model(model, "rank", &[&["--query", "w7 w8"], args].concat())
}

/// What the library makes of [`PASSAGES`].
fn computed(model: &str, prune: &str, options: RankOptions) -> Ranking {
    let mut engine = engine(&load(model.as_ref()), BackendKind::Cpu);
    let options = RankOptions { prune: Some(prune.parse().expect("a rule")), ..options };
    pollster::block_on(engine.rank("w7 w8", &PASSAGES, &options, |_| std::ops::ControlFlow::Continue(())))
        .expect("a ranking")
}

#[test]
fn json_has_exactly_its_shape() {
    let model = scorer("rank_json");
    let data = file(&scratch("rank_json_data"), "passages.txt", PASSAGES.join("\n"));
    for (rule, args) in [("dense", &[][..]), ("topk:0.5", &["--top", "2"]), ("oracle:0.4", &["--windows"])] {
        let report = run(rank(&model, &[&["--json", "--prune", rule, &data], args].concat())).json();
        let all = "model backend adapter software query prune results num_passages num_pairs retention flops ms";
        assert_eq!(keys(&report), names(all));
        let options = RankOptions {
            top_n: args.contains(&"--top").then_some(2),
            windows: args.contains(&"--windows"),
            ..RankOptions::default()
        };
        let expected = computed(&model, rule, options);
        let results = report["results"].as_array().expect("results");
        assert_eq!(results.len(), expected.results.len());
        for (printed, expected) in results.iter().zip(&expected.results) {
            let window = if args.contains(&"--windows") { " window" } else { "" };
            let of_result =
                "file line text index score logit num_tokens tokens passage kept_tokens retention flops truncated";
            assert_eq!(keys(printed), names(&format!("{of_result}{window}")));
            assert_eq!((&printed["file"], &printed["line"]), (&json!(data), &json!(expected.index + 1)));
            assert_eq!(printed["text"], PASSAGES[expected.index]);
            assert_eq!(printed["score"].as_f64().map(|score| score as f32), Some(expected.score));
            assert_eq!(printed["kept_tokens"], json!(expected.kept_tokens));
            assert_eq!(printed["tokens"], json!(expected.tokens));
        }
        assert_eq!((&report["num_passages"], &report["num_pairs"]), (&json!(4), &json!(4)));
        assert_eq!(report["flops"], json!(expected.flops));
        assert!(report["ms"].as_f64().is_some_and(|ms| ms > 0.0));
    }
}

fn texts(report: &Value) -> Vec<String> {
    let mut results: Vec<&Value> = report["results"].as_array().expect("results").iter().collect();
    results.sort_by_key(|result| result["index"].as_u64());
    let text = |result: &&Value| format!("{} {}", result["line"], result["text"].as_str().expect("a text"));
    results.iter().map(text).collect()
}

/// Lines, tables and standard input give the same passages, in the order of the arguments.
#[test]
fn passages_come_from_files_of_all_kinds() {
    let (model, folder) = (scorer("rank_files"), scratch("rank_files_data"));
    let lines = "w9\n\n w11 w12\n\n \n";
    let rows: [(&str, &str, &[&str], &[&str]); 8] = [
        // A blank line is an empty passage; those at the end are none.
        ("a.txt", lines, &[], &["1 w9", "2 ", "3  w11 w12"]),
        ("a.md", lines, &[], &["1 w9", "2 ", "3  w11 w12"]),
        ("a.tsv", "id\ttext\n1\tw9\n2\tw11 w12\n", &[], &["2 w9", "3 w11 w12"]),
        ("b.tsv", "query\tpassage\nw1\tw9\n", &[], &["2 w9"]),
        ("c.csv", "body,id\n\"w9, w10\",1\n", &[], &["2 w9, w10"]),
        ("d.csv", "text,body\nw9,w10\n", &["--text-column", "body"], &["2 w10"]),
        ("e.tsv", "7\tw9\n", &["--no-header", "--text-column", "2"], &["1 w9"]),
        ("f.jsonl", "{\"text\": \"w9\"}\n{\"text\": \"w10\", \"more\": 1}\n", &[], &["1 w9", "2 w10"]),
    ];
    check_rows(rows.into_iter().map(|(name, text, args, expected)| {
        let data = file(&folder, name, text);
        let report = run(rank(&model, &[&["--json", "--prune", "dense", &data], args].concat())).json();
        (name.to_owned(), texts(&report).join("|"), expected.join("|"))
    }));
    let report = run_with_stdin(rank(&model, &["--json", "--prune", "dense", "-"]), lines.as_bytes()).json();
    assert_eq!(texts(&report), ["1 w9", "2 ", "3  w11 w12"]);
    assert_eq!(report["results"][0]["file"], "standard input");
    let [first, second] = ["a.tsv", "a.txt"].map(|name| path(&folder.join(name)));
    let report = run(rank(&model, &["--json", "--prune", "dense", &first, &second])).json();
    assert_eq!(texts(&report), ["2 w9", "3 w11 w12", "1 w9", "2 ", "3  w11 w12"]);
    // Equal ones are computed once.
    assert_eq!((&report["num_passages"], &report["num_pairs"]), (&json!(5), &json!(3)));
    let broken = file(&folder, "broken.tsv", "text\tid\nw9\t1\n\t2\nw10\n");
    let ended = run(rank(&model, &["--json", "--prune", "dense", "--skip-broken-rows", &broken]));
    let note = format!("note: {broken}: 2 broken rows are left out (line 3: the text is empty)\n");
    assert_eq!((ended.code, ended.stderr), (0, note));
}

/// Without a query each row has its own, and each query gets the ranking that it gets alone.
#[test]
fn tables_may_bring_their_queries() {
    let (model, folder) = (scorer("rank_pairs"), scratch("rank_pairs_data"));
    let queries = ["w7 w8", "w20"];
    let rows: Vec<String> =
        PASSAGES.iter().flat_map(|passage| queries.map(|query| format!("{query}\t{passage}\n"))).collect();
    let pairs = file(&folder, "pairs.tsv", format!("query\tpassage\n{}", rows.concat()));
    let passages = file(&folder, "passages.txt", PASSAGES.join("\n"));
    let args = ["--json", "--top", "2", "--prune", "topk:0.5"];
    let stdout = run(with_model(&model, "rank", &[&args[..], &[&pairs]].concat())).quiet();
    let reports: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(reports.len(), 2);
    for (place, (report, query)) in reports.iter().zip(queries).enumerate() {
        let alone = run(with_model(&model, "rank", &[&args[..], &["--query", query, &passages]].concat())).json();
        assert_eq!((&report["query"], &report["num_passages"]), (&json!(query), &json!(4)));
        let of = |report: &Value| -> Vec<(Value, Value)> {
            let results = report["results"].as_array().expect("results");
            results.iter().map(|result| (result["index"].clone(), result["logit"].clone())).collect()
        };
        assert_eq!(of(report), of(&alone));
        for result in report["results"].as_array().expect("results") {
            let index = result["index"].as_u64().expect("a place") as usize;
            assert_eq!((&result["file"], &result["line"]), (&json!(pairs), &json!(2 + 2 * index + place)));
        }
    }
    let stdout = run(with_model(&model, "rank", &["--prune", "dense", &pairs])).quiet();
    let titles: Vec<&str> = stdout.lines().filter(|line| line.starts_with("query: ")).collect();
    assert_eq!(titles, ["query: w7 w8", "query: w20"]);
    // Other names, and numbers.
    let named = file(&folder, "named.csv", "asked,answer\nw7,w9\n");
    let numbered = file(&folder, "numbered.tsv", "w9\tw7\n");
    let column = ["--json", "--query-column", "asked", &named];
    let facts = file(&folder, "facts.csv", "claim,evidence\nw7,w9\n");
    let both = file(&folder, "both.csv", "query,question\nw7,w9\n");
    let questions = ["--json", "--text-column", "question", &both];
    let numbers = ["--json", "--no-header", "--query-column", "2", "--text-column", "1", &numbered];
    for args in [&column[..], &numbers, &["--json", &facts], &questions] {
        let report = run(with_model(&model, "rank", args)).json();
        assert_eq!((&report["query"], &report["results"][0]["text"]), (&json!("w7"), &json!("w9")), "{args:?}");
    }
}

#[test]
fn the_surviving_words_are_set_off() {
    let model = scorer("rank_drawing");
    let passages = [PASSAGES[2], &"w9 ".repeat(400)].join("\n");
    let data = file(&scratch("rank_drawing_data"), "passages.txt", passages);
    let stdout = run(rank(&model, &["--prune", "dense", &data])).quiet();
    assert!(!stdout.contains('·'), "all words survive: {stdout}");
    let stdout = run(rank(&model, &["--prune", "topk:0.1", &data])).quiet();
    let lines: Vec<&str> = stdout.lines().collect();
    let report = run(rank(&model, &["--json", "--prune", "topk:0.1", &data])).json();
    let best = &report["results"][0];
    let first = format!("1. {:.3}   {data}, line {}", best["score"].as_f64().expect("a score"), best["line"]);
    assert!(lines[0].starts_with(&first), "{stdout}");
    // The short one, word by word.
    let result = report["results"].as_array().expect("results").iter().find(|result| result["line"] == 1);
    let result = result.expect("the short passage");
    assert_eq!(result["passage"], json!([4, 7]));
    let kept = numbers(&result["kept_tokens"]);
    let words: Vec<&str> = PASSAGES[2].split(' ').collect();
    let drawn: Vec<&str> =
        words.iter().zip(4..).map(|(word, at)| if kept.contains(&f64::from(at)) { word } else { "···" }).collect();
    let num_kept = drawn.iter().filter(|word| **word != "···").count();
    let text = lines.iter().position(|line| *line == "text      w12 w13 w14").expect("the passage");
    assert!(num_kept < 3, "all words survive: {stdout}");
    assert_eq!(lines[text + 1], format!("L3   {num_kept}/3  {}", drawn.join(" ")));
    assert!(lines.iter().any(|line| line.ends_with(", line 2, cut")), "{stdout}");
    let end = &lines[lines.len() - 3..];
    assert!(end[0].starts_with("retention ") && end[0].ends_with(" % to find the tokens)"), "{stdout}");
    assert_eq!(end[1], "cut: longer than what the model reads beside the query; --windows reads all of it");
    assert!(end[2].starts_with("topk:0.1 on cpu: ") && end[2].ends_with(" ms for 2 passages"), "{stdout}");
    let stdout = run(rank(&model, &["--prune", "topk:0.1", "--windows", "--top", "1", &data])).quiet();
    assert!(stdout.contains(" pairs computed") && !stdout.contains("cut"), "{stdout}");
}

#[test]
fn a_label_gives_the_score() {
    let data = file(&scratch("rank_label"), "passages.txt", PASSAGES.join("\n"));
    let stdout = run(rank("tests/fixtures/tiny-bert", &["--prune", "dense", "--label", "LABEL_2", &data])).quiet();
    assert!(stdout.starts_with("1. LABEL_2 ") && stdout.contains(" %   "), "{stdout}");
    let args = ["--json", "--prune", "dense", "--label", "2", &data];
    let report = run(rank("tests/fixtures/tiny-bert", &args)).json();
    assert_eq!(report["label"], "LABEL_2");
}

#[test]
fn what_cannot_be_ranked_is_said() {
    let (model, folder) = (scorer("rank_bad"), scratch("rank_bad_data"));
    let data = file(&folder, "a.txt", "w9\nw10\n");
    let empty = file(&folder, "empty.txt", "\n \n");
    let no_text = file(&folder, "a.csv", "prose,id\nw9,1\n");
    let two = file(&folder, "b.csv", "body,post\nw9,w1\n");
    let numbered = file(&folder, "a.tsv", "w9\t1\n");
    let short = file(&folder, "c.csv", "text,id\nw9,1\nw10\n");
    let latin = file(&folder, "latin.txt", b"w9\nw\xff\n");
    let missing = path(&folder.join("missing.txt"));
    let long = "w9 ".repeat(200);
    let labels = "`LABEL_0`, `LABEL_1`, `LABEL_2`, `LABEL_3`, `LABEL_4`";
    let tiny = "tests/fixtures/tiny-bert";
    let embedder = "tests/fixtures/families/bert-embed-cls";
    let twice = file(&folder, "twice.tsv", "query\tquestion\ttext\nw7\tw8\tw9\n");
    let asks_long = file(&folder, "asks.tsv", format!("query\ttext\nw7\tw9\n{long}\tw9\n"));
    let pairs = file(&folder, "pairs.tsv", "query\ttext\nw7\tw9\n");
    let rows: [(&str, &[&str], String); 23] = [
        // It is no row's fault.
        (tiny, &[&pairs], format!("1 error: `rank` needs one score, and this model has 5 labels ({labels}): `--label` chooses the one whose probability counts")),
        (&model, &["--query", "w7"], "2 error: the following required arguments were not provided:".to_owned()),
        (&model, &[&data], format!("2 error: {data} has no queries: expected --query, or a table (.tsv, .csv, .jsonl) with a column `query`")),
        (&model, &["-"], "2 error: standard input has no queries: expected --query, or a table (.tsv, .csv, .jsonl) with a column `query`".to_owned()),
        (&model, &[&two], format!("1 error: {two}: no query column; expected `query`, or name one with --query-column, or give one --query for all passages; the header has `body`, `post`")),
        (&model, &[&twice], format!("1 error: {twice}: the query is ambiguous: it may be `query` or `question`; name it with --query-column")),
        (&model, &["--query-column", "text", "--text-column", "text", &twice], format!("1 error: {twice}: column `text` is given twice")),
        (&model, &[&asks_long], format!("1 error: {asks_long}, line 3: the query: 200 tokens and 3 special ones leave no room for a passage in the 160 that the model reads; shorten it to 156 tokens or fewer")),
        (&model, &["--query", "", &data], "1 error: the query: it is empty, expected at least one word".to_owned()),
        (&model, &["--query", " ", &data], "1 error: the query: it is empty, expected at least one word".to_owned()),
        (&model, &["--query", &long, &data], "1 error: the query: 200 tokens and 3 special ones leave no room for a passage in the 160 that the model reads; shorten it to 156 tokens or fewer".to_owned()),
        (&model, &["--query", "w7", &empty], format!("1 error: {empty}: no passages, expected one at least")),
        (&model, &["--query", "w7", "-", "-"], "2 error: `-` reads standard input, which can be read only once".to_owned()),
        (&model, &["--query", "w7", &missing], format!("1 error: cannot read {missing}: No such file or directory (os error 2)")),
        (&model, &["--query", "w7", &no_text], format!("1 error: {no_text}: no text column; expected `text`, or name one with --text-column; the header has `prose`, `id`")),
        (&model, &["--query", "w7", &two], format!("1 error: {two}: the text is ambiguous: it may be `post` or `body`; name it with --text-column")),
        (&model, &["--query", "w7", "--no-header", &numbered], "2 error: --no-header needs --text-column".to_owned()),
        (&model, &["--query", "w7", &short], format!("1 error: {short}, line 3: 1 columns, expected 2 as in the header")),
        (&model, &["--query", "w7", &latin], format!("1 error: {latin}, line 2: not UTF-8 (byte 0xff); if the file is Latin-1 or Windows-1252, convert it with `iconv -f WINDOWS-1252 -t UTF-8`")),
        (&model, &["--query", "w7", "--top", "0", &data], "2 error: invalid value '0' for '--top <N>': 0 is not in 1..=4294967295".to_owned()),
        (&model, &["--query", "w7", "--prune", "auto", &data], "2 error: invalid value 'auto' for '--prune <RULE>': `auto` is for `classify`; name a rule, for example topk:0.5".to_owned()),
        (tiny, &["--query", "w7", &data], format!("1 error: `rank` needs one score, and this model has 5 labels ({labels}): `--label` chooses the one whose probability counts")),
        (embedder, &["--query", "w7", &data], "1 error: `rank` needs a score or labels (`embed` gives vectors to compare), and this model is an embedder".to_owned()),
    ];
    check_rows(rows.into_iter().map(|(model, args, expected)| {
        (format!("{args:?}").chars().take(80).collect(), run(with_model(model, "rank", args)).failure(), expected)
    }));
    // A file's name could command the terminal.
    let nasty = file(&folder, "nasty\u{1b}[2J.txt", "w9\n");
    let stdout = run(rank(&model, &["--prune", "dense", &nasty])).quiet();
    assert!(stdout.contains("[2J.txt, line 1") && !stdout.contains('\u{1b}'), "{stdout:?}");
}
