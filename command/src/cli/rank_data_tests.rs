//! Sets that are read, and what is said of broken ones.

use super::*;

const QUERIES: &str = "qid\tquery\nq1\tone film\nq2\ttwo \"films\n";
const CANDIDATES: &str =
    "qid\tpid\trank\tgrade\tpassage\nq2\ta\t1\t0\tx\nq1\tb\t2\t1\tsecond \"one\nq1\ta\t1\t0\tfirst\r\nq1\tc\t3\t0\t\n";
const QRELS: &str = "qid\tpid\tgrade\nq1\ta\t2\nq1\tz\t-1\nelsewhere\ta\t1\nq2\ta\t0\n";

/// A folder of its own for each test.
fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("sttabt-rank-data-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.join(name), text).expect("a file");
    }
    folder
}

#[test]
fn sets_are_read_in_the_order_of_ranks() {
    let files = [
        ("b.queries.tsv", QUERIES),
        ("b.candidates.tsv", CANDIDATES),
        ("b.qrels.tsv", QRELS),
        ("a.queries.tsv", "query\tqid\nfilm\tr\nfilm\tq\nfilm\ts\n"),
        ("a.candidates.tsv", "passage\tqid\tpid\trank\nx\tq\ta\t7\nx\tr\ta\t7\n"),
        ("a.qrels.tsv", "qid\tpid\tgrade\nq\ta\t1\ns\ta\t1\n"),
        ("notes.txt", "nothing"),
    ];
    let folder = folder("whole", &files);
    let sets = read(&folder, None).unwrap_or_else(|_| panic!("sets"));
    assert_eq!(sets.iter().map(|set| set.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let texts = |query: &RankQuery| -> Vec<String> {
        query.passages.iter().map(|passage| format!("{}: {} {}", passage.line, passage.name, passage.text)).collect()
    };
    assert_eq!(texts(&sets[1].queries[0]), ["4: a first", "3: b second \"one", "5: c "]);
    assert_eq!(sets[1].queries[1].text, "two \"films");
    let judged: Judgements = [("a".to_owned(), 2), ("z".to_owned(), -1)].into();
    assert_eq!(sets[1].queries[0].judgements, judged);
    assert_eq!((&sets[0].unjudged, &sets[0].without_candidates), (&vec!["r".to_owned()], &vec!["s".to_owned()]));
    // One that can be measured: the first of `a` is not judged.
    let lengths: Vec<usize> =
        read(&folder, Some(1)).unwrap_or_else(|_| panic!("sets")).iter().map(|set| set.queries.len()).collect();
    assert_eq!(lengths, [1, 1]);
    std::fs::remove_dir_all(folder).expect("the folder");
}

#[test]
fn broken_files_are_named_with_their_line() {
    let rows: [(&str, [Option<&str>; 3], &str); 17] = [
        (
            "no set",
            [None, None, None],
            ": no set to rank, expected NAME.queries.tsv, NAME.candidates.tsv and NAME.qrels.tsv",
        ),
        (
            "no judgements",
            [Some(QUERIES), Some(CANDIDATES), None],
            "/t.qrels.tsv: missing beside t.queries.tsv, expected t.candidates.tsv and t.qrels.tsv",
        ),
        (
            "no candidates",
            [Some(QUERIES), None, Some(QRELS)],
            "/t.candidates.tsv: missing beside t.queries.tsv, expected t.candidates.tsv and t.qrels.tsv",
        ),
        (
            "empty",
            [Some(""), Some(CANDIDATES), Some(QRELS)],
            "/t.queries.tsv, line 1: no column `qid`, expected a header with `qid`, `query`, separated by tabs",
        ),
        (
            "no header",
            [Some(QUERIES), Some("q1\ta\t1\tx\n"), Some(QRELS)],
            "/t.candidates.tsv, line 1: no column `qid`, expected a header with `qid`, `pid`, `rank`, `passage`, separated by tabs",
        ),
        (
            "no column",
            [Some(QUERIES), Some(CANDIDATES), Some("qid\tpid\n")],
            "/t.qrels.tsv, line 1: no column `grade`, expected a header with `qid`, `pid`, `grade`, separated by tabs",
        ),
        (
            "short row",
            [Some(QUERIES), Some("qid\tpid\trank\tpassage\nq1\ta\t1\n"), Some(QRELS)],
            "/t.candidates.tsv, line 2: 3 columns, expected 4 as in the header",
        ),
        (
            "a tab in a passage",
            [Some(QUERIES), Some("qid\tpid\trank\tpassage\nq1\ta\t1\tx\ty\n"), Some(QRELS)],
            "/t.candidates.tsv, line 2: 5 columns, expected 4 as in the header",
        ),
        (
            "no rank",
            [Some(QUERIES), Some("qid\tpid\trank\tpassage\nq1\ta\t\tx\n"), Some(QRELS)],
            "/t.candidates.tsv, line 2: `rank` is empty",
        ),
        (
            "a rank in words",
            [Some(QUERIES), Some("qid\tpid\trank\tpassage\nq1\ta\tfirst\tx\n"), Some(QRELS)],
            "/t.candidates.tsv, line 2: `rank` is `first`, expected a whole number",
        ),
        (
            "a rank twice",
            [Some(QUERIES), Some("qid\tpid\trank\tpassage\nq1\ta\t1\tx\n\nq1\tb\t1\tx\n"), Some(QRELS)],
            "/t.candidates.tsv, line 4: rank 1 of query `q1` is there twice, first in line 2",
        ),
        (
            "a passage twice",
            [Some(QUERIES), Some("qid\tpid\trank\tpassage\nq1\ta\t1\tx\nq1\ta\t2\tx\n"), Some(QRELS)],
            "/t.candidates.tsv, line 3: passage `a` of query `q1` is there twice, first in line 2",
        ),
        (
            "an unknown query",
            [Some(QUERIES), Some("qid\tpid\trank\tpassage\nq9\ta\t1\tx\n"), Some(QRELS)],
            "/t.candidates.tsv, line 2: query `q9` is not in DIR/t.queries.tsv",
        ),
        (
            "a query twice",
            [Some("qid\tquery\nq1\tx\nq1\ty\n"), Some(CANDIDATES), Some(QRELS)],
            "/t.queries.tsv, line 3: query `q1` is there twice, first in line 2",
        ),
        (
            "a grade in words",
            [Some(QUERIES), Some(CANDIDATES), Some("qid\tpid\tgrade\nq1\ta\t1\nq1\tb\tgood\n")],
            "/t.qrels.tsv, line 3: `grade` is `good`, expected a whole number",
        ),
        (
            "judged twice",
            [Some(QUERIES), Some(CANDIDATES), Some("qid\tpid\tgrade\nq1\ta\t1\nq1\ta\t2\n")],
            "/t.qrels.tsv, line 3: passage `a` of query `q1` is judged twice, expected one grade",
        ),
        (
            "nothing judged",
            [Some(QUERIES), Some(CANDIDATES), Some("qid\tpid\tgrade\n")],
            "/t.queries.tsv: no query has both candidates and judgements",
        ),
    ];
    for (index, (what, files, expected)) in rows.into_iter().enumerate() {
        let names = ["t.queries.tsv", "t.candidates.tsv", "t.qrels.tsv"];
        let files: Vec<(&str, &str)> =
            names.into_iter().zip(files).filter_map(|(name, text)| Some((name, text?))).collect();
        let folder = folder(&format!("broken{index}"), &files);
        let found = match read(&folder, None) {
            Err(Failure::Error(message)) => message,
            _ => "no error".to_owned(),
        };
        let path = folder.display().to_string();
        assert_eq!(found, format!("{path}{}", expected.replace("DIR", &path)), "{what}");
        std::fs::remove_dir_all(folder).expect("the folder");
    }
}
