//! Labelled texts in files: endings, quoting and rows, and what is said about them.

use std::path::Path;

use crate::command::*;
use crate::common::edit::{check_rows, edit_config, save, tiny_files};
use crate::common::tiny_bert;
use clap::Parser;
use serde_json::{Value, json};
use sttabt::Config;
use sttabt_command::command::table::{Expected, Table, parse};
use sttabt_command::command::{ColumnArgs, Failure};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    columns: ColumnArgs,
}

pub fn config(labels: &str) -> Config {
    let mut config = tiny_bert().config().clone();
    config.labels = labels.split('|').map(str::to_owned).collect();
    config
}

pub fn arguments(args: &[&str]) -> ColumnArgs {
    Args::try_parse_from([&["eval"], args].concat()).unwrap_or_else(|error| panic!("{error}")).columns
}

pub fn message(failure: Failure) -> String {
    match failure {
        Failure::Usage(message) => format!("usage: {message}"),
        Failure::Error(message) => message,
        Failure::ClosedPipe => unreachable!("nothing is written"),
    }
}

fn parsed(name: &str, bytes: &[u8], args: &[&str], config: &Config) -> Result<Table, String> {
    parse(&arguments(args), Path::new(name), bytes, config).map_err(message)
}

/// `line text/second text=label`, one after the other, and the notes; or the error.
pub fn told(name: &str, bytes: &[u8], args: &[&str], config: &Config) -> String {
    match parsed(name, bytes, args, config) {
        Err(error) => error,
        Ok(table) => {
            let rows = table.rows.iter().map(|row| {
                let pair = row.text_pair.as_ref().map_or(String::new(), |pair| format!("/{pair}"));
                let expected = match row.expected {
                    Expected::Label(label) => label.to_string(),
                    Expected::Value(value) => value.to_string(),
                };
                format!("{} {}{pair}={expected}", row.line, row.text)
            });
            rows.chain(table.notes.iter().map(|note| format!("note: {note}"))).collect::<Vec<_>>().join("; ")
        }
    }
}

/// Name, bytes and arguments, and what is told of them with the labels `no` and `yes`.
pub type Case<'a> = (&'a str, &'a [u8], &'a [&'a str], &'a str);

