//! Who uses the library alone builds none of the command's crates.

use std::process::Command;

use serde_json::Value;

/// What the command's manifest names and the library needs too.
const SHARED: [&str; 4] = ["half", "image", "serde", "serde_json"];

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The crates that only the command's manifest is to name.
fn crates_of_the_command() -> Vec<String> {
    let metadata = cargo(&["metadata", "--format-version", "1", "--locked", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&metadata).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let command = packages.iter().find(|package| package["name"] == "sttabt-command").expect("the command");
    let dependencies = command["dependencies"].as_array().expect("dependencies").iter();
    let names = dependencies.filter(|one| one["kind"].is_null()).filter_map(|one| one["name"].as_str());
    names.filter(|name| *name != "sttabt" && !SHARED.contains(name)).map(str::to_owned).collect()
}

#[test]
fn the_library_alone_needs_none_of_the_commands_crates() {
    let of_the_command = crates_of_the_command();
    assert!(of_the_command.len() > 10, "only {of_the_command:?}");
    let tree = ["tree", "--locked", "--package", "sttabt", "--edges", "normal", "--prefix", "none"];
    let tree = cargo(&[&tree[..], &["--format", "{p}", "--no-default-features"]].concat());
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"tokenizers"), "{tree}");
    let found: Vec<&String> = of_the_command.iter().filter(|name| names.contains(&name.as_str())).collect();
    assert!(found.is_empty(), "the library needs {found:?}");
}
