//! What the fuzz tests share: numbers that stand for inputs, and mutated JSON. A number stands for the same input as long as the seeds are
//! the same.
#![allow(dead_code, reason = "each test uses its own part")]

use std::ops::Range;

use serde_json::{Map, Value, json};

/// Marsaglia's xorshift64.
pub struct Random(u64);

impl Random {
    /// The generator of an input's number.
    pub fn of(number: u64) -> Self {
        Self(0x5eed_0000_0000_0001 ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize % limit.max(1)
    }

    /// A few of anything: mostly one.
    pub fn few(&mut self) -> usize {
        1 + *self.pick(&[0, 0, 0, 1, 2, 5])
    }

    pub fn pick<'a, T>(&mut self, values: &'a [T]) -> &'a T {
        &values[self.below(values.len())]
    }
}

/// The inputs that an environment variable asks for as FROM..TO, else those of a normal run.
pub fn numbers(variable: &str) -> Range<u64> {
    let Ok(range) = std::env::var(variable) else { return 0..10_000 };
    let numbers = range.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    numbers.unwrap_or_else(|| panic!("{variable}={range}: expected FROM..TO"))
}

/// The bytes of a mutated file: mostly JSON that was changed here and there, sometimes JSON no more. `others` are values to put in.
pub fn mutated(seed: &Value, others: &[Value], random: &mut Random) -> Vec<u8> {
    let mut value = seed.clone();
    for _ in 0..=*random.pick(&[0, 0, 1, 3]) {
        let depth = random.below(7);
        mutate(&mut value, depth, others, random);
    }
    let mut bytes = value.to_string().into_bytes();
    if random.below(10) == 0 {
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            bytes[at] = *random.pick(b"\"\\{}[],:01e-\xff ");
        }
    }
    bytes
}

/// Changes a part of a value, at most so deep inside.
fn mutate(value: &mut Value, depth: usize, others: &[Value], random: &mut Random) {
    let num_parts = match value {
        Value::Object(object) => object.len(),
        Value::Array(list) => list.len(),
        _ => 0,
    };
    if depth > 0 && num_parts > 0 {
        let part = random.below(num_parts);
        let inner = match value {
            Value::Object(object) => object.values_mut().nth(part),
            Value::Array(list) => list.get_mut(part),
            _ => None,
        };
        return mutate(inner.expect("a part"), depth - 1, others, random);
    }
    match (random.below(8), &mut *value) {
        (0 | 1, Value::Object(object)) if num_parts > 0 => remove(object, random),
        (2, Value::Object(object)) => {
            let names: Vec<String> = object.keys().cloned().collect();
            let name = if names.is_empty() { "type".to_owned() } else { random.pick(&names).clone() };
            object.insert(name, other(others, random));
        }
        (0, Value::Array(list)) if num_parts > 0 => drop(list.remove(random.below(num_parts))),
        (1, Value::Array(list)) if num_parts > 0 => {
            let again = random.pick(list).clone();
            list.insert(random.below(num_parts), again);
        }
        (2, Value::Array(list)) => list.push(other(others, random)),
        (0..=3, Value::String(text)) => mutate_text(text, random),
        (0..=3, Value::Bool(flag)) => *flag = !*flag,
        (0..=3, Value::Number(number)) => {
            let near = number.as_f64().unwrap_or_default();
            let numbers = [near + 1.0, near - 1.0, -near, near * 2.0, near + 0.5, 0.0, 1.0, 255.0, 65_536.0, 4e9, 1e30];
            let number = *random.pick(&numbers);
            *value = if number.fract() == 0.0 && number.abs() < 1e18 { json!(number as i64) } else { json!(number) };
        }
        (_, value) => *value = other(others, random),
    }
}

fn remove(object: &mut Map<String, Value>, random: &mut Random) {
    let names: Vec<String> = object.keys().cloned().collect();
    object.remove(random.pick(&names));
}

fn mutate_text(text: &mut String, random: &mut Random) {
    let chars: Vec<char> = text.chars().collect();
    let at = random.below(chars.len() + 1);
    let new = *random.pick(&['\u{200c}', ' ', 'é', '#', 'A', '\0', '▁', '🙂', '\u{301}', '/']);
    *text = match random.below(4) {
        0 => chars[..at].iter().collect(),
        1 => chars[..at].iter().chain([&new]).chain(&chars[at..]).collect(),
        2 => chars[..at].iter().chain([&new]).chain(chars.get(at + 1..).unwrap_or_default()).collect(),
        _ => random.pick(&["", " ", "\u{200c}", "[CLS]", "a", "Precompiled", "Sequence", "\u{301}"]).to_string(),
    };
}

fn other(others: &[Value], random: &mut Random) -> Value {
    match random.below(10) {
        0 => Value::Null,
        1 => json!([]),
        2 => json!({}),
        3 => json!(*random.pick(&[-1, 0, 1, 2, 3, 256, 1 << 31, 1 << 32, i64::MAX])),
        4 => json!(*random.pick(&["", "a", "\u{200c}", " ", "[UNK]", "\u{fdd0}", "AAAAAA=="])),
        _ => random.pick(others).clone(),
    }
}
