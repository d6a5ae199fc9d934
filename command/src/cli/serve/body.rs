//! Reading the body of a request: within its size, and within what all bodies together may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use http_body_util::BodyExt;

use super::refusal::{Kind, Refusal};

/// What is read beyond the limit, so that a client that writes its whole request first sees the refusal: so many times the limit.
const READ_ON: usize = 8;

/// Bytes that the bodies of all requests hold together.
pub struct Memory {
    held: Arc<AtomicUsize>,
    most: usize,
}

/// Bytes of one body; they count until this is dropped.
pub struct Held {
    all: Arc<AtomicUsize>,
    count: usize,
}

impl Memory {
    pub fn new(most: usize) -> Self {
        Self { held: Arc::default(), most }
    }

    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// Whether a body is what it is read as.
pub fn check_headers(request: &Request) -> Result<(), Refusal> {
    let value = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let refused = |text: String| Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Kind::Validation, text));
    if media_type != "application/json" && !(media_type.starts_with("application/") && media_type.ends_with("+json")) {
        return refused("expected the header `Content-Type: application/json`".to_owned());
    }
    match value(header::CONTENT_ENCODING) {
        "" | "identity" => Ok(()),
        encoding => refused(format!("`Content-Encoding: {encoding}` is not read: send the JSON as it is")),
    }
}

/// All bytes of a body, of at most `limit`.
pub async fn read(body: Body, limit: usize, memory: &Memory) -> Result<(Vec<u8>, Held), Refusal> {
    let too_large = || {
        let text = format!("the body has more than {limit} bytes (the server's --payload-limit)");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Kind::Validation, text)
    };
    let (mut body, mut bytes, mut num_read) = (body, Vec::new(), 0_usize);
    let mut held = Held { all: Arc::clone(&memory.held), count: 0 };
    while let Some(frame) = body.frame().await {
        let broken =
            |error| Refusal::new(StatusCode::BAD_REQUEST, Kind::Validation, format!("the body breaks off: {error}"));
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        num_read = num_read.saturating_add(data.len());
        if num_read > limit {
            bytes = Vec::new();
            if num_read / READ_ON > limit {
                break;
            }
            continue;
        }
        held.count += data.len();
        if memory.held.fetch_add(data.len(), Ordering::Relaxed) + data.len() > memory.most {
            return Err(Refusal::overloaded("the requests that are waiting are too large together: try again later"));
        }
        bytes.extend_from_slice(&data);
    }
    if num_read > limit { Err(too_large()) } else { Ok((bytes, held)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_are_refused_that_are_too_large_together() {
        let memory = Memory::new(10);
        let read_some = |count: usize| read(Body::from(vec![b' '; count]), 8, &memory);
        let text = |refusal: Refusal| format!("{} {refusal}", refusal.status.as_u16());
        let (bytes, held) = read_some(8).await.map_err(text).expect("a body");
        assert_eq!((bytes.len(), memory.held()), (8, 8));
        let expected = "429 the requests that are waiting are too large together: try again later";
        assert_eq!(read_some(3).await.map(drop).map_err(text), Err(expected.to_owned()));
        assert_eq!(memory.held(), 8, "a refused body counts no more");
        drop(read_some(2).await.map_err(text).expect("a body that just fits"));
        drop(held);
        assert_eq!(read_some(8).await.map(drop).map_err(text), Ok(()));
        assert_eq!(memory.held(), 0);
    }
}
