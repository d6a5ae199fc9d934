//! Ranking passages by what a cross-encoder says of each with a query.

use std::ops::{ControlFlow, Range};

use super::ranking::{RankOptions, RankProgress, RankWindow, RankedPassage, Ranking};
use super::request::{Classification, Outputs};
use super::{Engine, scorer::Scorer};
use crate::error::{Error, Result};
use crate::models::{Passage, Query, Tokens};
use crate::parallel::{for_each, num_threads};
use crate::pruning::{Flops, Plan, Prune};

/// Passages that are made into tokens between two pauses.
const PASSAGES_AT_ONCE: usize = 256;
/// The same with windows: a passage may have any number of tokens, each with its text.
const WINDOWED_AT_ONCE: usize = 16;

/// See [`Engine::group_tokens`]: for each thread of a CPU, and for a GPU.
const GROUP_TOKENS_PER_THREAD: usize = 2048;
const GROUP_TOKENS_OF_GPU: usize = 16_384;

/// A passage with the query, or a window of it.
struct Pair {
    passage: usize,
    window: RankWindow,
    /// Places in [`Pairs::ids`].
    ids: Range<usize>,
    truncated: bool,
}

/// All pairs of a call. Of their tokens the ids alone are kept, so that long lists take little memory.
#[derive(Default)]
struct Pairs {
    ids: Vec<u32>,
    all: Vec<Pair>,
}

/// What is kept of a pair's result.
struct Scored {
    score: f32,
    logit: f32,
    retention: f64,
    flops: Flops,
    /// `None` is all tokens.
    kept: Option<Vec<u32>>,
}

