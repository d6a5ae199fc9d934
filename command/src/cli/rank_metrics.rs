//! The metrics of rankings, as trec_eval computes them.

use std::collections::BTreeMap;

/// Places that nDCG and MRR look at.
const FIRST: usize = 10;

/// What the judges say of a query's passages, by their names.
pub type Judgements = BTreeMap<String, i64>;

/// The metrics of one query whose passages come in this order. `relevant` is the least grade that MRR and recall take for relevant.
pub fn metrics(order: &[&str], judgements: &Judgements, relevant: i64) -> BTreeMap<&'static str, f64> {
    let grades: Vec<i64> = order.iter().map(|passage| judgements.get(*passage).copied().unwrap_or(0)).collect();
    BTreeMap::from([
        ("ndcg@10", ndcg(&grades, judgements)),
        ("mrr@10", reciprocal_rank(&grades, relevant)),
        ("recall@10", recall(&grades, judgements, relevant, 10)),
        ("recall@100", recall(&grades, judgements, relevant, 100)),
    ])
}

/// Gain is the grade itself, and the best order is that of all judged passages, found or not. A query without gain has 0.
fn ndcg(grades: &[i64], judgements: &Judgements) -> f64 {
    let mut best: Vec<i64> = judgements.values().copied().collect();
    best.sort_unstable_by(|a, b| b.cmp(a));
    let ideal = discounted(&best);
    if ideal > 0.0 { discounted(grades) / ideal } else { 0.0 }
}

/// Grades below 0 are none, as those of junk.
fn discounted(grades: &[i64]) -> f64 {
    let gains = grades.iter().take(FIRST).map(|&grade| grade.max(0) as f64);
    gains.zip(1u32..).map(|(gain, rank)| gain / f64::from(rank + 1).log2()).sum()
}

/// One divided by the place of the first relevant passage; 0 where the first ten have none.
fn reciprocal_rank(grades: &[i64], relevant: i64) -> f64 {
    let place = grades.iter().take(FIRST).position(|&grade| grade >= relevant);
    place.map_or(0.0, |place| 1.0 / (place + 1) as f64)
}

/// The share of all relevant passages that stands among the first ones.
fn recall(grades: &[i64], judgements: &Judgements, relevant: i64, first: usize) -> f64 {
    let count = |grades: &mut dyn Iterator<Item = &i64>| grades.filter(|grade| **grade >= relevant).count() as f64;
    let all = count(&mut judgements.values());
    if all > 0.0 { count(&mut grades.iter().take(first)) / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(grades: &[(&str, i64)]) -> Judgements {
        grades.iter().map(|(name, grade)| ((*name).to_owned(), *grade)).collect()
    }

    fn check(order: &[&str], judgements: &Judgements, relevant: i64, expected: [f64; 4]) {
        let found = metrics(order, judgements, relevant);
        let found = ["ndcg@10", "mrr@10", "recall@10", "recall@100"].map(|name| found[name]);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{order:?}: {found}, expected {expected}");
        }
    }

    /// Worked by hand: gains 0, 3, 0 (not judged), 1; the best order of all judged passages is 3, 2, 1.
    #[test]
    fn grades_are_gains_and_all_judged_passages_are_the_ideal() {
        let judgements = judged(&[("a", 0), ("b", 3), ("c", 2), ("d", 1), ("junk", -2)]);
        let dcg = 3.0 / 3f64.log2() + 1.0 / 5f64.log2();
        let ideal = 3.0 + 2.0 / 3f64.log2() + 1.0 / 2.0;
        check(&["a", "b", "unknown", "d"], &judgements, 1, [dcg / ideal, 0.5, 2.0 / 3.0, 2.0 / 3.0]);
        check(&["a", "b", "unknown", "d"], &judgements, 2, [dcg / ideal, 0.5, 0.5, 0.5]);
        check(&["b", "c", "d", "a"], &judgements, 1, [1.0, 1.0, 1.0, 1.0]);
        // A grade below 0 takes nothing away.
        check(&["junk", "b"], &judgements, 1, [3.0 / 3f64.log2() / ideal, 0.5, 1.0 / 3.0, 1.0 / 3.0]);
    }

    #[test]
    fn what_comes_after_the_tenth_place_counts_for_recall_at_100_alone() {
        let judgements = judged(&[("good", 2)]);
        let mut order: Vec<String> = (0..99).map(|place| format!("other{place}")).collect();
        let at = |order: &[String], place: usize| -> [f64; 4] {
            let mut order: Vec<&str> = order.iter().map(String::as_str).collect();
            order.insert(place, "good");
            let found = metrics(&order, &judgements, 1);
            ["ndcg@10", "mrr@10", "recall@10", "recall@100"].map(|name| found[name])
        };
        assert_eq!(at(&order, 9), [1.0 / 11f64.log2(), 0.1, 1.0, 1.0]);
        assert_eq!(at(&order, 10), [0.0, 0.0, 0.0, 1.0]);
        order.extend((99..200).map(|place| format!("other{place}")));
        assert_eq!(at(&order, 100), [0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_query_without_relevant_passages_has_0() {
        check(&["a"], &judged(&[("a", 0), ("b", -1)]), 1, [0.0; 4]);
        check(&["a"], &judged(&[]), 1, [0.0; 4]);
        check(&[], &judged(&[("a", 1)]), 1, [0.0; 4]);
        // A grade of 1 is gain, but not relevant where 2 is asked for.
        check(&["a"], &judged(&[("a", 1)]), 2, [1.0, 0.0, 0.0, 0.0]);
    }
}
