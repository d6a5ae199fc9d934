//! `sttabt serve`: the answers of its routes are what the library computes, and what it does not answer is said.

use std::ops::ControlFlow;
use std::thread;

use crate::command::http;
use crate::command::server::Server;
use crate::command::*;
use crate::common::edit::{check_rows, edit_config, save, scorer_files};
use crate::common::{classify_with, engine, fixture, load};
use serde_json::{Value, json};
use sttabt::{BackendKind, Input, Outputs, RankOptions, Ranking};

const CLASSIFIER: &str = "tests/fixtures/tiny-bert";
const MULTI_LABEL: &str = "tests/fixtures/families/bert-multilabel";
const EMBEDDER: &str = "tests/fixtures/families/bert-embed-cls";

const QUERY: &str = "w7 w8";
const TEXTS: [&str; 6] = ["w9 w10", "", "w12 w13 w14", "w15 w90", "w9 w10", "w11"];

/// The folder of a tiny scorer.
pub fn scorer(name: &str) -> String {
    let folder = scratch(name);
    save(&scorer_files(), &folder.join("model"));
    path(&folder.join("model"))
}

/// What the library makes of texts.
fn ranked(model: &str, query: &str, texts: &[&str], prune: &str) -> Ranking {
    let mut engine = engine(&load(model.as_ref()), BackendKind::Cpu);
    let options = RankOptions { prune: Some(prune.parse().expect("a rule")), ..RankOptions::default() };
    pollster::block_on(engine.rank(query, texts, &options, |_| ControlFlow::Continue(()))).expect("a ranking")
}

fn sigmoid(logit: f32) -> f32 {
    (1.0 / (1.0 + f64::from(-logit).exp())) as f32
}

fn f32_of(value: &Value) -> f32 {
    serde_json::from_value(value.clone()).expect("a number")
}

/// The answer to /rerank that a ranking makes, its numbers as they are printed.
fn expected_ranks(ranking: &Ranking, texts: Option<&[&str]>, raw: bool) -> Value {
    let rank = |result: &sttabt::RankedPassage| {
        let score = if raw { result.score } else { sigmoid(result.score) };
        match texts {
            Some(texts) => json!({ "index": result.index, "text": texts[result.index], "score": score }),
            None => json!({ "index": result.index, "score": score }),
        }
    };
    ranking.results.iter().map(rank).collect()
}

/// JSON of f32 as it was printed: `json!` widens to f64, whose digits are others.
fn same(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Array(found), Value::Array(expected)) => {
            found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| same(a, b))
        }
        (Value::Object(found), Value::Object(expected)) => {
            found.len() == expected.len()
                && found.iter().all(|(key, value)| expected.get(key).is_some_and(|other| same(value, other)))
        }
        (Value::Number(_), Value::Number(_)) => f32_of(found).to_bits() == f32_of(expected).to_bits(),
        _ => found == expected,
    }
}

fn assert_same(found: &Value, expected: &Value, what: &str) {
    assert!(same(found, expected), "{what}\nfound    {found}\nexpected {expected}");
}

#[test]
fn rerank_answers_what_the_library_ranks() {
    let model = scorer("serve_rerank");
    let server = Server::start(&model, &["--prune", "topk:0.5"]);
    let address = format!("is at http://127.0.0.1:{}: /rerank and /predict under topk:0.5 on cpu\n", server.port);
    assert_eq!(server.hello, format!("{model} {address}"));
    let long = "w9 ".repeat(200);
    let texts = [&TEXTS[..], &[&long]].concat();
    for (rule, prune) in [("topk:0.5", None), ("dense", Some("dense")), ("oracle:0.4", Some("oracle:0.4"))] {
        let ranking = ranked(&model, QUERY, &texts, rule);
        for raw in [false, true] {
            for with_text in [false, true] {
                let mut request =
                    json!({ "query": QUERY, "texts": texts, "raw_scores": raw, "return_text": with_text });
                if let Some(prune) = prune {
                    request["prune"] = json!(prune);
                }
                let expected = expected_ranks(&ranking, with_text.then_some(&texts[..]), raw);
                assert_same(&server.answer("/rerank", &request), &expected, &request.to_string());
            }
        }
    }
    // The defaults; and where clients know the address alone.
    let ranking = ranked(&model, QUERY, &TEXTS, "topk:0.5");
    let expected = expected_ranks(&ranking, None, false);
    for (route, more) in [("/rerank", json!({})), ("/", json!({ "truncate": null, "truncation_direction": "Right" }))] {
        let mut request = json!({ "query": QUERY, "texts": TEXTS });
        request.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        assert_same(&server.answer(route, &request), &expected, route);
    }
    // What a score is for `rank`, is not asked here.
    let mut files = scorer_files();
    edit_config(&mut files, |config| config["sbert_ce_default_activation_function"] = json!("torch.nn.Sigmoid"));
    let folder = scratch("serve_rerank_sigmoid");
    save(&files, &folder);
    let server = Server::start(&path(&folder), &["--prune", "topk:0.5"]);
    assert_same(&server.answer("/rerank", &json!({ "query": QUERY, "texts": TEXTS })), &expected, "sigmoid");
}