impl Engine {
    /// Ranks passages by the score that a model gives each of them together with the query.
    ///
    /// A query is never cut: of a pair that is too long, the passage alone gives way. An empty passage is scored like any other. Pairs that are
    /// equal as the model reads them are computed once. Each score is bit for bit what the pair gives alone.
    ///
    /// `on_progress` is called before the first pairs and after each group of them. With [`ControlFlow::Break`] it ends the call. A call that is
    /// dropped ends, too.
    ///
    /// ```
    /// # pollster::block_on(async {
    /// # let model = sttabt::Model::from_bytes(sttabt::ModelFiles::from_dir("tests/fixtures/families/electra-same")?)?;
    /// use sttabt::{BackendKind, Engine, RankOptions};
    /// use std::ops::ControlFlow;
    ///
    /// let mut engine = Engine::new(&model, &BackendKind::Cpu.into()).await?;
    /// let options = RankOptions { top_n: Some(2), ..RankOptions::default() };
    /// let ranking = engine.rank("a film", &["one film", "two", "three films"], &options, |_| ControlFlow::Continue(())).await?;
    /// assert!(ranking.results.len() == 2 && ranking.results[0].score >= ranking.results[1].score);
    /// # Ok::<(), sttabt::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// - [`Error::Head`] and [`Error::Label`] for a model that gives no score.
    /// - [`Error::Query`] for a query that is empty, or leaves no room for a passage.
    /// - [`Error::Passage`] names a passage that has no score.
    /// - [`Error::NoPassages`], [`Error::Cancelled`], and the errors of [`Engine::classify`].
    pub async fn rank(
        &mut self,
        query: &str,
        passages: &[&str],
        options: &RankOptions,
        mut on_progress: impl FnMut(RankProgress) -> ControlFlow<()>,
    ) -> Result<Ranking> {
        let model = self.model.clone();
        let scorer = Scorer::of(&model, options.label.as_deref())?;
        let prune = options.prune.clone().unwrap_or_else(|| model.default_prune());
        // A rule that the model cannot follow is an error before any work is done.
        Plan::of(&prune, &model.facts(), &[])?;
        let query = model.query(query)?;
        if passages.is_empty() {
            return Err(Error::NoPassages);
        }
        let mut pairs = Pairs::default();
        for (block, texts) in passages.chunks(PASSAGES_AT_ONCE).enumerate() {
            let places = block * PASSAGES_AT_ONCE..;
            for (passage, index) in tokenized(&query, texts, options.windows, false).into_iter().zip(places) {
                pairs.add(index, passage.map_err(|reason| Error::Passage { index, reason })?);
            }
            (self.pause)().await;
        }
        let (unique, places) = pairs.unique();
        let mut scored: Vec<Scored> = Vec::with_capacity(unique.len());
        let mut report = |num_done| match on_progress(RankProgress { num_done, num_pairs: unique.len() }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled { num_done, num_pairs: unique.len() }),
        };
        report(0)?;
        for group in groups(&unique, self.group_tokens(), |&pair| query.pair_length(pairs.all[pair].ids.len())) {
            let tokens = |pair: &usize| Tokens::Text(query.pair(pairs.ids_of(*pair), &[], false));
            let inputs = unique[group.clone()].iter().map(tokens).collect();
            match self.classify_tokens(inputs, &prune, &scorer.outputs()).await {
                Ok(results) => scored.extend(results.into_iter().map(|result| Scored::of(&scorer, result))),
                Err(error) => return Err(self.of_one(error, &unique[group], &pairs, &query, &prune).await),
            }
            report(scored.len())?;
        }
        let best = pairs.best(passages.len(), |pair| scored[places[pair]].logit);
        let mut order: Vec<usize> = (0..passages.len()).collect();
        let logit = |passage: &usize| scored[places[best[*passage]]].logit;
        // A stable sort. All are finite.
        order.sort_by(|a, b| logit(b).partial_cmp(&logit(a)).unwrap_or(std::cmp::Ordering::Equal));
        order.truncate(options.top_n.unwrap_or(usize::MAX));
        let mut results = Vec::with_capacity(order.len());
        for order in order.chunks(if options.windows { WINDOWED_AT_ONCE } else { PASSAGES_AT_ONCE }) {
            let texts: Vec<&str> = order.iter().map(|&passage| passages[passage]).collect();
            for (&index, passage) in order.iter().zip(tokenized(&query, &texts, options.windows, true)) {
                let passage = passage.map_err(|reason| Error::Passage { index, reason })?;
                let pair = best[index];
                results.push(scored[places[pair]].of_passage(&pairs.all[pair], &passage, &query, options.windows));
            }
            (self.pause)().await;
        }
        let mut flops = Flops::default();
        scored.iter().for_each(|scored| flops += scored.flops);
        Ok(Ranking {
            prune,
            label: scorer.label(&model),
            results,
            num_passages: passages.len(),
            num_pairs: scored.len(),
            retention: scored.iter().map(|scored| scored.retention).sum::<f64>() / scored.len() as f64,
            flops,
        })
    }

    /// How many tokens are worth computing in one run: with more of them, each costs the same.
    pub fn group_tokens(&self) -> usize {
        match self.info.backend {
            "cpu" => GROUP_TOKENS_PER_THREAD * num_threads(),
            _ => GROUP_TOKENS_OF_GPU,
        }
    }

    /// The error of a group, with the passage that it is about: the first one that fails alone.
    async fn of_one(
        &mut self,
        error: Error,
        group: &[usize],
        pairs: &Pairs,
        query: &Query<'_>,
        prune: &Prune,
    ) -> Error {
        if !matches!(
            error,
            Error::Overflow { .. } | Error::Input { .. } | Error::TooLarge { .. } | Error::RuleNeeds { .. }
        ) {
            return error;
        }
        let mut group = group.to_vec();
        group.sort_by_key(|&pair| pairs.all[pair].passage);
        for pair in group {
            let tokens = vec![Tokens::Text(query.pair(pairs.ids_of(pair), &[], false))];
            let index = pairs.all[pair].passage;
            let named = |text: &str| text.replacen("input 1", &format!("passage {}", index + 1), 1);
            match self.classify_tokens(tokens, prune, &Outputs::default()).await {
                Ok(_) => {}
                Err(Error::Input { reason, .. }) => return Error::Passage { index, reason },
                Err(Error::TooLarge { what, needed, limit, backend }) => {
                    return Error::TooLarge { what: named(&what), needed, limit, backend };
                }
                Err(Error::RuleNeeds { rule, needs }) => return Error::RuleNeeds { rule, needs: named(&needs) },
                Err(error @ Error::Overflow { .. }) => return Error::Passage { index, reason: error.to_string() },
                Err(error) => return error,
            }
        }
        error
    }
}

