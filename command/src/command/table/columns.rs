//! Which columns hold the texts and the label.

use std::path::Path;

use super::super::args::ColumnArgs;
use super::super::{Failure, Result};

/// Names of two texts: GLUE's, then others that data sets of the hub have.
const PAIRS: [(&str, &str); 19] = [
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("#1 String", "#2 String"),
    ("sentence_1", "sentence_2"),
    ("sentence_A", "sentence_B"),
    ("sent1", "sent2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("text", "text_pair"),
    ("text", "text2"),
    ("query", "passage"),
    ("query", "document"),
    ("query", "text"),
    ("question", "passage"),
    ("question", "context"),
    ("question", "answer"),
    ("claim", "evidence"),
];
/// Names of a text that stands alone.
const TEXTS: [&str; 20] = [
    "sentence",
    "text",
    "content",
    "review",
    "review_text",
    "review_body",
    "reviews",
    "tweet",
    "tweet_text",
    "comment",
    "comment_text",
    "message",
    "sms",
    "utterance",
    "headline",
    "document",
    "post",
    "body",
    "full_text",
    "verse_text",
];
/// More names of what is ranked. The first one wins over all others.
const PASSAGES: [&str; 5] = ["text", "passage", "answer", "context", "evidence"];
/// Names of what passages are ranked for.
const QUERIES: [&str; 3] = ["query", "question", "claim"];
/// Names of the label. The first one wins over the others.
const LABELS: [&str; 21] = [
    "label",
    "labels",
    "gold_label",
    "score",
    "Quality",
    "is_duplicate",
    "class",
    "target",
    "sentiment",
    "stars",
    "star_rating",
    "rating",
    "category",
    "intent",
    "emotion",
    "polarity",
    "relevance",
    "relatedness_score",
    "similarity_score",
    "coarse_label",
    "fine_label",
];
/// How many of [`PAIRS`], [`TEXTS`] and [`LABELS`] everyone expects; what else is taken is said.
const NUM_COMMON: [usize; 3] = [5, 2, 6];

/// Places in the header.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Columns {
    pub text: usize,
    pub pair: Option<usize>,
    pub label: Option<usize>,
}

/// Whether a file must have labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// It must.
    Needed,
    /// Nobody needs them.
    IfThere,
}

/// Where the query of a passage stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queries<'a> {
    /// Not in the file.
    Apart,
    /// In the column of this name or number, else in the one with a usual name.
    Column(Option<&'a str>),
}

/// A header, and how it is spoken of.
pub struct Header<'a> {
    pub path: &'a Path,
    /// Empty where the file has none.
    pub names: &'a [String],
    /// Whether columns have numbers too.
    pub is_numbered: bool,
    /// What may be wrong with the whole file if a column is not found.
    pub hint: Option<&'static str>,
}

/// The columns that are asked for, else those with known names; and what was assumed.
pub fn find(args: &ColumnArgs, header: &Header<'_>, labels: Labels) -> Result<(Columns, Option<String>)> {
    let lacks_label = args.label_column.is_none() && labels == Labels::Needed;
    if header.names.is_empty() && header.is_numbered && (args.text_column.is_none() || lacks_label) {
        let missing = if args.text_column.is_none() && lacks_label {
            "--text-column and --label-column"
        } else if args.text_column.is_none() {
            "--text-column"
        } else {
            "--label-column"
        };
        return Err(Failure::Usage(format!("--no-header needs {missing}")));
    }
    let mut assumed = Vec::new();
    let (text, pair) = match (&args.text_column, &args.pair_column) {
        (Some(text), pair) => (header.named(text)?, pair.as_ref().map(|pair| header.named(pair)).transpose()?),
        (None, Some(_)) => return Err(Failure::Usage("--pair-column needs --text-column".to_owned())),
        (None, None) => {
            let (columns, is_common) = header.texts()?;
            if !is_common {
                let second = columns.1.map_or(String::new(), |pair| format!(" with `{}`", header.names[pair].trim()));
                assumed.push(format!("the text is column `{}`{second}", header.names[columns.0].trim()));
            }
            columns
        }
    };
    let label = match (&args.label_column, labels) {
        (Some(label), _) => Some(header.named(label)?),
        (None, Labels::IfThere) if !header.has_label() => None,
        (None, _) => match header.label() {
            // The column of a text that only has a label's name.
            Ok((label, _)) if labels == Labels::IfThere && [Some(text), pair].contains(&Some(label)) => None,
            Ok((label, why)) => {
                assumed.extend(why);
                Some(label)
            }
            Err(Failure::Error(what)) if labels == Labels::IfThere => {
                assumed.push(format!("the labels are left aside: {what}"));
                None
            }
            Err(failure) => return Err(failure),
        },
    };
    for column in [Some(text), pair, label].into_iter().flatten() {
        if [Some(text), pair, label].iter().filter(|other| **other == Some(column)).count() > 1 {
            return Err(header.error(&format!("column {} is given twice", header.name(column)), false));
        }
    }
    let note = (!assumed.is_empty()).then(|| assumed.join("; "));
    Ok((Columns { text, pair, label }, note))
}

