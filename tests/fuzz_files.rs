//! Mutated model files: headers, indices, PyTorch's files and configurations. Whatever the bytes are, there is a result or an error, in
//! bounded memory and time.
//!
//!     STTABT_FUZZ_FILES=0..1000000 cargo test --release --locked --test fuzz_files -- --nocapture
//!
//! A number stands for one input of each kind, the same as long as the seeds are. A million of each kind pass with pytorch-reader 0.22.1 and
//! zip 9.8.2.
#![cfg(feature = "bin")]

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::counting::{Counting, counted};
use common::edit::*;
use common::fuzz::numbers;
use common::torch::*;
use common::{fixture, read};
use sttabt::{Bytes, Error, Model, ModelFiles, Weights};

/// No input has more than some kilobytes, except for the weights beside a configuration, which nothing copies.
const MAX_BYTES: usize = 8 << 20;
/// On a busy machine.
const MAX_TIME: Duration = Duration::from_secs(20);

#[global_allocator]
static COUNTING: Counting = Counting;

fn small_tensors() -> Tensors {
    let tensor = |name: &str, shape: &[usize]| {
        let values = vec![0.5; shape.iter().product()];
        (name.to_owned(), HostTensor::f32(shape, &values))
    };
    let mut tensors =
        Tensors::from([tensor("module.a.weight", &[3, 2]), tensor("module.a.bias", &[3]), tensor("b", &[])]);
    tensors.get_mut("module.a.bias").expect("a bias").round_to_f16();
    tensors
}

/// What inputs of one kind are made of, and what a mutation may put into them.
struct Kind {
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    words: &'static [&'static [u8]],
    check: fn(&Path, Vec<u8>) -> Result<(), Error>,
}

const NUMBERS: [&[u8]; 9] =
    [b"0", b"1", b"-1", b"255", b"65536", b"4294967295", b"18446744073709551615", b"1e99", b"0.5"];

fn kinds() -> Vec<Kind> {
    let tensors = small_tensors();
    let header = write_weights(&tensors);
    let config = read(&fixture("tiny-bert/config.json"));
    let index = br#"{"metadata":{"total_size":46},"weight_map":{"module.a.bias":"1.safetensors","module.a.weight":"2.safetensors","b":"2.safetensors"}}"#;
    let mut pickle = Pickle::new();
    pickle.state_dict(&views(&tensors), |pickle| {
        pickle.text("epoch").int(3);
    });
    vec![
        Kind {
            name: "header",
            seeds: vec![header],
            words: &[
                b"\"F64\"",
                b"\"I64\"",
                b"\"BOOL\"",
                b"\"F4\"",
                b"\"shape\":[]",
                b"[0,0]",
                b"{}",
                b"[",
                b"module.",
                b"\"",
                b",",
            ],
            check: |_, bytes| {
                let mut files = ModelFiles::new();
                files.insert("model.safetensors", bytes);
                touch(&mut files)
            },
        },
        Kind {
            name: "index",
            seeds: vec![index.to_vec()],
            words: &[
                b"../",
                b"/",
                b"\\\\",
                b"1.safetensors",
                b"2.safetensors",
                b"null",
                b"{}",
                b"[]",
                b"\"",
                b"\"module.a.bias\"",
            ],
            check: |_, bytes| {
                let mut files = ModelFiles::new();
                ModelFiles::named_by("modules.json", &bytes);
                ModelFiles::named_by("model.safetensors.index.json", &bytes);
                files.insert("model.safetensors.index.json", bytes);
                let (mut one, mut two) = (small_tensors(), small_tensors());
                one.retain(|name, _| name == "module.a.bias");
                two.retain(|name, _| name != "module.a.bias");
                files.insert("1.safetensors", write_weights(&one));
                files.insert("2.safetensors", write_weights(&two));
                touch(&mut files)
            },
        },
        Kind {
            name: "pickle",
            seeds: vec![pickle.0],
            words: &[
                b"q\x00",
                b"h\x00",
                b"2",
                b"0",
                b"(",
                b"t",
                b"u",
                b"}",
                b"]",
                b"e",
                b"R",
                b"b",
                b")",
                b".",
                b"\x94",
                b"\x81",
                b"Q",
                b"\x85",
                b"\x86",
                b"X\xff\xff\xff\x7f",
                b"J\xff\xff\xff\xff",
                b"J\xff\xff\xff\x7f",
                b"\x8b\xff\xff\xff\x7f",
                b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
                b"\x95\0\0\0\0\0\0\0\0",
                b"cos\nsystem\n",
                b"ctorch\nDoubleStorage\n",
                b"ctorch\nQInt8Storage\n",
                b"ctorch._utils\n_rebuild_parameter\n",
            ],
            check: |folder, bytes| {
                let storages = small_tensors().into_values().map(|tensor| tensor.bytes);
                of_folder(folder, &archive(&archived(bytes, storages), 0))
            },
        },
        Kind {
            name: "archive",
            seeds: vec![torch_file(&tensors), legacy_torch_file(&tensors)],
            words: &[
                b"PK\x01\x02",
                b"PK\x03\x04",
                b"PK\x05\x06",
                b"PK\x06\x06",
                b"\xff\xff\xff\xff",
                b"\xff\xff",
                b"\x08\0",
                b"\0\0\0\0",
                b"../",
                b"big",
            ],
            check: |folder, bytes| of_folder(folder, &bytes),
        },
        Kind {
            name: "config",
            seeds: vec![config],
            words: &[
                b"null",
                b"{}",
                b"[]",
                b"\"\"",
                b"true",
                b"\"topk\"",
                b"\"relu\"",
                b"[0.5]",
                b"\"hidden_size\"",
                b"\"id2label\"",
                b"\\u0000",
            ],
            check: |_, bytes| {
                static WEIGHTS: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
                let weights = WEIGHTS.get_or_init(|| read(&fixture("tiny-bert/model.safetensors")));
                let mut files = ModelFiles::new();
                files.insert("config.json", bytes);
                files.insert("model.safetensors", Bytes::Shared(Box::new(weights.as_slice())));
                // Without a tokenizer, whose file is large.
                match Model::from_bytes(files) {
                    Err(error) if error.to_string().starts_with("tokenizer.json: missing") => Ok(()),
                    outcome => outcome.map(|_| ()),
                }
            },
        },
    ]
}

