//! The rooms of the source: who may import whom, and what occurs in one place only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

/// A room, and the rooms that it may import: command → engine → network → backend, and models → pruning → tensor → error.
/// `command::…` and `python::…` are those of the crates in `command/` and `python/`; the others are the library's.
const ROOMS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("platform", &[]),
    ("parallel", &[]),
    ("tensor", &["error"]),
    ("pruning", &["error"]),
    ("backend", &["error", "tensor", "pruning"]),
    ("backend::cpu", &["error", "tensor", "parallel", "pruning", "backend"]),
    ("backend::gpu", &["error", "tensor", "platform", "pruning", "backend"]),
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
    ("command::command", &[]),
    ("command::cli", &["command::command"]),
    ("command::bench", &["command::command"]),
    ("command::main", &["command::cli", "command::command"]),
    // So is the wheel's.
    ("python::error", &[]),
    ("python::role", &["python::error"]),
    ("python::arrow", &["python::error", "python::role"]),
    ("python::inputs", &["python::arrow", "python::error", "python::role"]),
    ("python::call", &["python::error"]),
    ("python::columns", &[]),
    ("python::ranking", &["python::columns"]),
    (
        "python::model",
        &["python::call", "python::columns", "python::error", "python::inputs", "python::ranking", "python::role"],
    ),
];

/// What may occur only in files whose path begins so.
const PLACES: &[(&str, &[&str])] = &[
    // The bench tells its version.
    ("wgpu", &["backend/gpu/", "command/bench/environment.rs"]),
    ("rayon", &["parallel.rs"]),
    ("libjpeg_turbo_rs", &["models/picture/jpeg.rs"]),
    ("catch_unwind", &["models/picture/decode.rs", "models/tokenizer/mod.rs"]),
    // Instructions that one kind of CPU has.
    ("target_arch", &["platform.rs", "backend/cpu/int8/"]),
    ("sttabt::", &["command/", "python/"]),
    ("pyo3", &["python/"]),
    // The bench measures kernels; the command needs what every user has.
    ("sttabt::backend", &["command/bench/"]),
    ("sttabt::tensor", &["command/bench/"]),
    ("std::fs", &["command/", "python/inputs.rs", "models/folder.rs", "models/mapped.rs", "models/torch.rs"]),
    (
        "std::io",
        &["command/", "python/inputs.rs", "models/folder.rs", "models/mapped.rs", "models/picture/", "models/torch.rs"],
    ),
    ("std::env", &["command/"]),
    ("std::process", &["command/", "python/model.rs"]),
    ("std::time", &["command/", "python/call.rs", "python/model.rs"]),
    ("Instant", &["command/", "python/model.rs"]),
    ("SystemTime", &["command/"]),
    ("std::thread", &["command/", "python/call.rs", "python/model.rs"]),
    ("println!", &["command/"]),
    ("eprintln!", &["command/"]),
    ("print!", &["command/"]),
    ("eprint!", &["command/"]),
    ("dbg!", &[]),
    (".unwrap()", &["command/"]),
    (".expect(", &["command/"]),
    ("panic!", &["command/"]),
    ("unreachable!", &["command/"]),
    ("todo!", &[]),
    ("unimplemented!", &[]),
    // A folder's weights are mapped; some instructions have no safe function; the command sets a variable before it starts a thread; Arrow's
    // packages hand over pointers.
    ("unsafe", &["models/mapped.rs", "backend/cpu/int8/dot.rs", "command/command/", "python/arrow.rs"]),
];

const MAX_LINES: usize = 360;

/// What the paths of the other crates' files begin with here; those of the library's are below `src/`.
const CRATES: [&str; 2] = ["command", "python"];

/// The crate of a file that is not the library's.
fn other_crate(path: &str) -> Option<&'static str> {
    CRATES.into_iter().find(|name| path.strip_prefix(name).is_some_and(|rest| rest.starts_with('/')))
}

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

/// Every path that begins with `crate::` or `super::`, with `use` groups taken apart, from the root of the crate; the rooms of another
/// crate are below its name.
fn imports<'a>(path: &'a str, code: &'a str) -> Vec<Vec<&'a str>> {
    let mut imports = Vec::new();
    for (start, root) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        let before = code[..start].chars().next_back();
        // `super::super::` is read from its first word.
        if before.is_some_and(|char| char.is_alphanumeric() || char == '_' || char == ':') {
            continue;
        }
        let mut prefix = match root {
            "crate::" => other_crate(path).into_iter().collect(),
            _ => module(path),
        };
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

/// All that is wrong with a file; `path` is below `src/`, or begins with another crate's name and is then below its `src/`.
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
    // A lib.rs names every room.
    if path == "lib.rs" || other_crate(path).is_some_and(|name| path[name.len()..] == *"/lib.rs") {
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
            found.push((name, String::from_utf8(crate::common::read(&path)).expect("UTF-8")));
        }
    }
}

