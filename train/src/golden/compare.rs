//! Numbers beside those of the authors' code, each with its own limit.

use serde_json::Value;

/// How far one number is off.
struct Deviation {
    what: String,
    found: f64,
    expected: f64,
    deviation: f64,
    limit: f64,
}

/// The comparison of one run, by parts.
pub struct Comparison {
    name: String,
    floor: f64,
    parts: Vec<(&'static str, Vec<Deviation>)>,
}

impl Comparison {
    /// `floor` is the limit of numbers whose own deviation is small.
    pub fn new(name: String, floor: f64) -> Self {
        Self { name, floor, parts: Vec::new() }
    }

    /// One number, in units of `scale`; `dev` is how far the expected one is from the same in f64.
    pub fn add(&mut self, part: &'static str, what: String, found: f64, expected: f64, scale: f64, dev: f64) {
        let deviation = (found - expected).abs() / scale.max(1e-30);
        let deviation = if deviation.is_nan() { f64::INFINITY } else { deviation };
        let limit = self.floor.max(4.0 * dev);
        let one = Deviation { what, found, expected, deviation, limit };
        match self.parts.iter_mut().find(|(name, _)| *name == part) {
            Some((_, all)) => all.push(one),
            None => self.parts.push((part, vec![one])),
        }
    }

    /// A tensor, which is given as its norm, its sum and some of its values. A missing one is off by infinity.
    pub fn tensor(&mut self, part: &'static str, what: &str, found: Option<&[f64]>, expected: &Value) {
        if expected["noise"].as_bool() == Some(true) {
            return;
        }
        let number = |key: &str| expected[key].as_f64().unwrap_or(f64::NAN);
        let dev = expected["dev"].as_f64().unwrap_or(0.0);
        let Some(found) = found else {
            self.add(part, what.to_owned(), f64::NAN, number("norm"), 1.0, dev);
            return;
        };
        let norm = found.iter().map(|value| value * value).sum::<f64>().sqrt();
        self.add(part, format!("{what} norm"), norm, number("norm"), number("norm"), dev);
        let scale = number("norm") * (found.len() as f64).sqrt();
        self.add(part, format!("{what} sum"), found.iter().sum(), number("sum"), scale, dev);
        let values = numbers(&expected["values"]);
        let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        let offset = expected["offset"].as_u64().unwrap_or(0) as usize;
        for (at, &expected) in values.iter().enumerate() {
            let found = found.get(offset + at).copied().unwrap_or(f64::NAN);
            self.add(part, format!("{what} [{}]", offset + at), found, expected, largest, dev);
        }
    }

    /// Two lists of names that should be the same.
    pub fn names(&mut self, part: &'static str, found: &[String], expected: &[String]) {
        let differs = |one: &[String], other: &[String]| one.iter().find(|name| !other.contains(name)).cloned();
        let different = differs(found, expected).or_else(|| differs(expected, found));
        let deviation = if different.is_some() { f64::INFINITY } else { 0.0 };
        self.add(part, different.unwrap_or_default(), deviation, 0.0, 1.0, 0.0);
    }

    /// The report, a line for each part, and how many numbers are beyond their limit.
    pub fn report(&self) -> (String, usize) {
        let mut text = format!("{}\n", self.name);
        let mut num_beyond = 0;
        for (part, all) in &self.parts {
            let share = |one: &Deviation| one.deviation / one.limit;
            let Some(worst) = all.iter().max_by(|one, other| share(one).total_cmp(&share(other))) else { continue };
            let beyond: Vec<&Deviation> = all.iter().filter(|one| one.deviation > one.limit).collect();
            num_beyond += beyond.len();
            let verdict = if beyond.is_empty() { String::new() } else { format!("  {} BEYOND", beyond.len()) };
            let Deviation { what, deviation, limit, .. } = worst;
            text +=
                &format!("  {part:<12} {:>5} numbers  {deviation:.1e} of {limit:.1e}  {what}{verdict}\n", all.len());
            for Deviation { what, found, expected, deviation, limit } in beyond.into_iter().take(4) {
                text += &format!(
                    "    {what}: {found:.9e}, expected {expected:.9e}, off by {deviation:.1e} of {limit:.1e}\n"
                );
            }
        }
        (text, num_beyond)
    }
}

/// An array of numbers.
pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

/// An array of such arrays.
pub fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().into_iter().flatten().map(numbers).collect()
}
