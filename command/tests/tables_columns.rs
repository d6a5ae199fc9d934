//! Labelled texts in files: encodings, columns and labels.

use std::path::Path;

use crate::common::edit::check_rows;
use crate::tables::{Case, arguments, check, config, message, told};
use sttabt::{Config, Task};
use sttabt_command::command::table::parse_texts;

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
            "a.tsv, line 3: the labels are `-1`, `1`, and -1 marks rows without a label here: write numbers from 0 to 1, or names, and leave out rows without a label",
        ),
        (
            &three,
            b"text\tlabel\na\t-1\nb\t0\nc\t1\n",
            &[],
            "a.tsv, line 2: the labels are `-1`, `0`, `1`, and -1 marks rows without a label here: write numbers from 0 to 2, or names, and leave out rows without a label",
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
