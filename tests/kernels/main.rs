//! Every kernel on both backends, against an independent oracle in f64 and against each other.
//!
//! Outputs start as NaN, and what a kernel must not touch must still be NaN. A table runs to its end and reports every
//! failing case; with `--nocapture` it also tells the largest errors. The same tables run natively and, as WebAssembly, in
//! browsers, whose own compilers read the shaders: Chromium's Tint, Firefox's naga.

#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

/// A test that waits for a device. A browser's page must not block, so there it is awaited.
macro_rules! device_test {
    ($name:ident, $test:expr) => {
        #[cfg(not(target_arch = "wasm32"))]
        #[test]
        fn $name() {
            pollster::block_on($test);
        }

        #[cfg(target_arch = "wasm32")]
        #[wasm_bindgen_test::wasm_bindgen_test]
        async fn $name() {
            $test.await;
        }
    };
}

/// A kernel's table: the cases with few tokens, and apart from them those with many, which a slow browser leaves out.
macro_rules! table_test {
    ($table:ident, $cases:expr) => {
        mod $table {
            use super::*;
            use crate::harness::{Tokens, check};

            device_test!(few_tokens, check(&$cases, Tokens::Few));
            device_test!(many_tokens, check(&$cases, Tokens::Many));
        }
    };
}

/// `println!`, which WebAssembly does not have.
macro_rules! say {
    ($($part:expr),* $(,)?) => {
        #[cfg(not(target_arch = "wasm32"))]
        println!($($part),*);
        #[cfg(target_arch = "wasm32")]
        wasm_bindgen_test::console_log!($($part),*);
    };
}

mod attention;
mod back_tracking;
mod data;
mod errors;
mod functions;
mod harness;
mod int8;
mod kept;
mod linear;
mod maps;
mod recursions;
mod rows;
mod tolerances;
mod writes;
