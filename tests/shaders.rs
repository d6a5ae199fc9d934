//! Every shader is valid WGSL within what WebGPU guarantees, and says the same as its Rust side.

use std::collections::BTreeSet;

use naga::proc::{IndexableLength, Layouter};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Expression, Handle, Literal, Module, StorageAccess, Type, TypeInner};
use sttabt::backend::FIXED_POINT;
use sttabt::backend::cpu::math;
use sttabt::backend::gpu::{Access, COUNT_ROWS, DOT4, GUARANTEED_TOKENS, SHADERS, Shader, pruned_tokens};

const COUNT_OFF: &str = include_str!("../shaders/count_off.wgsl");
const COUNT_ON: &str = include_str!("../shaders/count_on.wgsl");

/// WebGPU's default limits.
const MAX_STORAGE_BUFFERS: usize = 8;
const MAX_INVOCATIONS: u32 = 256;
const MAX_WORKGROUP_BYTES: u32 = 16384;

/// What naga calls a capability although WGSL always has it: `unpack2x16float`.
const CORE: Capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;

/// All that is wrong with a shader that is completed by these.
fn problems(shader: &Shader, completion: &str) -> Vec<String> {
    let source = format!("{}{completion}", shader.source);
    let module = match naga::front::wgsl::parse_str(&source) {
        Ok(module) => module,
        Err(error) => return vec![format!("does not parse: {}", error.emit_to_string(&source))],
    };
    if let Err(error) = Validator::new(ValidationFlags::all(), CORE).validate(&module) {
        return vec![format!("is not valid: {}", error.emit_to_string(&source))];
    }
    let mut problems = bindings(shader, &module);
    problems.extend(params(shader, &module));
    problems.extend(limits(&module));
    problems.extend(constants(shader, &module));
    for (_, declared) in module.overrides.iter() {
        if declared.init.is_none() {
            problems.push(format!("override {:?} has no default", declared.name));
        }
    }
    problems
}

/// Binding 0 is the uniform, 1 … n are what Rust declares, and nothing else is bound in group 0.
fn bindings(shader: &Shader, module: &Module) -> Vec<String> {
    let mut problems = Vec::new();
    let mut found: Vec<(u32, Option<Access>)> = Vec::new();
    for (_, variable) in module.global_variables.iter() {
        let Some(binding) = variable.binding.filter(|binding| binding.group == 0) else { continue };
        match variable.space {
            AddressSpace::Uniform => found.push((binding.binding, None)),
            AddressSpace::Storage { access } if access == StorageAccess::LOAD => {
                found.push((binding.binding, Some(Access::Read)));
            }
            AddressSpace::Storage { .. } => found.push((binding.binding, Some(Access::ReadWrite))),
            space => problems.push(format!("binding {} is {space:?}", binding.binding)),
        }
    }
    found.sort_by_key(|(binding, _)| *binding);
    let declared = shader.bindings.iter().map(|&access| Some(access));
    let expected: Vec<_> = (0..).zip(std::iter::once(None).chain(declared)).collect();
    if found != expected {
        problems.push(format!("bindings are {found:?}, Rust has {expected:?}"));
    }
    problems
}

/// `Params` has Rust's size, names and offsets.
fn params(shader: &Shader, module: &Module) -> Vec<String> {
    let Some((_, variable)) =
        module.global_variables.iter().find(|(_, variable)| matches!(variable.space, AddressSpace::Uniform))
    else {
        return vec!["there is no uniform".to_owned()];
    };
    let ty = &module.types[variable.ty];
    let TypeInner::Struct { members, span } = &ty.inner else { return vec!["the uniform is no struct".to_owned()] };
    let mut problems = Vec::new();
    if ty.name.as_deref() != Some("Params") {
        problems.push(format!("the uniform is a {:?}, not `Params`", ty.name));
    }
    let fields: Vec<(&str, usize)> =
        members.iter().map(|member| (member.name.as_deref().unwrap_or(""), member.offset as usize)).collect();
    if fields != shader.params_fields {
        problems.push(format!("Params has {fields:?}, Rust has {:?}", shader.params_fields));
    }
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).expect("a valid module has a layout");
    let bytes = layouter[variable.ty].alignment.round_up(shader.params_bytes as u32);
    if *span != bytes {
        problems.push(format!("Params has {span} bytes, Rust has {bytes}"));
    }
    problems
}