#[test]
fn predict_answers_what_the_library_classifies() {
    let score = scorer("serve_predict");
    for model in [CLASSIFIER, MULTI_LABEL, &score] {
        let loaded = load(&crate::common::root().join(model));
        let mut engine = engine(&loaded, BackendKind::Cpu);
        let outputs = Outputs { sigmoid: model == score, ..Outputs::default() };
        let inputs = [Input::Text("w9 w10 w11"), Input::Pair("w7 w8", "w9 w90")];
        let results = classify_with(&mut engine, &inputs, &"topk:0.5".parse().expect("a rule"), &outputs);
        let predictions = |at: usize, raw: bool| -> Value {
            let result = &results[at];
            let mut order: Vec<usize> = (0..result.logits.len()).collect();
            order.sort_by(|&a, &b| result.logits[b].total_cmp(&result.logits[a]));
            let scores = if raw { &result.logits } else { &result.probs };
            let labels = &loaded.config().labels;
            order.into_iter().map(|label| json!({ "score": scores[label], "label": labels[label] })).collect()
        };
        let server = Server::start(model, &["--prune", "topk:0.5"]);
        let (text, pair) = (json!("w9 w10 w11"), json!(["w7 w8", "w9 w90"]));
        let rows = [
            (text.clone(), predictions(0, false)),
            (json!([text]), predictions(0, false)),
            (pair.clone(), predictions(1, false)),
            (json!([[text]]), json!([predictions(0, false)])),
            (json!([[text], pair]), json!([predictions(0, false), predictions(1, false)])),
        ];
        for (inputs, expected) in rows {
            let found = server.answer("/predict", &json!({ "inputs": inputs }));
            assert_same(&found, &expected, &format!("{model}: {inputs}"));
        }
        let found = server.answer("/predict", &json!({ "inputs": [pair], "raw_scores": true, "parameters": {} }));
        assert_same(&found, &json!([predictions(1, true)]), model);
    }
}

#[test]
fn embed_answers_what_the_library_embeds() {
    let texts = ["a gripping film", "w"];
    let mut engine = engine(&load(&fixture("families/bert-embed-cls")), BackendKind::Cpu);
    let results =
        classify_with(&mut engine, &texts.map(Input::Text), &"topk:0.5".parse().expect("a rule"), &Outputs::default());
    let vectors: Vec<Vec<f32>> = results.into_iter().map(|result| result.embedding.expect("a vector")).collect();
    let server = Server::start(EMBEDDER, &["--prune", "topk:0.5"]);
    assert_same(&server.answer("/embed", &json!({ "inputs": texts })), &json!(vectors), "a list");
    let one = server.answer("/", &json!({ "inputs": texts[0], "normalize": true, "prompt_name": null }));
    assert_same(&one, &json!([vectors[0]]), "a string");
    let first = server.answer("/embed", &json!({ "inputs": texts, "dimensions": 5 }));
    for (found, vector) in first.as_array().expect("vectors").iter().zip(&vectors) {
        let length = vector[..5].iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let expected: Vec<f32> = vector[..5].iter().map(|value| (f64::from(*value) / length) as f32).collect();
        assert_same(found, &json!(expected), "the first numbers");
    }
    // Vectors that the model does not normalise.
    let folder = scratch("serve_embed");
    let mut files = crate::common::model_files(&fixture("families/bert-embed-cls"));
    let modules = r#"[{"type": "sentence_transformers.models.Transformer", "path": ""},
        {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]"#;
    files.insert("modules.json", modules.as_bytes().to_vec());
    save(&files, &folder);
    let server = Server::start(&path(&folder), &["--prune", "topk:0.5"]);
    let raw = server.answer("/embed", &json!({ "inputs": texts[0], "normalize": false }));
    let raw: Vec<f32> = serde_json::from_value(raw[0].clone()).expect("numbers");
    let length = raw.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    assert!((length - 1.0).abs() > 0.1, "{length}");
    let expected: Vec<f32> = raw.iter().map(|value| (f64::from(*value) / length) as f32).collect();
    assert_same(&server.answer("/embed", &json!({ "inputs": texts[0] })), &json!([expected]), "normalised here");
}

