//! `sttabt serve`: the requests of text-embeddings-inference over HTTP, computed together where they come together.

mod asked;
mod body;
mod connections;
mod metrics;
mod queue;
mod refusal;
mod requests;
mod service;
mod worker;

use std::io::{self, ErrorKind, Write};
use std::net::TcpListener;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use serde_json::{Map, Value, json};
use sttabt::{Engine, Error, InputConfig, Outputs, PoolingMode, Prune, RankOptions, Task};
use tokio::runtime;
use tokio::sync::oneshot::{self, error::RecvError};
use tokio::time::timeout;

use super::args::ServeArgs;
use super::model_dir::{Kind, find, load};
use super::{Failure, Result, default_rule, note, open_engine, visible};
use asked::{Defaults, Route};
use body::Memory;
use metrics::Metrics;
use queue::Queue;
use service::Service;

/// As shells report an interrupted process.
const INTERRUPTED: i32 = 130;
/// Bodies of all requests together, or four of the largest ones.
const MAX_BODY_BYTES: usize = 64 << 20;
/// Tokens of all waiting requests together; each takes 8 bytes.
const MAX_TOKENS: usize = 4 << 20;
/// Threads that make tokens.
const MAX_READERS: usize = 4;
/// For answers that say why there are none.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves until a signal.
pub fn run(args: &ServeArgs) -> Result<()> {
    // A port in use is known before a model is read.
    let listener = bind(&args.host, args.port)?;
    let address = listener.local_addr().map_err(|error| unusable(&error))?;
    let folder = find(&args.model, Kind::Text)?;
    let model = load(&folder)?;
    if let InputConfig::Image(_) = model.config().input {
        let folder = folder.display();
        return Err(Failure::Error(format!("{folder}: a model of images, and `serve` answers requests with texts")));
    }
    let prune = args.prune.clone().map_or_else(|| default_rule(&model), Ok)?;
    model.check_rule(&prune)?;
    let mut engine = open_engine(&model, &args.device)?;
    let (routes, others) = warm_up(&mut engine, &prune)?;
    let max_batch_tokens = args.max_batch_tokens.map_or_else(|| engine.group_tokens(), |most| most as usize);
    let queue = Arc::new(Queue::new(args.max_concurrent_requests as usize, MAX_TOKENS));
    let metrics = Arc::new(Metrics::default());
    let names: Vec<String> = routes.iter().map(|route| format!("/{}", route.name())).collect();
    let device = engine.backend();
    let device = if device.backend == "cpu" { "cpu".to_owned() } else { format!("gpu ({})", device.adapter) };
    let folder = folder.display().to_string();
    let hello = format!("{folder} is at http://{address}: {} under {prune} on {device}", names.join(" and "));
    let readers = available_parallelism().map_or(1, NonZero::get).min(MAX_READERS);
    let service = Arc::new(Service {
        info: info(&engine, &folder, args, &prune, max_batch_tokens, readers).to_string(),
        defaults: Defaults { prune, truncate: args.auto_truncate, max_inputs: args.max_client_batch_size as usize },
        queue: Arc::clone(&queue),
        metrics: Arc::clone(&metrics),
        unfinished: AtomicUsize::new(0),
        routes,
        others,
        bodies: Memory::new(MAX_BODY_BYTES.max(4 * args.payload_limit as usize)),
        max_body_bytes: args.payload_limit as usize,
        client_time: Duration::from_secs(args.client_seconds.into()),
        request_time: Duration::from_secs(args.request_seconds.into()),
        model,
    });
    let runtime = runtime::Builder::new_current_thread().enable_all().max_blocking_threads(readers).build();
    let runtime = runtime.map_err(|error| unusable(&error))?;
    let ended =
        worker::start(engine, Arc::clone(&queue), metrics, max_batch_tokens).map_err(|error| unusable(&error))?;
    let drain_time = Duration::from_secs(args.drain_seconds.into());
    let max_requests = args.max_concurrent_requests as usize;
    let outcome = runtime.block_on(serve(listener, service, ended, max_requests, drain_time, &hello));
    queue.close();
    // A reader that still makes tokens for nobody is not waited for.
    runtime.shutdown_background();
    outcome
}

