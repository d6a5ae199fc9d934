//! Pairs are cut as `truncation="only_second"` of transformers cuts them, which is the crate's own; so are windows.

use std::path::PathBuf;

use tokenizers::Encoding;
use tokenizers::utils::truncation::{TruncationParams, TruncationStrategy};

use super::*;
use crate::models::ModelFiles;
use crate::models::config::TextConfig;

const FAMILIES: [&str; 6] = ["bert-relu", "camembert-score", "distilbert", "electra", "roberta", "xlm-roberta"];

fn tokenizer(name: &str, direction: &str) -> Tokenizer {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families").join(name);
    let mut files = ModelFiles::new();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        files.insert(file, std::fs::read(folder.join(file)).expect("a file"));
    }
    let mut settings: serde_json::Value =
        serde_json::from_slice(files.get("tokenizer_config.json").expect("settings")).expect("JSON");
    settings["truncation_side"] = direction.into();
    files.insert("tokenizer_config.json", settings.to_string().into_bytes());
    let limits = TextConfig {
        vocab_size: 440,
        max_position_embeddings: 128,
        position_offset: 0,
        type_vocab_size: 2,
        embedding_size: 48,
    };
    Tokenizer::from_files(&files, limits).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The crate's own encoding of a pair whose second text alone gives way.
fn only_second(tokenizer: &Tokenizer, query: &str, passage: &str, stride: usize) -> Encoding {
    let mut inner = tokenizer.inner.clone();
    let direction = if tokenizer.truncates_left { TruncationDirection::Left } else { TruncationDirection::Right };
    let strategy = TruncationStrategy::OnlySecond;
    let params = TruncationParams { max_length: tokenizer.max_tokens, strategy, stride, direction };
    inner.with_truncation(Some(params)).expect("parameters");
    inner.encode((query, passage), true).expect("an encoding")
}

/// Words of all kinds: known and unknown, of several bytes, with the spaces that people leave.
fn text(num_words: usize, seed: usize) -> String {
    const WORDS: [&str; 12] =
        ["a", "gripping", "film", "w17", "naïve", "片", "don't", "re-use", "🎬", "e\u{301}té", "[SEP]", "unwrap()"];
    const SPACES: [&str; 6] = [" ", " ", " ", "  ", "\n", "\u{3000}"];
    let mut state = seed as u32;
    let mut next = |most: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % most
    };
    (0..num_words).map(|_| format!("{}{}", WORDS[next(WORDS.len())], SPACES[next(SPACES.len())])).collect()
}

#[test]
fn the_passage_alone_gives_way() {
    for (name, direction) in FAMILIES.iter().flat_map(|name| ["right", "left"].map(|direction| (*name, direction))) {
        let tokenizer = tokenizer(name, direction);
        for (query_words, passage_words) in [(1, 1), (3, 40), (8, 90), (1, 300), (6, 5000)] {
            let (question, passage) = (text(query_words, 3 + passage_words), text(passage_words, query_words));
            let query = tokenizer.query(&question).unwrap_or_else(|error| panic!("{name}: {error}"));
            let expected = only_second(&tokenizer, &question, &passage, 0);
            let what = format!("{name}, cut on the {direction}, {passage_words} words");
            let found = query.passage(&passage, false, true).expect("a passage");
            assert!(found.windows.len() == 1 && found.windows[0] == (0..found.ids.len()), "{what}");
            let pair = query.pair(&found.ids, &found.tokens, found.truncated);
            assert_eq!((&pair.input_ids[..], &pair.tokens[..]), (expected.get_ids(), expected.get_tokens()), "{what}");
            if tokenizer.gives_types {
                assert_eq!(pair.token_type_ids, expected.get_type_ids(), "{what}");
            }
            assert_eq!(query.pair_length(found.ids.len()), pair.input_ids.len(), "{what}");
            assert_eq!(pair.truncated, !expected.get_overflowing().is_empty(), "{what}");
            // Where no text was asked for, the ids are the same.
            let ids = query.passage(&passage, false, false).expect("a passage");
            assert!(ids.ids == found.ids && ids.tokens.is_empty(), "{what}");
        }
    }
}