#[test]
fn what_a_server_is_stands_in_info() {
    let server = Server::start(CLASSIFIER, &["--prune", "topk:0.5", "--max-batch-tokens", "77"]);
    for path in ["/health", "/"] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
    }
    let info = server.get("/info").json();
    let all = "model_id model_sha model_dtype served_model_name model_type max_concurrent_requests max_input_length \
               max_batch_tokens max_batch_requests max_client_batch_size auto_truncate tokenization_workers version sha \
               docker_label prune backend";
    assert_eq!(keys(&info), all.split_whitespace().collect());
    assert_eq!(info["model_type"]["classifier"]["id2label"]["2"], "LABEL_2");
    assert_eq!(info["model_type"]["classifier"]["label2id"]["LABEL_2"], 2);
    assert_eq!((&info["max_batch_tokens"], &info["max_input_length"]), (&json!(77), &json!(160)));
    assert_eq!((&info["prune"], &info["backend"]["backend"]), (&json!("topk:0.5"), &json!("cpu")));
    let types = [(EMBEDDER, json!({ "embedding": { "pooling": "cls" } })), (&scorer("serve_info"), Value::Null)];
    for (model, expected) in types {
        let info = Server::start(model, &[]).get("/info").json();
        let found = if expected.is_null() { &info["model_type"]["reranker"]["id2label"] } else { &info["model_type"] };
        let expected = if expected.is_null() { json!({ "0": "score" }) } else { expected };
        assert_eq!(*found, expected);
    }
}

#[test]
fn metrics_count_what_happens() {
    let server = Server::start(&scorer("serve_metrics"), &["--prune", "topk:0.3"]);
    server.answer("/rerank", &json!({ "query": QUERY, "texts": TEXTS }));
    server.answer("/predict", &json!({ "inputs": "w9" }));
    assert_eq!(server.post("/rerank", &json!({ "query": QUERY, "texts": [] })).0, 400);
    assert_eq!(server.post("/embed", &json!({ "inputs": "w9" })).0, 424);
    for (name, value) in [
        ("te_request_count{method=\"rerank\"}", 2.0),
        ("te_request_count{method=\"predict\"}", 1.0),
        ("te_request_success{method=\"rerank\"}", 1.0),
        ("te_request_success{method=\"embed\"}", 0.0),
        ("te_request_failure{err=\"empty\"}", 1.0),
        ("te_request_failure{err=\"backend\"}", 1.0),
        ("te_request_duration_count", 2.0),
        ("te_request_duration_bucket{le=\"+Inf\"}", 2.0),
        ("te_request_queue_duration_count", 2.0),
        ("te_batch_next_size_sum", 7.0),
        ("te_batch_next_size_bucket{le=\"1\"}", 1.0),
        ("te_queue_size", 0.0),
    ] {
        assert_eq!(server.metric(name), value, "{name}");
    }
    assert!(server.metric("sttabt_flops") < server.metric("sttabt_dense_flops"));
    let answer = server.get("/metrics");
    assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    // Every line is a comment, or a name with a number.
    for line in String::from_utf8(answer.body).expect("UTF-8").lines() {
        let value = line.rsplit_once(' ').map(|(_, value)| value.parse::<f64>());
        assert!(line.starts_with("# ") || matches!(value, Some(Ok(_))), "{line}");
    }
}

const VALIDATION: &str = "Validation";

