//! The rooms of the source: who may import whom, and what occurs in one place only.

mod common;

use std::path::Path;

/// A room, and the rooms that it may import: command → engine → network → backend, and models → pruning → tensor → error.
const ROOMS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("platform", &[]),
    ("parallel", &[]),
    ("tensor", &["error"]),
    ("backend", &["error", "tensor"]),
    ("pruning", &["error", "backend"]),
    ("backend::cpu", &["error", "tensor", "parallel", "backend"]),
    ("backend::gpu", &["error", "tensor", "platform", "backend"]),
    ("models", &["error", "tensor", "pruning"]),
    ("network", &["error", "tensor", "platform", "backend", "models"]),
    (
        "engine",
        &[
            "error",
            "tensor",
            "platform",
            "parallel",
            "backend",
            "backend::cpu",
            "backend::gpu",
            "pruning",
            "models",
            "network",
        ],
    ),
    // The command is another crate, which sees the library's public names alone.
    ("command", &[]),
    ("cli", &["command"]),
    ("bench", &["command"]),
    ("main", &["cli", "command"]),
];

/// What may occur only in files whose path begins so.
const PLACES: &[(&str, &[&str])] = &[
    // The bench tells its version.
    ("wgpu", &["backend/gpu/", "bench/environment.rs"]),
    ("rayon", &["parallel.rs"]),
    ("target_arch", &["platform.rs"]),
    ("sttabt::", &["cli/", "command/", "bench/", "main.rs"]),
    ("std::fs", &["cli/", "command/", "bench/", "main.rs", "models/folder.rs"]),
    ("std::io", &["cli/", "command/", "bench/", "main.rs", "models/folder.rs", "models/picture/"]),
    ("std::env", &["cli/", "command/", "bench/", "main.rs"]),
    ("std::process", &["cli/", "command/", "bench/", "main.rs"]),
    ("std::time", &["cli/", "command/", "bench/", "main.rs"]),
    ("Instant", &["cli/", "command/", "bench/", "main.rs"]),
    ("SystemTime", &["cli/", "command/", "bench/", "main.rs"]),
    ("std::thread", &["cli/", "command/", "bench/", "main.rs"]),
    ("println!", &["cli/", "command/", "bench/", "main.rs"]),
    ("eprintln!", &["cli/", "command/", "bench/", "main.rs"]),
    ("print!", &["cli/", "command/", "bench/", "main.rs"]),
    ("eprint!", &["cli/", "command/", "bench/", "main.rs"]),
    ("dbg!", &[]),
    (".unwrap()", &["cli/", "command/", "bench/", "main.rs"]),
    (".expect(", &["cli/", "command/", "bench/", "main.rs"]),
    ("panic!", &["cli/", "command/", "bench/", "main.rs"]),
    ("unreachable!", &["cli/", "command/", "bench/", "main.rs"]),
    ("todo!", &[]),
    ("unimplemented!", &[]),
    // A folder's weights are mapped.
    ("unsafe", &["command/", "models/folder.rs"]),
];

const MAX_LINES: usize = 360;

/// A file without comments and test modules; those stand at its end.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let starts_tests = line.trim() == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.starts_with("mod "));
        if starts_tests {
            break;
        }
        let line = if line.trim_start().starts_with("//") { "" } else { line };
        code.push_str(line.split(" // ").next().unwrap_or(line));
        code.push('\n');
    }
    code
}

/// The modules that a file stands for: `backend/cpu/mod.rs` is `backend`, `cpu`.
fn module(path: &str) -> Vec<&str> {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    path.strip_suffix("/mod").unwrap_or(path).split('/').collect()
}

/// The longest room that a path of modules begins with.
fn room(path: &[&str]) -> Option<&'static str> {
    let named = |name: &str| ROOMS.iter().find(|(room, _)| *room == name).map(|(room, _)| *room);
    path.get(..2).and_then(|two| named(&two.join("::"))).or_else(|| named(path.first()?))
}

/// Every path that begins with `crate::` or `super::`, with `use` groups taken apart, from the root of the crate.
fn imports<'a>(path: &'a str, code: &'a str) -> Vec<Vec<&'a str>> {
    let mut imports = Vec::new();
    for (start, root) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        let before = code[..start].chars().next_back();
        // `super::super::` is read from its first word.
        if before.is_some_and(|char| char.is_alphanumeric() || char == '_' || char == ':') {
            continue;
        }
        let mut prefix = if root == "crate::" { Vec::new() } else { module(path) };
        let mut rest = &code[start + if root == "crate::" { root.len() } else { 0 }..];
        while let Some(after) = rest.strip_prefix("super::") {
            prefix.pop();
            rest = after;
        }
        paths(&prefix, rest, &mut imports);
    }
    imports
}

/// Adds the paths of a use tree to `found`, and returns what follows the tree.
fn paths<'a>(prefix: &[&'a str], text: &'a str, found: &mut Vec<Vec<&'a str>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start().trim_start_matches(',').trim_start();
            match rest.strip_prefix('}') {
                Some(after) => return after,
                None if rest.is_empty() => return rest,
                None => rest = paths(prefix, rest, found),
            }
        }
    }
    let end = text.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(text.len());
    // Something else than a name, as in `*`, is one step.
    let (name, rest) = text.split_at(end.max(text.chars().next().map_or(0, char::len_utf8)));
    let path = [prefix, &[name]].concat();
    match rest.strip_prefix("::") {
        Some(rest) => paths(&path, rest, found),
        None => {
            found.push(path);
            rest.strip_prefix(" as ").map_or(rest, |rest| rest.trim_start_matches(char::is_alphanumeric))
        }
    }
}

