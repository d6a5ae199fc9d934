//! `tokenizer_class`: which of Hugging Face's tokenizers a folder means.

use crate::error::{Error, Result};
use crate::models::fields::shortened;

/// How today's transformers makes a tokenizer of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// `tokenizer.json` as it is.
    AsItIs,
    /// Wordpieces. The settings count, and of `tokenizer.json` only vocabulary and added tokens.
    Bert,
    /// Byte-level BPE; the same.
    Roberta,
    /// Unigram; the same, and the map of characters.
    XlmRoberta,
    /// Unigram as well; it finds its unknown token by name.
    Camembert,
}

const SUPPORTED: &str = "BertTokenizer, DistilBertTokenizer, ElectraTokenizer, RobertaTokenizer, XLMRobertaTokenizer, \
     CamembertTokenizer, and PreTrainedTokenizerFast, which takes tokenizer.json as it is";

impl Class {
    /// The class of a name, and whether it tells a pair's texts apart by their token types. transformers has aliases for BERT's and RoBERTa's.
    ///
    /// # Errors
    /// [`Error::Unsupported`] names a class that tokenizes in its own way.
    pub fn named(name: &str) -> Result<(Self, bool)> {
        Ok(match name.strip_suffix("Fast").unwrap_or(name) {
            "PreTrainedTokenizer" | "TokenizersBackend" => (Self::AsItIs, false),
            "BertTokenizer"
            | "ElectraTokenizer"
            | "MobileBertTokenizer"
            | "ConvBertTokenizer"
            | "SqueezeBertTokenizer"
            | "LayoutLMTokenizer"
            | "LxmertTokenizer" => (Self::Bert, true),
            "DistilBertTokenizer" => (Self::Bert, false),
            "RobertaTokenizer" | "BartTokenizer" | "LongformerTokenizer" => (Self::Roberta, false),
            "XLMRobertaTokenizer" => (Self::XlmRoberta, false),
            "CamembertTokenizer" => (Self::Camembert, false),
            _ => {
                return Err(Error::Unsupported {
                    what: "tokenizer_class",
                    found: shortened(name),
                    supported: SUPPORTED,
                });
            }
        })
    }

    /// The class of a model that names none.
    pub fn of_model_type(model_type: &str) -> Option<(Self, bool)> {
        Some(match model_type {
            "bert" | "distilbert" | "electra" => (Self::Bert, true),
            "roberta" => (Self::Roberta, false),
            "xlm-roberta" => (Self::XlmRoberta, false),
            "camembert" => (Self::Camembert, false),
            _ => return None,
        })
    }

    /// In messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::AsItIs => "PreTrainedTokenizerFast",
            Self::Bert => "BertTokenizer",
            Self::Roberta => "RobertaTokenizer",
            Self::XlmRoberta => "XLMRobertaTokenizer",
            Self::Camembert => "CamembertTokenizer",
        }
    }

    /// The special tokens that it has where no file names others.
    pub fn special_tokens(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::AsItIs => &[],
            Self::Bert => &[
                ("unk_token", "[UNK]"),
                ("sep_token", "[SEP]"),
                ("pad_token", "[PAD]"),
                ("cls_token", "[CLS]"),
                ("mask_token", "[MASK]"),
            ],
            Self::Roberta | Self::XlmRoberta | Self::Camembert => &[
                ("bos_token", "<s>"),
                ("eos_token", "</s>"),
                ("unk_token", "<unk>"),
                ("sep_token", "</s>"),
                ("pad_token", "<pad>"),
                ("cls_token", "<s>"),
                ("mask_token", "<mask>"),
            ],
        }
    }

    /// The tokens around a text: which of the special ones stands first, and which between and after.
    pub fn frame(self) -> [&'static str; 2] {
        match self {
            Self::XlmRoberta | Self::Camembert => ["bos_token", "eos_token"],
            _ => ["cls_token", "sep_token"],
        }
    }
}