#[test]
fn what_is_not_answered_is_said() {
    let score = scorer("serve_refused");
    let server = Server::start(&score, &["--max-client-batch-size", "3", "--payload-limit", "1000"]);
    let long = "w9 ".repeat(200);
    let (json_type, rerank) = ("Content-Type: application/json\r\n", "/rerank");
    let ok = json!({ "query": "w7", "texts": ["w9"] }).to_string();
    let with = |key: &str, value: Value| {
        let mut request = json!({ "query": "w7", "texts": ["w9"] });
        request[key] = value;
        request.to_string()
    };
    let fields = "`query`, `texts`, `raw_scores`, `return_text`, `truncate`, `truncation_direction`, `prune`";
    let unknown =
        |name: &str, at: usize| format!("unknown field `{name}`, expected one of {fields} at line 1 column {at}");
    let predict_form =
        "expected a string, a pair [string, string], or a list of several [[string], [string, string], …]";
    let rows: Vec<(&str, &str, &str, String, u16, &str, String)> = vec![
        ("POST", "/nothing", json_type, ok.clone(), 404, VALIDATION, "there is no /nothing; this model has POST /rerank and POST /predict".into()),
        ("GET", rerank, "", String::new(), 405, VALIDATION, "/rerank is not answered to GET: see the header `Allow`".into()),
        ("POST", "/metrics", json_type, ok.clone(), 405, VALIDATION, "/metrics is not answered to POST: see the header `Allow`".into()),
        ("POST", rerank, "", ok.clone(), 415, VALIDATION, "expected the header `Content-Type: application/json`".into()),
        ("POST", rerank, "Content-Type: text/plain\r\n", ok.clone(), 415, VALIDATION, "expected the header `Content-Type: application/json`".into()),
        ("POST", rerank, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", ok.clone(), 415, VALIDATION, "`Content-Encoding: gzip` is not read: send the JSON as it is".into()),
        ("POST", rerank, json_type, "{".into(), 400, VALIDATION, "the body is no JSON: EOF while parsing an object at line 1 column 1".into()),
        ("POST", rerank, json_type, "\u{0}\u{1}".into(), 400, VALIDATION, "the body is no JSON: expected value at line 1 column 1".into()),
        ("POST", rerank, json_type, String::new(), 400, VALIDATION, "the body is no JSON: EOF while parsing a value at line 1 column 0".into()),
        ("POST", rerank, json_type, "[".repeat(900), 422, VALIDATION, "invalid type: sequence, expected a string at line 1 column 1".into()),
        ("POST", rerank, json_type, "{}".into(), 422, VALIDATION, "missing field `query` at line 1 column 2".into()),
        ("POST", rerank, json_type, with("texts", json!("w9")), 422, VALIDATION, "invalid type: string \"w9\", expected a sequence at line 1 column 26".into()),
        ("POST", rerank, json_type, with("top_n", json!(1)), 422, VALIDATION, unknown("top_n", 36)),
        ("POST", rerank, json_type, with("raw_scores", json!("yes")), 422, VALIDATION, "invalid type: string \"yes\", expected a boolean at line 1 column 32".into()),
        ("POST", rerank, json_type, with("truncation_direction", json!("Left")), 422, VALIDATION, "`truncation_direction` is `Left`, expected `Right`: long texts of this model lose their end".into()),
        ("POST", rerank, json_type, with("truncation_direction", json!("up")), 422, VALIDATION, "unknown variant `up`, expected one of `Left`, `left`, `Right`, `right` at line 1 column 56".into()),
        ("POST", rerank, json_type, with("prune", json!("topk:2")), 422, VALIDATION, "`prune`: rule `topk:2`: ratio 2 is out of range, expected 0 < ratio <= 1".into()),
        ("POST", rerank, json_type, with("prune", json!("auto")), 422, VALIDATION, "`prune`: `auto` is not served; name a rule, for example topk:0.5".into()),
        ("POST", rerank, json_type, with("prune", json!("topk:0.5,0.4")), 422, VALIDATION, "`prune`: rule".into()),
        ("POST", rerank, json_type, with("texts", json!([])), 400, "Empty", "`texts` is empty, expected at least one text".into()),
        ("POST", rerank, json_type, with("query", json!(" ")), 400, "Empty", "`query` is empty, expected at least one word".into()),
        ("POST", rerank, json_type, with("texts", json!(["a", "b", "c", "d"])), 422, VALIDATION, "`texts` has 4 texts, and a request may have 3 (the server's --max-client-batch-size)".into()),
        ("POST", rerank, json_type, with("query", json!(long)), 422, "Tokenizer", "the query: 200 tokens and 3 special ones leave no room for a passage in the 160 that the model reads; shorten it to 156 tokens or fewer".into()),
        ("POST", rerank, json_type, json!({ "query": "w7", "texts": ["w9", long], "truncate": false }).to_string(), 422, VALIDATION, "passage 2 has more tokens than the 160 that the model reads at once; shorten it, or have it cut with `truncate`".into()),
        ("POST", rerank, json_type, " ".repeat(1001), 413, VALIDATION, "the body has more than 1000 bytes (the server's --payload-limit)".into()),
        ("POST", rerank, json_type, " ".repeat(7_000), 413, VALIDATION, "the body has more than 1000 bytes (the server's --payload-limit)".into()),
        ("POST", "/predict", json_type, "{\"inputs\": []}".into(), 422, VALIDATION, format!("invalid length 0, {predict_form} at line 1 column 13")),
        ("POST", "/predict", json_type, "{\"inputs\": [\"a\", \"b\", \"c\"]}".into(), 422, VALIDATION, format!("invalid length 3, {predict_form} at line 1 column 26")),
        ("POST", "/predict", json_type, "{\"inputs\": [[\"a\"], \"b\"]}".into(), 422, VALIDATION, "invalid type: string \"b\", expected a sequence at line 1 column 22".into()),
        ("POST", "/predict", json_type, "{\"inputs\": [[\"w9\"], [\" \", \"\"]]}".into(), 400, "Empty", "input 2 is empty, expected at least one word".into()),
        ("POST", "/predict", json_type, "{\"inputs\": [[\"w9\"], [\"w9\", \"\"]]}".into(), 422, "Tokenizer", "input 2: the second text is empty, expected at least one word".into()),
        ("POST", "/embed", json_type, "{\"inputs\": \"a\"}".into(), 424, "Backend", "/embed: this model gives a score, and no vectors; this model has POST /rerank and POST /predict".into()),
    ];
    check_rows(rows.into_iter().map(|(method, route, headers, body, status, kind, text)| {
        let what = format!("{method} {route} {headers:?} {}", &body[..body.len().min(60)]);
        let answer = server.ask(method, route, headers, body.as_bytes());
        if status == 405 {
            assert!(answer.header("Allow").is_some(), "{}", answer.headers);
        }
        let json = answer.json();
        assert_eq!(keys(&json), names("error error_type"));
        let mut error = json["error"].as_str().expect("a text").to_owned();
        if text.ends_with(": rule") {
            error.truncate(text.len());
        }
        let found = format!("{} {} {error}", answer.status, json["error_type"].as_str().expect("a type"));
        (what, found, format!("{status} {kind} {text}"))
    }));
    let rows = [
        (
            CLASSIFIER,
            rerank,
            "/rerank: this model gives 5 labels, and neither one score nor vectors; this model has POST /predict",
        ),
        (
            EMBEDDER,
            "/predict",
            "/predict: this model gives vectors, and neither scores nor labels; this model has POST /embed",
        ),
    ];
    for (model, route, expected) in rows {
        let (status, answer) = Server::start(model, &[]).post(route, &json!({ "inputs": "a" }));
        assert_eq!((status, &answer), (424, &json!({ "error": expected, "error_type": "Backend" })));
    }
    let server = Server::start(EMBEDDER, &["--auto-truncate", "false"]);
    for (request, expected) in [
        (json!({ "inputs": [1, 2] }), "invalid type: integer `1`, expected a string at line 1 column 12"),
        (
            json!({ "inputs": 1 }),
            "invalid type: integer `1`, expected a string or a list of strings (token ids are not read) at line 1 column 11",
        ),
        (
            json!({ "inputs": "a", "normalize": false }),
            "`normalize` is false, and the vectors of this model have the length 1 by its files: leave it out",
        ),
        (
            json!({ "inputs": "a", "parameters": { "top_k": 1 } }),
            "unknown field `top_k`, there are no fields at line 1 column 35",
        ),
        (json!({ "inputs": "a", "dimensions": 49 }), "`dimensions` is 49, expected 1 to 48"),
        (
            json!({ "inputs": "a", "prompt_name": "query" }),
            "`prompt_name` is not supported: write the prompt before each text (the model's default prompt is there already)",
        ),
        (
            json!({ "inputs": ["a", "word ".repeat(200)] }),
            "input 2 has more tokens than the 128 that the model reads at once; shorten it, or have it cut with `truncate`",
        ),
    ] {
        let (status, answer) = server.post("/embed", &request);
        assert_eq!((status, answer), (422, json!({ "error": expected, "error_type": VALIDATION })), "{request}");
    }
    let cut = server.answer("/embed", &json!({ "inputs": "word ".repeat(200), "truncate": true }));
    assert_eq!(cut[0].as_array().map(Vec::len), Some(48));
}

#[test]
fn what_cannot_be_served_is_said_at_the_start() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let images = "tests/fixtures/tiny-vit";
    let rows: [(&str, &[&str], String); 5] = [
        (CLASSIFIER, &["--port", &port], format!("1 error: port {port} is in use; give another with --port")),
        (images, &["--port", "0"], format!("1 error: {images}: a model of images, and `serve` answers requests with texts")),
        (CLASSIFIER, &["--port", "0", "--prune", "auto"], "2 error: invalid value 'auto' for '--prune <RULE>': `auto` is for `classify`; name a rule, for example topk:0.5".to_owned()),
        (CLASSIFIER, &["--port", "0", "--request-seconds", "0"], "2 error: invalid value '0' for '--request-seconds <N>': 0 is not in 1..=4294967295".to_owned()),
        ("nowhere", &["--port", "0"], "1 error: no model folder at nowhere (given by --model): nothing is downloaded here; if this is a model of the hub, run `hf download nowhere --local-dir DIR` and name DIR".to_owned()),
    ];
    check_rows(rows.into_iter().map(|(model, args, expected)| {
        (format!("{args:?}"), run(with_model(model, "serve", args)).failure(), expected)
    }));
}

