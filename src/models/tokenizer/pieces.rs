//! What people read of tokens: without the marks of wordpieces, and with characters in place of bytes.

use serde_json::{Map, Value};

/// A token as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Without marks. A lone space is `␣`; a token that is part of a character alone is `…`, and its last part is the character.
    pub text: String,
    /// Whether it continues the word of the token before it.
    pub continues: bool,
}

/// How the tokens of a vocabulary are marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marks {
    /// Those inside a word begin with this, as BERT's with `##`.
    Inside(String),
    /// The first one of a word begins with this, as XLM-R's with `▁`.
    Start(String),
    /// Bytes stand as characters, the space before a word among them: byte-level BPE.
    Bytes,
    /// Not at all.
    None,
}

/// A lone space.
const SPACE: &str = "␣";
/// Part of a character.
const PART: &str = "…";

impl Marks {
    /// Those of a `tokenizer.json`.
    pub fn of(json: &Map<String, Value>) -> Self {
        let parts = pre_tokenizers(json);
        let of_type = |name: &str| parts.iter().find(|part| part["type"] == name);
        if of_type("ByteLevel").is_some() {
            return Self::Bytes;
        }
        if let Some(metaspace) = of_type("Metaspace") {
            return Self::Start(metaspace["replacement"].as_str().unwrap_or("▁").to_owned());
        }
        match json.get("model").and_then(|model| model.get("continuing_subword_prefix")).and_then(Value::as_str) {
            Some(prefix) if !prefix.is_empty() => Self::Inside(prefix.to_owned()),
            _ => Self::None,
        }
    }

    /// The tokens of an input as people read them. An added token is a word, whatever it looks like.
    pub fn pieces(&self, tokens: &[String], is_added: impl Fn(&str) -> bool) -> Vec<Piece> {
        let (mut bytes, mut is_word) = (Vec::new(), false);
        let piece = |token: &String| {
            let was_word = std::mem::replace(&mut is_word, !is_added(token));
            if !is_word {
                bytes.clear();
                return Piece { text: token.clone(), continues: false };
            }
            let (text, starts) = match self {
                // `##` alone is a text like any other.
                Self::Inside(mark) => match token.strip_prefix(mark.as_str()).filter(|rest| !rest.is_empty()) {
                    Some(rest) => (rest.to_owned(), false),
                    None => (token.clone(), true),
                },
                Self::Start(mark) => match token.strip_prefix(mark.as_str()) {
                    Some(rest) => (rest.replace(mark.as_str(), " "), true),
                    None => (token.replace(mark.as_str(), " "), false),
                },
                Self::Bytes => {
                    let text = match token.chars().map(byte).collect::<Option<Vec<u8>>>() {
                        Some(more) => {
                            bytes.extend(more);
                            complete(&mut bytes)
                        }
                        None => token.clone(),
                    };
                    match text.strip_prefix(' ') {
                        Some(rest) => (rest.to_owned(), true),
                        None if text.is_empty() => (PART.to_owned(), false),
                        None => (text, false),
                    }
                }
                Self::None => (token.clone(), true),
            };
            let text = if text.chars().all(|char| char == ' ') { SPACE.repeat(text.len().max(1)) } else { text };
            Piece { text, continues: was_word && !starts }
        };
        tokens.iter().map(piece).collect()
    }
}

/// The parts of a `tokenizer.json` that split texts into words.
fn pre_tokenizers(json: &Map<String, Value>) -> Vec<&Value> {
    let mut parts = Vec::new();
    let mut open: Vec<&Value> = json.get("pre_tokenizer").into_iter().collect();
    while let Some(part) = open.pop() {
        open.extend(part["pretokenizers"].as_array().into_iter().flatten());
        parts.push(part);
    }
    parts
}

/// White space that no token has letters from both sides of: what follows a word there does not change the word's tokens.
pub fn separators(json: &Map<String, Value>) -> &'static [char] {
    let of_part = |part: &&Value| -> &'static [char] {
        match part["type"].as_str() {
            Some("BertPreTokenizer" | "Whitespace" | "WhitespaceSplit") => &[' ', '\n', '\r', '\t'],
            Some("ByteLevel") if part["use_regex"] != Value::Bool(false) => &[' ', '\n', '\r', '\t'],
            Some("Metaspace") if part["split"] != Value::Bool(false) => &[' '],
            _ => &[],
        }
    };
    pre_tokenizers(json).iter().map(of_part).max_by_key(|separators| separators.len()).unwrap_or_default()
}

