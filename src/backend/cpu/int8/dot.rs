//! Instructions that multiply four numbers of 8 bits with four i8 in every lane, and add them up without saturation.
//!
//! `fearless_simd` wraps none of them; only its AVX-512 level includes one. So what stands here needs `unsafe`. Each
//! instruction is reached by a token only. A token is made only where the CPU has the instruction.

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch};

use crate::backend::cpu::product::PANEL_VECTORS;

/// How a CPU multiplies int8.
#[derive(Debug, Clone, Copy)]
pub enum Dot {
    /// Two i16 by two i16, which every SIMD level has.
    Pairs,
    #[cfg(target_arch = "x86_64")]
    Avx512(fearless_simd::x86::Avx512, x86::Vnni),
    #[cfg(target_arch = "x86_64")]
    Avx2(fearless_simd::x86::Avx2, x86::AvxVnni),
    #[cfg(target_arch = "aarch64")]
    Neon(fearless_simd::aarch64::Neon, aarch64::DotProd),
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128", feature = "relaxed-simd"))]
    Wasm(fearless_simd::wasm32::WasmSimd128, wasm32::RelaxedDot),
}

/// What a word of inputs is.
#[allow(dead_code, reason = "which of them are made depends on the CPU")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Two i16.
    Pair,
    /// Four i8.
    Signed,
    /// Four u8, each 128 too large.
    Unsigned,
}

impl Word {
    /// Numbers in it.
    pub fn len(self) -> usize {
        if self == Self::Pair { 2 } else { 4 }
    }
}

impl Dot {
    /// The best one at a SIMD level.
    pub fn new(level: Level) -> Self {
        // A build may leave out levels that the CPU has.
        let level = dispatch!(level, simd => simd.level());
        #[cfg(target_arch = "x86_64")]
        match level {
            Level::Avx512(simd) => return Self::Avx512(simd, x86::Vnni),
            Level::Avx2(simd) => return x86::AvxVnni::new().map_or(Self::Pairs, |dot| Self::Avx2(simd, dot)),
            _ => {}
        }
        #[cfg(target_arch = "aarch64")]
        if let (Level::Neon(simd), Some(dot)) = (level, aarch64::DotProd::new()) {
            return Self::Neon(simd, dot);
        }
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128", feature = "relaxed-simd"))]
        if let (Level::WasmSimd128(simd), Some(dot)) = (level, wasm32::RelaxedDot::new()) {
            return Self::Wasm(simd, dot);
        }
        let _ = level;
        Self::Pairs
    }

    pub fn word(self) -> Word {
        match self {
            Self::Pairs => Word::Pair,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(..) | Self::Avx2(..) => Word::Unsigned,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(..) => Word::Signed,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128", feature = "relaxed-simd"))]
            Self::Wasm(_, dot) => dot.word,
        }
    }
}

/// An instruction that multiplies words and adds.
pub trait DotProduct<S: Simd>: Copy {
    /// Numbers in a word.
    const WORD_LEN: usize;
    /// At most 8. A tile has two vectors of sums a row, and all must fit the registers.
    const TILE_ROWS: usize;
    /// A word of each column of a vector, ready to be multiplied.
    type Columns: Copy;

    /// A word of each column of a panel, `[panel_width, WORD_LEN]`.
    fn columns(self, simd: S, numbers: &[i8]) -> [Self::Columns; PANEL_VECTORS];

    /// sums[c] + Σ_i inputs[c, i] · columns[c, i]
    fn add(self, simd: S, sums: S::i32s, inputs: S::i32s, columns: Self::Columns) -> S::i32s;

    /// Calls a function that is compiled for these instructions.
    #[inline(always)]
    fn vectorize<R>(self, simd: S, compute: impl FnOnce() -> R) -> R {
        simd.vectorize(compute)
    }
}

/// Two i16 by two i16. Weights are widened as they are read.
#[derive(Debug, Clone, Copy)]
pub struct Pairs;

impl<S: Simd> DotProduct<S> for Pairs {
    const WORD_LEN: usize = 2;
    /// 8 vectors of sums; what is multiplied takes up to 7 of 16 registers more.
    const TILE_ROWS: usize = 4;
    type Columns = S::i16s;

    #[inline(always)]
    fn columns(self, simd: S, numbers: &[i8]) -> [S::i16s; PANEL_VECTORS] {
        let (first, second) = S::i8s::from_slice(simd, numbers).widen();
        [first, second]
    }

    #[inline(always)]
    fn add(self, _: S, sums: S::i32s, inputs: S::i32s, columns: S::i16s) -> S::i32s {
        sums + columns.pairwise_dot_product(inputs.bitcast::<S::i16s>())
    }
}

