//! Every crate that the product is built from, in all packages of the workspace, has a licence that an Apache-2.0 project may ship.

use std::process::Command;

use serde_json::Value;
use spdx::{Expression, ParseMode};

/// Licences that ask for no more than attribution.
const ACCEPTED: [&str; 11] = [
    "Apache-2.0",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "0BSD",
    "ISC",
    "Zlib",
    "BSL-1.0",
    "Unicode-3.0",
    "Unlicense",
];

/// Whether the accepted licences satisfy an expression.
fn is_accepted(expression: &str) -> bool {
    let mode = ParseMode { allow_slash_as_or_operator: true, ..ParseMode::STRICT };
    Expression::parse_mode(expression, mode).is_ok_and(|expression| {
        expression.evaluate(|requirement| {
            let id = requirement.license.id();
            id.is_some() && ACCEPTED.iter().any(|accepted| id == spdx::license_id(accepted))
        })
    })
}

#[test]
fn dependencies_have_accepted_licences() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    for of_a_member in ["tokenizers", "clap", "wasm-bindgen", "pyo3"] {
        assert!(packages.iter().any(|package| package["name"] == of_a_member), "{of_a_member} is not among them");
    }
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(is_accepted))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "crates without an accepted licence:\n{}", refused.join("\n"));
}

#[test]
fn expressions_are_evaluated() {
    for accepted in ["MIT OR GPL-3.0-only", "MIT/Apache-2.0", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
        assert!(is_accepted(accepted), "{accepted}");
    }
    for refused in ["GPL-3.0-only", "MIT AND GPL-3.0-only", "", "nonsense"] {
        assert!(!is_accepted(refused), "{refused}");
    }
}
