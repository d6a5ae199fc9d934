//! The commands in the pages: those in blocks ` ```console ` print what stands there, and the programs know all others with their options.

use std::fs::read_to_string;
use std::process::Command;

use sttabt::{Prune, PruneMode};

use super::command::{Ended, sttabt};
use super::common::root;

/// What stands before a command's arguments, and which program it is.
const PROGRAMS: [(&str, &str); 4] = [
    ("cargo run --release --bin sttabt-bench -- ", env!("CARGO_BIN_EXE_sttabt-bench")),
    ("cargo run --release -- ", env!("CARGO_BIN_EXE_sttabt")),
    ("sttabt-bench ", env!("CARGO_BIN_EXE_sttabt-bench")),
    ("sttabt ", env!("CARGO_BIN_EXE_sttabt")),
];

/// `…`: any text in a line, and any lines if it stands alone.
const ANY: char = '…';

/// A block of code: its language, the line where it begins, and its lines. Indented ones have no language.
struct Block {
    language: String,
    first_line: usize,
    lines: Vec<String>,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut is_fenced, mut is_indented) = (false, false);
    for (number, line) in page.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        if let Some(language) = fence {
            is_fenced = !is_fenced;
            if is_fenced {
                blocks.push(Block { language: language.to_owned(), first_line: number + 2, lines: Vec::new() });
            }
        } else if is_fenced || line.starts_with("    ") {
            if !is_fenced && !is_indented {
                blocks.push(Block { language: String::new(), first_line: number + 1, lines: Vec::new() });
            }
            if let Some(block) = blocks.last_mut() {
                block.lines.push(if is_fenced { line } else { line.trim_start() }.to_owned());
            }
        }
        is_indented = fence.is_none() && !is_fenced && line.starts_with("    ");
    }
    blocks
}

/// The pages with commands, and their text.
fn pages() -> Vec<(String, String)> {
    let mut names = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned(), "benches/peers/README.md".to_owned()];
    for entry in root().join("docs").read_dir().expect("docs/") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        names.extend(name.ends_with(".md").then(|| format!("docs/{name}")));
    }
    names.sort();
    let text = |name: &String| read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    names.iter().map(|name| (name.clone(), text(name))).collect()
}

/// A command as a shell reads it, up to a pipe or the next command.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (letter, quote) {
            (_, Some(open)) if letter == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    let end = words.iter().position(|word| ["|", "&&", ">", "#"].contains(&word.as_str())).unwrap_or(words.len());
    words.truncate(end);
    words
}

/// The programs' commands in a line, and their arguments.
fn commands(line: &str) -> Vec<(&'static str, Vec<String>)> {
    let parts = line.split(" && ").flat_map(|part| part.split(" | "));
    let of = |part: &str| {
        PROGRAMS.iter().find_map(|(start, program)| part.strip_prefix(start).map(|rest| (*program, words(rest))))
    };
    parts.filter_map(|part| of(part.trim_start_matches('('))).collect()
}

/// What a program says against a command: it knows all options before it comes to `--help`.
fn refusal(program: &str, args: &[String]) -> Option<String> {
    for pair in args.windows(2).filter(|pair| pair[0] == "--prune") {
        let rules = &pair[1];
        if rules.parse::<PruneMode>().is_err() && Prune::parse_list(rules).is_err() {
            return Some(format!("`{rules}` is no rule"));
        }
    }
    let output = Command::new(program).args(args).arg("--help").current_dir(root()).output().expect("a process");
    let ended = Ended::from(output);
    (ended.code != 0).then_some(ended.stderr)
}

/// Whether a line is as in the page.
fn is_line(pattern: &str, line: &str) -> bool {
    match pattern.split_once(ANY) {
        None => pattern == line,
        Some((start, rest)) => {
            let Some(line) = line.strip_prefix(start) else { return false };
            (0..=line.len()).filter(|&at| line.is_char_boundary(at)).any(|at| is_line(rest, &line[at..]))
        }
    }
}

