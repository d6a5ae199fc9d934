//! `Engine::run`: inputs that were made into tokens before give what they give otherwise, whoever they are computed with.

use crate::common::edit::{scorer_files, tiny_files};
use crate::common::*;
use serde_json::json;
use sttabt::{Classification, Engine, Error, Input, Model, Outputs, Prepared, Prune, RankOptions};

fn run(engine: &mut Engine, inputs: &[Prepared], prune: &Prune) -> Result<Vec<Classification>, Error> {
    pollster::block_on(engine.run(inputs, prune, &Outputs::default()))
}

/// The texts of the tokens are not kept.
fn without_texts(mut result: Classification) -> Classification {
    result.tokens = Vec::new();
    result
}

#[test]
fn inputs_of_several_callers_give_what_each_gives_alone() {
    let long = "w9 ".repeat(200);
    let inputs =
        [Input::Text("w51 w41 w11 w19 w70"), Input::Pair("w88", "w9 w90"), Input::Text(&long), Input::Text("w8")];
    for name in ["tiny-bert", "families/bert-embed-cls", "families/roberta"] {
        let model = load(&fixture(name));
        let read = |input: &Input<'_>| model.read(&[*input]).expect("tokens").remove(0);
        let prepared: Vec<Prepared> = inputs.iter().map(read).collect();
        assert_eq!(prepared.iter().map(Prepared::truncated).collect::<Vec<_>>(), [false, false, true, false]);
        assert_eq!(prepared[2].num_tokens(), model.max_tokens());
        for kind in BACKENDS {
            let mut engine = engine(&model, kind);
            for rule in ["dense", "topk:0.5", "oracle:0.4"] {
                let prune = rule.parse().expect("a rule");
                let together = run(&mut engine, &prepared, &prune).expect("results");
                assert_eq!(together.len(), inputs.len());
                for ((found, input), prepared) in together.iter().zip(&inputs).zip(&prepared) {
                    let alone = without_texts(classify(&mut engine, &[*input], &prune).remove(0));
                    assert_eq!((found, prepared.num_tokens()), (&alone, alone.num_tokens), "{name} {rule} {kind:?}");
                }
            }
        }
    }
}

#[test]
fn passages_give_what_they_give_to_rank() {
    let model = Model::from_bytes(scorer_files()).expect("a scorer");
    let long = "w9 ".repeat(200);
    let passages = ["w9 w10", "", "w12 w13 w14", &long];
    let prune: Prune = "topk:0.5".parse().expect("a rule");
    for kind in BACKENDS {
        let mut engine = engine(&model, kind);
        let options = RankOptions { prune: Some(prune.clone()), ..RankOptions::default() };
        let on = |_| std::ops::ControlFlow::Continue(());
        let ranking = pollster::block_on(engine.rank("w7 w8", &passages, &options, on)).expect("a ranking");
        let prepared = model.read_passages("w7 w8", &passages).expect("tokens");
        let results = run(&mut engine, &prepared, &prune).expect("results");
        for ranked in ranking.results {
            let (found, prepared) = (&results[ranked.index], &prepared[ranked.index]);
            assert_eq!((found.logits[0].to_bits(), found.flops), (ranked.score.to_bits(), ranked.flops));
            assert_eq!((prepared.num_tokens(), prepared.truncated()), (ranked.num_tokens, ranked.truncated));
        }
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let model = tiny_bert();
    let error = |outcome: Result<Vec<Prepared>, Error>| outcome.err().expect("an error").to_string();
    assert_eq!(
        error(model.read(&[Input::Text("w9"), Input::Text(" ")])),
        "input 2: the text is empty, expected at least one word"
    );
    assert_eq!(error(model.read_passages("", &["w9"])), "the query: it is empty, expected at least one word");
    // Tokens of another model may have no embedding here.
    let mut engine = engine(&model, BACKENDS[0]);
    let dense = "dense".parse().expect("a rule");
    let foreign = tiny_bert().read(&[Input::Text("w9")]).expect("tokens");
    let mixed = [model.read(&[Input::Text("w9")]).expect("tokens"), foreign].concat();
    let outcome = run(&mut engine, &mixed, &dense).map(drop);
    assert_eq!(outcome, Err(Error::Input { index: 1, reason: "another model has made its tokens".to_owned() }));
    assert_eq!(run(&mut engine, &[], &dense).map(|results| results.len()), Ok(0));
}

#[test]
fn a_model_says_what_it_reads_and_which_rules_it_follows() {
    let mut files = tiny_files();
    let settings = json!({ "tokenizer_class": "BertTokenizer", "model_max_length": 100, "truncation_side": "left" });
    files.insert("tokenizer_config.json", settings.to_string().into_bytes());
    let cut = Model::from_bytes(files).expect("a model");
    assert_eq!((cut.max_tokens(), cut.info().max_tokens, cut.truncates_left()), (100, 100, true));
    let model = tiny_bert();
    assert_eq!((model.max_tokens(), model.truncates_left()), (max_tokens(&model), false));
    assert_eq!(tiny_vit().max_tokens(), tiny_vit().info().max_tokens);
    for (rule, fits) in [("dense", true), ("topk:0.5", true), ("topk:0.9,0.8,0.7,0.6", true), ("topk:0.9,0.8", false)] {
        assert_eq!(model.check_rule(&rule.parse().expect("a rule")).is_ok(), fits, "{rule}");
    }
}
