//! `Engine::rank`: scores are those of each pair alone, the query stays whole, equal pairs cost once, and what is wrong is named.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::common::edit::*;
use crate::common::*;
use serde_json::json;
use sttabt::{
    BackendKind, Classification, Engine, Error, Flops, Input, Model, ModelFiles, Outputs, RankOptions, RankProgress,
    RankWindow, RankedPassage, Ranking, Task,
};

/// Of tiny-bert's 160 tokens, beside a query of two words.
const ROOM: usize = 155;
const QUERY: &str = "w7 w8";

fn scorer() -> Model {
    Model::from_bytes(scorer_files()).expect("a scorer")
}

fn words(num_words: usize, first: usize) -> String {
    let words: Vec<String> = (0..num_words).map(|word| format!("w{}", 5 + (first + word * 7) % 90)).collect();
    words.join(" ")
}

fn under(prune: &str) -> RankOptions {
    RankOptions { prune: Some(prune.parse().expect("a rule")), ..RankOptions::default() }
}

fn on(_: RankProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn try_rank(engine: &mut Engine, query: &str, passages: &[&str], options: &RankOptions) -> Result<Ranking, Error> {
    pollster::block_on(engine.rank(query, passages, options, on))
}

fn rank(engine: &mut Engine, passages: &[&str], options: &RankOptions) -> Ranking {
    try_rank(engine, QUERY, passages, options).unwrap_or_else(|error| panic!("{error}"))
}

fn alone(engine: &mut Engine, passage: &str, options: &RankOptions) -> Classification {
    classify(engine, &[Input::Pair(QUERY, passage)], options.prune.as_ref().expect("a rule")).remove(0)
}

fn indexes(ranking: &Ranking) -> Vec<usize> {
    ranking.results.iter().map(|result| result.index).collect()
}

/// All that a passage has in common with the pair's own run.
fn check_alone(found: &RankedPassage, alone: &Classification, what: &str) {
    assert_eq!(found.score.to_bits(), alone.logits[0].to_bits(), "{what}");
    assert_eq!(
        (found.logit, &found.tokens, found.num_tokens),
        (found.score, &alone.tokens, alone.num_tokens),
        "{what}"
    );
    assert_eq!(found.kept_tokens, alone.kept[alone.kept.len() - 2], "{what}");
    assert_eq!((found.retention, found.flops, found.truncated), (alone.retention, alone.flops, false), "{what}");
    assert_eq!(found.passage, [4, alone.num_tokens - 1], "{what}");
}

#[test]
fn scores_are_those_of_each_pair_alone() {
    let model = scorer();
    let passages: Vec<String> = [30, 1, 155, 9, 30, 77, 9, 2, 120, 31]
        .iter()
        .zip(0..)
        .map(|(num_words, first)| words(*num_words, first))
        .collect();
    let passages: Vec<&str> = passages.iter().map(String::as_str).collect();
    for kind in BACKENDS {
        let mut engine = engine(&model, kind);
        for rule in EACH_RULE {
            let options = under(rule);
            let ranking = rank(&mut engine, &passages, &options);
            assert_eq!((ranking.results.len(), ranking.num_passages, ranking.num_pairs), (10, 10, 10), "{rule}");
            assert!(ranking.results.is_sorted_by(|a, b| a.score >= b.score), "{rule}");
            let (mut flops, mut retention) = (Flops::default(), 0.0);
            for found in &ranking.results {
                let alone = alone(&mut engine, passages[found.index], &options);
                check_alone(found, &alone, &format!("{kind:?}, {rule}, passage {}", found.index));
                flops += alone.flops;
                retention += alone.retention / 10.0;
            }
            assert_eq!(ranking.flops, flops, "{rule}");
            assert!((ranking.retention - retention).abs() < 1e-12, "{rule}");
            assert_eq!(indexes(&ranking).into_iter().collect::<BTreeSet<_>>().len(), 10);
        }
    }
}

#[test]
fn the_best_come_back() {
    let mut engine = engine(&scorer(), BackendKind::Cpu);
    let passages: Vec<String> = (0..40).map(|first| words(1 + first % 6, first)).collect();
    let passages: Vec<&str> = passages.iter().map(String::as_str).collect();
    let all = rank(&mut engine, &passages, &under("dense"));
    for top_n in [1, 7, 40, 1000] {
        let best = rank(&mut engine, &passages, &RankOptions { top_n: Some(top_n), ..under("dense") });
        assert_eq!(best.results, all.results[..top_n.min(40)], "{top_n}");
        assert_eq!((best.num_passages, best.flops), (40, all.flops));
    }
    // Without a rule, the model's own.
    let own = rank(&mut engine, &passages, &RankOptions::default());
    assert_eq!((own.prune.to_string(), own.label), ("topk:0.5".to_owned(), None));
    assert_eq!(own.results, rank(&mut engine, &passages, &under("topk:0.5")).results);
}

#[test]
fn the_query_stays_whole() {
    let mut engine = engine(&scorer(), BackendKind::Cpu);
    let (fits, long) = (words(ROOM, 3), words(ROOM + 1, 3));
    let ranking = rank(&mut engine, &[&long, &fits], &under("dense"));
    let tokens = format!("[CLS] {QUERY} [SEP] {fits} [SEP]");
    for found in &ranking.results {
        assert_eq!(found.tokens.join(" "), tokens, "passage {}", found.index);
        assert_eq!(found.truncated, found.index == 0);
        assert_eq!((found.passage, found.num_tokens, found.window), ([4, 159], 160, None));
    }
    // A long query takes its room from the passage.
    let query = words(150, 1);
    let ranking = try_rank(&mut engine, &query, &[&long], &under("dense")).expect("a ranking");
    let expected = format!("[CLS] {query} [SEP] {} [SEP]", words(7, 3));
    assert_eq!((ranking.results[0].tokens.join(" "), ranking.results[0].truncated), (expected, true));
    let alone = classify(&mut engine, &[Input::Pair(&query, &words(7, 3))], &"dense".parse().expect("a rule"));
    assert_eq!(ranking.results[0].score, alone[0].logits[0]);
}

/// Those that begin alike are equal where the model's limit is.
#[test]
fn equal_pairs_cost_once() {
    let mut engine = engine(&scorer(), BackendKind::Cpu);
    let (long, short) = (words(ROOM, 3), words(9, 4));
    let (longer, longest) = (format!("{long} w9 w10"), format!("{long} {}", words(1_000, 9)));
    let passages: [&str; 7] = [&short, &longest, &long, "w11", &longer, &short, &short];
    for rule in ["dense", "topk:0.5"] {
        let ranking = rank(&mut engine, &passages, &under(rule));
        assert_eq!(ranking.num_pairs, 3, "{rule}");
        let mut flops = Flops::default();
        for passage in [&long, &short, "w11"] {
            flops += alone(&mut engine, passage, &under(rule)).flops;
        }
        assert_eq!(ranking.flops, flops, "{rule}");
        let score = |index: usize| ranking.results.iter().find(|found| found.index == index).expect("a result").score;
        assert_eq!([score(1), score(4), score(5), score(6)], [score(2), score(2), score(0), score(0)], "{rule}");
        // Equal scores keep the order in which they were given.
        let order: Vec<usize> = indexes(&ranking).into_iter().filter(|index| [0, 5, 6].contains(index)).collect();
        assert_eq!(order, [0, 5, 6], "{rule}");
    }
}

#[test]
fn equal_scores_keep_the_order() {
    let mut files = scorer_files();
    edit_tensors(&mut files, |tensors| {
        let weight = tensors.get_mut("classifier.weight").expect("classifier");
        *weight = HostTensor::f32(&weight.shape.clone(), &vec![0.0; weight.shape.iter().product()]);
    });
    let mut engine = engine(&Model::from_bytes(files).expect("a model"), BackendKind::Cpu);
    let passages: Vec<String> = (0..60).map(|first| words(1 + first * 11 % 50, first)).collect();
    let passages: Vec<&str> = passages.iter().map(String::as_str).collect();
    let ranking = rank(&mut engine, &passages, &under("dense"));
    assert_eq!(indexes(&ranking), (0..60).collect::<Vec<_>>());
    let best = rank(&mut engine, &passages, &RankOptions { top_n: Some(3), ..under("dense") });
    assert_eq!(indexes(&best), [0, 1, 2]);
}

#[test]
fn the_best_window_counts() {
    let mut engine = engine(&scorer(), BackendKind::Cpu);
    let options = RankOptions { windows: true, ..under("topk:0.5") };
    let all: Vec<String> = words(400, 2).split(' ').map(str::to_owned).collect();
    // A quarter of 155 is 38.
    let windows: Vec<String> = [0..155, 117..272, 234..389, 351..400].map(|window| all[window].join(" ")).to_vec();
    let alone: Vec<Classification> = windows.iter().map(|window| alone(&mut engine, window, &options)).collect();
    let best = (0..4).rev().max_by(|&a, &b| alone[a].logits[0].total_cmp(&alone[b].logits[0])).expect("windows");
    let ranking = rank(&mut engine, &[&all.join(" "), "w11"], &options);
    assert_eq!((ranking.num_pairs, ranking.num_passages), (5, 2));
    let found = ranking.results.iter().find(|found| found.index == 0).expect("the long one");
    assert_eq!(found.window, Some(RankWindow { index: best, num_windows: 4 }));
    check_alone(found, &alone[best], "the best window");
    let short = ranking.results.iter().find(|found| found.index == 1).expect("the short one");
    assert_eq!(short.window, Some(RankWindow { index: 0, num_windows: 1 }));
    // Of equal windows the first one is the best, and they cost once.
    let equal = ["w9"; 272].join(" ");
    let ranking = rank(&mut engine, &[&equal], &options);
    assert_eq!((ranking.results[0].window, ranking.num_pairs), (Some(RankWindow { index: 0, num_windows: 2 }), 1));
}

/// An empty passage is a pair like any other, and cannot be told from one of control characters.
#[test]
fn empty_passages_have_scores() {
    for kind in BACKENDS {
        let mut engine = engine(&scorer(), kind);
        for rule in EACH_RULE {
            let together = rank(&mut engine, &["w11 w12", "", " \n", "\u{1}", "w13"], &under(rule));
            let alone = rank(&mut engine, &[""], &under(rule)).results.remove(0);
            assert_eq!((&alone.tokens.join(" "), alone.passage), (&format!("[CLS] {QUERY} [SEP] [SEP]"), [4, 4]));
            assert_eq!(together.num_pairs, 3);
            for found in together.results.iter().filter(|found| [1, 2, 3].contains(&found.index)) {
                assert!(found.score.is_finite());
                assert_eq!((found.score, &found.kept_tokens), (alone.score, &alone.kept_tokens), "{rule}");
            }
        }
    }
}

#[test]
fn what_cannot_be_ranked_is_named() {
    let mut engine = engine(&scorer(), BackendKind::Cpu);
    let mut error = |query: &str, passages: &[&str], options: &RankOptions| {
        try_rank(&mut engine, query, passages, options).expect_err("no ranking").to_string()
    };
    let dense = under("dense");
    assert_eq!(error("", &["w9"], &dense), "the query: it is empty, expected at least one word");
    assert_eq!(error(" \t\n", &["w9"], &dense), "the query: it is empty, expected at least one word");
    assert_eq!(error(QUERY, &[], &dense), "no passages to rank, expected at least one");
    assert_eq!(
        error(&words(157, 0), &["w9"], &dense),
        "the query: 157 tokens and 3 special ones leave no room for a passage in the 160 that the model reads; shorten it to 156 tokens or fewer"
    );
    let one_ratio = "rule `topk:1,1` needs one ratio or 4, one per layer, not 2";
    assert_eq!(error(QUERY, &["w9"], &under("topk:1,1")), one_ratio);
    let label = RankOptions { label: Some("other".to_owned()), ..under("dense") };
    assert_eq!(error(QUERY, &["w9"], &label), "no label `other`, expected one of `score`, or 0 to 0");
}

/// A token whose embedding overflows makes no other passage's score wrong, and the passage is named.
#[test]
fn a_score_is_a_number() {
    let mut files = scorer_files();
    edit_tensors(&mut files, |tensors| {
        let name = tensors.keys().find(|name| name.ends_with("word_embeddings.weight")).expect("a table").clone();
        let table = tensors.get_mut(&name).expect("a table");
        let (mut values, width) = (table.values(), table.shape[1]);
        // w90, by the tokenizer's own order.
        values[token_id("w90") * width..][..width].iter_mut().zip(0..).for_each(|(value, at)| {
            *value = if at % 2 == 0 { 3e38 } else { -3e38 };
        });
        *table = HostTensor::f32(&table.shape.clone(), &values);
    });
    let mut engine = engine(&Model::from_bytes(files).expect("a model"), BackendKind::Cpu);
    let long = words(80, 2).replace("w90", "w9");
    let passages = ["w11", "w12 w13", &long, "w12 w90", "w90", "w14"];
    let error = try_rank(&mut engine, QUERY, &passages, &under("dense")).expect_err("an overflow");
    assert_eq!(error.to_string(), "passage 4: numbers under `dense` are not finite: the weights overflow");
    assert!(matches!(error, Error::Passage { index: 3, .. }));
    let ranking = rank(&mut engine, &passages[..3], &under("dense"));
    assert!(ranking.results.iter().all(|found| found.score.is_finite()));
}

fn token_id(token: &str) -> usize {
    let results =
        classify(&mut engine(&tiny_bert(), BackendKind::Cpu), &[Input::Text(token)], &"dense".parse().expect("a rule"));
    results[0].input_ids[1] as usize
}

#[test]
fn progress_and_an_end() {
    let mut engine = engine(&scorer(), BackendKind::Cpu);
    let passages: Vec<String> = (0..400).map(|first| words(100 + first % 50, first)).collect();
    let passages: Vec<&str> = passages.iter().map(String::as_str).collect();
    let mut seen = Vec::new();
    let options = under("dense");
    let ranking = pollster::block_on(engine.rank(QUERY, &passages, &options, |progress| {
        seen.push((progress.num_done, progress.num_pairs));
        ControlFlow::Continue(())
    }))
    .expect("a ranking");
    let num_pairs = ranking.num_pairs;
    assert!(seen.len() > 3 && seen.is_sorted_by(|a, b| a.0 < b.0), "{seen:?}");
    assert!(seen.iter().all(|(_, total)| *total == num_pairs), "{seen:?}");
    assert_eq!((seen[0].0, seen[seen.len() - 1].0), (0, num_pairs));
    // Before the first pairs, and in the middle.
    for end in [0, 1] {
        let mut num_reports = 0;
        let error = pollster::block_on(engine.rank(QUERY, &passages, &options, |_| {
            num_reports += 1;
            if num_reports > end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }))
        .expect_err("an end");
        assert_eq!(error, Error::Cancelled { num_done: seen[end].0, num_pairs }, "after {end}");
        assert_eq!(num_reports, end + 1);
    }
    // A call that is dropped between two layers.
    engine.set_pause(Box::new(|| Box::pin(once_pending())));
    {
        let mut run = pin!(engine.rank(QUERY, &passages, &options, on));
        for _ in 0..5 {
            assert!(run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
    }
    engine.set_pause(Box::new(|| Box::pin(async {})));
    assert_eq!(rank(&mut engine, &passages, &options), ranking);
}

/// Pending once, then ready.
async fn once_pending() {
    let mut was_polled = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut was_polled, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// 10^5 passages in one call, and one of 10^6 words.
#[test]
fn long_lists_and_long_passages() {
    let mut engine = engine(&scorer(), BackendKind::Cpu);
    let passages: Vec<String> =
        (0..100_000).map(|at| format!("w{} w{} w{}", 5 + at % 90, 5 + at / 90 % 90, 5 + at / 8100)).collect();
    let passages: Vec<&str> = passages.iter().map(String::as_str).collect();
    let ranking = rank(&mut engine, &passages, &RankOptions { top_n: Some(10), ..under("dense") });
    assert_eq!((ranking.results.len(), ranking.num_passages, ranking.num_pairs), (10, 100_000, 100_000));
    assert!(ranking.results.is_sorted_by(|a, b| a.score >= b.score));
    let best = &ranking.results[0];
    check_alone(best, &alone(&mut engine, passages[best.index], &under("dense")), "the best of many");
    let long = "w11 w12 w13 ".repeat(333_334);
    let ranking = rank(&mut engine, &[&long, &long[..4 * 155]], &under("dense"));
    assert_eq!(ranking.num_pairs, 1);
    assert_eq!(ranking.results[0].score, ranking.results[1].score);
    assert_eq!([0, 1].map(|place| ranking.results[place].truncated), [true, false]);
}

/// sentence-transformers' `activation_fn`, wherever it stands.
#[test]
fn the_activation_of_a_score_is_honoured() {
    const FILE: &str = "config_sentence_transformers.json";
    let identity = "torch.nn.modules.linear.Identity";
    let sigmoid = "torch.nn.modules.activation.Sigmoid";
    let of = |edit: &dyn Fn(&mut ModelFiles)| {
        let mut files = scorer_files();
        edit(&mut files);
        let mut engine = engine(&Model::from_bytes(files).expect("a model"), BackendKind::Cpu);
        try_rank(&mut engine, QUERY, &["w9", "w10 w11", "w12"], &under("dense"))
    };
    let plain = of(&|_| {}).expect("a ranking");
    let older = |name: serde_json::Value| {
        move |files: &mut ModelFiles| {
            edit_config(files, |config| config["sbert_ce_default_activation_function"] = name.clone());
        }
    };
    let newer = |name: &'static str| {
        move |files: &mut ModelFiles| {
            edit_config(files, |config| config["sentence_transformers"] = json!({"activation_fn": name}));
        }
    };
    let newest = |name: &'static str, kind: &'static str| {
        move |files: &mut ModelFiles| {
            files.insert(FILE, json!({"activation_fn": name, "model_type": kind}).to_string().into_bytes());
        }
    };
    for edit in [older(json!(identity)), older(json!(null))] {
        assert_eq!(of(&edit).expect("a ranking"), plain);
    }
    assert_eq!(of(&newest(sigmoid, "SentenceTransformer")).expect("a ranking"), plain);
    let sigmoids: [Edit; 3] =
        [Box::new(older(json!(sigmoid))), Box::new(newer(sigmoid)), Box::new(newest(sigmoid, "CrossEncoder"))];
    for edit in sigmoids {
        let ranking = of(&edit).expect("a ranking");
        for (found, plain) in ranking.results.iter().zip(&plain.results) {
            assert_eq!((found.index, found.logit), (plain.index, plain.logit));
            assert!((found.score - 1.0 / (1.0 + (-plain.score).exp())).abs() < 1e-6, "{}", found.score);
        }
    }
    // The newest place counts.
    let both = |files: &mut ModelFiles| {
        older(json!(sigmoid))(files);
        newest(identity, "CrossEncoder")(files);
    };
    assert_eq!(of(&both).expect("a ranking"), plain);
    let supported =
        "is not supported; supported: torch.nn.modules.linear.Identity, torch.nn.modules.activation.Sigmoid";
    for (name, shown) in [
        (json!("torch.nn.modules.activation.Tanh"), "torch.nn.modules.activation.Tanh"),
        (json!("my.Sigmoid"), "my.Sigmoid"),
        (json!(3), "3"),
    ] {
        let error = of(&older(name)).expect_err("another function").to_string();
        assert_eq!(error, format!("activation of scores (`activation_fn`) `{shown}` {supported}"));
    }
}

/// Of several labels, the one that is asked for; its probability is that of `classify`.
#[test]
fn a_label_gives_the_score() {
    let passages = ["w9", "w10 w11", "w12", "w13 w14 w15", "w16 w90"];
    for multi_label in [false, true] {
        let model = edited(|files| {
            if multi_label {
                config("problem_type", json!("multi_label_classification"))(files);
            }
        })
        .expect("a model");
        assert_eq!(model.config().task == Task::MultiLabel, multi_label);
        let mut engine = engine(&model, BackendKind::Cpu);
        for (label, place) in [("LABEL_3", 3), ("0", 0)] {
            let options = RankOptions { label: Some(label.to_owned()), ..under("topk:0.5") };
            let ranking = rank(&mut engine, &passages, &options);
            assert_eq!(ranking.label, Some(format!("LABEL_{place}")));
            for found in &ranking.results {
                let alone = alone(&mut engine, passages[found.index], &options);
                assert_eq!(found.score.to_bits(), alone.probs[place].to_bits(), "{label}");
                let prob = f64::from(found.score);
                assert!((f64::from(found.logit) - (prob / (1.0 - prob)).ln()).abs() < 1e-4, "{label}: {found:?}");
            }
            assert!(ranking.results.is_sorted_by(|a, b| a.score >= b.score && a.logit >= b.logit));
        }
        let error = try_rank(&mut engine, QUERY, &passages, &under("dense")).expect_err("five labels");
        let labels = "`LABEL_0`, `LABEL_1`, `LABEL_2`, `LABEL_3`, `LABEL_4`";
        assert_eq!(
            error.to_string(),
            format!(
                "`rank` needs one score, and this model has 5 labels ({labels}): `label` chooses the one whose probability counts"
            )
        );
    }
    // What its one output is called may be said.
    let options = RankOptions { label: Some("score".to_owned()), ..under("dense") };
    let mut engine = engine(&scorer(), BackendKind::Cpu);
    assert_eq!(rank(&mut engine, &passages, &options), rank(&mut engine, &passages, &under("dense")));
}

#[test]
fn models_without_a_score_say_so() {
    let error = |model: &Model| {
        let mut engine = engine(model, BackendKind::Cpu);
        try_rank(&mut engine, QUERY, &["w9"], &RankOptions { label: Some("0".to_owned()), ..under("dense") })
            .expect_err("no score")
            .to_string()
    };
    assert_eq!(
        error(&load(&fixture("families/bert-embed-cls"))),
        "`rank` needs a score or labels (`embed` gives vectors to compare), and this model is an embedder"
    );
    assert_eq!(error(&tiny_vit()), "`rank` needs a model that reads texts, and this model is one that reads images");
}

/// The prompt of a cross-encoder stands before the query, as in `classify`.
#[test]
fn the_default_prompt_stands_before_the_query() {
    let mut files = scorer_files();
    let prompts = json!({"model_type": "CrossEncoder", "default_prompt_name": "q", "prompts": {"q": "w5 w6: "}});
    files.insert("config_sentence_transformers.json", prompts.to_string().into_bytes());
    files.insert("modules.json", br#"[{"type": "a.Transformer", "path": ""}]"#.to_vec());
    let mut engine = engine(&Model::from_bytes(files).expect("a model"), BackendKind::Cpu);
    let ranking = rank(&mut engine, &["w9 w10"], &under("dense"));
    let alone = classify_with(
        &mut engine,
        &[Input::Pair(QUERY, "w9 w10")],
        &"dense".parse().expect("a rule"),
        &Outputs::default(),
    );
    assert_eq!((ranking.results[0].score, &ranking.results[0].tokens), (alone[0].logits[0], &alone[0].tokens));
    assert_eq!(alone[0].tokens[1], "w5");
}

/// Unigram and byte-level BPE, whose pairs have other special tokens.
#[test]
fn other_families_rank_too() {
    for name in ["camembert-score", "electra-same"] {
        let model = load(&fixture(&format!("families/{name}")));
        let mut engine = engine(&model, BackendKind::Cpu);
        let passages = ["un bon film", "a film", "naïve 片", "w"];
        for rule in ["dense", "topk:0.5"] {
            let ranking = rank(&mut engine, &passages, &under(rule));
            for found in &ranking.results {
                let alone = alone(&mut engine, passages[found.index], &under(rule));
                assert_eq!(
                    (found.score.to_bits(), &found.tokens),
                    (alone.logits[0].to_bits(), &alone.tokens),
                    "{name}"
                );
            }
        }
    }
}
