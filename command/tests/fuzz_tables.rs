//! Mutated files of labelled texts: whatever the bytes are, reading gives rows or an error, soon and in bounded memory.
//!
//! At length:
//!
//!     STTABT_FUZZ_TABLES=0..1000000 cargo test --release --locked --test fuzz_tables -- --nocapture
//!
//! A number stands for the same input as long as the seeds are the same.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use common::counting::{Counting, counted};
use common::fuzz::{Random, numbers};
use common::tiny_bert;
use sttabt::{Config, Task};
use sttabt_command::command::table::{Expected, Table, parse};
use sttabt_command::command::{ColumnArgs, Failure};

/// What reading may take: JSON's objects are the largest, a map of strings for each.
const BYTES_PER_BYTE: usize = 256;
const MORE_BYTES: usize = 1 << 20;
/// Some hundred times what one takes, since a machine may be busy.
const MAX_TIME: Duration = Duration::from_secs(5);

#[global_allocator]
static COUNTING: Counting = Counting;

/// The whole files that inputs are made of, each kind's together, with its name.
const SEEDS: [(&str, &[&str]); 3] = [
    (
        "data.tsv",
        &[
            "sentence\tlabel\na gripping film\t1\na tedious mess\t0\n",
            "sentence\tlabel\n\"that \"\"movie\"\"\"\tno\n\"two\nlines\"\tyes\n\"a\ttab\"\tno\n",
            "index\tsentence1\tsentence2\tgold_label\r\n0\ta\tb\tno\r\n1\tc\td\t-\r\n2\te\tf\tyes\r\n",
            "text\tstars\n\"good, very\"\t4.0\nbad\t1.0\nso so\t3.0\n",
        ],
    ),
    (
        "data.csv",
        &[
            "text,label\n\"a, \"\"b\"\"\nc\",1\nd,0\n",
            "\u{feff}id,review,sentiment\r\n1,good,yes\r\n2,\"bad\",no\r\n",
            ",query,passage,label\n0,a,b,1.0\n1,c,d,0.0\n,,,\n",
        ],
    ),
    (
        "data.jsonl",
        &[
            "{\"text\": \"a\\tb\", \"label\": 1}\n{\"label\": 0, \"text\": \"\\u00e9\"}\n",
            "[\n  {\"premise\": \"a\", \"hypothesis\": \"b\", \"label\": \"yes\"},\n  {\"premise\": \"c\", \"hypothesis\": \"d\", \"label\": \"no\"}\n]\n",
            "{\"sentence\": \"a\", \"score\": 1.5, \"id\": null, \"more\": {\"x\": [1, true]}}\n",
        ],
    ),
];

/// What decides how a file is read.
const TOKENS: [&[u8]; 34] = [
    b"\"",
    b"\"\"",
    b"\t",
    b",",
    b"\n",
    b"\r",
    b"\r\n",
    b" ",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b"\\",
    b"\\\"",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"true",
    b"1e999",
    b"-",
    b"-1",
    b"0",
    b"1.0",
    b"2",
    b"99999999999999999999",
    b"yes",
    b"text",
    b"label",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\0",
    b"\xe9",
    b"\xe2\x80\xa8",
];

const ARGS: [&[&str]; 8] = [
    &[],
    &[],
    &[],
    &["--labels", "name"],
    &["--labels", "index"],
    &["--text-column", "1", "--label-column", "2"],
    &["--no-header", "--text-column", "2", "--pair-column", "1", "--label-column", "3"],
    &["--limit", "1"],
];

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    columns: ColumnArgs,
}

/// A file's name and bytes, which arguments it is read with, and for which model.
struct Input {
    name: &'static str,
    bytes: Vec<u8>,
    args: usize,
    config: usize,
}