/// The crate's own windows of a passage, each in a pair. (`encode` itself stops reading a text soon after the limit.)
fn overflowing(tokenizer: &Tokenizer, query: &str, passage: &str, room: usize) -> Vec<Vec<u32>> {
    let mut inner = tokenizer.inner.clone();
    inner.with_truncation(None).expect("no truncation");
    let [query, mut first] = [query, passage].map(|text| inner.encode(text, false).expect("an encoding"));
    first.truncate(room, room / OVERLAP, TruncationDirection::Right);
    let others = first.take_overflowing();
    let pair = |window| inner.post_process(query.clone(), Some(window), true).expect("a pair").get_ids().to_vec();
    std::iter::once(first).chain(others).map(pair).collect()
}

#[test]
fn windows_are_those_of_the_crate() {
    for name in FAMILIES {
        let tokenizer = tokenizer(name, "right");
        for num_words in [1, 60, 700] {
            let (question, passage) = ("a film", text(num_words, 5));
            let query = tokenizer.query(question).expect("a query");
            let expected = overflowing(&tokenizer, question, &passage, query.room);
            let found = query.passage(&passage, true, false).expect("a passage");
            let pairs = found.windows.iter().map(|window| query.pair(&found.ids[window.clone()], &[], false).input_ids);
            assert_eq!(pairs.collect::<Vec<_>>(), expected, "{name}, {num_words} words");
            assert!(!found.truncated && (num_words < 60 || found.windows.len() > 1), "{name}");
        }
    }
}

/// A passage without tokens is a pair with nothing in its second place.
#[test]
fn an_empty_passage_has_no_tokens() {
    for name in FAMILIES {
        let tokenizer = tokenizer(name, "right");
        let query = tokenizer.query("a film").expect("a query");
        for windows in [false, true] {
            let found = query.passage("", windows, true).expect("a passage");
            let pair = query.pair(&found.ids[found.windows[0].clone()], &[], false);
            assert_eq!(pair.input_ids, only_second(&tokenizer, "a film", "", 0).get_ids(), "{name}");
        }
    }
}

#[test]
fn a_query_leaves_room_for_a_passage() {
    let tokenizer = tokenizer("bert-relu", "right");
    let error = |text: &str| tokenizer.query(text).map_or_else(|error| error.to_string(), |_| "no error".to_owned());
    assert_eq!(error(&"w ".repeat(124)), "no error");
    assert_eq!(
        error(&"w ".repeat(125)),
        "the query: 125 tokens and 3 special ones leave no room for a passage in the 128 that the model reads; shorten it to 124 tokens or fewer"
    );
    for empty in ["", " \n\t", "\u{1}"] {
        assert_eq!(error(empty), "the query: it is empty, expected at least one word");
    }
}

#[test]
fn windows_overlap_by_a_quarter_and_cover_all() {
    let rows: [(usize, usize, &[[usize; 2]]); 6] = [
        (0, 8, &[[0, 0]]),
        (8, 8, &[[0, 8]]),
        (9, 8, &[[0, 8], [6, 9]]),
        (14, 8, &[[0, 8], [6, 14]]),
        (15, 8, &[[0, 8], [6, 14], [12, 15]]),
        (3, 1, &[[0, 1], [1, 2], [2, 3]]),
    ];
    for (num_tokens, room, expected) in rows {
        let found: Vec<[usize; 2]> =
            windows(num_tokens, room).iter().map(|window| [window.start, window.end]).collect();
        assert_eq!(found, expected, "{num_tokens} in {room}");
    }
}

#[test]
fn a_text_is_cut_where_a_word_ends() {
    let rows =
        [("ab cd ef", 1, Some(2)), ("ab cd ef", 2, Some(5)), ("ab cd", 3, None), ("ab", 9, None), ("ab\ncd", 1, None)];
    for (text, from, expected) in rows {
        assert_eq!(word_end(text, from, &[' ']), expected, "{text} from {from}");
    }
    assert_eq!((word_end("ab\ncd", 1, &[' ', '\n']), word_end("ab cd", 1, &[])), (Some(2), None));
    // Not inside a character, and not between two spaces.
    assert_eq!((word_end("äö ü", 1, &[' ']), word_end("ab  cd ", 2, &[' '])), (Some(4), Some(6)));
}
