//! The one file that knows the target: the GPU's futures are `Send` natively, and cannot be in a browser.

use std::pin::Pin;

/// What a [`Pause`] returns, and a run awaits.
pub type PauseFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Called between layers, see [`crate::Engine::set_pause`].
///
/// On the CPU several threads do so at the same time, each for its chunks of a batch. So it must not need what
/// belongs to the caller's thread. (A timer of Tokio needs its runtime.) A run returns to its caller once every
/// thread's chunk waits or has ended. In WebAssembly, where there is one thread, the crate `send_wrapper` makes
/// JavaScript's values `Send`.
pub type Pause = Box<dyn Fn() -> PauseFuture + Send + Sync>;

/// A future that the GPU backend keeps until it next waits.
#[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// A future that the GPU backend keeps until it next waits.
#[cfg(all(feature = "gpu", target_arch = "wasm32"))]
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;
