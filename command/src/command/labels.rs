//! What labels mean: the model's names or indices. It is decided for a data set as a whole, never label by label.

use std::collections::BTreeMap;

use clap::ValueEnum;

/// ImageNet's class ids in the order of its 1000 labels.
const IMAGENET_WNIDS: &str = include_str!("imagenet_wnids.txt");
/// Label names that a message lists.
const NUM_LISTED: usize = 20;

/// How labels are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Reading {
    /// By the model's names
    Name,
    /// By index, from 0
    Index,
}

/// What carries the labels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    Rows,
    /// They may mix names and indices where no name is a number: of two labels with one name, the index alone tells which.
    Folders,
}

/// The label of each, and what was assumed.
#[derive(Debug, PartialEq)]
pub struct Decided {
    pub labels: Vec<usize>,
    pub note: Option<String>,
}

/// What one label can mean.
#[derive(Clone)]
struct Meanings {
    name: Option<usize>,
    index: Option<usize>,
    /// It is the number in a name, as 4 for `4 stars`.
    is_number_in_name: bool,
    /// All labels of this name, if there are several.
    twins: Vec<usize>,
}

impl Meanings {
    fn by(&self, reading: Reading) -> Option<usize> {
        match reading {
            Reading::Name => self.name,
            Reading::Index => self.index,
        }
    }
}

/// Reads all labels of a data set. The error begins with the place of a label, which `place` tells.
pub fn decide(
    carrier: Carrier,
    written: &[&str],
    place: impl Fn(usize) -> String,
    names: &[String],
    asked: Option<Reading>,
) -> Result<Decided, String> {
    let numbers = numbers(names);
    let bad = |at: usize, what: String| Err(format!("{}: {what}", place(at)));
    let mut known = BTreeMap::new();
    for (at, label) in written.iter().enumerate() {
        let meanings = known.entry(*label).or_insert_with(|| meanings(label, names, numbers.as_deref()));
        let label_index = match asked {
            Some(reading) => meanings.by(reading),
            None => meanings.name.or(meanings.index),
        };
        if label_index.is_none() {
            return bad(at, unknown(carrier, label, meanings, names, asked));
        }
    }
    let all: Vec<&Meanings> = written.iter().map(|label| &known[label]).collect();
    let take = |reading: Reading| -> Vec<usize> { all.iter().filter_map(|meanings| meanings.by(reading)).collect() };
    if let Some(reading) = asked {
        return Ok(Decided { labels: take(reading), note: None });
    }
    let unread = |reading: Reading| all.iter().position(|meanings| meanings.by(reading).is_none());
    let (without_name, without_index) = (unread(Reading::Name), unread(Reading::Index));
    let two_ways = all.iter().position(|meanings| match (meanings.name, meanings.index) {
        (Some(name), Some(index)) => name != index,
        _ => false,
    });
    match (without_name, without_index, two_ways) {
        (None, None, Some(at)) => {
            let [name, index] = [all[at].name, all[at].index].map(|label| &names[label.unwrap_or_default()]);
            bad(
                at,
                format!(
                    "label `{}` is ambiguous: as a name it is `{name}`, as an index `{index}`, and all labels can be read both ways; \
                     say which with --labels name or --labels index",
                    written[at]
                ),
            )
        }
        (None, _, _) => {
            let number = all.iter().position(|meanings| meanings.is_number_in_name && meanings.name != meanings.index);
            let note = number.map(|at| {
                let name = &names[all[at].name.unwrap_or_default()];
                format!("labels are read as the numbers in the model's names: `{}` is `{name}`", written[at])
            });
            Ok(Decided { labels: take(Reading::Name), note })
        }
        // Where names are numbers as well, someone may have meant those.
        (_, None, _) => {
            let is_told =
                two_ways.is_some() || numbers.is_some_and(|numbers| !numbers.iter().copied().eq(0..names.len() as u64));
            let first = names.first().map_or("", String::as_str);
            let what = "with --labels name they are the model's names";
            let note = is_told.then(|| format!("labels are read as indices, so that 0 is `{first}`; {what}"));
            Ok(Decided { labels: take(Reading::Index), note })
        }
        (Some(index), Some(name), _) => {
            let mixed =
                format!("`{}` is an index, and `{}` ({}) is a name", written[index], written[name], place(name));
            // A number that is a name alone, beside one that is an index alone: no one means that.
            let is_clear = all.iter().zip(written).all(|(meanings, label)| {
                whole_number(label).is_none() || meanings.name.is_none_or(|name| meanings.index == Some(name))
            });
            if carrier == Carrier::Rows || !is_clear {
                return bad(index, format!("{mixed}; expected all names or all indices"));
            }
            let labels = all.iter().filter_map(|meanings| meanings.name.or(meanings.index)).collect();
            Ok(Decided { labels, note: Some(format!("labels are read by name and by index: {mixed}")) })
        }
    }
}