/// All that is wrong with a file; `path` is below `src/`.
fn problems(path: &str, text: &str) -> Vec<String> {
    let code = code(text);
    let mut problems = Vec::new();
    let num_lines = text.lines().count();
    if num_lines > MAX_LINES {
        problems.push(format!("{path} has {num_lines} lines"));
    }
    let is_part = |char: char| char.is_alphanumeric() || char == '_';
    for (pattern, places) in PLACES {
        let is_whole = |(at, _): &(usize, &str)| {
            let (before, after) = (code[..*at].chars().next_back(), code[at + pattern.len()..].chars().next());
            let starts = !pattern.starts_with(is_part) || !before.is_some_and(is_part);
            starts && (!pattern.ends_with(is_part) || !after.is_some_and(is_part))
        };
        if !places.iter().any(|place| path.starts_with(place)) && code.match_indices(pattern).any(|at| is_whole(&at)) {
            problems.push(format!("{path} has `{pattern}`, which belongs in {places:?}"));
        }
    }
    // lib.rs names every room.
    if path == "lib.rs" {
        return problems;
    }
    let Some(own) = room(&module(path)) else { return vec![format!("{path} is in no room")] };
    let allowed = ROOMS.iter().find(|(room, _)| *room == own).map_or(&[][..], |(_, allowed)| allowed);
    for import in imports(path, &code) {
        match room(&import) {
            Some(other) if other == own || allowed.contains(&other) => {}
            other => problems.push(format!("{path} imports {} ({other:?}); {own} may not", import.join("::"))),
        }
    }
    problems
}

fn files(folder: &Path, prefix: &str, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = format!("{prefix}{}", path.file_name().expect("a name").to_string_lossy());
        if path.is_dir() {
            files(&path, &format!("{name}/"), found);
        } else if name.ends_with(".rs") && !name.ends_with("_tests.rs") {
            found.push((name, String::from_utf8(common::read(&path)).expect("UTF-8")));
        }
    }
}

#[test]
fn every_file_keeps_to_its_room() {
    let mut found = Vec::new();
    files(&common::root().join("src"), "", &mut found);
    found.sort();
    assert!(found.len() > 30, "{} files", found.len());
    let failures: Vec<String> = found.iter().flat_map(|(path, text)| problems(path, text)).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// The check is not blind.
#[test]
fn trespassers_are_found() {
    let long = "\n".repeat(MAX_LINES + 1);
    let rows: &[(&str, &str, usize)] = &[
        ("backend/mod.rs", "use crate::models::Model;", 1),
        ("backend/mod.rs", "use crate::{error::Error, engine};", 1),
        ("backend/gpu/linear.rs", "use crate::backend::{check, cpu::CpuBackend};", 1),
        ("backend/gpu/linear.rs", "use super::super::cpu;\nuse super::super::check;", 1),
        ("backend/gpu/linear.rs", "use super::kernel::{params, shader};\nuse crate::tensor::{Heads as H, Tensor};", 0),
        ("backend/cpu/mod.rs", "let at = crate::pruning::ceil(1);", 1),
        ("network/pass.rs", "use crate::backend::{\n    Backend, Rows,\n    gpu::GpuBackend,\n};", 1),
        ("network/pass.rs", "use crate::engine::Engine;", 1),
        ("pruning/rule.rs", "use crate::backend::cpu::largest;\nuse crate::models::Config;", 2),
        ("tensor.rs", "use crate::platform::*;", 1),
        ("error.rs", "use crate::tensor::Tensor;", 1),
        ("engine/mod.rs", "use crate::Error;", 1),
        ("cli/eval.rs", "use super::args::Args;\nuse sttabt::Model;", 0),
        ("attic/old.rs", "", 1),
        ("engine/mod.rs", "// wgpu\n/// println!\nlet a = 1; // todo!\n#[cfg(test)]\nmod tests {\n    panic!();\n}", 0),
        ("engine/mod.rs", "#[cfg(feature = \"gpu\")]\nfn a() { wgpu::a() }", 1),
        ("backend/gpu/queue.rs", "use rayon::prelude::*;", 1),
        ("backend/cpu/linear.rs", "use rayon::prelude::*;", 1),
        ("backend/gpu/queue.rs", "#[cfg(target_arch = \"wasm32\")]", 1),
        ("models/mod.rs", "use std::fs;\nuse std::time::Instant;", 3),
        ("models/mod.rs", "a.unwrap(); b.expect(\"b\"); panic!(); todo!(); eprintln!();", 5),
        ("models/mod.rs", "a.unwrap_or(1); Instantiate; expect(1); futures_wgpux", 0),
        ("models/mod.rs", &long, 1),
    ];
    for (path, text, expected) in rows {
        let found = problems(path, text);
        assert_eq!(found.len(), *expected, "{path}: {text}\n{found:?}");
    }
}