#[test]
fn every_file_keeps_to_its_room() {
    let mut found = Vec::new();
    files(&crate::common::root().join("src"), "", &mut found);
    let num_library_files = found.len();
    assert!(num_library_files > 30, "{num_library_files} files");
    for name in CRATES {
        files(&crate::common::root().join(name).join("src"), &format!("{name}/"), &mut found);
    }
    assert!(found.len() > num_library_files + 25, "{} files", found.len());
    found.sort();
    let failures: Vec<String> = found.iter().flat_map(|(path, text)| problems(path, text)).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// The files below `src/`.
type Sources = BTreeMap<String, String>;

/// The file of a path of modules: `a/b.rs`, or `a/b/mod.rs`.
fn file_of(sources: &Sources, modules: &[&str]) -> Option<String> {
    let path = if modules.is_empty() { "lib".to_owned() } else { modules.join("/") };
    [format!("{path}.rs"), format!("{path}/mod.rs")].into_iter().find(|file| sources.contains_key(file))
}

/// What a file exports of the modules below it, as in `pub use a::{b, c};`, and its code without that.
fn exports<'a>(modules: &[&'a str], code: &'a str) -> (Vec<Vec<&'a str>>, String) {
    let (mut exports, mut rest) = (Vec::new(), String::new());
    let mut code = code;
    while !code.is_empty() {
        let line = code.split_inclusive('\n').next().unwrap_or(code);
        let tree = line.starts_with("pub").then(|| line.split_once(" use ")).flatten().map(|(_, tree)| tree);
        match tree {
            Some(tree)
                if !line.starts_with("pub fn") && !tree.starts_with("crate::") && !tree.starts_with("super::") =>
            {
                code = paths(modules, &code[line.len() - tree.len()..], &mut exports);
            }
            _ => {
                rest.push_str(line);
                code = &code[line.len()..];
            }
        }
    }
    (exports, rest)
}

/// The file that holds what a path names: the longest part of the path that is modules, and from there what that file exports.
fn home(sources: &Sources, path: &[&str]) -> Option<String> {
    let num_modules = (0..=path.len()).rev().find(|&end| file_of(sources, &path[..end]).is_some())?;
    let (modules, rest) = path.split_at(num_modules);
    let file = file_of(sources, modules)?;
    let code = code(&sources[&file]);
    let (exports, _) = exports(modules, &code);
    // An export is below its file: the way ends.
    let below =
        |export: &&Vec<&str>| export.last() == rest.first() && file_of(sources, &export[..=num_modules]).is_some();
    let export = exports.iter().find(below);
    export.and_then(|export| home(sources, export)).or(Some(file))
}

/// For each file those that it imports. What it only exports of the modules below it, it does not import.
fn graph(sources: &Sources) -> BTreeMap<&str, BTreeSet<String>> {
    let mut graph = BTreeMap::new();
    for (file, text) in sources.iter().filter(|(file, _)| *file != "lib.rs") {
        let (code, own) = (code(text), module(file));
        let (_, code) = exports(&own, &code);
        let mut found = imports(file, &code);
        let declared = code.lines().filter_map(|line| line.split_once("mod ")?.1.strip_suffix(';'));
        for child in declared {
            for (at, _) in code.match_indices(&format!("{child}::")) {
                if !code[..at].ends_with(|char: char| char.is_alphanumeric() || char == '_' || char == ':') {
                    paths(&own, &code[at..], &mut found);
                }
            }
        }
        let mut files: BTreeSet<String> = found.iter().filter_map(|path| home(sources, path)).collect();
        files.remove(file);
        graph.insert(file.as_str(), files);
    }
    graph
}

/// The shortest cycle through each file that is in one; each begins with its first file by name.
fn cycles(graph: &BTreeMap<&str, BTreeSet<String>>) -> BTreeSet<Vec<String>> {
    let mut cycles = BTreeSet::new();
    for &start in graph.keys() {
        let (mut ways, mut seen) = (VecDeque::from([vec![start.to_owned()]]), BTreeSet::new());
        while let Some(mut way) = ways.pop_front() {
            let nexts = way.last().and_then(|file| graph.get(file.as_str()));
            if nexts.is_some_and(|nexts| nexts.contains(start)) {
                let first = (0..way.len()).min_by_key(|&at| &way[at]).unwrap_or(0);
                way.rotate_left(first);
                cycles.insert(way);
                break;
            }
            let new = nexts.into_iter().flatten().filter(|&next| seen.insert(next));
            ways.extend(new.map(|next| [&way[..], std::slice::from_ref(next)].concat()));
        }
    }
    cycles
}

/// Folders that are one thing cut by kernel or format: their files may import their own `mod.rs`, which calls them.
const ONE_THING: &[&str] = &["backend/cpu/", "backend/gpu/", "models/picture/"];