/// Every constant that Rust has too is the same there.
fn constants(shader: &Shader, module: &Module) -> Vec<String> {
    let own = shader.constants.iter().map(|&(name, value)| (name, vec![value as f32]));
    let others = shared_constants().into_iter().filter(|(name, _, _)| *name == shader.name);
    let mut problems = Vec::new();
    for (name, expected) in own.chain(others.map(|(_, name, values)| (name, values))) {
        match constant(module, name) {
            Some(found) if found == expected => {}
            found => problems.push(format!("constant {name} is {found:?}, Rust has {expected:?}")),
        }
        let num_invocations: u32 = module.entry_points.iter().flat_map(|main| main.workgroup_size).product();
        if ["INVOCATIONS", "WORKGROUP_SIZE"].contains(&name) && vec![num_invocations as f32] != expected {
            problems.push(format!("a workgroup has {num_invocations} invocations, Rust has {expected:?}"));
        }
    }
    problems
}

/// What stands in a shader and in Rust, beside a kernel's own [`Shader::constants`]. Helpers that several shaders take are looked up in
/// one.
fn shared_constants() -> Vec<(&'static str, &'static str, Vec<f32>)> {
    vec![
        ("back_tracking", "MAX_TOKENS", vec![GUARANTEED_TOKENS as f32]),
        ("select_tokens", "MAX_TOKENS", vec![GUARANTEED_TOKENS as f32]),
        // A sum has two words there.
        ("select_tokens", "UNITS", vec![(FIXED_POINT as f32).sqrt()]),
        ("linear", "ERF_END", vec![math::ERF_END]),
        ("linear", "ERF_NUMERATOR", math::ERF_NUMERATOR.to_vec()),
        ("linear", "ERF_DENOMINATOR", math::ERF_DENOMINATOR.to_vec()),
        ("linear", "FRAC_1_SQRT_2", vec![std::f32::consts::FRAC_1_SQRT_2]),
        ("linear", "GELU_TANH", math::GELU_TANH.to_vec()),
        ("linear", "QUICK_GELU", vec![math::QUICK_GELU]),
        ("attention", "LOG2_E", vec![std::f32::consts::LOG2_E]),
        ("attention", "LN_2", math::LN_2.to_vec()),
        ("attention", "EXP_COEFFICIENTS", math::EXP_COEFFICIENTS.to_vec()),
    ]
}

/// The value of a module's constant, the values of an array, or the default of an override.
fn constant(module: &Module, name: &str) -> Option<Vec<f32>> {
    fn values(module: &Module, expression: Handle<Expression>, found: &mut Vec<f32>) {
        match &module.global_expressions[expression] {
            Expression::Literal(Literal::U32(value)) => found.push(*value as f32),
            Expression::Literal(Literal::F32(value)) => found.push(*value),
            Expression::Compose { components, .. } => {
                components.iter().for_each(|&component| values(module, component, found));
            }
            // A NaN, which equals nothing.
            _ => found.push(f32::NAN),
        }
    }
    let constants = module.constants.iter().map(|(_, constant)| (&constant.name, Some(constant.init)));
    let overrides = module.overrides.iter().map(|(_, declared)| (&declared.name, declared.init));
    let (_, init) = constants.chain(overrides).find(|(found, _)| found.as_deref() == Some(name))?;
    let mut found = Vec::new();
    values(module, init?, &mut found);
    Some(found)
}

/// Workgroup memory as its overrides' defaults have it. WebGPU rounds every variable up to 16 bytes.
fn workgroup_bytes(module: &Module) -> u32 {
    let bytes = |ty: Handle<Type>| match module.types[ty].inner {
        TypeInner::Array { size, stride, .. } => match size.resolve(module.to_ctx()) {
            Ok(IndexableLength::Known(length)) => stride * length,
            _ => u32::MAX / 2,
        },
        ref other => other.size(module.to_ctx()),
    };
    let workgroup = module.global_variables.iter().filter(|(_, variable)| variable.space == AddressSpace::WorkGroup);
    workgroup.map(|(_, variable)| bytes(variable.ty).next_multiple_of(16)).sum()
}

fn limits(module: &Module) -> Vec<String> {
    let mut problems = Vec::new();
    let storage = |space: &AddressSpace| matches!(space, AddressSpace::Storage { .. });
    let num_buffers = module.global_variables.iter().filter(|(_, variable)| storage(&variable.space)).count();
    if num_buffers > MAX_STORAGE_BUFFERS {
        problems.push(format!("{num_buffers} storage buffers"));
    }
    let total = workgroup_bytes(module);
    if total > MAX_WORKGROUP_BYTES {
        problems.push(format!("{total} bytes of workgroup memory"));
    }
    match module.entry_points.as_slice() {
        [main] if main.name == "main" => {
            let num_invocations: u32 = main.workgroup_size.iter().product();
            if num_invocations > MAX_INVOCATIONS || main.workgroup_size_overrides.is_some() {
                problems.push(format!("{num_invocations} invocations"));
            }
        }
        others => problems.push(format!("{} entry points", others.len())),
    }
    problems
}

