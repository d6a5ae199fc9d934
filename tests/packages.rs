//! What is published: one version everywhere, and a crate that has what its users need and no more.

use std::fs::{read_to_string, remove_dir_all};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What crates.io takes.
const MAX_BYTES: u64 = 10_000_000;

/// Files that say a version: what stands before it there, the first time.
const VERSIONS: [(&str, &str); 5] = [
    ("Cargo.toml", "\nversion = \""),
    ("train/Cargo.toml", "\nversion = \""),
    ("web/package.json", "\"version\": \""),
    ("web/package-lock.json", "\"version\": \""),
    ("CHANGELOG.md", "\n## "),
];

/// Crates whose version is the workspace's, and so the wheel's.
const SHARED: [&str; 3] = ["command/Cargo.toml", "python/Cargo.toml", "web/Cargo.toml"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn package(options: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["package", "--package", "sttabt", "--locked", "--offline", "--allow-dirty"])
        .args(options)
        .current_dir(root())
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The files below a folder, from the top with `/`.
fn files(folder: &str) -> Vec<String> {
    let entries = root().join(folder).read_dir().unwrap_or_else(|error| panic!("{folder}: {error}"));
    let paths = entries.map(|entry| {
        let entry = entry.expect("an entry");
        let path = format!("{folder}/{}", entry.file_name().to_str().expect("UTF-8"));
        if entry.path().is_dir() { files(&path) } else { vec![path] }
    });
    paths.flatten().collect()
}

#[test]
fn versions_are_the_same() {
    for (file, before) in VERSIONS {
        let text = read(file);
        let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("{file} names no version"));
        let version: String = rest.chars().take_while(|letter| letter.is_ascii_digit() || *letter == '.').collect();
        assert_eq!(version, env!("CARGO_PKG_VERSION"), "{file}");
    }
    for file in SHARED {
        assert!(read(file).contains("\nversion.workspace = true\n"), "{file} has a version of its own");
    }
    let line = format!("npm/sttabt@{}/", env!("CARGO_PKG_VERSION").rsplit_once('.').expect("major.minor.patch").0);
    assert!(read("web/README.md").contains(&line), "web/README.md has no line for a CDN with {line}");
}

#[test]
fn the_crate_has_its_sources_and_no_more() {
    let listed = package(&["--list"]);
    let listed: Vec<&str> = listed.lines().collect();
    for file in files("src").iter().chain(&files("shaders")) {
        assert!(listed.contains(&file.as_str()), "{file} is not in the crate");
    }
    for file in ["README.md", "LICENSE", "CHANGELOG.md", "docs/classify.svg"] {
        assert!(listed.contains(&file), "{file} is not in the crate");
    }
    let others: Vec<&&str> =
        listed.iter().filter(|file| file.starts_with("tests/") || file.starts_with("models/")).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn the_crate_is_small() {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("package");
    // What an older version left there.
    let _ = remove_dir_all(&target);
    package(&["--no-verify", "--target-dir", target.to_str().expect("UTF-8")]);
    let file = target.join(format!("package/sttabt-{}.crate", env!("CARGO_PKG_VERSION")));
    let bytes = file.metadata().unwrap_or_else(|error| panic!("{}: {error}", file.display())).len();
    assert!(bytes < MAX_BYTES, "{bytes} bytes, and crates.io takes less than {MAX_BYTES}");
}

/// Each package brings the licence along; npm's copy is made where it is built.
#[test]
fn the_wheel_has_the_licence() {
    assert!(read("python/LICENSE") == read("LICENSE"), "python/LICENSE is not a copy of LICENSE");
}
