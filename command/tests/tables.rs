//! Labelled texts in files: endings, columns, quoting, encodings and labels, row by row, and what is said about them.

use std::path::Path;

use crate::command::*;
use crate::common::edit::{check_rows, edit_config, save, tiny_files};
use crate::common::tiny_bert;
use clap::Parser;
use serde_json::{Value, json};
use sttabt::{Config, Task};
use sttabt_command::command::table::{Expected, Table, parse, parse_texts};
use sttabt_command::command::{ColumnArgs, Failure};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    columns: ColumnArgs,
}

fn config(labels: &str) -> Config {
    let mut config = tiny_bert().config().clone();
    config.labels = labels.split('|').map(str::to_owned).collect();
    config
}

fn arguments(args: &[&str]) -> ColumnArgs {
    Args::try_parse_from([&["eval"], args].concat()).unwrap_or_else(|error| panic!("{error}")).columns
}

fn message(failure: Failure) -> String {
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
fn told(name: &str, bytes: &[u8], args: &[&str], config: &Config) -> String {
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
type Case<'a> = (&'a str, &'a [u8], &'a [&'a str], &'a str);

fn check(cases: &[Case<'_>]) {
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
        ("a.tsv", b"sentence\tlabel\n\t1\n", SKIP, "a.tsv: no rows"),
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

#[test]
fn encodings_are_named() {
    const WAY_OUT: &str = "if the file is Latin-1 or Windows-1252, convert it with `iconv -f WINDOWS-1252 -t UTF-8`";
    let wide = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let little = wide("\u{feff}text\tlabel\na\t1\n", u16::to_le_bytes);
    let big = wide("\u{feff}text\tlabel\na\t1\n", u16::to_be_bytes);
    check(&[
        ("a.tsv", b"\xef\xbb\xbftext\tlabel\r\na\t1\r\n", &[], "2 a=1"),
        ("a.csv", b"\xef\xbb\xbf\"text\",label\r\na,1\r\n", &[], "2 a=1"),
        ("a.jsonl", b"\xef\xbb\xbf{\"text\": \"a\", \"label\": 1}\r\n", &[], "1 a=1"),
        ("a.tsv", &little, &[], "a.tsv: UTF-16, expected UTF-8; convert it with `iconv -f UTF-16 -t UTF-8`"),
        ("a.csv", &big, &[], "a.csv: UTF-16, expected UTF-8; convert it with `iconv -f UTF-16 -t UTF-8`"),
        ("a.tsv", &little[2..], &[], "a.tsv: UTF-16LE, expected UTF-8; convert it with `iconv -f UTF-16LE -t UTF-8`"),
        ("a.tsv", &big[2..], &[], "a.tsv: UTF-16BE, expected UTF-8; convert it with `iconv -f UTF-16BE -t UTF-8`"),
        ("a.csv", b"text,label\na,1\ncaf\xe9,0\n", &[], &format!("a.csv, line 3: not UTF-8 (byte 0xe9); {WAY_OUT}")),
        (
            "a.jsonl",
            b"{\"text\": \"caf\xe9\", \"label\": 1}",
            &[],
            &format!("a.jsonl, line 1: not UTF-8 (byte 0xe9); {WAY_OUT}"),
        ),
        ("a.parquet", b"PAR1\x15\x04", &[], "a.parquet: a Parquet file, expected text in UTF-8"),
        ("a.csv.bz2", b"BZh91AY", &[], "a.csv.bz2: compressed by bzip2, expected text in UTF-8"),
        ("a.csv.xz", b"\xfd7zXZ\x00", &[], "a.csv.xz: compressed by xz, expected text in UTF-8"),
        ("a.csv.zst", b"\x28\xb5\x2f\xfd\x04", &[], "a.csv.zst: compressed by zstd, expected text in UTF-8"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1", &[], "a.xls: an old Excel workbook, expected text in UTF-8"),
        ("a.tsv.gz", b"\x1f\x8b\x08", &[], "a.tsv.gz: compressed by gzip, expected text in UTF-8"),
        ("a.xlsx", b"PK\x03\x04", &[], "a.xlsx: a ZIP file or an Excel workbook, expected text in UTF-8"),
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

#[test]
fn columns_by_the_names_that_data_sets_have() {
    const WAY: &str = "name it with --text-column (and --pair-column)";
    check(&[
        ("a.csv", b"text,label\na,1\n", &[], "2 a=1"),
        ("a.csv", b"TEXT,Label\na,1\n", &[], "2 a=1"),
        (
            "a.csv",
            b"review,sentiment\na,yes\n",
            &[],
            "2 a=1; note: the text is column `review`; the label is column `sentiment`",
        ),
        (
            "a.csv",
            b"Review Text,Star-Rating\na,yes\n",
            &[],
            "2 a=1; note: the text is column `Review Text`; the label is column `Star-Rating`",
        ),
        ("a.csv", b"title,content,label\nt,a,1\n", &[], "2 a=1; note: the text is column `content`"),
        ("a.csv", b"tweet,class\na,0\n", &[], "2 a=0; note: the text is column `tweet`; the label is column `class`"),
        ("a.csv", b"query,passage,label\na,b,0\n", &[], "2 a/b=0; note: the text is column `query` with `passage`"),
        ("a.csv", b"text1,text2,label\na,b,0\n", &[], "2 a/b=0; note: the text is column `text1` with `text2`"),
        ("a.csv", b"text,text2,label\na,b,0\n", &[], "2 a/b=0; note: the text is column `text` with `text2`"),
        ("a.csv", b"text,label,label_text\na,1,yes\n", &[], "2 a=1"),
        (
            "a.csv",
            b"text,label,score\na,1,0\n",
            &[],
            "2 a=1; note: the label is column `label`, not `score`; --label-column takes another",
        ),
        (
            "a.csv",
            b"text,coarse_label,fine_label\na,1,0\n",
            &[],
            "a.csv: the label is ambiguous: it may be `coarse_label` or `fine_label`; name it with --label-column",
        ),
        (
            "a.csv",
            b"text,sentence,label\na,b,1\n",
            &[],
            &format!("a.csv: the text is ambiguous: it may be `sentence`, or `text`; {WAY}"),
        ),
        ("a.csv", b"text,sentence,label\na,b,1\n", &["--text-column", "text"], "2 a=1"),
        (
            "a.csv",
            b"question,context,answer,label\na,b,c,1\n",
            &[],
            &format!(
                "a.csv: the text is ambiguous: it may be `question` with `context`, or `question` with `answer`; {WAY}"
            ),
        ),
        ("a.csv", b"text,Text,label\na,b,1\n", &[], "2 a=1"),
        (
            "a.csv",
            b"text,text,label\na,b,1\n",
            &[],
            &format!("a.csv: the text is ambiguous: it may be `text`, or `text`; {WAY}"),
        ),
        (
            "a.csv",
            b"text,text,label\na,b,1\n",
            &["--text-column", "text"],
            "a.csv: columns 1 and 2 are both called `text`; give its number",
        ),
        ("a.csv", b"text,text,label\na,b,1\n", &["--text-column", "2"], "2 b=1"),
        ("a.csv", b"text,label\na,1\n", &["--text-column", "label"], "a.csv: column `label` is given twice"),
        (
            "a.csv",
            b"query,label\na,1\n",
            &[],
            "a.csv: no text column; expected `sentence` or `text`, or `sentence1` and `sentence2`, or name one with --text-column; the header has `query`, `label`",
        ),
        (
            "a.jsonl",
            b"{\"comment_text\": \"a\", \"target\": 1}",
            &[],
            "1 a=1; note: the text is column `comment_text`; the label is column `target`",
        ),
    ]);
}

#[test]
fn labels_of_files() {
    let numbered = config("1|2|3|4|5");
    let number = {
        let mut config = config("score");
        config.task = Task::Regression;
        config
    };
    let (two, three) = (config("no|yes"), config("negative|neutral|positive"));
    let rows: [(&Config, &[u8], &[&str], &str); 18] = [
        (&two, b"text\tlabel\na\t1.0\nb\t0.0\n", &[], "2 a=1; 3 b=0"),
        (
            &two,
            b"text\tlabel\na\tYES\nb\t -\nc\tno\nd\t-\n",
            &[],
            "2 a=1; 4 c=0; note: 2 rows are left out, whose label is `-` (line 3): the annotators did not agree",
        ),
        (&two, b"text\tlabel\na\t-\n", &[], "a.tsv, line 2: no row has a label: they are all `-`"),
        (&two, b"text\tlabel\na\t-1\n", &[], "a.tsv, line 2: no row has a label: they are all `-1`"),
        (
            &two,
            b"text\tlabel\n a b \t 1 \nc\t-1\nd\t0\n",
            &[],
            "2  a b =1; 4 d=0; note: 1 row is left out, whose label is `-1` (line 3): the annotators did not agree",
        ),
        (
            &two,
            b"text\tlabel\na\t1\nb\t-1\n",
            &[],
            "a.tsv, line 3: the labels are `-1` and `1`, and -1 marks rows without a label here: write numbers from 0 to 1, or names, and leave out rows without a label",
        ),
        (
            &three,
            b"text\tlabel\na\t-1\nb\t0\nc\t1\n",
            &[],
            "a.tsv, line 2: the labels are `-1` and `0` and `1`, and -1 marks rows without a label here: write numbers from 0 to 2, or names, and leave out rows without a label",
        ),
        (
            &three,
            b"text\tlabel\na\t-1\nb\t0\nc\t2\n",
            &[],
            "3 b=0; 4 c=2; note: 1 row is left out, whose label is `-1` (line 2): the annotators did not agree",
        ),
        (&two, b"text\tlabel\na\t0.7\n", &[], "a.tsv, line 2: label `0.7`, expected 0 to 1 or one of: no, yes"),
        (&two, b"text\tlabel\na\t1\nb\t\nc\t0\n", &[], "a.tsv, line 3: label ``, expected 0 to 1 or one of: no, yes"),
        // The first row could be read both ways; the others decide, beyond the limit too.
        (
            &numbered,
            b"text\tlabel\na\t3\nb\t4\nc\t0\n",
            &["--limit", "2"],
            "2 a=3; 3 b=4; note: labels are read as indices, so that 0 is `1`; with --labels name they are the model's names",
        ),
        (&numbered, b"text\tlabel\na\t3\nb\t4\nc\t5\n", &[], "2 a=2; 3 b=3; 4 c=4"),
        (
            &numbered,
            b"text\tlabel\na\t3\nb\t4\n",
            &[],
            "a.tsv, line 2: label `3` is ambiguous: as a name it is `3`, as an index `4`, and all labels can be read both ways; say which with --labels name or --labels index",
        ),
        (&numbered, b"text\tlabel\na\t3\nb\t4\n", &["--labels", "name"], "2 a=2; 3 b=3"),
        (&numbered, b"text\tlabel\na\t3\nb\t4\n", &["--labels", "index"], "2 a=3; 3 b=4"),
        (&number, b"text\tscore\na\t3\nb\t-1e-3\n", &[], "2 a=3; 3 b=-0.001"),
        (&number, b"text\tscore\na\t3\nb\tnan\n", &[], "a.tsv, line 3: label `nan`, expected a number"),
        (
            &number,
            b"text\tscore\na\t3\n",
            &["--labels", "index"],
            "usage: --labels is for models with several labels, and this one gives a number",
        ),
    ];
    check_rows(rows.iter().map(|(config, bytes, args, expected)| {
        let what = String::from_utf8_lossy(bytes).escape_debug().to_string();
        (what, told("a.tsv", bytes, args, config), (*expected).to_owned())
    }));
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

/// Where nobody needs labels, a file without them is as good, and one whose labels mean nothing here says so.
#[test]
fn texts_need_no_labels() {
    let rows: &[Case<'_>] = &[
        ("a.tsv", b"sentence\na\nb\n", &[], "2 a; 3 b"),
        (
            "a.tsv",
            b"sentence\tlabel\na\t1\nb\tno\n",
            &[],
            "2 a; 3 b; note: the labels are left aside: a.tsv, line 2: `1` is an index, and `no` (a.tsv, line 3) is a name; expected all names or all indices",
        ),
        ("a.tsv", b"sentence\tlabel\na\t1\nb\t0\n", &[], "2 a=Label(1); 3 b=Label(0)"),
        (
            "a.tsv",
            b"sentence\tlabel\na\t1\nb\t-\n",
            &[],
            "2 a=Label(1); note: 1 row is left out, whose label is `-` (line 3): the annotators did not agree",
        ),
        ("a.tsv", b"query\tpassage\na\tb\n", &[], "2 a/b; note: the text is column `query` with `passage`"),
        ("a.tsv", b"a\tb\n", &["--no-header", "--text-column", "1", "--pair-column", "2"], "1 a/b"),
        ("a.tsv", b"a\tb\n", &["--no-header"], "usage: --no-header needs --text-column"),
        ("a.jsonl", b"{\"text\": \"a\"}", &[], "1 a"),
        (
            "a.json",
            b"[{\"text\": \"a\", \"label\": 1}, {\"text\": \"b\", \"label\": 0}]",
            &[],
            "1 a=Label(1); 1 b=Label(0)",
        ),
        (
            "a.jsonl",
            b"{\"text\": \"a\", \"labels\": [1, 2]}",
            &[],
            "1 a; note: the labels are left aside: line 1: `labels` is a list, expected one label",
        ),
        (
            "a.tsv",
            b"sentence\tclass\ttarget\na\t1\t0\n",
            &[],
            "2 a; note: the labels are left aside: a.tsv: the label is ambiguous: it may be `class` or `target`; name it with --label-column",
        ),
        ("a.tsv", b"label\nyes\n", &["--text-column", "label"], "2 yes"),
        (
            "a.tsv",
            b"sentence\tlabel\na\t1\n",
            &["--label-column", "right"],
            "a.tsv: no column `right`; the header has `sentence`, `label`",
        ),
    ];
    let config = config("no|yes");
    check_rows(rows.iter().map(|(name, bytes, args, expected)| {
        let told = match parse_texts(&arguments(args), Path::new(name), bytes, &config) {
            Err(failure) => message(failure),
            Ok(table) => {
                let rows = table.rows.iter().map(|row| {
                    let pair = row.text_pair.as_ref().map_or(String::new(), |pair| format!("/{pair}"));
                    let expected = row.expected.map_or(String::new(), |expected| format!("={expected:?}"));
                    format!("{} {}{pair}{expected}", row.line, row.text)
                });
                rows.chain(table.notes.iter().map(|note| format!("note: {note}"))).collect::<Vec<_>>().join("; ")
            }
        };
        (format!("{name}: {}", String::from_utf8_lossy(bytes).escape_debug()), told, (*expected).to_owned())
    }));
}