/// Reads the weights, and writes them out again.
fn touch(files: &mut ModelFiles) -> Result<(), Error> {
    let weights = Weights::from_files("", files)?;
    let (header, pieces) = weights.to_safetensors();
    let whole = [&header[..], &pieces.concat()].concat();
    Weights::new("again", whole.into()).map(|_| ())
}

fn of_folder(folder: &Path, bytes: &[u8]) -> Result<(), Error> {
    let path = folder.join("pytorch_model.bin");
    // A new file: to cut an old one off, some file systems wait for the disk.
    let _ = std::fs::remove_file(&path);
    std::fs::write(path, bytes).expect("a file");
    touch(&mut ModelFiles::from_dir(folder)?)
}

fn mutate(bytes: &mut Vec<u8>, words: &[&[u8]], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = (at + 1 + random.below(8)).min(bytes.len());
    match random.below(10) {
        0 => (0..=random.below(4)).for_each(|_| {
            let at = random.below(bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }),
        1 => drop(bytes.splice(at..end, [random.below(256) as u8])),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        // A stretch twice, or at another's place.
        4 => {
            let stretch = bytes[at..(at + random.below(80)).min(bytes.len())].to_vec();
            let to = random.below(bytes.len() + 1);
            drop(bytes.splice(to..to, stretch));
        }
        // Another number.
        5 | 6 => {
            let digits: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at].is_ascii_digit()).collect();
            if let Some(&start) = digits.get(random.below(digits.len().max(1))) {
                let end = (start..bytes.len()).find(|&at| !bytes[at].is_ascii_digit()).unwrap_or(bytes.len());
                drop(bytes.splice(start..end, NUMBERS[random.below(NUMBERS.len())].iter().copied()));
            }
        }
        7 => drop(bytes.splice(at..end, words[random.below(words.len())].iter().copied())),
        _ => drop(bytes.splice(at..at, words[random.below(words.len())].iter().copied())),
    }
}

fn input(number: u64, kind: &Kind) -> Vec<u8> {
    let mut random = Random(0x5eed_0000_0000_0001 ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut bytes = kind.seeds[random.below(kind.seeds.len())].clone();
    for _ in 0..[1, 1, 1, 2, 3, 6][random.below(6)] {
        mutate(&mut bytes, kind.words, &mut random);
    }
    // The length that begins the file must not hide the rest.
    if kind.name == "header" && bytes.len() > 8 && random.below(8) > 0 {
        let data = small_tensors().values().map(|tensor| tensor.bytes.len()).sum::<usize>();
        let length = (bytes.len() as u64 - 8).saturating_sub(data as u64);
        bytes[..8].copy_from_slice(&length.to_le_bytes());
    }
    bytes
}

/// Whether the input is read, or what must not happen.
fn check(kind: &Kind, folder: &Path, input: Vec<u8>) -> Result<bool, String> {
    let start = Instant::now();
    let (outcome, num_bytes, _) = counted(|| (kind.check)(folder, input));
    let time = start.elapsed();
    match outcome {
        _ if num_bytes > MAX_BYTES => Err(format!("took {num_bytes} bytes")),
        _ if time > MAX_TIME => Err(format!("took {time:?}")),
        Err(Error::Read { file, reason }) => Err(format!("cannot read {file}: {reason}")),
        outcome => Ok(outcome.is_ok()),
    }
}

/// The one test of this file: what it allocates is counted for the whole process.
#[test]
fn mutated_files_are_models_or_errors() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fuzz_files");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("config.json"), "{}").expect("a file");
    let mut failures = Vec::new();
    for kind in kinds() {
        for (index, seed) in kind.seeds.iter().enumerate() {
            assert_eq!(check(&kind, &folder, seed.clone()), Ok(true), "{} {index}", kind.name);
        }
        let numbers = numbers("STTABT_FUZZ_FILES");
        let (mut num_read, start) = (0, Instant::now());
        for number in numbers.clone() {
            match check(&kind, &folder, input(number, &kind)) {
                Ok(is_read) => num_read += u64::from(is_read),
                Err(failure) => failures.push(format!("{} {number}: {failure}", kind.name)),
            }
        }
        let num_inputs = numbers.end - numbers.start;
        println!("{}: {num_read} of {num_inputs} are read, in {:?}", kind.name, start.elapsed());
        // Mutations that break every file would test little.
        assert!(num_inputs < 1_000 || num_read * 50 > num_inputs, "{}: {num_read} are read", kind.name);
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures[..failures.len().min(20)].join("\n"));
}