fn assert_none(failures: &[String]) {
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn shaders_are_valid_and_match_rust() {
    let mut failures = Vec::new();
    for shader in SHADERS {
        let [native, unpacked] = DOT4;
        let completions = [
            ("", [COUNT_ROWS, native]),
            ("count_off", [COUNT_OFF, native]),
            ("count_on", [COUNT_ON, native]),
            ("unpacked", [COUNT_ROWS, unpacked]),
        ];
        for (what, completion) in completions {
            let found = problems(shader, &completion.concat());
            failures.extend(found.into_iter().map(|problem| format!("{}.wgsl {what}: {problem}", shader.name)));
        }
    }
    assert_none(&failures);
}

/// A small valid shader, to be broken.
const GOOD: &str = "
struct Params { first: u32, second: f32 }
const TILE: u32 = 4;
const WORKGROUP_SIZE: u32 = 64;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;
@compute @workgroup_size(WORKGROUP_SIZE)
fn main() { output[0] = input[params.first] * params.second; }
";

/// The check is not blind: each of these is one replacement away from [`GOOD`].
#[test]
fn broken_shaders_are_found() {
    let half = "input[params.first] * params.second";
    let buffers: String =
        (3..10).map(|n| format!("@group(1) @binding({n}) var<storage> b{n}: array<f32>;\n")).collect();
    let buffers = format!("{buffers}@compute");
    let rows = [
        // Nothing is found in the shader itself.
        ("struct Params", "struct Params", ""),
        (half, "subgroupAdd(1.0)", "not valid"),
        (half, "f32(f16(1.0))", "does not parse"),
        ("\nstruct", "enable f16;\nconst half: f16 = 1.0h;\nstruct", "not valid"),
        ("\nstruct", "enable f16;\nvar<private> half: vec2<f16>;\nstruct", "not valid"),
        ("output[0]", "input[0]", "not valid"),
        ("@binding(2)", "@binding(3)", "bindings are"),
        ("storage, read>", "storage, read_write>", "bindings are"),
        ("var<uniform>", "var<storage>", "bindings are"),
        ("first: u32, second: f32", "second: f32, first: u32", "Params has"),
        ("first: u32", "first: u32, middle: u32", "Params has 12 bytes, Rust has 8"),
        ("second: f32", "@align(8) second: f32", "Params has"),
        ("workgroup_size(WORKGROUP_SIZE)", "workgroup_size(16, 17)", "272 invocations"),
        ("workgroup_size(WORKGROUP_SIZE)", "workgroup_size(32)", "a workgroup has 32 invocations, Rust has [64.0]"),
        ("TILE: u32 = 4", "TILE: u32 = 8", "constant TILE is Some([8.0]), Rust has [4.0]"),
        ("TILE: u32 = 4", "TILE = array<u32, 2>(4, 4)", "constant TILE is Some([4.0, 4.0])"),
        ("const TILE", "const ROWS", "constant TILE is None"),
        ("@compute", "var<workgroup> a: array<f32, 4096>; var<workgroup> b: u32;\n@compute", "16400 bytes"),
        ("@compute", "override SIZE: u32 = 5000; var<workgroup> a: array<u32, SIZE>;\n@compute", "20000 bytes"),
        ("@compute", &buffers, "9 storage buffers"),
        ("@compute", "override SIZE: u32;\n@compute", "has no default"),
        ("fn main", "fn other", "entry points"),
    ];
    let mut failures = Vec::new();
    for (from, to, expected) in rows {
        assert!(GOOD.contains(from), "{from}");
        let source: &'static str = GOOD.replace(from, to).leak();
        let shader = Shader {
            name: "broken",
            source,
            bindings: &[Access::Read, Access::ReadWrite],
            params_bytes: 8,
            params_fields: &[("first", 0), ("second", 4)],
            constants: &[("TILE", 4), ("WORKGROUP_SIZE", 64)],
        };
        let found = problems(&shader, COUNT_OFF).join("; ");
        if found.is_empty() != expected.is_empty() || !found.contains(expected) {
            failures.push(format!("`{to}` for `{from}`: found `{found}`, expected `{expected}`"));
        }
    }
    assert_none(&failures);
}

/// What devices with more memory hold fits it, and nearly fills it unless the sums of select_tokens have no room for more.
#[test]
fn more_workgroup_memory_holds_more_tokens() {
    let mut failures = Vec::new();
    for (kib, expected) in [(8, 896), (16, 1920), (17, 2048), (32, 3968), (33, 4095), (48, 4095), (1024, 4095)] {
        let most = pruned_tokens(kib << 10);
        if most != expected {
            failures.push(format!("{kib} KiB: {most} tokens, expected {expected}"));
        }
        for name in ["back_tracking", "select_tokens"] {
            let shader = SHADERS.iter().find(|shader| shader.name == name).expect("a shader");
            let default = format!("MAX_TOKENS: u32 = {GUARANTEED_TOKENS}");
            assert!(shader.source.contains(&default), "{name} has another default than `{default}`");
            let source = shader.source.replace(&default, &format!("MAX_TOKENS: u32 = {}", most.next_multiple_of(16)));
            let module = naga::front::wgsl::parse_str(&format!("{source}{COUNT_OFF}")).expect("a module");
            let bytes = workgroup_bytes(&module);
            let is_filled = name != "back_tracking" || most == 4095 || bytes + 16 * 8 > kib << 10;
            if bytes > kib << 10 || !is_filled {
                failures.push(format!("{name}, {kib} KiB: {most} tokens take {bytes} bytes"));
            }
        }
    }
    assert_none(&failures);
}

fn files() -> Vec<(String, String)> {
    let folder = crate::common::root().join("shaders");
    let entries = std::fs::read_dir(&folder).expect("the folder of shaders");
    let mut files: Vec<(String, String)> = entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, String::from_utf8(crate::common::read(&path)).expect("UTF-8"))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_file_is_used() {
    let files = files();
    let mut failures = Vec::new();
    for (name, text) in &files {
        let completions = [COUNT_ON, COUNT_OFF, DOT4[0], DOT4[1]];
        let completes = ["count_", "dot4_"].iter().any(|start| name.starts_with(start));
        if !completes && !SHADERS.iter().any(|shader| shader.source.contains(text.as_str())) {
            failures.push(format!("{name} is in no shader"));
        }
        if completes && !completions.contains(&text.as_str()) {
            failures.push(format!("{name} is not what completes the shaders"));
        }
    }
    let names: BTreeSet<&str> = SHADERS.iter().map(|shader| shader.name).collect();
    assert_eq!(names.len(), SHADERS.len(), "two shaders have one name");
    for shader in SHADERS {
        let name = format!("{}.wgsl", shader.name);
        match files.iter().find(|(file, _)| *file == name) {
            Some((_, text)) if shader.source.ends_with(text.as_str()) => {}
            Some(_) => failures.push(format!("{name} does not end its shader")),
            None => failures.push(format!("{name} is missing")),
        }
    }
    assert_none(&failures);
}

/// What a kernel's file names in its second line, one after another, and the file itself are the whole shader.
#[test]
fn files_name_what_they_use() {
    let files = files();
    let text =
        |stem: &str| files.iter().find(|(name, _)| *name == format!("{stem}.wgsl")).map(|(_, text)| text.as_str());
    let mut failures = Vec::new();
    for shader in SHADERS {
        let own = text(shader.name).unwrap_or_default();
        let Some(uses) = own.lines().nth(1).and_then(|line| line.strip_prefix("// uses: ")) else {
            failures.push(format!("{}.wgsl does not say in its second line what it uses", shader.name));
            continue;
        };
        let named: Option<String> = uses.split(", ").chain([shader.name]).map(text).collect();
        if named.as_deref() != Some(shader.source) {
            failures.push(format!("{}.wgsl uses other files than `{uses}`, or in another order", shader.name));
        }
    }
    assert_none(&failures);
}

/// The header has a formula and says who owns what, and every binding ends with its shape.
#[test]
fn files_explain_themselves() {
    let mut failures = Vec::new();
    for (name, text) in files() {
        let header: Vec<&str> = text.lines().take_while(|line| line.starts_with("//")).collect();
        if header.is_empty() {
            failures.push(format!("{name} has no header"));
        }
        if SHADERS.iter().any(|shader| name == format!("{}.wgsl", shader.name)) {
            let header = header.join("\n");
            if !header.contains(['=', 'Σ', '{']) {
                failures.push(format!("{name} has no formula in its header"));
            }
            if !header.contains("One invocation ") && !header.contains("One workgroup ") {
                failures.push(format!("{name} does not say what an invocation or a workgroup owns"));
            }
        }
        for line in text.lines().filter(|line| line.contains("@binding(") && !line.contains("var<uniform>")) {
            if !line.contains("; // [") && !line.ends_with("; // see ChunkLayout") && name != "count_on.wgsl" {
                failures.push(format!("{name}: no shape after `{line}`"));
            }
        }
    }
    assert_none(&failures);
}