/// A word of four of each column.
#[allow(dead_code, reason = "not every CPU has such words")]
#[inline(always)]
fn fours<S: Simd>(simd: S, numbers: &[i8]) -> [S::i8s; PANEL_VECTORS] {
    let (first, second) = numbers.split_at(S::i8s::LEN);
    [S::i8s::from_slice(simd, first), S::i8s::from_slice(simd, second)]
}

#[cfg(target_arch = "x86_64")]
pub mod x86 {
    use std::arch::x86_64::{__m256i, __m512i, _mm256_dpbusd_avx_epi32, _mm512_dpbusd_epi32};

    use fearless_simd::prelude::*;
    use fearless_simd::x86::{Avx2, Avx512};
    use fearless_simd::{i8x32, i8x64, i32x8, i32x16};

    use crate::backend::cpu::int8::dot::{DotProduct, PANEL_VECTORS, fours};

    fearless_simd::kernel!(
        #[inline(always)]
        fn dot_512(token: Avx512, sums: __m512i, inputs: __m512i, weights: __m512i) -> __m512i {
            _mm512_dpbusd_epi32(sums, inputs, weights)
        }
    );

    /// VNNI of AVX-512, which that level has.
    #[derive(Debug, Clone, Copy)]
    pub struct Vnni;

    impl DotProduct<Avx512> for Vnni {
        const WORD_LEN: usize = 4;
        const TILE_ROWS: usize = 8;
        type Columns = i8x64<Avx512>;

        #[inline(always)]
        fn columns(self, simd: Avx512, numbers: &[i8]) -> [i8x64<Avx512>; PANEL_VECTORS] {
            fours(simd, numbers)
        }

        #[inline(always)]
        fn add(
            self,
            simd: Avx512,
            sums: i32x16<Avx512>,
            inputs: i32x16<Avx512>,
            weights: i8x64<Avx512>,
        ) -> i32x16<Avx512> {
            dot_512(simd, sums.into(), inputs.into(), weights.into()).simd_into(simd)
        }
    }

    /// Proof that this CPU has AVX-VNNI.
    #[derive(Debug, Clone, Copy)]
    pub struct AvxVnni(());

    impl AvxVnni {
        pub fn new() -> Option<Self> {
            std::is_x86_feature_detected!("avxvnni").then_some(Self(()))
        }
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,cmpxchg16b,f16c,fma,fxsr,lzcnt,movbe,popcnt,xsave,avxvnni")]
    fn with_avx_vnni<R>(compute: impl FnOnce() -> R) -> R {
        compute()
    }

    impl DotProduct<Avx2> for AvxVnni {
        const WORD_LEN: usize = 4;
        /// 12 of 16 registers.
        const TILE_ROWS: usize = 6;
        type Columns = i8x32<Avx2>;

        #[inline(always)]
        fn columns(self, simd: Avx2, numbers: &[i8]) -> [i8x32<Avx2>; PANEL_VECTORS] {
            fours(simd, numbers)
        }

        #[inline(always)]
        fn add(self, simd: Avx2, sums: i32x8<Avx2>, inputs: i32x8<Avx2>, weights: i8x32<Avx2>) -> i32x8<Avx2> {
            let (sums, inputs, weights): (__m256i, __m256i, __m256i) = (sums.into(), inputs.into(), weights.into());
            // SAFETY: `self` is there only on a CPU with AVX-VNNI.
            unsafe { _mm256_dpbusd_avx_epi32(sums, inputs, weights) }.simd_into(simd)
        }

