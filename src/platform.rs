//! The one file that knows the target: futures are `Send` natively, and cannot be in a browser.

use std::pin::Pin;

/// A future that a caller hands to the engine.
#[cfg(not(target_arch = "wasm32"))]
pub type PauseFuture = Pin<Box<dyn Future<Output = ()> + Send>>;
/// A future that a caller hands to the engine.
#[cfg(target_arch = "wasm32")]
pub type PauseFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Called between layers, see [`crate::Engine::set_pause`].
#[cfg(not(target_arch = "wasm32"))]
pub type Pause = Box<dyn Fn() -> PauseFuture + Send + Sync>;
/// Called between layers, see [`crate::Engine::set_pause`].
#[cfg(target_arch = "wasm32")]
pub type Pause = Box<dyn Fn() -> PauseFuture>;

/// A future that the GPU backend keeps until it next waits.
#[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// A future that the GPU backend keeps until it next waits.
#[cfg(all(feature = "gpu", target_arch = "wasm32"))]
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;