/// The characters that are whole; the bytes of one that is not stay.
fn complete(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    while !bytes.is_empty() {
        let (num_valid, num_bad) = match std::str::from_utf8(bytes) {
            Ok(_) => (bytes.len(), 0),
            Err(error) => match error.error_len() {
                Some(num_bad) => (error.valid_up_to(), num_bad),
                // More of it may come.
                None if error.valid_up_to() == 0 => break,
                None => (error.valid_up_to(), 0),
            },
        };
        let rest = bytes.split_off(num_valid + num_bad);
        let taken = std::mem::replace(bytes, rest);
        text.push_str(&String::from_utf8_lossy(&taken));
    }
    text
}

/// The byte of a character in byte-level BPE: bytes that print stand for themselves, the others in their order from U+0100 on.
fn byte(char: char) -> Option<u8> {
    let prints = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match u32::from(char).checked_sub(0x100) {
        None => u8::try_from(u32::from(char)).ok().filter(prints),
        Some(place) => (0..=u8::MAX).filter(|byte| !prints(byte)).nth(place as usize),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(marks: &Marks, tokens: &[&str]) -> Vec<String> {
        let tokens: Vec<String> = tokens.iter().map(|token| (*token).to_owned()).collect();
        let pieces = marks.pieces(&tokens, |token| token.starts_with('<') || token.starts_with('['));
        pieces.into_iter().map(|Piece { text, continues }| if continues { format!("+{text}") } else { text }).collect()
    }

    #[test]
    fn tokens_are_shown_as_people_read_them() {
        let wordpieces = Marks::Inside("##".to_owned());
        let metaspace = Marks::Start("▁".to_owned());
        let rows: [(&Marks, &[&str], &[&str]); 7] = [
            (&wordpieces, &["[CLS]", "slash", "##es", "##", "Ġ", "▁a"], &["[CLS]", "slash", "+es", "##", "Ġ", "▁a"]),
            (&metaspace, &["<s>", "▁un", "▁b", "on", "▁", "#", "</s>"], &["<s>", "un", "b", "+on", "␣", "+#", "</s>"]),
            (
                &Marks::Bytes,
                &["<s>", "I", "Ġdon", "'", "t", "Ġ", "caf", "Ã", "©", "<mask>", "x", "</s>"],
                &["<s>", "I", "don", "+'", "+t", "␣", "+caf", "+…", "+é", "<mask>", "x", "</s>"],
            ),
            (&Marks::Bytes, &["ĠðŁ", "Ļ", "Ĥ", "Ġok"], &["␣", "+…", "+🙂", "ok"]),
            // A character that never ends, and bytes that are none.
            (&Marks::Bytes, &["Ã", "</s>", "a", "ÿ", "b", "ĠĠ"], &["…", "</s>", "a", "+\u{fffd}", "+b", "␣"]),
            (&Marks::Bytes, &["片", "Ċ"], &["片", "+\n"]),
            (&Marks::None, &["##a", "Ġb"], &["##a", "Ġb"]),
        ];
        for (marks, tokens, expected) in rows {
            assert_eq!(shown(marks, tokens), expected, "{marks:?}");
        }
    }

    #[test]
    fn marks_of_files() {
        let rows = [
            (json!({"model": {"continuing_subword_prefix": "##"}}), Marks::Inside("##".to_owned())),
            (json!({"model": {"continuing_subword_prefix": ""}}), Marks::None),
            (
                json!({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Metaspace", "replacement": "_"}]}}),
                Marks::Start("_".to_owned()),
            ),
            (json!({"pre_tokenizer": {"type": "ByteLevel"}, "model": {"continuing_subword_prefix": ""}}), Marks::Bytes),
            (json!({"pre_tokenizer": null}), Marks::None),
        ];
        for (json, expected) in rows {
            assert_eq!(Marks::of(json.as_object().expect("an object")), expected, "{json}");
        }
    }
}
