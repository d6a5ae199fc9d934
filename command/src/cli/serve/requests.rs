//! The requests of text-embeddings-inference, as they stand in JSON. What it has and is not honoured here is read, and then refused by name.

use std::fmt;

use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RerankRequest {
    pub query: String,
    pub texts: Vec<String>,
    #[serde(default)]
    pub raw_scores: bool,
    #[serde(default)]
    pub return_text: bool,
    pub truncate: Option<bool>,
    pub truncation_direction: Option<Direction>,
    pub prune: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictRequest {
    pub inputs: PredictInputs,
    #[serde(default)]
    pub raw_scores: bool,
    pub truncate: Option<bool>,
    pub truncation_direction: Option<Direction>,
    pub prune: Option<String>,
    /// Clients of the hub send an empty one.
    #[serde(rename = "parameters")]
    _parameters: Option<Nothing>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbedRequest {
    pub inputs: Texts,
    #[serde(default = "yes")]
    pub normalize: bool,
    pub dimensions: Option<usize>,
    pub prompt_name: Option<String>,
    pub truncate: Option<bool>,
    pub truncation_direction: Option<Direction>,
    pub prune: Option<String>,
    /// Clients of the hub send an empty one.
    #[serde(rename = "parameters")]
    _parameters: Option<Nothing>,
}

/// An object without keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn yes() -> bool {
    true
}

/// Which end of a text that is too long stays away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Direction {
    #[serde(alias = "left")]
    Left,
    #[serde(alias = "right")]
    Right,
}

/// A string, or a list of them.
#[derive(Debug)]
pub struct Texts(pub Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Texts;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string or a list of strings (token ids are not read)")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Texts, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Texts)
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// A text with or without a second one.
pub type TextOrPair = (String, Option<String>);

/// A string or a pair of strings, which has one answer. Or a list of lists of one string or two, which has a list of
/// answers.
#[derive(Debug)]
pub enum PredictInputs {
    One(TextOrPair),
    Many(Vec<TextOrPair>),
}

impl<'de> Deserialize<'de> for PredictInputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = PredictInputs;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string, a pair [string, string], or a list of several [[string], [string, string], …]")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<PredictInputs, E> {
                Ok(PredictInputs::One((text.to_owned(), None)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<PredictInputs, A::Error> {
                let one_or_two = |texts: Vec<String>| {
                    let num_texts = texts.len();
                    let mut texts = texts.into_iter();
                    match (texts.next(), texts.next(), texts.next()) {
                        (Some(text), pair, None) => Ok((text, pair)),
                        _ => Err(A::Error::invalid_length(num_texts, &self)),
                    }
                };
                match list.next_element()? {
                    None => Err(A::Error::invalid_length(0, &self)),
                    Some(Element::Text(first)) => {
                        let mut texts = vec![first];
                        while let Some(text) = list.next_element()? {
                            texts.push(text);
                        }
                        one_or_two(texts).map(PredictInputs::One)
                    }
                    Some(Element::List(first)) => {
                        let mut many = vec![one_or_two(first)?];
                        while let Some(texts) = list.next_element()? {
                            many.push(one_or_two(texts)?);
                        }
                        Ok(PredictInputs::Many(many))
                    }
                }
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// What the first element of a list says the list is.
enum Element {
    Text(String),
    List(Vec<String>),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Element;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string or a list of one string or two")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Element, E> {
                Ok(Element::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Element, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Element::List)
            }
        }

        deserializer.deserialize_any(Reader)
    }
}