fn unknown(carrier: Carrier, label: &str, meanings: &Meanings, names: &[String], asked: Option<Reading>) -> String {
    if let ([first, others @ ..], true) = (meanings.twins.as_slice(), asked != Some(Reading::Index)) {
        let others: String = others.iter().map(|label| format!(" and {label}")).collect();
        return format!("labels {first}{others} are called `{label}`; give the index instead");
    }
    let ids = if is_imagenet(names) { ", an ImageNet id" } else { "" };
    let listed = || match carrier {
        Carrier::Rows if names.len() <= NUM_LISTED => format!("one of: {}", names.join(", ")),
        _ => "one of the model's labels".to_owned(),
    };
    let last = names.len().saturating_sub(1);
    let indices = match carrier {
        Carrier::Rows => format!("0 to {last}"),
        Carrier::Folders => format!("an index from 0 to {last}"),
    };
    let expected = match asked {
        Some(Reading::Index) => indices,
        Some(Reading::Name) => listed(),
        None => format!("{indices}{ids} or {}", listed()),
    };
    match carrier {
        Carrier::Rows => format!("label `{label}`, expected {expected}"),
        Carrier::Folders => format!("no class `{label}`, expected {expected}"),
    }
}

fn meanings(label: &str, names: &[String], numbers: Option<&[u64]>) -> Meanings {
    let equal = |is_equal: &dyn Fn(&str) -> bool| -> Vec<usize> {
        (0..names.len()).filter(|&index| is_equal(names[index].trim())).collect()
    };
    let mut named = equal(&|name| name == label);
    if named.is_empty() {
        let lower = label.to_lowercase();
        named = equal(&|name| name.to_lowercase() == lower);
    }
    let id = || is_imagenet(names).then(|| IMAGENET_WNIDS.lines().position(|wnid| wnid == label)).flatten();
    let whole = whole_number(label);
    let number = || numbers?.iter().position(|&number| Some(number) == whole);
    let exact = match named.as_slice() {
        [] => id(),
        [label] => Some(*label),
        _ => None,
    };
    let number = if named.is_empty() && exact.is_none() { number() } else { None };
    let index = whole.and_then(|whole| usize::try_from(whole).ok()).filter(|&index| index < names.len());
    let twins = if named.len() > 1 { named } else { Vec::new() };
    Meanings { name: exact.or(number), index, is_number_in_name: number.is_some(), twins }
}

fn is_imagenet(names: &[String]) -> bool {
    names.len() == IMAGENET_WNIDS.lines().count()
}

/// A whole number from 0; pandas writes it as `1.0` where others of its column are missing.
fn whole_number(label: &str) -> Option<u64> {
    let whole = match label.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|digit| digit == b'0') => whole,
        Some(_) => return None,
        None => label,
    };
    let is_number = !whole.is_empty() && whole.bytes().all(|digit| digit.is_ascii_digit());
    if is_number { whole.parse().ok() } else { None }
}

/// The number in each name, as in `4 stars`, if all have one and no two the same.
fn numbers(names: &[String]) -> Option<Vec<u64>> {
    let number = |name: &String| {
        let mut digits = name.split(|char: char| !char.is_ascii_digit()).filter(|digits| !digits.is_empty());
        match (digits.next(), digits.next()) {
            (Some(digits), None) => digits.parse().ok(),
            _ => None,
        }
    };
    let numbers: Vec<u64> = names.iter().map(number).collect::<Option<_>>()?;
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    sorted.dedup();
    (sorted.len() == numbers.len()).then_some(numbers)
}

#[cfg(test)]
#[path = "labels_tests.rs"]
mod tests;