fn is_output(patterns: &[&str], lines: &[&str]) -> bool {
    match (patterns, lines) {
        ([], lines) => lines.is_empty(),
        (["…", rest @ ..], _) => (0..=lines.len()).any(|at| is_output(rest, &lines[at..])),
        ([pattern, patterns @ ..], [line, lines @ ..]) => is_line(pattern, line) && is_output(patterns, lines),
        (_, []) => false,
    }
}

#[test]
fn commands_of_the_pages_are_known() {
    let (mut num_commands, mut faults) = (0, Vec::new());
    for (page, text) in pages() {
        for block in blocks(&text).into_iter().filter(|block| !["text", "console"].contains(&block.language.as_str())) {
            let mut line = String::new();
            for (number, part) in block.lines.iter().enumerate() {
                // A line goes on after a backslash.
                line += part.trim_end_matches('\\');
                if part.ends_with('\\') {
                    continue;
                }
                for (program, args) in commands(&line) {
                    num_commands += 1;
                    let at = block.first_line + number;
                    faults.extend(refusal(program, &args).map(|fault| format!("{page}:{at}: {line}\n{fault}")));
                }
                line.clear();
            }
        }
    }
    assert!(num_commands > 30, "only {num_commands} commands");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn commands_of_the_pages_print_what_stands_there() {
    let mut num_commands = 0;
    for (page, text) in pages() {
        for block in blocks(&text).into_iter().filter(|block| block.language == "console") {
            let lines: Vec<&str> = block.lines.iter().map(|line| line.trim_end()).collect();
            let (first, expected) = lines.split_first().expect("a command");
            let at = format!("{page}:{}", block.first_line);
            let command =
                first.strip_prefix("$ sttabt ").unwrap_or_else(|| panic!("{at}: `{first}` is no `$ sttabt …`"));
            assert!(!expected.iter().any(|line| line.starts_with("$ ")), "{at}: one command in a block");
            num_commands += 1;
            let args = words(command);
            let output = sttabt(args.iter().map(String::as_str)).output().expect("a process");
            let printed = Ended::from(output).quiet();
            let printed: Vec<&str> = printed.lines().map(str::trim_end).collect();
            assert!(
                is_output(expected, &printed),
                "{at}: `{command}` prints\n{}\nexpected\n{}",
                printed.join("\n"),
                expected.join("\n")
            );
        }
    }
    assert!(num_commands >= 3, "only {num_commands} commands");
}

#[test]
fn commands_are_read_as_a_shell_reads_them() {
    let page = "    sttabt rank --query \"a b\" \\\n      x.txt | head\n\ntext\n\n```sh\n(cd web) && cargo run --release -- demo\n```\n";
    let blocks = blocks(page);
    let found: Vec<(&str, usize, usize)> =
        blocks.iter().map(|block| (block.language.as_str(), block.first_line, block.lines.len())).collect();
    assert_eq!(found, [("", 1, 2), ("sh", 7, 1)]);
    assert_eq!(words("rank --query \"a b\" '' x.txt | head"), ["rank", "--query", "a b", "", "x.txt"]);
    assert_eq!(commands(&blocks[1].lines[0])[0].1, ["demo"]);
    assert!(commands("(cd train && cargo build --release)").is_empty());
    for (program, args, expected) in [
        (PROGRAMS[1].1, "classify --nonsense a", "--nonsense"),
        (PROGRAMS[1].1, "eval --prune nonsense x.tsv", "`nonsense` is no rule"),
        (PROGRAMS[0].1, "run --nonsense", "--nonsense"),
    ] {
        assert!(refusal(program, &words(args)).is_some_and(|fault| fault.contains(expected)), "{args}");
    }
    assert_eq!(refusal(PROGRAMS[1].1, &words("classify --prune auto:topk:0.5 a")), None);
    for (pattern, lines, is_expected) in [
        ("a\n…\nd…", "a\nb\nc\nd e", true),
        ("a\n…\nd…", "a\nd", true),
        ("a …%\nb", "a 3 %\nb", true),
        ("a …%\nb", "a 3\nb", false),
        ("a", "a\nb", false),
    ] {
        let (pattern, lines): (Vec<&str>, Vec<&str>) = (pattern.lines().collect(), lines.lines().collect());
        assert_eq!(is_output(&pattern, &lines), is_expected, "{pattern:?} {lines:?}");
    }
}
