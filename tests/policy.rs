//! `auto`: the policy measures with its caller's clock, and a batch gets the rule that it chose.

use std::cell::Cell;

use crate::common::{classify, deit_tiny, engine, tiny_bert, tiny_vit};
use sttabt::{BackendKind, Engine, Input, Model, Outputs, Picture, Policy, Prune};

/// The runs between two looks at the clock come in turn: dense on the small and the large input, then the rule on both.
fn measured(engine: &mut Engine, prune: &Prune, ms: [f64; 4]) -> Policy {
    let (looks, now) = (Cell::new(0), Cell::new(0.0));
    let clock = || {
        // Every second look ends a run. The first round warms up and must not count.
        if looks.get() % 2 == 1 {
            // Of the others the fastest counts, which is neither the first nor the last.
            let slowness = [1e6, 2.0, 1.0, 3.0][looks.get() / 8];
            now.set(now.get() + slowness * ms[looks.get() / 2 % 4]);
        }
        looks.set(looks.get() + 1);
        now.get()
    };
    pollster::block_on(engine.measure_policy(prune, &clock)).expect("a policy")
}

fn check(model: &Model, inputs: &[Input<'_>]) {
    let prune = Prune::top_k(0.5).expect("a ratio");
    let mut engine = engine(model, BackendKind::Cpu);
    for (ms, expected) in [([3.0, 9.0, 2.0, 5.0], &prune), ([2.0, 9.0, 3.0, 11.0], &Prune::Dense)] {
        let policy = measured(&mut engine, &prune, ms);
        assert_eq!(policy.prune(), &prune);
        let outcome = pollster::block_on(engine.classify_by(&policy, inputs, &Outputs::default()));
        let (decision, results) = outcome.expect("results");
        assert_eq!(decision.prune, *expected, "{ms:?}: {decision:?}");
        assert_eq!(decision.pruned_ms < decision.dense_ms, *expected == prune, "{decision:?}");
        assert_eq!(results, classify(&mut engine, inputs, expected));
    }
}

#[test]
fn texts_get_the_faster_rule() {
    check(&tiny_bert(), &[Input::Text("w51 w41 w11 w19 w70"), Input::Pair("w7 w8", "w9")]);
}

#[test]
fn images_get_the_faster_rule() {
    let picture =
        Picture::from_rgb(48, 48, (0..48 * 48 * 3).map(|value| (value % 251) as u8).collect()).expect("pixels");
    check(&tiny_vit(), &[Input::Image(&picture), Input::Image(&picture)]);
}

/// The times at the measured sizes are those that were measured.
#[test]
fn what_was_measured_is_predicted() {
    let model = deit_tiny();
    let dense_flops = model.config().encoder_size().dense(197);
    let mut engine = engine(&model, BackendKind::Cpu);
    let policy = measured(&mut engine, &Prune::Concrete, [4.0, 10.0, 5.0, 8.0]);
    for (num_images, dense_ms, pruned_ms) in [(1, 4.0, 5.0), (3, 10.0, 8.0), (5, 16.0, 11.0)] {
        let decision = policy.decide(num_images * dense_flops);
        assert!(
            (decision.dense_ms - dense_ms).abs() < 1e-9 && (decision.pruned_ms - pruned_ms).abs() < 1e-9,
            "{decision:?}"
        );
    }
}
