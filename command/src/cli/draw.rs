//! A sentence once per layer with removed tokens faded, or an image's grid of patches once per layer.

use std::io::{Result, Write};

use anstyle::{AnsiColor, Style};
use sttabt::{Classification, Flops, Piece, RankedPassage};
use unicode_width::UnicodeWidthStr;

use super::visible;

const FADED: Style = AnsiColor::BrightBlack.on_default();
const KEPT: Style = Style::new().bold();
const LABEL: Style = AnsiColor::Cyan.on_default();

/// Wordpieces that people read as one word.
struct Word {
    /// Token positions and the text of each piece.
    pieces: Vec<(u32, String)>,
}

impl Word {
    fn width(&self) -> usize {
        self.pieces.iter().map(|(_, text)| text.width()).sum()
    }
}

/// Joins the pieces of a word; control characters become visible instead of reaching the terminal.
fn words(pieces: &[Piece]) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    for (position, piece) in pieces.iter().enumerate() {
        let shown = (position as u32, visible(&piece.text));
        match words.last_mut() {
            Some(word) if piece.continues => word.pieces.push(shown),
            _ => words.push(Word { pieces: vec![shown] }),
        }
    }
    words
}

/// Writes the grids of patches of K_0 to K_{L−1} side by side, a character for a patch and the one below it, in lines no wider than
/// `width`.
pub fn grids(out: &mut impl Write, result: &Classification, [rows, columns]: [usize; 2], width: usize) -> Result<()> {
    let num_layers = result.kept.len() - 1;
    let first_patch = result.num_prefix_tokens.unwrap_or(1);
    let title = |layer: usize| format!("L{layer} {}/{}", result.kept[layer].len(), first_patch + rows * columns);
    let cell_width = (0..num_layers).map(|layer| title(layer).len()).max().unwrap_or(0).max(columns);
    let per_line = ((width + 2) / (cell_width + 2)).max(1);
    for first in (0..num_layers).step_by(per_line) {
        let layers = first..num_layers.min(first + per_line);
        if first > 0 {
            writeln!(out)?;
        }
        for layer in layers.clone() {
            let title = title(layer);
            let gap = if layer + 1 < layers.end { cell_width + 2 - title.len() } else { 0 };
            write!(out, "{LABEL}{title}{LABEL:#}{:gap$}", "")?;
        }
        writeln!(out)?;
        for row in (0..rows).step_by(2) {
            for layer in layers.clone() {
                let is_kept = |row: usize, column: usize| {
                    let position = (first_patch + row * columns + column) as u32;
                    row < rows && result.kept[layer].binary_search(&position).is_ok()
                };
                for column in 0..columns {
                    match (is_kept(row, column), is_kept(row + 1, column)) {
                        (true, true) => write!(out, "█")?,
                        (true, false) => write!(out, "▀")?,
                        (false, true) => write!(out, "▄")?,
                        (false, false) => write!(out, "{FADED}·{FADED:#}")?,
                    }
                }
                let gap = if layer + 1 < layers.end { cell_width + 2 - columns } else { 0 };
                write!(out, "{:gap$}", "")?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

/// Writes a block per layer, `in` for K_0 to `out` for K_L. Removed pieces are dots of the same width, so that the picture reads
/// without colour; a run of lines no wider than `width`.
pub fn layers(out: &mut impl Write, result: &Classification, pieces: &[Piece], width: usize) -> Result<()> {
    let num_layers = result.kept.len() - 1;
    let all: Vec<u32> = (0..result.tokens.len() as u32).collect();
    let layers = result.kept.iter().enumerate().map(|(layer, kept)| (row_name(layer, num_layers), kept.as_slice()));
    let rows: Vec<(String, &[u32])> = std::iter::once(("text".to_owned(), all.as_slice())).chain(layers).collect();
    blocks(out, pieces, &rows, width)
}

/// Writes what stands above a passage.
pub fn title(out: &mut impl Write, title: &str, rest: &str) -> Result<()> {
    writeln!(out, "{KEPT}{title}{KEPT:#}   {rest}")
}

/// Writes a passage, and below it the words that survived to the last of `num_layers` layers, if not all did. `pieces` are those of the whole pair.
pub fn passage(
    out: &mut impl Write,
    result: &RankedPassage,
    pieces: &[Piece],
    num_layers: usize,
    width: usize,
) -> Result<()> {
    let [start, end] = result.passage;
    let all: Vec<u32> = (0..(end - start) as u32).collect();
    let kept: Vec<u32> = (start as u32..end as u32)
        .zip(&all)
        .filter(|(position, _)| result.kept_tokens.binary_search(position).is_ok())
        .map(|(_, place)| *place)
        .collect();
    let mut rows = vec![("text".to_owned(), all.as_slice())];
    if kept.len() < all.len() {
        rows.push((row_name(num_layers.saturating_sub(1), num_layers), &kept));
    }
    blocks(out, &pieces[start..end], &rows, width)
}

/// Writes the pieces once per row, with a name and the positions of those that are kept. The row `text` is the text itself.
fn blocks(out: &mut impl Write, pieces: &[Piece], rows: &[(String, &[u32])], width: usize) -> Result<()> {
    let words = words(pieces);
    // `text` and `L12`, a space, the count `117/118`, two spaces.
    let count_width = 2 * pieces.len().to_string().len() + 1;
    let margin = 4 + 1 + count_width + 2;
    let line_width = width.saturating_sub(margin).max(20);
    for (name, kept) in rows {
        let count = format!("{}/{}", kept.len(), pieces.len());
        let count = if name == "text" { String::new() } else { count };
        write!(out, "{LABEL}{name:<4}{LABEL:#} {count:>count_width$}  ")?;
        let mut column = 0;
        for word in &words {
            if column > 0 && column + 1 + word.width() > line_width {
                write!(out, "\n{:margin$}", "")?;
                column = 0;
            } else if column > 0 {
                write!(out, " ")?;
                column += 1;
            }
            for (position, text) in &word.pieces {
                if kept.binary_search(position).is_ok() {
                    let style = if name == "text" { Style::new() } else { KEPT };
                    write!(out, "{style}{text}{style:#}")?;
                } else {
                    write!(out, "{FADED}{}{FADED:#}", "·".repeat(text.width().max(1)))?;
                }
            }
            column += word.width();
        }
        writeln!(out)?;
    }
    Ok(())
}

/// K_l is what layer l computes; K_L is what the classifier reads.
fn row_name(layer: usize, num_layers: usize) -> String {
    if layer == num_layers { "head".to_owned() } else { format!("L{layer}") }
}

/// The answers, best first, and what they cost.
pub fn summary(out: &mut impl Write, result: &Classification, answers: &[String]) -> Result<()> {
    if let Some((best, rest)) = answers.split_first() {
        write!(out, "{KEPT}{best}{KEPT:#}   ")?;
        if !rest.is_empty() {
            writeln!(out, "{}", rest.join("   "))?;
        }
    }
    cost(out, result.retention, result.flops)?;
    if result.truncated {
        writeln!(
            out,
            "the text is longer than the {} tokens that are read; the rest was cut off",
            result.tokens.len()
        )?;
    }
    Ok(())
}

/// What share of the tokens was kept, and what that cost.
pub fn cost(out: &mut impl Write, retention: f64, flops: Flops) -> Result<()> {
    let share = |part: u64| 100.0 * part as f64 / flops.dense.max(1) as f64;
    write!(out, "retention {:.1} %   ", 100.0 * retention)?;
    write!(out, "{} of {} dense ({:.0} %", amount(flops.total()), amount(flops.dense), share(flops.total()))?;
    if flops.approx > 0 {
        write!(out, ", {:.0} % to find the tokens", share(flops.approx))?;
    }
    writeln!(out, ")")
}

fn amount(flops: u64) -> String {
    match flops as f64 {
        flops if flops >= 1e9 => format!("{:.2} GFLOPs", flops / 1e9),
        flops => format!("{:.1} MFLOPs", flops / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(tokens: &[&str]) -> Vec<String> {
        tokens.iter().map(|token| (*token).to_owned()).collect()
    }

    /// Those that begin with `+` continue a word.
    fn pieces(texts: &[&str]) -> Vec<Piece> {
        let piece = |text: &&str| match text.strip_prefix('+') {
            Some(text) => Piece { text: text.to_owned(), continues: true },
            None => Piece { text: (*text).to_owned(), continues: false },
        };
        texts.iter().map(piece).collect()
    }

    #[test]
    fn pieces_join_to_words_and_control_characters_are_shown() {
        let words = words(&pieces(&["[CLS]", "slash", "+es", "##", "\u{1b}[2J"]));
        let texts: Vec<String> =
            words.iter().map(|word| word.pieces.iter().map(|(_, text)| text.as_str()).collect()).collect();
        assert_eq!(texts, ["[CLS]", "slashes", "##", "\u{fffd}[2J"]);
    }

    #[test]
    fn removed_pieces_keep_their_width() {
        let result = Classification {
            prune: sttabt::Prune::Concrete,
            num_tokens: 5,
            tokens: strings(&["[CLS]", "片", "good", "##ish", "[SEP]"]),
            input_ids: vec![0; 5],
            grid: None,
            picture: None,
            logits: vec![0.0],
            probs: vec![1.0],
            label_index: Some(0),
            label: Some("a".to_owned()),
            labels: None,
            embedding: None,
            num_prefix_tokens: None,
            kept: vec![vec![0, 2], vec![0]],
            retention: 0.3,
            flops: sttabt::Flops { dense: 2_000_000, pruned: 900_000, approx: 100_000 },
            truncated: true,
            layer_by_layer: false,
            token_scores: None,
            attention_maps: None,
        };
        let mut out = Vec::new();
        layers(&mut out, &result, &pieces(&["[CLS]", "片", "good", "+ish", "[SEP]"]), 80).unwrap();
        summary(&mut out, &result, &["a 100.0 %".to_owned()]).unwrap();
        let plain = anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string();
        assert_eq!(
            plain,
            "text      [CLS] 片 goodish [SEP]\n\
             L0   2/5  [CLS] ·· good··· ·····\n\
             head 1/5  [CLS] ·· ······· ·····\n\
             a 100.0 %   retention 30.0 %   1.0 MFLOPs of 2.0 MFLOPs dense (50 %, 5 % to find the tokens)\n\
             the text is longer than the 5 tokens that are read; the rest was cut off\n"
        );
    }

    /// The passage's own words, at their places in the pair.
    #[test]
    fn a_passage_stands_above_what_survived() {
        let mut result = RankedPassage {
            index: 0,
            score: 1.0,
            logit: 1.0,
            window: None,
            num_tokens: 7,
            tokens: strings(&["[CLS]", "why", "[SEP]", "a", "b", "##c", "[SEP]"]),
            passage: [3, 6],
            kept_tokens: vec![0, 1, 4],
            retention: 0.5,
            flops: Flops::default(),
            truncated: false,
        };
        let pieces = pieces(&["[CLS]", "why", "[SEP]", "a", "b", "+c", "[SEP]"]);
        let drawn = |result: &RankedPassage| {
            let mut out = Vec::new();
            passage(&mut out, result, &pieces, 2, 80).unwrap();
            anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string()
        };
        assert_eq!(drawn(&result), "text      a bc\nL1   1/3  · b·\n");
        // If all survived, one row says it.
        result.kept_tokens = (0..7).collect();
        assert_eq!(drawn(&result), "text      a bc\n");
        // An empty passage.
        result.passage = [3, 3];
        assert_eq!(drawn(&result), "text      \n");
    }
}