/// Many clients at once, of several rules and sizes: each has its own answer, and they are computed together.
#[test]
fn clients_at_once_have_their_own_answers() {
    let model = scorer("serve_many");
    let server = Server::start(
        &model,
        &["--max-batch-tokens", "1024", "--max-client-batch-size", "100000", "--payload-limit", "50000000"],
    );
    let rules = ["dense", "topk:0.5", "topk:0.3", "oracle:0.4"];
    let texts_of = |client: usize| -> Vec<String> {
        let words = |text: usize| {
            (0..1 + (client * 7 + text * 5) % 40)
                .map(move |word| format!("w{}", 5 + (client + text * 3 + word * 11) % 90))
        };
        (0..1 + client % 13).map(|text| words(text).collect::<Vec<String>>().join(" ")).collect()
    };
    // Those who come while this is computed wait together.
    let long = "w9 w10 w11 w12 w13 ".repeat(25);
    let first = server.begin_post("/rerank", &json!({ "query": QUERY, "texts": vec![&long; 600], "prune": "dense" }));
    server.wait_for("te_queue_size", 1.0);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..32)
            .map(|client| {
                let (server, rule, texts) = (&server, rules[client % 4], texts_of(client));
                scope.spawn(move || {
                    let request = json!({ "query": format!("w{}", 5 + client), "texts": texts, "prune": rule, "raw_scores": true });
                    server.answer("/rerank", &request)
                })
            })
            .collect();
        for (client, answer) in clients.into_iter().enumerate() {
            let (found, texts) = (answer.join().expect("an answer"), texts_of(client));
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let ranking = ranked(&model, &format!("w{}", 5 + client), &texts, rules[client % 4]);
            assert_same(&found, &expected_ranks(&ranking, None, true), &format!("client {client}"));
        }
    });
    let ranks = http::receive(first).json();
    assert_eq!(ranks.as_array().map(Vec::len), Some(600));
    let (num_inputs, num_runs) = (server.metric("te_batch_next_size_sum"), server.metric("te_batch_next_size_count"));
    let num_own = (0..32).map(|client| texts_of(client).len()).sum::<usize>();
    assert_eq!(num_inputs, (600 + num_own) as f64);
    // The first one's pairs have 129 tokens, seven to a run: one more would be too many.
    assert!(num_runs < 86.0 + 32.0, "{num_runs} runs of {num_inputs} inputs");
    assert_eq!(server.metric("te_batch_next_tokens_bucket{le=\"1024\"}"), num_runs, "no run is larger than asked");
}
