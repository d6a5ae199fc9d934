//! The routes, and the way of a request: its body, its tokens, its place in the queue, its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use sttabt::Model;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::timeout;

use super::asked::{Asked, Defaults, Form, Route};
use super::body::{self, Memory};
use super::metrics::Metrics;
use super::queue::Queue;
use super::refusal::{Kind, Refusal};

pub struct Service {
    pub model: Model,
    pub defaults: Defaults,
    pub queue: Arc<Queue>,
    pub metrics: Arc<Metrics>,
    /// Requests without an answer so far, also those that are still read.
    pub unfinished: AtomicUsize,
    /// What the model answers; the first one is that of `POST /`, too.
    pub routes: Vec<Route>,
    /// Why the model does not answer the others.
    pub others: String,
    /// The body of `/info`.
    pub info: String,
    pub bodies: Memory,
    pub max_body_bytes: usize,
    /// For a client to send a body.
    pub client_time: Duration,
    /// For a request in all.
    pub request_time: Duration,
}

const JSON: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];

pub fn router(service: Arc<Service>) -> Router {
    // Clients of the hub know the address alone.
    let own = service.routes.first().copied().unwrap_or(Route::Predict);
    let answer = |route: Route| -> MethodRouter<Arc<Service>> {
        post(move |State(service): State<Arc<Service>>, request: Request| respond(service, route, request))
    };
    Router::new()
        .route("/rerank", answer(Route::Rerank))
        .route("/predict", answer(Route::Predict))
        .route("/embed", answer(Route::Embed))
        .route("/", answer(own).get(health))
        .route("/health", get(health))
        .route("/info", get(|State(service): State<Arc<Service>>| async move { (JSON, service.info.clone()) }))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(service)
}

async fn health() {}

async fn metrics(State(service): State<Arc<Service>>) -> impl IntoResponse {
    let text = service.metrics.text(service.queue.len());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn not_found(State(service): State<Arc<Service>>, uri: Uri) -> Response {
    let text = format!("there is no {}; {}", uri.path(), service.own_routes());
    Refusal::new(StatusCode::NOT_FOUND, Kind::Validation, text).into_response()
}

async fn not_allowed(method: Method, uri: Uri) -> Refusal {
    let text = format!("{} is not answered to {method}: see the header `Allow`", uri.path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, Kind::Validation, text)
}

impl Service {
    fn own_routes(&self) -> String {
        let names: Vec<String> = self.routes.iter().map(|route| format!("POST /{}", route.name())).collect();
        format!("this model has {}", names.join(" and "))
    }
}

/// Counts a request as unfinished while it is kept, and then as given up, unless it has come to an end.
struct Counted<'a> {
    service: &'a Service,
    is_over: bool,
}

impl<'a> Counted<'a> {
    fn new(service: &'a Service) -> Self {
        service.unfinished.fetch_add(1, Ordering::Relaxed);
        Self { service, is_over: false }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.service.unfinished.fetch_sub(1, Ordering::Relaxed);
        if !self.is_over {
            self.service.metrics.failure("gone");
        }
    }
}

/// A task that need not start any more once nobody waits for it.
struct Wanted(AbortHandle);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads on another thread: tokens of a long text take milliseconds, in which others want answers. Tokio keeps what waits for a thread even when
/// its request has ended. So `read` owns the count of the memory it needs, and is dropped without a run then.
async fn read_apart<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    let task = spawn_blocking(read);
    let _wanted = Wanted(task.abort_handle());
    task.await.map_err(|_| Refusal::backend("reading this request failed in the server: see its last message"))
}

async fn respond(service: Arc<Service>, route: Route, request: Request) -> Response {
    let (start, metrics) = (Instant::now(), &service.metrics);
    metrics.request(route.name());
    let mut counted = Counted::new(&service);
    let outcome = timeout(service.request_time, answer(&service, route, request)).await.unwrap_or_else(|_| {
        let seconds = service.request_time.as_secs();
        let text =
            format!("no answer within {seconds} s (the server's --request-seconds): try again later, or with less");
        Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Kind::Overloaded, text))
    });
    counted.is_over = true;
    match outcome {
        Ok(json) => {
            metrics.success(route.name(), start.elapsed());
            (JSON, json).into_response()
        }
        Err(refusal) => {
            metrics.failure(refusal.kind.name());
            refusal.into_response()
        }
    }
}