        #[inline(always)]
        fn vectorize<R>(self, _: Avx2, compute: impl FnOnce() -> R) -> R {
            // SAFETY: `self` is there only on a CPU with AVX-VNNI, `Avx2` only on one with the others.
            unsafe { with_avx_vnni(compute) }
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub mod aarch64 {
    use std::arch::aarch64::{int8x16_t, int32x4_t};

    use fearless_simd::aarch64::Neon;
    use fearless_simd::prelude::*;
    use fearless_simd::{i8x16, i32x4};

    use crate::backend::cpu::int8::dot::{DotProduct, PANEL_VECTORS, fours};

    /// Proof that this CPU has the dot product of NEON.
    #[derive(Debug, Clone, Copy)]
    pub struct DotProd(());

    impl DotProd {
        pub fn new() -> Option<Self> {
            std::arch::is_aarch64_feature_detected!("dotprod").then_some(Self(()))
        }
    }

    impl DotProduct<Neon> for DotProd {
        const WORD_LEN: usize = 4;
        const TILE_ROWS: usize = 8;
        type Columns = i8x16<Neon>;

        #[inline(always)]
        fn columns(self, simd: Neon, numbers: &[i8]) -> [i8x16<Neon>; PANEL_VECTORS] {
            fours(simd, numbers)
        }

        #[inline(always)]
        fn add(self, simd: Neon, sums: i32x4<Neon>, inputs: i32x4<Neon>, weights: i8x16<Neon>) -> i32x4<Neon> {
            let (mut sums, inputs, weights): (int32x4_t, int32x4_t, int8x16_t) =
                (sums.into(), inputs.into(), weights.into());
            // The intrinsic `vdotq_s32` is not stable in Rust.
            // SAFETY: `self` is there only on a CPU that has the instruction, which reads and writes these registers alone.
            unsafe {
                std::arch::asm!(
                    ".arch_extension dotprod",
                    "sdot {sums:v}.4s, {inputs:v}.16b, {weights:v}.16b",
                    sums = inout(vreg) sums,
                    inputs = in(vreg) inputs,
                    weights = in(vreg) weights,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            sums.simd_into(simd)
        }
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128", feature = "relaxed-simd"))]
pub mod wasm32 {
    use std::arch::wasm32::{i8x16_splat, i32x4_extract_lane, i32x4_relaxed_dot_i8x16_i7x16_add, i32x4_splat, v128};
    use std::hint::black_box;

    use fearless_simd::prelude::*;
    use fearless_simd::wasm32::WasmSimd128;
    use fearless_simd::{i8x16, i32x4};

    use crate::backend::cpu::int8::dot::{DotProduct, PANEL_VECTORS, Word, fours};

    /// The dot product of relaxed SIMD, where inputs may have eight bits.
    ///
    /// WebAssembly defines it for inputs of seven bits. With eight, an engine takes what its CPU does: with AVX-VNNI a u8, on Arm an i8.
    /// Other x86 CPUs add pairs in 16 bits, which saturates.
    #[derive(Debug, Clone, Copy)]
    pub struct RelaxedDot {
        pub word: Word,
    }

    impl RelaxedDot {
        pub fn new() -> Option<Self> {
            if is_exact(128) {
                Some(Self { word: Word::Unsigned })
            } else if is_exact(0) {
                Some(Self { word: Word::Signed })
            } else {
                None
            }
        }
    }

    /// Whether sums are right of inputs that are so much too large. Not of -128, which no input is: some engines on Arm add pairs in 16 bits,
    /// where two of -128 · -128 have no room.
    fn is_exact(offset: i32) -> bool {
        let dot = |weight: i8, input: i32| {
            // `black_box`: the compiler must not compute it.
            let (weights, inputs) = (i8x16_splat(black_box(weight)), i8x16_splat(black_box(input) as i8));
            i32x4_extract_lane::<0>(i32x4_relaxed_dot_i8x16_i7x16_add(weights, inputs, i32x4_splat(0)))
        };
        let is_right = |weight: i8, input: i32| dot(weight, input) == 4 * i32::from(weight) * input;
        [i8::MIN, -127, -1, 1, i8::MAX]
            .into_iter()
            .all(|weight| [-127, -1, 0, 1, 127].into_iter().all(|number| is_right(weight, number + offset)))
    }

    #[target_feature(enable = "simd128,relaxed-simd")]
    fn with_relaxed_simd<R>(compute: impl FnOnce() -> R) -> R {
        compute()
    }

    impl DotProduct<WasmSimd128> for RelaxedDot {
        const WORD_LEN: usize = 4;
        /// 8 of x86's 16 registers; the inputs of all rows, which LLVM loads first, take 4 more.
        const TILE_ROWS: usize = 4;
        type Columns = i8x16<WasmSimd128>;

        #[inline(always)]
        fn columns(self, simd: WasmSimd128, numbers: &[i8]) -> [i8x16<WasmSimd128>; PANEL_VECTORS] {
            fours(simd, numbers)
        }

        #[inline(always)]
        fn add(
            self,
            simd: WasmSimd128,
            sums: i32x4<WasmSimd128>,
            inputs: i32x4<WasmSimd128>,
            columns: i8x16<WasmSimd128>,
        ) -> i32x4<WasmSimd128> {
            let (sums, inputs, weights): (v128, v128, v128) = (sums.into(), inputs.into(), columns.into());
            i32x4_relaxed_dot_i8x16_i7x16_add(weights, inputs, sums).simd_into(simd)
        }

        #[inline(always)]
        fn vectorize<R>(self, _: WasmSimd128, compute: impl FnOnce() -> R) -> R {
            with_relaxed_simd(compute)
        }
    }
}
