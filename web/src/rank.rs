//! Ranking passages, with a report after each group of pairs.

use std::ops::ControlFlow;

use js_sys::Function;
use sttabt::{Error, PruneMode, RankOptions, RankProgress};
use wasm_bindgen::prelude::*;

use crate::call::CancelFlag;
use crate::classifier::{Classifier, unless_cancelled};
use crate::error::{from_core, js_error};
use crate::json::to_json;

/// What is to be ranked.
#[wasm_bindgen]
pub struct Question {
    query: String,
    passages: Vec<String>,
    options: RankOptions,
}

#[wasm_bindgen]
impl Question {
    /// A query, and how to rank by it: `top_n` of 0 is all.
    ///
    /// # Errors
    /// Kind `input` for a rule that cannot be read, or `auto`.
    #[wasm_bindgen(constructor)]
    pub fn new(
        query: String,
        prune: &str,
        top_n: usize,
        windows: bool,
        label: Option<String>,
    ) -> Result<Question, JsValue> {
        let prune = match prune.parse().map_err(|error| from_core(&error))? {
            PruneMode::Rule(rule) => Some(rule),
            PruneMode::Auto(_) => {
                return Err(js_error("input", "`rank` takes a rule, for example `topk:0.5`, and not `auto`"));
            }
        };
        let options = RankOptions { top_n: (top_n > 0).then_some(top_n), prune, windows, label };
        Ok(Self { query, passages: Vec::new(), options })
    }

    /// Adds a passage.
    pub fn push(&mut self, passage: String) {
        self.passages.push(passage);
    }
}

#[wasm_bindgen]
impl Classifier {
    /// Ranks passages: the core's `Ranking` as JSON. `on_progress` is called with the numbers of pairs that are done and of all.
    ///
    /// # Errors
    /// As for `classify`.
    pub async fn rank(
        &mut self,
        question: Question,
        on_progress: &Function,
        cancel: &CancelFlag,
    ) -> Result<String, JsValue> {
        let Question { query, passages, options } = &question;
        let passages: Vec<&str> = passages.iter().map(String::as_str).collect();
        let mut num_losses = 0;
        loop {
            self.lose_if_due();
            let report = |RankProgress { num_done, num_pairs }: RankProgress| {
                // What listens is the package's own worker.
                let _ = on_progress.call2(&JsValue::UNDEFINED, &num_done.into(), &num_pairs.into());
                ControlFlow::Continue(())
            };
            let run = self.engine.rank(query, &passages, options, report);
            match unless_cancelled(run, cancel).await? {
                Ok(ranking) => return to_json(&ranking),
                Err(error @ Error::DeviceLost { .. }) => self.replace_device(&error, &mut num_losses).await?,
                Err(error) => return Err(from_core(&error)),
            }
        }
    }
}