async fn answer(service: &Arc<Service>, route: Route, request: Request) -> Result<Vec<u8>, Refusal> {
    if !service.routes.contains(&route) {
        let text = format!("/{}: {}; {}", route.name(), service.others, service.own_routes());
        return Err(Refusal::backend(text));
    }
    body::check_headers(&request)?;
    let reading = body::read(request.into_body(), service.max_body_bytes, &service.bodies);
    let (bytes, held) = timeout(service.client_time, reading).await.unwrap_or_else(|_| {
        let seconds = service.client_time.as_secs();
        let text = format!("the body did not come within {seconds} s (the server's --client-seconds)");
        Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, Kind::Validation, text))
    })?;
    service.queue.check()?;
    let reader = Arc::clone(service);
    let read = move || (Asked::read(&reader.model, &reader.defaults, route, &bytes), held);
    // The texts of the answer count as the body did, until it is made.
    let (asked, _held) = read_apart(read).await?;
    let Asked { inputs, prune, form } = asked?;
    let failed = || Refusal::backend("the engine failed: see the server's last message");
    let answer = service.queue.enter(inputs, prune)?.answer().await.ok_or_else(failed)?;
    let outputs = answer.map_err(|(index, error)| named(&form, index, error))?;
    form.answer(&service.model, outputs).map_err(|error| Refusal::backend(error.to_string()))
}

/// The error of an input that was computed alone, under its own name.
fn named(form: &Form, index: usize, error: sttabt::Error) -> Refusal {
    let (name, refusal) = (form.input(index), Refusal::from(error));
    let text = refusal.to_string();
    let text = if text.contains("input 1") { text.replacen("input 1", &name, 1) } else { format!("{name}: {text}") };
    Refusal::new(refusal.status, refusal.kind, text)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;

    use axum::body::Body;
    use sttabt::Prune;
    use tokio::runtime::{Builder, Runtime};

    use super::super::tests::model;
    use super::*;

    const BODY: &str = "{\"inputs\": \"w9 w10\"}";

    fn service(model: Model) -> Arc<Service> {
        let [client_time, request_time] = [Duration::from_secs(20); 2];
        Arc::new(Service {
            defaults: Defaults { prune: Prune::Dense, truncate: true, max_inputs: 1 },
            queue: Arc::new(Queue::new(1, 1000)),
            metrics: Arc::default(),
            unfinished: AtomicUsize::new(0),
            routes: vec![Route::Predict],
            others: String::new(),
            info: String::new(),
            bodies: Memory::new(1000),
            max_body_bytes: 1000,
            client_time,
            request_time,
            model,
        })
    }

    /// A runtime whose only reader is busy until something is sent.
    fn busy() -> (Runtime, mpsc::Sender<()>) {
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().expect("a runtime");
        let (sender, receiver) = mpsc::channel::<()>();
        runtime.spawn_blocking(move || receiver.recv());
        (runtime, sender)
    }

    #[test]
    fn bodies_of_clients_that_left_count_until_they_are_dropped() {
        let (runtime, reader) = busy();
        let service = service(model());
        runtime.block_on(async {
            let request = Request::post("/predict").header(header::CONTENT_TYPE, "application/json");
            let request = request.body(Body::from(BODY)).expect("a request");
            let left = timeout(Duration::from_millis(50), answer(&service, Route::Predict, request)).await;
            assert!(left.is_err(), "the reader is not busy");
            assert_eq!(service.bodies.held(), BODY.len());
            reader.send(()).expect("a reader");
            // Those before have had their turn then.
            spawn_blocking(|| ()).await.expect("a turn");
            assert_eq!(service.bodies.held(), 0);
        });
    }

    #[test]
    fn nothing_is_read_for_clients_that_left() {
        let (runtime, reader) = busy();
        let is_read = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_read);
        runtime.block_on(async {
            let reading = read_apart(move || flag.store(true, Ordering::Relaxed));
            assert!(timeout(Duration::from_millis(50), reading).await.is_err(), "the reader is not busy");
            reader.send(()).expect("a reader");
            spawn_blocking(|| ()).await.expect("a turn");
        });
        assert!(!is_read.load(Ordering::Relaxed));
    }

    #[test]
    fn a_panic_of_a_reader_is_not_one_of_the_engine() {
        let (runtime, reader) = busy();
        reader.send(()).expect("a reader");
        let refusal = runtime.block_on(read_apart::<()>(|| panic!("as a test"))).expect_err("a panic");
        let expected = "reading this request failed in the server: see its last message";
        assert_eq!((refusal.status.as_u16(), refusal.to_string().as_str()), (424, expected));
    }
}
