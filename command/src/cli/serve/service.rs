//! The routes, and the way of a request: its body, its tokens, its place in the queue, its answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use sttabt::Model;
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

/// Counts a request as given up, unless it comes to an end.
struct Counted<'a> {
    metrics: &'a Metrics,
    is_over: bool,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.metrics.failure("gone");
        }
    }
}

async fn respond(service: Arc<Service>, route: Route, request: Request) -> Response {
    let (start, metrics) = (Instant::now(), &service.metrics);
    metrics.request(route.name());
    let mut counted = Counted { metrics, is_over: false };
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
    let (bytes, _held) = timeout(service.client_time, reading).await.unwrap_or_else(|_| {
        let seconds = service.client_time.as_secs();
        let text = format!("the body did not come within {seconds} s (the server's --client-seconds)");
        Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, Kind::Validation, text))
    })?;
    service.queue.check()?;
    // Tokens of a long text take milliseconds, in which others are to be answered.
    let reader = Arc::clone(service);
    let read = move || Asked::read(&reader.model, &reader.defaults, route, &bytes);
    let failed = || Refusal::backend("the engine failed: see the server's last message");
    let Asked { inputs, prune, form } = tokio::task::spawn_blocking(read).await.map_err(|_| failed())??;
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
