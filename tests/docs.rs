//! The pages: every link and anchor leads somewhere, a page links what it names, the README stays short, and messages are quoted as they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::read_to_string;
use std::path::{Component, Path, PathBuf};

/// Folders whose `.md` files are pages.
const FOLDERS: [&str; 9] = [
    "",
    "docs",
    "web",
    "python",
    "models/sst2-minilm",
    "models/deit-tiny",
    "benches/peers",
    "tests/fixtures",
    "command",
];

/// Copied where a package is built, and ignored by git.
const COPY: (&str, &str) = ("web/CHANGELOG.md", "CHANGELOG.md");

/// These are read in registries too, where a path of the repository leads nowhere.
const PUBLISHED: [&str; 3] = ["CHANGELOG.md", "python/README.md", "web/README.md"];

const MAX_README_LINES: usize = 150;

/// What the messages of docs/troubleshooting.md are held to.
const SOURCES: [&str; 8] =
    ["src", "command/src", "train/src", "python/src", "web/src", "web/ts", "web/folder.mjs", "test"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages by their path from the top, with `/`.
fn pages() -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    for folder in FOLDERS {
        for entry in root().join(folder).read_dir().unwrap_or_else(|error| panic!("{folder}: {error}")) {
            let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            if name.ends_with(".md") && path != COPY.0 {
                pages.insert(path.clone(), read(&root().join(&path)));
            }
        }
    }
    pages
}

/// The lines that are text: no blocks of code.
fn prose(page: &str) -> Vec<(usize, &str)> {
    let (mut lines, mut is_code, mut was_blank) = (Vec::new(), false, true);
    let mut is_indented = false;
    for (number, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
            continue;
        }
        is_indented = line.starts_with("    ") && (was_blank || is_indented);
        was_blank = line.trim().is_empty();
        if !is_code && !is_indented {
            lines.push((number + 1, line));
        }
    }
    lines
}

/// A line in two parts: what stands outside of backticks, and what within. Each part within leaves a `\0` outside.
fn without_code(line: &str) -> (String, Vec<String>) {
    let (mut text, mut codes, mut rest) = (String::new(), Vec::new(), line);
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..].len() - rest[start..].trim_start_matches('`').len();
        let (before, after) = (&rest[..start], &rest[start + ticks..]);
        let Some(end) = after.find(&"`".repeat(ticks)) else { break };
        text += before;
        text.push('\0');
        codes.push(after[..end].trim().to_owned());
        rest = &after[end + ticks..];
    }
    text += rest;
    (text, codes)
}

