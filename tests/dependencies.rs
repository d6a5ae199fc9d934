//! Who uses the library alone builds none of the crates of the command or the wheel.

use std::process::Command;

use serde_json::Value;

/// What these manifests name and the library needs too.
const SHARED: [&str; 5] = ["bytemuck", "half", "image", "serde", "serde_json"];

/// The packages beside the library, and how many crates of its own each has at least.
const OTHERS: [(&str, usize); 2] = [("sttabt-command", 11), ("sttabt-python", 2)];

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The crates that only a package's manifest is to name.
fn crates_of(package: &str) -> Vec<String> {
    let metadata = cargo(&["metadata", "--format-version", "1", "--locked", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&metadata).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages.iter().find(|one| one["name"] == package).expect("the package");
    let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
    let names = dependencies.filter(|one| one["kind"].is_null()).filter_map(|one| one["name"].as_str());
    names.filter(|name| *name != "sttabt" && !SHARED.contains(name)).map(str::to_owned).collect()
}

/// The crates that a package is built from.
fn tree(package: &str, options: &[&str]) -> Vec<String> {
    let args = ["tree", "--locked", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}"];
    let tree = cargo(&[&args[..], options].concat());
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn the_library_alone_needs_none_of_the_other_packages_crates() {
    let names = tree("sttabt", &["--no-default-features"]);
    assert!(names.iter().any(|name| name == "tokenizers"), "{names:?}");
    for (package, num_crates) in OTHERS {
        let of_the_package = crates_of(package);
        assert!(of_the_package.len() >= num_crates, "only {of_the_package:?}");
        let found: Vec<&String> = of_the_package.iter().filter(|name| names.contains(name)).collect();
        assert!(found.is_empty(), "the library needs {found:?} of {package}");
    }
}

/// What `cargo build` and `cargo test` build at the root needs no Python.
#[test]
fn the_command_needs_none_of_the_wheels_crates() {
    let names = tree("sttabt-command", &[]);
    let found: Vec<String> = crates_of("sttabt-python").into_iter().filter(|name| names.contains(name)).collect();
    assert_eq!(found, ["pollster"]);
}

/// The trainer reads data files with the command's library. It answers no requests.
#[test]
fn the_trainer_needs_none_of_the_servers_crates() {
    let names = tree("sttabt-train", &["--manifest-path", "train/Cargo.toml"]);
    assert!(names.iter().any(|name| name == "burn"), "{names:?}");
    let found: Vec<&String> = names.iter().filter(|name| ["axum", "hyper", "tokio"].contains(&&***name)).collect();
    assert!(found.is_empty(), "the trainer needs {found:?}");
}