/// The tokens of passages, made on all threads.
fn tokenized(query: &Query<'_>, texts: &[&str], windows: bool, tokens: bool) -> Vec<Result<Passage, String>> {
    let mut passages: Vec<Option<Result<Passage, String>>> = texts.iter().map(|_| None).collect();
    let tasks = texts.iter().zip(&mut passages).collect();
    for_each(tasks, |(text, passage): (&&str, &mut Option<_>)| *passage = Some(query.passage(text, windows, tokens)));
    passages.into_iter().flatten().collect()
}

/// Consecutive pairs, of at most so many tokens in all where one pair has not more.
fn groups(pairs: &[usize], most: usize, length: impl Fn(&usize) -> usize) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut num_tokens = 0;
    for (place, pair) in pairs.iter().enumerate() {
        let length = length(pair);
        num_tokens += length;
        match groups.last_mut() {
            Some(group) if num_tokens <= most => group.end = place + 1,
            _ => {
                groups.push(place..place + 1);
                num_tokens = length;
            }
        }
    }
    groups
}

impl Pairs {
    fn add(&mut self, index: usize, passage: Passage) {
        let (first, num_windows) = (self.ids.len(), passage.windows.len());
        self.ids.extend(passage.ids);
        self.all.extend(passage.windows.into_iter().enumerate().map(|(window, ids)| Pair {
            passage: index,
            window: RankWindow { index: window, num_windows },
            ids: first + ids.start..first + ids.end,
            truncated: passage.truncated,
        }));
    }

    fn ids_of(&self, pair: usize) -> &[u32] {
        &self.ids[self.all[pair].ids.clone()]
    }

    /// The first of each pair's equals, the longest pairs first, so that chunks are even; and the place of each pair's equal among these.
    fn unique(&self) -> (Vec<usize>, Vec<usize>) {
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_by(|&a, &b| {
            let (a, b) = (self.ids_of(a), self.ids_of(b));
            b.len().cmp(&a.len()).then_with(|| a.cmp(b))
        });
        let (mut unique, mut places) = (Vec::new(), vec![0; order.len()]);
        for equal in order.chunk_by(|&a, &b| self.ids_of(a) == self.ids_of(b)) {
            equal.iter().for_each(|&pair| places[pair] = unique.len());
            unique.extend(equal.first());
        }
        (unique, places)
    }

    /// The best pair of each passage; the first one, of equals.
    fn best(&self, num_passages: usize, logit: impl Fn(usize) -> f32) -> Vec<usize> {
        let mut best = Vec::with_capacity(num_passages);
        for (pair, Pair { passage, .. }) in self.all.iter().enumerate() {
            match best.get_mut(*passage) {
                Some(known) if logit(pair) > logit(*known) => *known = pair,
                Some(_) => {}
                None => best.push(pair),
            }
        }
        best
    }
}

impl Scored {
    fn of(scorer: &Scorer, mut result: Classification) -> Self {
        // K_{L-1} stands before K_L, which is the anchors'.
        let last = result.kept.len().saturating_sub(2);
        let kept = if last < result.kept.len() { result.kept.swap_remove(last) } else { Vec::new() };
        Self {
            score: scorer.score(&result),
            logit: scorer.logit(&result.logits),
            retention: result.retention,
            flops: result.flops,
            kept: (kept.len() < result.num_tokens).then_some(kept),
        }
    }

    fn of_passage(&self, pair: &Pair, passage: &Passage, query: &Query<'_>, windows: bool) -> RankedPassage {
        let window = passage.windows.get(pair.window.index).cloned().unwrap_or_default();
        let (start, num_passage_tokens) = (query.passage_start(), window.len());
        let tokens = query.pair(&passage.ids[window.clone()], &passage.tokens[window], pair.truncated).tokens;
        RankedPassage {
            index: pair.passage,
            score: self.score,
            logit: self.logit,
            window: windows.then_some(pair.window),
            num_tokens: tokens.len(),
            passage: [start, start + num_passage_tokens],
            kept_tokens: self.kept.clone().unwrap_or_else(|| (0..tokens.len() as u32).collect()),
            tokens,
            retention: self.retention,
            flops: self.flops,
            truncated: pair.truncated,
        }
    }
}