/// The targets of `[…](target)` and `![…](target)` in a line.
fn targets(line: &str) -> Vec<String> {
    let (text, _) = without_code(line);
    let after = text.split("](").skip(1);
    after.filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

/// How GitHub names a heading.
fn anchor(heading: &str) -> String {
    let letters = heading.to_lowercase();
    let kept = letters.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

fn anchors(page: &str) -> BTreeSet<String> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let headings = prose(page).into_iter().filter_map(|(_, line)| {
        let text = line.trim_start_matches('#');
        (text.len() < line.len()).then(|| text.strip_prefix(' '))?
    });
    let named = headings.map(|heading| {
        let name = anchor(heading);
        let count = counts.entry(name.clone()).or_default();
        *count += 1;
        if *count == 1 { name } else { format!("{name}-{}", *count - 1) }
    });
    named.collect()
}

/// `docs` and `../src` are `src`; `None` above the top.
fn joined(folder: &Path, target: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in folder.join(target).components() {
        match part {
            Component::ParentDir => path.pop().then_some(())?,
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    Some(path)
}

/// Where a link leads: a path from the top with `/`, and an anchor.
fn resolved(page: &str, target: &str) -> Option<(String, Option<String>)> {
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let path = match path {
        "" => page.to_owned(),
        path => joined(Path::new(page).parent()?, path)?.to_string_lossy().replace('\\', "/"),
    };
    let path = if path == COPY.0 { COPY.1.to_owned() } else { path };
    Some((path, anchor.map(str::to_owned)))
}

fn is_elsewhere(target: &str) -> bool {
    target.starts_with("https://") || target.starts_with("http://")
}

/// All links of a page within the repository.
fn links(page: &str, text: &str) -> Vec<(usize, String)> {
    let lines = prose(text).into_iter();
    let all = lines.flat_map(|(number, line)| targets(line).into_iter().map(move |target| (number, target)));
    let links: Vec<_> = all.filter(|(_, target)| !is_elsewhere(target)).collect();
    assert!(!links.is_empty() || !page.starts_with("docs/"), "{page} has no links, which is not believed");
    links
}

/// What is wrong with a link.
fn fault(pages: &BTreeMap<String, String>, page: &str, target: &str) -> Option<String> {
    let Some((path, wanted)) = resolved(page, target) else { return Some("leads out of the repository".to_owned()) };
    if !root().join(&path).exists() {
        return Some(format!("there is no {path}"));
    }
    let wanted = wanted?;
    let Some(text) = pages.get(&path) else { return Some(format!("{path} is no page with headings")) };
    let found = anchors(text);
    (!found.contains(&wanted)).then(|| format!("{path} has no heading #{wanted}, only {found:?}"))
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let mut faults = Vec::new();
    for (page, text) in &pages {
        for (line, target) in links(page, text) {
            faults.extend(fault(&pages, page, &target).map(|fault| format!("{page}:{line}: ({target}): {fault}")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn pages_link_the_pages_that_they_name() {
    let pages = pages();
    let mut faults = Vec::new();
    for (page, text) in pages.iter().filter(|(page, _)| !PUBLISHED.contains(&page.as_str())) {
        let linked: BTreeSet<String> =
            links(page, text).iter().filter_map(|(_, target)| resolved(page, target)).map(|(path, _)| path).collect();
        for (line, text) in prose(text) {
            for code in without_code(text).1.into_iter().filter(|code| code.ends_with(".md")) {
                let is_linked = |path: &String| linked.contains(path) || path == page;
                let named: Vec<String> = [joined(Path::new(""), &code), joined(Path::new("docs"), &code)]
                    .into_iter()
                    .flatten()
                    .map(|path| path.to_string_lossy().replace('\\', "/"))
                    .filter(|path| pages.contains_key(path))
                    .collect();
                if !named.is_empty() && !named.iter().any(is_linked) {
                    faults.push(format!("{page}:{line}: `{code}` is named and not linked"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// From the README, by links.
#[test]
fn every_page_of_docs_can_be_reached() {
    let pages = pages();
    let (mut reached, mut waiting) = (BTreeSet::new(), vec!["README.md".to_owned()]);
    while let Some(page) = waiting.pop() {
        let Some(text) = pages.get(&page) else { continue };
        if reached.insert(page.clone()) {
            let links = links(&page, text);
            waiting.extend(links.iter().filter_map(|(_, target)| resolved(&page, target)).map(|(path, _)| path));
        }
    }
    let missed: Vec<&String> =
        pages.keys().filter(|page| page.starts_with("docs/") && !reached.contains(*page)).collect();
    assert!(missed.is_empty(), "no link leads from README.md to {missed:?}");
}

#[test]
fn the_readme_is_short() {
    let lines = read(&root().join("README.md")).lines().count();
    assert!(lines <= MAX_README_LINES, "{lines} lines, at most {MAX_README_LINES}: move some of it to docs/");
}

/// All text below a path, in one line: as a compiler joins the parts of a string.
fn source(path: &Path, all: &mut String) {
    if path.is_dir() {
        let mut entries: Vec<_> =
            path.read_dir().expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| source(entry, all));
    } else if path.extension().is_none_or(|kind| kind == "rs" || kind == "ts" || kind == "mjs") {
        // A string goes on after a backslash at the end of its line; other backslashes stand before quotes.
        let mut lines = read(path).lines().map(str::to_owned).collect::<Vec<_>>().into_iter().peekable();
        while let Some(line) = lines.next() {
            match line.strip_suffix('\\') {
                Some(part) => {
                    *all += part;
                    if let Some(next) = lines.peek_mut() {
                        *next = next.trim_start().to_owned();
                    }
                }
                None => {
                    *all += &line;
                    all.push('\n');
                }
            }
        }
    }
}

#[test]
fn messages_are_quoted_as_they_are() {
    let mut all = String::new();
    SOURCES.iter().for_each(|path| source(&root().join(path), &mut all));
    let all = all.replace('\\', "");
    let page = read(&root().join("docs/troubleshooting.md"));
    let (mut num_messages, mut faults) = (0, Vec::new());
    for (number, line) in prose(&page) {
        let Some(row) = line.strip_prefix("| `") else { continue };
        let cell = format!("`{}", row.split(" | ").next().expect("a cell"));
        for message in without_code(&cell).1 {
            num_messages += 1;
            for part in message.split('…').map(str::trim).filter(|part| part.len() > 2) {
                if !all.contains(part) {
                    faults.push(format!("line {number}: no source has `{part}`"));
                }
            }
        }
    }
    assert!(num_messages > 40, "only {num_messages} messages");
    assert!(faults.is_empty(), "docs/troubleshooting.md:\n{}", faults.join("\n"));
}

#[test]
fn broken_links_are_found() {
    let page = "# A page\n\n## A `part`, here\n## Twice\n## Twice\n\n[a](#a-part-here) [b](b.md#b) ![c](../c.svg)\n`[d](d.md)` \
                [e](https://example.org)\n\n    [f](f.md)\n\n```\n[g](g.md)\n```\n";
    let found: Vec<String> =
        links("docs/a.md", page).into_iter().map(|(line, target)| format!("{line} {target}")).collect();
    assert_eq!(found, ["7 #a-part-here", "7 b.md#b", "7 ../c.svg"]);
    assert_eq!(anchors(page).into_iter().collect::<Vec<_>>(), ["a-page", "a-part-here", "twice", "twice-1"]);
    let pages = BTreeMap::from([("docs/performance.md".to_owned(), page.to_owned())]);
    let fault = |target| fault(&pages, "docs/performance.md", target);
    assert_eq!(fault("#twice-1"), None);
    assert_eq!(fault("../README.md"), None);
    assert_eq!(fault("nothing.md").as_deref(), Some("there is no docs/nothing.md"));
    assert_eq!(fault("../README.md#twice").as_deref(), Some("README.md is no page with headings"));
    assert_eq!(fault("../../README.md").as_deref(), Some("leads out of the repository"));
    assert!(
        fault("#thrice").is_some_and(|fault| fault.starts_with("docs/performance.md has no heading #thrice, only {"))
    );
}