fn bind(host: &str, port: u16) -> Result<TcpListener> {
    let failure = |error: io::Error| match error.kind() {
        ErrorKind::AddrInUse => Failure::Error(format!("port {port} is in use; give another with --port")),
        _ => Failure::Error(format!("cannot listen at {}, port {port}: {error}", visible(host))),
    };
    let listener = TcpListener::bind((host, port)).map_err(failure)?;
    listener.set_nonblocking(true).map_err(failure)?;
    Ok(listener)
}

fn unusable(error: &io::Error) -> Failure {
    Failure::Error(format!("cannot serve: {error}"))
}

/// A first run, after which a device has all it needs; what the model answers, and why nothing else.
fn warm_up(engine: &mut Engine, prune: &Prune) -> Result<(Vec<Route>, String)> {
    let model = engine.model().clone();
    let mut routes = asked::routes(&model);
    let mut others = match (model.config().task, model.config().labels.len()) {
        (Task::Embedding, _) => "this model gives vectors, and neither scores nor labels".to_owned(),
        (_, 1) => "this model gives a score, and no vectors".to_owned(),
        (_, count) => format!("this model gives {count} labels, and neither one score nor vectors"),
    };
    if routes.contains(&Route::Rerank) {
        let options = RankOptions { prune: Some(prune.clone()), ..RankOptions::default() };
        let ranking = engine.rank("a", &["a"], &options, |_| ControlFlow::Continue(()));
        match pollster::block_on(ranking) {
            // Its score is none that can be computed, but its label is.
            Err(error @ Error::Unsupported { .. }) => {
                routes.retain(|route| *route != Route::Rerank);
                others = error.to_string();
            }
            outcome => drop(outcome?),
        }
    } else {
        let inputs = model.read(&[sttabt::Input::Text("a")])?;
        pollster::block_on(engine.run(&inputs, prune, &Outputs::default()))?;
    }
    Ok((routes, others))
}

/// What text-embeddings-inference says at `/info`, and what there is besides.
fn info(
    engine: &Engine,
    folder: &str,
    args: &ServeArgs,
    prune: &Prune,
    max_batch_tokens: usize,
    readers: usize,
) -> Value {
    let (model, config) = (engine.model(), engine.model().config());
    let labels = config.labels.iter().enumerate();
    let by_index: Map<String, Value> = labels.clone().map(|(index, label)| (index.to_string(), json!(label))).collect();
    let by_label: Map<String, Value> = labels.map(|(index, label)| (label.clone(), json!(index))).collect();
    let labels = json!({ "id2label": by_index, "label2id": by_label });
    let model_type = match (model.pooling(), config.labels.len()) {
        (Some(pooling), _) => {
            let pooling = match pooling.mode {
                PoolingMode::Mean => "mean",
                PoolingMode::Cls => "cls",
            };
            json!({ "embedding": { "pooling": pooling } })
        }
        (None, 1) => json!({ "reranker": labels }),
        (None, _) => json!({ "classifier": labels }),
    };
    let dtype = match model.weights_dtype() {
        "f32" => "float32",
        "f16" => "float16",
        "bf16" => "bfloat16",
        other => other,
    };
    json!({
        "model_id": folder,
        "model_sha": null,
        "model_dtype": dtype,
        "served_model_name": folder,
        "model_type": model_type,
        "max_concurrent_requests": args.max_concurrent_requests,
        "max_input_length": model.max_tokens(),
        "max_batch_tokens": max_batch_tokens,
        "max_batch_requests": null,
        "max_client_batch_size": args.max_client_batch_size,
        "auto_truncate": args.auto_truncate,
        "tokenization_workers": readers,
        "version": env!("CARGO_PKG_VERSION"),
        "sha": null,
        "docker_label": null,
        "prune": prune,
        "backend": engine.backend(),
    })
}

