//! Quotation marks: around fields, or part of the text.
//!
//! RFC 4180 puts a field in quotation marks, and doubles those inside it. GLUE's tab-separated files do not quote: a quotation mark
//! there is a character like any other. Pandas quotes in both.

/// A quotation mark that quotes nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Stray {
    pub line: u64,
    pub what: &'static str,
}

/// What the quotation marks of a file say if all of them quote.
#[derive(Debug, Default)]
pub struct Quotes {
    pub num_quoted: usize,
    pub first_line: u64,
    /// Fields with a doubled quotation mark.
    num_doubled: usize,
    /// Fields with the delimiter or a line end inside.
    num_spanning: usize,
    quoted_without_comma: bool,
    plain_with_comma: bool,
    columns: Vec<Column>,
}

/// Fields of one column, without the header.
#[derive(Debug, Clone, Copy, Default)]
struct Column {
    num_quoted: usize,
    num_plain: usize,
}

/// Goes through all fields. A quotation mark inside a plain field is stray only in a file that may not quote at all.
pub fn scan(text: &str, delimiter: u8, has_header: bool, allows_inside: bool) -> Result<Quotes, Stray> {
    let bytes = text.as_bytes();
    let ends_field = |at: usize| bytes.get(at).is_none_or(|&byte| byte == delimiter || byte == b'\n' || byte == b'\r');
    let mut quotes = Quotes::default();
    let (mut at, mut line, mut column, mut is_header) = (0, 1_u64, 0_usize, has_header);
    while at < bytes.len() {
        let start = at;
        let is_quoted = bytes[at] == b'"';
        let first_line = line;
        if is_quoted {
            let (mut is_doubled, mut spans) = (false, false);
            at += 1;
            loop {
                match (bytes.get(at), bytes.get(at + 1)) {
                    (None, _) => return Err(Stray { line: first_line, what: "opens a field, and none closes it" }),
                    (Some(b'"'), Some(b'"')) => (is_doubled, at) = (true, at + 2),
                    (Some(b'"'), _) => break,
                    (Some(&byte), _) => {
                        line += u64::from(byte == b'\n');
                        spans |= byte == delimiter || byte == b'\n' || byte == b'\r';
                        at += 1;
                    }
                }
            }
            at += 1;
            if !ends_field(at) {
                return Err(Stray { line, what: "closes a field, and text follows it" });
            }
            if quotes.num_quoted == 0 {
                quotes.first_line = first_line;
            }
            quotes.num_quoted += 1;
            quotes.num_doubled += usize::from(is_doubled);
            quotes.num_spanning += usize::from(spans);
            quotes.quoted_without_comma |= !is_doubled && !spans && !bytes[start..at].contains(&b',');
        } else {
            while !ends_field(at) {
                at += 1;
            }
            let field = &bytes[start..at];
            if field.contains(&b'"') && !allows_inside {
                return Err(Stray { line, what: "stands inside a field" });
            }
            quotes.plain_with_comma |= field.contains(&b',');
        }
        if !is_header && !bytes[start..at].trim_ascii().is_empty() {
            if quotes.columns.len() <= column {
                quotes.columns.resize(column + 1, Column::default());
            }
            let fields = &mut quotes.columns[column];
            fields.num_quoted += usize::from(is_quoted);
            fields.num_plain += usize::from(!is_quoted);
        }
        match bytes.get(at) {
            Some(&byte) if byte == delimiter => column += 1,
            Some(&byte) => {
                line += u64::from(byte == b'\n');
                // Blank lines before the header are none.
                is_header &= column == 0 && bytes[start..at].trim_ascii().is_empty();
                column = 0;
            }
            None => {}
        }
        at += 1;
    }
    Ok(quotes)
}

impl Quotes {
    /// Whether fields are quoted in a file where they need not be. One sign is enough:
    /// - a field holds a doubled quotation mark;
    /// - a field holds a tab or a line end, and read without quoting the lines would differ in their number of columns;
    /// - every field of a column is quoted;
    /// - exactly the fields with a comma are quoted, as Excel does.
    ///
    /// A sentence in quotation marks here and there is none of these: it is a quotation.
    pub fn are_of_fields(&self, text: &str, delimiter: u8) -> bool {
        if self.num_spanning > 0 {
            return !is_even(text, delimiter);
        }
        let is_wholly_quoted = |column: &Column| column.num_quoted > 0 && column.num_plain == 0;
        let by_comma = self.num_quoted > 0 && !self.quoted_without_comma && !self.plain_with_comma;
        self.num_doubled > 0 || by_comma || self.columns.iter().any(is_wholly_quoted)
    }
}

/// Whether all lines but blank ones have the same number of columns when nothing quotes.
fn is_even(text: &str, delimiter: u8) -> bool {
    let lines = text.split(['\n', '\r']).filter(|line| !line.trim().is_empty());
    let mut counts = lines.map(|line| line.bytes().filter(|&byte| byte == delimiter).count());
    let first = counts.next();
    counts.all(|count| Some(count) == first)
}