/// The columns of passages, and of their queries as the pair, where these are in the file.
pub fn find_passage(asked: Option<&str>, queries: Queries<'_>, header: &Header<'_>) -> Result<Columns> {
    let asked = asked.map(|name| header.named(name)).transpose()?;
    let query = match queries {
        Queries::Apart => None,
        Queries::Column(Some(name)) => Some(header.named(name)?),
        Queries::Column(None) => {
            let way_out = ", or give one --query for all passages";
            Some(header.one_of(&QUERIES, asked, "query", "--query-column", way_out)?)
        }
    };
    let text = match (asked, header.all(PASSAGES[0]).as_slice()) {
        (Some(column), _) => column,
        (None, [column]) => *column,
        (None, _) => header.one_of(&[&PASSAGES[..], &TEXTS].concat(), query, "text", "--text-column", "")?,
    };
    if query == Some(text) {
        return Err(header.error(&format!("column {} is given twice", header.name(text)), false));
    }
    Ok(Columns { text, pair: query, label: None })
}

/// Names are compared without regard to case, and `Review Text` is `review_text`.
fn plain(name: &str) -> String {
    name.trim().to_lowercase().replace([' ', '-'], "_")
}

impl Header<'_> {
    /// All columns of a name; the very same name wins over similar ones.
    fn all(&self, name: &str) -> Vec<usize> {
        let of = |is_it: &dyn Fn(&str) -> bool| -> Vec<usize> {
            (0..self.names.len()).filter(|&column| is_it(self.names[column].trim())).collect()
        };
        let same = of(&|column| column == name);
        if same.is_empty() { of(&|column| plain(column) == plain(name)) } else { same }
    }

    /// A column that the arguments name, or give by number.
    fn named(&self, name: &str) -> Result<usize> {
        match (self.all(name).as_slice(), name.parse::<usize>()) {
            ([column], _) => Ok(*column),
            ([first, second, ..], _) => {
                let way_out = if self.is_numbered { "; give its number" } else { "" };
                Err(self.error(
                    &format!("columns {} and {} are both called `{name}`{way_out}", first + 1, second + 1),
                    false,
                ))
            }
            ([], Ok(number))
                if self.is_numbered && number > 0 && (self.names.is_empty() || number <= self.names.len()) =>
            {
                Ok(number - 1)
            }
            _ => Err(self.error(&format!("no column `{name}`"), true)),
        }
    }

    /// The only column but `other` that has one of the usual names of `what`, of which the first is expected. `option` names another.
    fn one_of(&self, usual: &[&str], other: Option<usize>, what: &str, option: &str, way_out: &str) -> Result<usize> {
        if self.names.is_empty() && self.is_numbered {
            return Err(Failure::Usage(format!("--no-header needs {option}{way_out}")));
        }
        let found: Vec<usize> =
            usual.iter().flat_map(|name| self.all(name)).filter(|column| Some(*column) != other).collect();
        match found.as_slice() {
            [column] => Ok(*column),
            [] => {
                let expected = format!("expected `{}`, or name one with {option}{way_out}", usual[0]);
                Err(self.error(&format!("no {what} column; {expected}"), true))
            }
            several => {
                let names: Vec<String> = several.iter().map(|&column| self.name(column)).collect();
                let what = format!("the {what} is ambiguous: it may be {}; name it with {option}", names.join(" or "));
                Err(self.error(&what, false))
            }
        }
    }

    /// The columns of the one or two texts by their usual names, and whether everyone expects them.
    fn texts(&self) -> Result<((usize, Option<usize>), bool)> {
        let mut found: Vec<((usize, Option<usize>), bool)> = Vec::new();
        for (rank, (text, pair)) in PAIRS.iter().enumerate() {
            let both = (self.all(text), self.all(pair));
            for &text in &both.0 {
                found.extend(both.1.iter().map(|&pair| ((text, Some(pair)), rank < NUM_COMMON[0])));
            }
        }
        let in_pair = |column: usize| found.iter().any(|((text, pair), _)| *text == column || *pair == Some(column));
        let alone = TEXTS.iter().enumerate().flat_map(|(rank, name)| {
            self.all(name).into_iter().map(move |column| ((column, None), rank < NUM_COMMON[1]))
        });
        let alone: Vec<_> = alone.filter(|((column, _), _)| !in_pair(*column)).collect();
        found.extend(alone);
        match found.as_slice() {
            [one] => Ok(*one),
            [] => {
                let names = "`sentence` or `text`, or `sentence1` and `sentence2`, or name one with --text-column";
                Err(self.error(&format!("no text column; expected {names}"), true))
            }
            several => {
                let name = |column: usize| self.name(column);
                let ways: Vec<String> = several
                    .iter()
                    .map(|((text, pair), _)| match pair {
                        Some(pair) => format!("{} with {}", name(*text), name(*pair)),
                        None => name(*text),
                    })
                    .collect();
                let what = format!(
                    "the text is ambiguous: it may be {}; name it with --text-column (and --pair-column)",
                    ways.join(", or ")
                );
                Err(self.error(&what, false))
            }
        }
    }

    /// Whether some column has a usual name of labels.
    fn has_label(&self) -> bool {
        LABELS.iter().any(|name| !self.all(name).is_empty())
    }

    /// The column of the label by its usual names, and what was assumed.
    fn label(&self) -> Result<(usize, Option<String>)> {
        let found: Vec<(usize, usize)> = LABELS
            .iter()
            .enumerate()
            .flat_map(|(rank, name)| self.all(name).into_iter().map(move |column| (rank, column)))
            .collect();
        let name = |(_, column): &(usize, usize)| self.name(*column);
        match found.as_slice() {
            [] => Err(self.error("no label column; expected `label`, or name one with --label-column", true)),
            [(rank, column)] => {
                let is_common = *rank < NUM_COMMON[2];
                Ok((*column, (!is_common).then(|| format!("the label is column {}", self.name(*column)))))
            }
            [(0, column), others @ ..] if others.iter().all(|(rank, _)| *rank > 0) => {
                let others: Vec<String> = others.iter().map(name).collect();
                let note = format!(
                    "the label is column {}, not {}; --label-column takes another",
                    self.name(*column),
                    others.join(" or ")
                );
                Ok((*column, Some(note)))
            }
            several => {
                let names: Vec<String> = several.iter().map(name).collect();
                let what =
                    format!("the label is ambiguous: it may be {}; name it with --label-column", names.join(" or "));
                Err(self.error(&what, false))
            }
        }
    }

    fn name(&self, column: usize) -> String {
        match self.names.get(column) {
            Some(name) => format!("`{}`", name.trim()),
            None => (column + 1).to_string(),
        }
    }

    fn error(&self, what: &str, lists_names: bool) -> Failure {
        let names = match (lists_names, self.names) {
            (false, _) => String::new(),
            (true, []) if !self.is_numbered => "; the file has no rows".to_owned(),
            (true, []) => "; without a header, columns are given by number from 1".to_owned(),
            (true, names) => format!("; the header has `{}`", names.join("`, `")),
        };
        let hint =
            if lists_names { self.hint.map_or(String::new(), |hint| format!(" ({hint})")) } else { String::new() };
        Failure::Error(format!("{}: {what}{names}{hint}", self.path.display()))
    }
}