/// Accepts connections until a signal or the engine's end, and then waits for those that there are.
async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    mut ended: oneshot::Receiver<Error>,
    max_requests: usize,
    drain_time: Duration,
    hello: &str,
) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener).map_err(|error| unusable(&error))?;
    let mut signals = Signals::listen().map_err(|error| unusable(&error))?;
    let (graceful, patience) = (GracefulShutdown::new(), service.client_time);
    let router = service::router(Arc::clone(&service));
    say(hello);
    let engine_end = tokio::select! {
        () = connections::accept(&listener, &router, &graceful, patience, max_requests) => None,
        () = signals.next() => None,
        why = &mut ended => Some(why),
    };
    drop(listener);
    let unfinished = || service.unfinished.load(Ordering::Relaxed);
    let is_asked = engine_end.is_none();
    if is_asked && unfinished() > 0 {
        note(&format!("finishing {}; a second signal ends at once", requests(unfinished())));
    }
    let ended = async {
        match engine_end {
            Some(why) => why,
            None => ended.await,
        }
    };
    tokio::select! {
        outcome = drain(graceful.shutdown(), ended, unfinished, drain_time) => outcome,
        () = signals.next(), if is_asked => std::process::exit(INTERRUPTED),
    }
}

/// Waits for the connections that there are. It is an error if requests remain, and if the engine ends meanwhile.
async fn drain(
    connections: impl Future<Output = ()>,
    ended: impl Future<Output = std::result::Result<Error, RecvError>>,
    unfinished: impl Fn() -> usize,
    time: Duration,
) -> Result<()> {
    let mut connections = pin!(connections);
    let why = tokio::select! {
        // An engine that ends lets go of those who wait: the connections may end at the same time, and its reason counts.
        biased;
        why = ended => why,
        drained = timeout(time, &mut connections) => return match (drained, unfinished()) {
            (Ok(()), _) | (Err(_), 0) => Ok(()),
            (Err(_), count) => {
                let (requests, seconds) = (requests(count), time.as_secs());
                Err(Failure::Error(format!("no answer to {requests} within {seconds} s (--drain-seconds)")))
            }
        },
    };
    let _ = timeout(LAST_WORDS, connections).await;
    let why = why.map_or_else(|_| "its thread panicked".to_owned(), |error| error.to_string());
    Err(Failure::Error(format!("the engine ended: {why}")))
}

fn requests(count: usize) -> String {
    if count == 1 { "1 request".to_owned() } else { format!("{count} requests") }
}

/// On stderr, which may be closed.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{}", visible(line));
}

/// What asks the server to end.
#[cfg(unix)]
struct Signals(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::path::Path;

    use sttabt::Model;

    use super::*;

    /// A small classifier, whose tokens are `w0` to `w99`.
    pub fn model() -> Model {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
        load(&root.join("tests/fixtures/tiny-bert")).unwrap_or_else(|_| panic!("the fixture is there"))
    }

    #[tokio::test]
    async fn an_engine_that_ends_while_others_are_waited_for_is_an_error() {
        let said = |outcome: Result<()>| match outcome {
            Ok(()) => "0".to_owned(),
            Err(Failure::Error(text)) => text,
            Err(_) => "another failure".to_owned(),
        };
        let second = Duration::from_secs(1);
        let (sender, ended) = oneshot::channel();
        let _ = sender.send(Error::DeviceLost { reason: "it is gone".to_owned() });
        let found = said(drain(pending(), ended, || 1, second).await);
        assert!(found.starts_with("the engine ended: ") && found.contains("it is gone"), "{found}");
        // Its thread panicked, and the last connection has ended with that.
        let ended = oneshot::channel().1;
        assert_eq!(said(drain(ready(()), ended, || 0, second).await), "the engine ended: its thread panicked");
        for (unfinished, expected) in [(0, "0"), (2, "no answer to 2 requests within 0 s (--drain-seconds)")] {
            let (_sender, ended) = oneshot::channel();
            assert_eq!(said(drain(pending(), ended, || unfinished, Duration::ZERO).await), expected);
        }
    }
}
