//! Every file of tests is run: each is a target of its package, or a module of `library.rs` or `commands.rs`.

use std::collections::BTreeSet;

use crate::common::{read, root};

#[test]
fn no_file_of_tests_is_forgotten() {
    for (package, all) in [("", "library"), ("command/", "commands")] {
        let folder = root().join(package);
        let text = |name: &str| String::from_utf8(read(&folder.join(name))).expect("UTF-8");
        let (manifest, modules) = (text("Cargo.toml"), text(&format!("tests/{all}.rs")));
        let files =
            std::fs::read_dir(folder.join("tests")).expect("tests").map(|entry| entry.expect("an entry").path());
        let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
        let names: BTreeSet<String> =
            files.map(|file| file.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
        assert!(names.len() > 10, "{names:?}");
        let is_run = |name: &&String| {
            manifest.contains(&format!("[[test]]\nname = \"{name}\"\n"))
                || modules.contains(&format!("\nmod {name};\n"))
        };
        let forgotten: Vec<&String> = names.iter().filter(|name| !is_run(name)).collect();
        assert!(forgotten.is_empty(), "{package}tests/{all}.rs and {package}Cargo.toml name none of {forgotten:?}");
    }
}