pub fn check(cases: &[Case<'_>]) {
    let config = config("no|yes");
    check_rows(cases.iter().map(|(name, bytes, args, expected)| {
        let what = format!("{name}: {}", String::from_utf8_lossy(bytes).escape_debug());
        (what, told(name, bytes, args, &config), (*expected).to_owned())
    }));
}

#[test]
fn broken_rows_are_left_out_if_that_is_asked_for() {
    const SKIP: &[&str] = &["--skip-broken-rows"];
    check(&[
        (
            "a.tsv",
            b"question1\tquestion2\tlabel\na\tb\t1\nc\n\td\t0\ne\tf\t0\n",
            SKIP,
            "2 a/b=1; 5 e/f=0; note: 2 broken rows are left out (line 3: 1 columns, expected 3 as in the header)",
        ),
        (
            "a.jsonl",
            b"{\"text\": \"\", \"label\": 1}\n{\"text\": \"b\", \"label\": 0}",
            SKIP,
            "2 b=0; note: 1 broken row is left out (line 1: the text is empty)",
        ),
        ("a.tsv", b"sentence\tlabel\na\t1\n", SKIP, "2 a=1"),
        (
            "a.tsv",
            b"sentence\tlabel\n\t1\n",
            SKIP,
            "a.tsv: no rows: 1 broken row is left out (line 2: the text is empty)",
        ),
        ("a.tsv", b"sentence\tlabel\na\t7\n", SKIP, "a.tsv, line 2: label `7`, expected 0 to 1 or one of: no, yes"),
    ]);
}

#[test]
fn files_are_read_by_their_ending() {
    const OBJECT: &str = "expected an object, one per line, or an array of them";
    check(&[
        ("a.tsv", b"sentence\tlabel\na, b\t1\nc\t0\n", &[], "2 a, b=1; 3 c=0"),
        ("a.txt", b"sentence\tlabel\na\t1\n", &[], "2 a=1"),
        ("a", b"sentence\tlabel\na\t1\n", &[], "2 a=1"),
        ("a.csv", b"text,label\n\"a, \"\"b\"\"\nc\",1\nd,0\n", &[], "2 a, \"b\"\nc=1; 4 d=0"),
        ("a.CSV", b"label,text\r\nyes,a\r\n\"no\",\"b\"\r\n", &[], "2 a=1; 3 b=0"),
        ("a.csv", b"text,label\nthe \"a\" b,1\n", &[], "2 the \"a\" b=1"),
        ("a.csv", b",text,label\n0,a,1.0\n1,b,0.0\n", &[], "2 a=1; 3 b=0"),
        ("a.csv", b"a,1\nb,0\n", &["--no-header", "--text-column", "1", "--label-column", "2"], "1 a=1; 2 b=0"),
        (
            "a.jsonl",
            b"{\"text\": \"a\\tb\", \"label\": 1}\n\n{\"label\": \"no\", \"text\": \"c\"}",
            &["--limit", "1"],
            "a.jsonl, line 1: `1` is an index, and `no` (a.jsonl, line 3) is a name; expected all names or all indices",
        ),
        (
            "a.jsonl",
            b"{\"text\": \"a\\tb\", \"label\": 1}\r\n\r\n{\"label\": 0.0, \"text\": \"c\", \"id\": null}\n \n",
            &[],
            "1 a\tb=1; 3 c=0",
        ),
        ("a.ndjson", b"{\"text\": \"a\", \"label\": \"yes\"}", &[], "1 a=1"),
        (
            "a.json",
            b"\n[\n {\"text\": \"a\",\n  \"label\": 0},\n {\"text\": \"b\", \"label\": 1}]",
            &[],
            "3 a=0; 5 b=1",
        ),
        ("a.json", b"{\"text\": \"a\", \"label\": 1}\n{\"text\": \"b\", \"label\": 0}", &[], "1 a=1; 2 b=0"),
        ("a.jsonl", b"[{\"text\": \"a\", \"label\": 1}]", &[], "1 a=1"),
        ("a.jsonl", b"{\"premise\": \"a\", \"hypothesis\": \"b\", \"label\": 1}", &[], "1 a/b=1"),
        (
            "a.jsonl",
            b"{\"x\": \"a\", \"label\": 1, \"y\": 2}",
            &["--text-column", "x", "--label-column", "y"],
            "a.jsonl, line 1: label `2`, expected 0 to 1 or one of: no, yes",
        ),
        (
            "a.jsonl",
            b"{\"text\": \"a\", \"label\": true}",
            &[],
            "a.jsonl, line 1: label `true`, expected 0 to 1 or one of: no, yes",
        ),
        ("a.jsonl", b"{\"text\": \"a\", \"label\": null}", &[], "a.jsonl, line 1: `label` is null, expected one label"),
        (
            "a.jsonl",
            b"{\"text\": \"a\", \"label\": [1]}",
            &[],
            "a.jsonl, line 1: `label` is a list, expected one label",
        ),
        ("a.jsonl", b"{\"text\": [\"a\"], \"label\": 1}", &[], "a.jsonl, line 1: `text` is a list, expected a string"),
        (
            "a.jsonl",
            b"{\"text\": \"a\", \"label\": 1}\n{\"text\": \" \", \"label\": 1}",
            &[],
            "a.jsonl, line 2: the text is empty",
        ),
        ("a.jsonl", b"{\"text\": \"a\", \"label\": 1}\n{\"text\": \"b\"}", &[], "a.jsonl, line 2: no `label`"),
        ("a.jsonl", b"{\"text\": \"a\", \"label\": 1}\n[1]", &[], &format!("a.jsonl, line 2: a list, {OBJECT}")),
        (
            "a.jsonl",
            b"{\"text\": \"a\", \"label\": 1}\n{\"text\": ",
            &[],
            "a.jsonl, line 2: no JSON (EOF while parsing a value, column 9); expected an object per line, or an array of them",
        ),
        (
            "a.json",
            b"[\n{\"text\": \"a\", \"label\": 1},\n{\"text\": }\n]",
            &[],
            "a.json, line 3: no JSON (expected value, column 10); expected an object per line, or an array of them",
        ),
        // As Python writes them.
        (
            "a.jsonl",
            b"{\"text\": \"a NaN\", \"label\": 1, \"id\": NaN}\n{\"text\": \"b\", \"label\": 0, \"id\": -Infinity}",
            &[],
            "1 a NaN=1; 2 b=0",
        ),
        (
            "a.json",
            b"[{\"text\": \"a\",\n\"label\": 1},\n{\"text\": \"b\", \"label\": 0, \"id\": NaN}]",
            &[],
            "1 a=1; 3 b=0",
        ),
        (
            "a.jsonl",
            b"{\"text\": \"a\", \"label\": 1}\n{\"text\": NaN, \"label\": 0}",
            &[],
            "a.jsonl, line 2: `text` is null, expected a string",
        ),
        ("a.jsonl", b"{\"text\": \"a\", \"label\": NaN}", &[], "a.jsonl, line 1: `label` is null, expected one label"),
        (
            "a.jsonl",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 4\n",
            &[],
            "a.jsonl: a git-lfs pointer, not the file itself: run `git lfs pull` in its folder, or download it again",
        ),
        (
            "a.json",
            b"[]",
            &[],
            "a.json: no text column; expected `sentence` or `text`, or `sentence1` and `sentence2`, or name one with --text-column; the file has no rows",
        ),
        (
            "a.jsonl",
            b"{\"text\": \"a\", \"label\": 1}",
            &["--no-header"],
            "usage: --no-header is for tab-separated files and CSV; JSON has none",
        ),
        (
            "a.jsonl",
            b"{\"text\": \"a\", \"label\": 1}",
            &["--text-column", "2"],
            "a.jsonl: no column `2`; the header has `label`, `text`",
        ),
        (
            "a.csv",
            b"text;label\na;1\n",
            &[],
            "a.csv: no text column; expected `sentence` or `text`, or `sentence1` and `sentence2`, or name one with --text-column; the header has `text;label` (columns of a .csv are separated by commas, not by semicolons: save it with commas, or as tab-separated .tsv)",
        ),
        (
            "a.csv",
            b"text;label\n\"a;b\";1\n",
            &[],
            "a.csv, line 2: a quotation mark closes a field, and text follows it; columns of a .csv are separated by commas, not by semicolons: save it with commas, or as tab-separated .tsv",
        ),
        (
            "a.csv",
            b"sep=,\ntext,label\na,1\n",
            &[],
            "a.csv: no text column; expected `sentence` or `text`, or `sentence1` and `sentence2`, or name one with --text-column; the header has `sep=`, `` (delete the first line, which is for Excel alone)",
        ),
        (
            "a.jsonl",
            b"{\"text\": \"\\ud83d\", \"label\": 1}",
            &[],
            "a.jsonl, line 1: no JSON (half of a character, such as \\ud83d without the other half, column 17); expected an object per line, or an array of them",
        ),
        (
            "a.tsv",
            b"text,label\na,1\n",
            &[],
            "a.tsv: no text column; expected `sentence` or `text`, or `sentence1` and `sentence2`, or name one with --text-column; the header has `text,label` (columns are separated by tabs; a file with commas ends in .csv)",
        ),
        (
            "a.txt",
            b"{\"text\": \"a\"}\n",
            &[],
            "a.txt: no text column; expected `sentence` or `text`, or `sentence1` and `sentence2`, or name one with --text-column; the header has `{\"text\": \"a\"}` (a file of JSON objects ends in .jsonl)",
        ),
    ]);
}

/// What pandas, Excel and R write, and what GLUE does not quote.
#[test]
fn quotation_marks() {
    let quoted = |number: usize, line: usize| {
        format!(
            "note: quoted fields ({number} of them, the first in line {line}): the quotation marks around them are not text"
        )
    };
    let pandas = b"sentence\tlabel\n\"that \"\"movie\"\" is \"\"small\"\"\"\tno\nplain, with comma\tyes\n\"a\ttab\"\tno\n\"two\nlines\"\tyes\n\"\"\"whole\"\"\"\tno\n";
    let all = b"\"sentence\"\t\"label\"\n\"a b\"\t\"no\"\n\"c\"\t\"yes\"\n";
    check(&[
        (
            "a.tsv",
            pandas,
            &[],
            &format!(
                "2 that \"movie\" is \"small\"=0; 3 plain, with comma=1; 4 a\ttab=0; 5 two\nlines=1; 7 \"whole\"=0; {}",
                quoted(4, 2)
            ),
        ),
        ("a.tsv", all, &[], &format!("2 a b=0; 3 c=1; {}", quoted(6, 1))),
        // A program that quotes the texts alone.
        ("a.tsv", b"sentence\tlabel\n\"a b\"\t0\n\"c\"\t1\n", &[], &format!("2 a b=0; 3 c=1; {}", quoted(2, 2))),
        (
            "a.tsv",
            b"\"a b\"\t0\r\n\"c\"\t1\r\n",
            &["--no-header", "--text-column", "1", "--label-column", "2"],
            &format!("1 a b=0; 2 c=1; {}", quoted(2, 1)),
        ),
        // Excel.
        ("a.tsv", b"sentence\tlabel\n\"a, b\"\t0\nc\t1\n", &[], &format!("2 a, b=0; 3 c=1; {}", quoted(1, 2))),
        // GLUE.
        ("a.tsv", b"sentence\tlabel\na 5\" disk\t0\n\"c\t1\n", &[], "2 a 5\" disk=0; 3 \"c=1"),
        ("a.tsv", b"sentence\tlabel\n\"a\" b\t0\nc \"d\"\t1\n", &[], "2 \"a\" b=0; 3 c \"d\"=1"),
        (
            "a.tsv",
            b"sentence\tlabel\n\"a\" \"b\"\t0\nc, d\t1\n",
            &[],
            "2 \"a\" \"b\"=0; 3 c, d=1; note: 1 field begins and ends with a quotation mark (line 2), which is text: other quotation marks quote nothing (line 2)",
        ),
        (
            "a.tsv",
            b"sentence\tlabel\n\"a, b\"\t0\nc, d\t1\n",
            &[],
            "2 \"a, b\"=0; 3 c, d=1; note: 1 field begins and ends with a quotation mark (line 2), which is text: nothing shows that this file quotes; in a .csv they would be quoted",
        ),
        // The marks of two lines seem to hold a field together; but without them all lines are whole.
        ("a.tsv", b"sentence\tlabel\n\"a\t0\nb\"\t1\n", &[], "2 \"a=0; 3 b\"=1"),
        (
            "a.tsv",
            b"sentence\tlabel\n\"a \\\"b\\\"\"\t0\n",
            &[],
            "a.tsv, line 2: a quotation mark in a quoted field is written `\\\"`; expected it doubled, as in RFC 4180",
        ),
        (
            "a.csv",
            b"text,label\na,1\n\"b,1\nc,0\n",
            &[],
            "a.csv, line 3: a quotation mark opens a field, and none closes it; expected quoting as in RFC 4180",
        ),
        (
            "a.csv",
            b"text,label\n\"b\" c,1\n",
            &[],
            "a.csv, line 2: a quotation mark closes a field, and text follows it; expected quoting as in RFC 4180",
        ),
        ("a.csv", b"text,label\na, b,1\n", &[], "a.csv, line 2: 3 columns, expected 2 as in the header"),
    ]);
}

#[test]
fn blank_lines_are_no_rows() {
    check(&[
        ("a.tsv", b"sentence\tlabel\na\t1\n\n  \n", &[], "2 a=1"),
        ("a.tsv", b"sentence\tlabel\na\t1\n\n \t\r\n", &[], "2 a=1"),
        ("a.tsv", b"\n \nsentence\tlabel\n\n  \na\t1", &[], "6 a=1"),
        ("a.tsv", b"\n\nsentence\tlabel\n\n  \n\na\t1", &[], "7 a=1"),
        ("a.csv", b"text,label\na,1\n,\n , \n", &[], "2 a=1"),
        ("a.csv", b"text,label\n,\na,1\n", &[], "a.csv, line 2: the text is empty"),
        ("a.jsonl", b"\n{\"text\": \"a\", \"label\": 1}\n\n \t\n", &[], "2 a=1"),
    ]);
}

/// Notes go to stderr, with the file; the JSON stays alone on stdout. The bench reads as `eval` does.
#[test]
fn what_was_assumed_is_said() {
    let folder = scratch("tables_notes");
    let mut files = tiny_files();
    edit_config(&mut files, |config| {
        config["id2label"] = json!({"0": "1", "1": "2", "2": "3", "3": "4", "4": "5"});
    });
    save(&files, &folder.join("model"));
    let model = path(&folder.join("model"));
    let data = file(&folder, "data.csv", "review,stars\n\"w5, w6\",0\nw7,4\nw8,-\n");
    let ended = run(with_model(&model, "eval", &["--json", "--prune", "dense", &data]));
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON alone on stdout");
    assert_eq!(report["results"][0]["samples"], 2);
    let notes = [
        "the text is column `review`; the label is column `stars`",
        "1 row is left out, whose label is `-` (line 4): the annotators did not agree",
        "labels are read as indices, so that 0 is `1`; with --labels name they are the model's names",
    ];
    let notes: String = notes.iter().map(|note| format!("note: {data}: {note}\n")).collect();
    assert_eq!((ended.code, &ended.stderr), (0, &notes));
    let args = ["run", "--backend", "cpu", "--model", &model, "--prune", "dense", "--batch", "2", "--data", &data];
    let ended = run(bench(&args));
    assert_eq!((ended.code, ended.stderr), (0, notes));
    let data = file(&folder, "two ways.csv", "text,label\nw5,1\n");
    let failure = run(with_model(&model, "eval", &[&data])).failure();
    assert!(failure.starts_with(&format!("1 error: {data}, line 2: label `1` is ambiguous")), "{failure}");
    let report = run(with_model(&model, "eval", &["--json", "--labels", "name", &data])).json();
    assert_eq!(report["results"][0]["samples"], 1);
}
