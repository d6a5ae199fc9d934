//! Whose type it is that the reader of pickles does not know. Nothing that a pickle asks for is run.

use std::collections::HashMap;

/// What a pickle speaks of, as far as it is of use here.
#[derive(Clone, Copy)]
enum Item<'a> {
    Text(&'a str),
    /// A class or function, behind its module.
    Global(&'a str, &'a str),
}

/// The name of the first tensor that is made by means of this class or function, such as `torch.ComplexFloatStorage`. `pickles` may be several,
/// one after the other, and bytes that are none after them.
pub fn tensor_of<'a>(global: &str, mut pickles: &'a [u8]) -> Option<&'a str> {
    let (mut memo, mut last) = (HashMap::new(), None);
    let (mut text, mut name) = (None, None);
    while let Some((&code, rest)) = pickles.split_first() {
        let (argument, rest) = rest.split_at_checked(argument_length(code, rest)?)?;
        pickles = rest;
        let item = match code {
            b'q' | b'r' | b'p' | 0x94 => {
                memo.insert(place(argument, memo.len())?, last);
                continue;
            }
            b'h' | b'j' | b'g' => memo.get(&place(argument, 0)?).copied().flatten(),
            b'X' => argument.get(4..).and_then(utf8).map(Item::Text),
            0x8c => argument.get(1..).and_then(utf8).map(Item::Text),
            b'V' => line(argument).map(Item::Text),
            b'c' => {
                line(argument).and_then(|lines| lines.split_once('\n')).map(|(module, name)| Item::Global(module, name))
            }
            // The next one begins.
            b'.' => {
                memo.clear();
                None
            }
            _ => None,
        };
        match item {
            Some(Item::Text(found)) => text = Some(found),
            Some(Item::Global(module, function)) => {
                // What makes a tensor stands behind its name.
                if function.starts_with("_rebuild_") {
                    name = text;
                }
                if global.strip_suffix(function).and_then(|start| start.strip_suffix('.')) == Some(module) {
                    return name;
                }
            }
            None => {}
        }
        last = item;
    }
    None
}

fn utf8(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn line(bytes: &[u8]) -> Option<&str> {
    utf8(bytes)?.strip_suffix('\n')
}

/// Where something is remembered; without an argument, behind all else.
fn place(argument: &[u8], num_remembered: usize) -> Option<usize> {
    match *argument {
        [] => Some(num_remembered),
        [one] => Some(one.into()),
        [a, b, c, d] if !argument.ends_with(b"\n") => Some(u32::from_le_bytes([a, b, c, d]) as usize),
        ref text => line(text)?.parse().ok(),
    }
}

/// How many bytes belong to an operation. Some have a length in front of them, and others end with their line.
fn argument_length(code: u8, rest: &[u8]) -> Option<usize> {
    let counted = |num_bytes: usize| {
        let mut length = [0; 8];
        length[..num_bytes].copy_from_slice(rest.get(..num_bytes)?);
        usize::try_from(u64::from_le_bytes(length)).ok()?.checked_add(num_bytes)
    };
    let lines = |num_lines: usize| {
        let mut ends = rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        ends.nth(num_lines - 1).map(|(end, _)| end + 1)
    };
    match code {
        b'q' | b'h' | b'K' | 0x80 | 0x82 => Some(1),
        b'M' | 0x83 => Some(2),
        b'r' | b'j' | b'J' | 0x84 => Some(4),
        b'G' | 0x95 => Some(8),
        b'U' | b'C' | 0x8a | 0x8c => counted(1),
        b'X' | b'T' | b'B' | 0x8b => counted(4),
        0x8d | 0x8e | 0x96 => counted(8),
        b'I' | b'L' | b'F' | b'V' | b'S' | b'P' | b'g' | b'p' => lines(1),
        b'c' | b'i' => lines(2),
        _ => Some(0),
    }
}