#[test]
fn no_file_imports_one_that_imports_it_back() {
    let mut found = Vec::new();
    files(&crate::common::root().join("src"), "", &mut found);
    files(&crate::common::root().join("python/src"), "python/", &mut found);
    let sources: Sources = found.into_iter().collect();
    let mut graph = graph(&sources);
    let num_imports: usize = graph.values().map(BTreeSet::len).sum();
    assert!(num_imports > 150, "{num_imports} imports");
    for (file, imported) in &mut graph {
        imported.retain(|other| {
            let is_face = |folder: &str| file.starts_with(folder) && *other == format!("{folder}mod.rs");
            !ONE_THING.iter().any(|folder| is_face(folder))
        });
    }
    let cycles: Vec<String> = cycles(&graph).iter().map(|cycle| cycle.join(" -> ")).collect();
    assert!(cycles.is_empty(), "{} cycles:\n{}", cycles.len(), cycles.join("\n"));
}

/// The check is not blind, and sees through what a module exports.
#[test]
fn cycles_are_found() {
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a [&'a [&'a str]]);
    let rows: &[Row<'_>] = &[
        (&[("a.rs", "use crate::b::B;"), ("b.rs", "use crate::a::A;")], &[&["a.rs", "b.rs"]]),
        (
            &[("a.rs", "use crate::b::B;"), ("b.rs", "use crate::c;"), ("c.rs", "let a = crate::a::f();")],
            &[&["a.rs", "b.rs", "c.rs"]],
        ),
        (&[("a.rs", "use crate::b::B;"), ("b.rs", "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}")], &[]),
        (&[("a/mod.rs", "mod b;\nfn f() { b::f() }"), ("a/b.rs", "use super::A;")], &[&["a/b.rs", "a/mod.rs"]]),
        (&[("a/mod.rs", "mod b;\nuse b::B;"), ("a/b.rs", "use crate::a::A;")], &[&["a/b.rs", "a/mod.rs"]]),
        // To declare a module, or to export of it, is no import.
        (
            &[
                ("a/mod.rs", "mod b;\npub mod c;\npub(crate) use b::{B, b};"),
                ("a/b.rs", "use super::A;"),
                ("a/c.rs", "use super::A;"),
            ],
            &[],
        ),
        // The exported `B` is of a/b.rs, `A` of a/mod.rs.
        (
            &[
                ("a/mod.rs", "mod b;\npub use b::{\n    B,\n};"),
                ("a/b.rs", "use crate::c::C;"),
                ("c.rs", "use crate::a::B;"),
            ],
            &[&["a/b.rs", "c.rs"]],
        ),
        (&[("a/mod.rs", "mod b;\npub use b::B;"), ("a/b.rs", "use crate::c::C;"), ("c.rs", "use crate::a::A;")], &[]),
    ];
    for (files, expected) in rows {
        let sources: Sources = files.iter().map(|(file, text)| (file.to_string(), text.to_string())).collect();
        let found: Vec<Vec<String>> = cycles(&graph(&sources)).into_iter().collect();
        assert_eq!(found, *expected, "{files:?}");
    }
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
        ("backend/cpu/mod.rs", "let at = crate::models::ceil(1);", 1),
        ("network/pass.rs", "use crate::backend::{\n    Backend, Rows,\n    gpu::GpuBackend,\n};", 1),
        ("network/pass.rs", "use crate::engine::Engine;", 1),
        ("pruning/rule.rs", "use crate::backend::cpu::largest;\nuse crate::models::Config;", 2),
        ("tensor.rs", "use crate::platform::*;", 1),
        ("error.rs", "use crate::tensor::Tensor;", 1),
        ("engine/mod.rs", "use crate::Error;", 1),
        ("engine/mod.rs", "use sttabt::Model;\nunsafe { a() }", 2),
        ("command/cli/eval.rs", "use super::args::Args;\nuse crate::command::Failure;\nuse sttabt::Model;", 0),
        ("command/cli/eval.rs", "use crate::{bench::run, engine};\nuse sttabt::tensor::Heads;\nunsafe { a() }", 4),
        ("command/bench/run.rs", "use super::super::cli;\nuse crate::command::note;\nuse sttabt::backend::Stage;", 1),
        ("command/command/mod.rs", "use crate::cli::args;\nunsafe { std::env::set_var(a, b) }", 1),
        ("command/attic.rs", "", 1),
        ("python/model.rs", "use crate::call::run;\nuse pyo3::prelude::*;\nuse sttabt::Engine;", 0),
        ("python/call.rs", "use crate::model::Model;\nuse sttabt::backend::Stage;\nunsafe { a() }", 3),
        ("python/columns.rs", "use std::fs;\na.unwrap();\npanic!()", 3),
        ("engine/mod.rs", "use pyo3::prelude::*;", 1),
        ("python/attic.rs", "", 1),
        ("attic/old.rs", "", 1),
        ("engine/mod.rs", "// wgpu\n/// println!\nlet a = 1; // todo!\n#[cfg(test)]\nmod tests {\n    panic!();\n}", 0),
        ("engine/mod.rs", "#[cfg(feature = \"gpu\")]\nfn a() { wgpu::a() }", 1),
        ("backend/gpu/queue.rs", "use rayon::prelude::*;", 1),
        ("backend/cpu/linear.rs", "use rayon::prelude::*;", 1),
        ("models/picture/decode.rs", "use libjpeg_turbo_rs::Decoder;", 1),
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