/// The input of a number.
fn input(number: u64, num_configs: usize) -> Input {
    let mut random = Random::of(number);
    let &(name, seeds) = random.pick(&SEEDS);
    let mut bytes = random.pick(seeds).as_bytes().to_vec();
    for _ in 0..random.few() {
        let other = random.pick(seeds).as_bytes();
        mutate(&mut bytes, other, &mut random);
    }
    Input { name, bytes, args: random.below(ARGS.len()), config: random.below(num_configs) }
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = (at + 1 + random.below(12)).min(bytes.len());
    let lines: Vec<Vec<u8>> = bytes.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    match random.below(10) {
        0..=2 => drop(bytes.splice(at..at, random.pick(&TOKENS).iter().copied())),
        3 => drop(bytes.splice(at..end.max(at), random.pick(&TOKENS).iter().copied())),
        4 => drop(bytes.drain(at..end.max(at))),
        5 => bytes.truncate(at),
        6 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.below(256) as u8;
            }
        }
        // A line twice, or at another's place.
        7 => bytes.extend(lines.get(random.below(lines.len())).into_iter().flatten()),
        // Lines of another file.
        8 => {
            let from = random.below(other.len());
            drop(bytes.splice(at..at, other[from..].iter().copied()));
        }
        // Very many of one thing: a long field, a deep nest, a thousand columns.
        _ => {
            let token = random.pick(&TOKENS);
            let many = *random.pick(&[2, 100, 2_000]);
            drop(bytes.splice(at..at, token.iter().copied().cycle().take(many * token.len())));
        }
    }
}

fn read(input: &Input, configs: &[Config]) -> Result<Table, Failure> {
    let args = Args::parse_from([&["eval"], ARGS[input.args]].concat()).columns;
    parse(&args, Path::new(input.name), &input.bytes, &configs[input.config])
}

/// Whether it has rows, or what reading must not do.
fn check(input: &Input, configs: &[Config]) -> Result<bool, String> {
    let start = Instant::now();
    let (table, num_bytes, _) = counted(|| catch_unwind(AssertUnwindSafe(|| read(input, configs))));
    let (table, time) = (table.map_err(|_| "panicked".to_owned())?, start.elapsed());
    if time > MAX_TIME {
        return Err(format!("took {time:?}"));
    }
    if num_bytes > BYTES_PER_BYTE * input.bytes.len() + MORE_BYTES {
        return Err(format!("took {num_bytes} bytes for {}", input.bytes.len()));
    }
    match table {
        Err(Failure::Error(message) | Failure::Usage(message)) if !message.is_empty() => Ok(false),
        Err(_) => Err("an error without a message".to_owned()),
        Ok(table) => {
            let num_lines = 1 + input.bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
            let num_labels = configs[input.config].labels.len();
            let mut last = 0;
            for row in &table.rows {
                let is_told = |text: &str| !text.trim().is_empty();
                let is_label = match row.expected {
                    Expected::Label(label) => label < num_labels,
                    Expected::Value(value) => value.is_finite(),
                };
                // Lines may end in a carriage return alone, which is not counted; objects of an array may share a line.
                let is_in_order = row.line >= last && (1..=num_lines).contains(&row.line);
                last = row.line;
                if !is_told(&row.text) || !row.text_pair.as_deref().is_none_or(is_told) || !is_label || !is_in_order {
                    return Err(format!("{row:?}"));
                }
            }
            if table.rows.is_empty() { Err("no rows".to_owned()) } else { Ok(true) }
        }
    }
}

fn configs() -> Vec<Config> {
    let labels = ["no|yes", "1|2|3|4|5", "1 star|2 stars|3 stars|4 stars|5 stars", "score"];
    labels
        .iter()
        .map(|labels| {
            let mut config = tiny_bert().config().clone();
            config.labels = labels.split('|').map(str::to_owned).collect();
            config.task = if *labels == "score" { Task::Regression } else { Task::Classification };
            config
        })
        .collect()
}

#[test]
fn mutated_files_are_rows_or_errors() {
    let configs = configs();
    let numbers = numbers("STTABT_FUZZ_TABLES");
    let (mut num_tables, mut failures) = (0, Vec::new());
    for number in numbers.clone() {
        if number % 100_000 == 0 {
            println!("from {number}");
        }
        let input = input(number, configs.len());
        match check(&input, &configs) {
            Ok(has_rows) => num_tables += u64::from(has_rows),
            Err(failure) => failures.push(format!("input {number}: {failure}\n{}", input.bytes.escape_ascii())),
        }
    }
    let num_inputs = numbers.end - numbers.start;
    println!("{num_tables} of {num_inputs} have rows");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    // Mutations that break every file would test no reader to its end.
    assert!(num_inputs < 1_000 || num_tables * 20 > num_inputs, "{num_tables} files with rows");
}
