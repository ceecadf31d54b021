//! A table of the file as the checks see it: reads one key at a time, reports wrong types and values out of range, records
//! the keys read, and finally refuses unknown keys.
//!
//! Serde would stop at the first wrong type or unknown key; this reports all of them, each with its field path.

use std::ops::RangeInclusive;

use toml::de::{DeTable, DeValue};

use crate::near::nearest;
use crate::report::{Field, Place, Report, quoted};

/// One table, or the absence of an optional one.
pub struct Section<'t> {
    report: &'t Report,
    table: Option<&'t DeTable<'t>>,
    /// Position of its header; the root's field path is empty.
    pub place: Place,
    asked: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// The whole document.
    pub fn root(report: &'t Report, table: &'t DeTable<'t>) -> Self {
        Self::new(report, Some(table), Place { line: 1, field: String::new() })
    }

    fn new(report: &'t Report, table: Option<&'t DeTable<'t>>, place: Place) -> Self {
        report.note(&place);
        Self { report, table, place, asked: Vec::new() }
    }

    /// Whether the file has this table.
    pub fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the table has `key`, valid or not.
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Refuses `key` of this table, at its own line if present.
    pub fn refuse(&self, key: &str, sentence: impl Into<String>) {
        self.report.refuse(&self.place_of(key), sentence);
    }

    /// Marks `key` as known without reading it.
    pub fn ignore(&mut self, key: &'static str) {
        self.asked.push(key);
    }

    /// Refuses something at its own position.
    pub fn refuse_at(&self, place: &Place, sentence: impl Into<String>) {
        self.report.refuse(place, sentence);
    }

    /// Reports `key` as missing, if it is.
    pub fn require(&self, key: &str, example: &str) {
        if !self.has(key) {
            self.refuse(key, format!("is missing; write for example {example}"));
        }
    }

    fn place_of(&self, key: &str) -> Place {
        let value = self.table.and_then(|table| table.get(key));
        let line = value.map_or(self.place.line, |value| self.report.line_of(&value.span()));
        Place { line, field: self.path_of(key) }
    }

    fn path_of(&self, key: &str) -> String {
        match self.place.field.as_str() {
            "" => shown_key(key),
            parent => format!("{parent}.{}", shown_key(key)),
        }
    }

    /// The text in the brackets of a table under `key`.
    fn header_of(&self, key: &str) -> String {
        match self.place.field.split(['.', '[']).next() {
            None | Some("") => key.to_owned(),
            Some(parent) => format!("{parent}.{key}"),
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Field<&'t DeValue<'t>>> {
        self.asked.push(key);
        let value = self.table?.get(key)?.get_ref();
        let place = self.place_of(key);
        self.report.note(&place);
        Some(Field { value, place })
    }

    /// A string.
    pub fn text(&mut self, key: &'static str) -> Option<Field<&'t str>> {
        let field = self.take(key)?;
        self.string(field)
    }

    fn string(&self, field: Field<&'t DeValue<'t>>) -> Option<Field<&'t str>> {
        let Field { value, place } = field;
        let text = value.as_str();
        if text.is_none() {
            self.report.refuse(&place, format!("is {}; write a string in quotation marks", describe(value)));
        }
        Some(Field { value: text?, place })
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        let Field { value, place } = self.take(key)?;
        let flag = value.as_bool();
        if flag.is_none() {
            self.report.refuse(&place, format!("is {}; write true or false", describe(value)));
        }
        flag
    }

    /// An integer within `range`.
    pub fn number(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<Field<u32>> {
        let field = self.take(key)?;
        self.within(field, &range)
    }

    /// An integer within `range`; `default` if the key is missing.
    pub fn number_or(&mut self, key: &'static str, range: RangeInclusive<u32>, default: u32) -> u32 {
        self.number(key, range).map_or(default, |field| field.value)
    }

    /// A list of integers, all within `range`.
    pub fn numbers(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<Field<Vec<u32>>> {
        let Field { value: items, place } = self.list(key, "[2, 3]")?;
        let items = items.into_iter().map(|item| self.within(item, &range));
        // Reads all items before the first invalid one discards the list.
        let items: Vec<Option<Field<u32>>> = items.collect();
        let value = items.into_iter().map(|item| Some(item?.value)).collect::<Option<Vec<u32>>>()?;
        Some(Field { value, place })
    }

    /// The strings of a list, each with its position; other items are refused and left out.
    pub fn texts(&mut self, key: &'static str, example: &str) -> Vec<Field<&'t str>> {
        let items = self.list(key, example).map_or(Vec::new(), |list| list.value);
        items.into_iter().filter_map(|item| self.string(item)).collect()
    }

    fn list(&mut self, key: &'static str, example: &str) -> Option<Field<Vec<Field<&'t DeValue<'t>>>>> {
        let Field { value, place } = self.take(key)?;
        let Some(array) = value.as_array() else {
            let what = describe(value);
            self.report.refuse(&place, format!("is {what}; write a list, for example {example}"));
            return None;
        };
        let items = array.iter().enumerate().map(|(index, item)| {
            let line = self.report.line_of(&item.span());
            Field { value: item.get_ref(), place: Place { line, field: format!("{}[{index}]", place.field) } }
        });
        Some(Field { value: items.collect(), place })
    }

    /// `true` or `false`; `default` if the key is missing.
    pub fn truth_or(&mut self, key: &'static str, default: bool) -> bool {
        let Some(Field { value, place }) = self.take(key) else { return default };
        value.as_bool().unwrap_or_else(|| {
            self.report.refuse(&place, format!("is {}; write true or false", describe(value)));
            default
        })
    }

    /// Every key of the table with its integer, for a table whose keys the operator chooses.
    pub fn entries(&self, range: RangeInclusive<u32>) -> Vec<(&'t str, Field<u32>)> {
        let entries = self.table.into_iter().flatten().filter_map(|(key, value)| {
            let key: &str = key.get_ref();
            let field = Field { value: value.get_ref(), place: self.place_of(key) };
            self.report.note(&field.place);
            Some((key, self.within(field, &range)?))
        });
        entries.collect()
    }

    fn within(&self, field: Field<&DeValue<'_>>, range: &RangeInclusive<u32>) -> Option<Field<u32>> {
        let Field { value, place } = field;
        let number = value.as_integer().and_then(|digits| i64::from_str_radix(digits.as_str(), digits.radix()).ok());
        let accepted = number.and_then(|number| u32::try_from(number).ok()).filter(|number| range.contains(number));
        if accepted.is_none() {
            let (first, last) = (range.start(), range.end());
            let what = describe(value);
            self.report.refuse(&place, format!("is {what}; write a whole number from {first} to {last}"));
        }
        Some(Field { value: accepted?, place })
    }

    /// One word of `words`, as the value paired with it.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<Field<T>> {
        let Field { value, place } = self.text(key)?;
        let known = words.iter().find(|(word, _)| *word == value);
        if known.is_none() {
            let choice: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            let sentence = format!("{} is unknown; write one of {}", quoted(value), choice.join(", "));
            self.report.refuse(&place, sentence);
        }
        Some(Field { value: known?.1, place })
    }

    /// The table under `key`; an empty one if it is missing.
    pub fn section(&mut self, key: &'static str) -> Section<'t> {
        let absent = Section::new(self.report, None, self.place_of(key));
        let Some(Field { value, place }) = self.take(key) else {
            return absent;
        };
        let Some(table) = value.as_table() else {
            let (what, header) = (describe(value), self.header_of(key));
            self.report.refuse(&place, format!("is {what}; write [{header}], with single brackets, once"));
            return absent;
        };
        Section::new(self.report, Some(table), place)
    }

    /// The tables under `key`, each with its name in the path if it has one, otherwise its index (from 0).
    pub fn sections(&mut self, key: &'static str) -> Vec<Section<'t>> {
        let Some(Field { value, place }) = self.take(key) else {
            return Vec::new();
        };
        let path = place.field.clone();
        let header = self.header_of(key);
        let items = match value {
            DeValue::Array(items) if items.iter().all(|item| item.get_ref().is_table()) => items,
            _ => {
                let what = describe(value);
                self.report.refuse(&place, format!("is {what}; write [[{header}]], with two brackets, above each"));
                return Vec::new();
            }
        };
        if items.is_empty() {
            self.report.refuse(&place, "is empty; write at least one table, or remove it");
        }
        let tables = items.iter().enumerate().filter_map(|(index, item)| {
            let table = item.get_ref().as_table()?;
            let line = self.report.line_of(&item.span());
            let field = match plain_name(table) {
                Some(name) => format!("{path}.{name}"),
                None => format!("{path}[{index}]"),
            };
            Some(Section::new(self.report, Some(table), Place { line, field }))
        });
        tables.collect()
    }

    /// Refuses every key that was not read.
    pub fn finish(self) {
        for key in self.table.into_iter().flat_map(|table| table.keys()) {
            let name: &str = key.get_ref();
            if !self.asked.contains(&name) {
                let place = Place { line: self.report.line_of(&key.span()), field: self.path_of(name) };
                let near = nearest(name, &self.asked).map(|near| format!("perhaps you mean {near}; "));
                let (near, keys) = (near.unwrap_or_default(), self.asked.join(", "));
                self.report.refuse(&place, format!("is an unknown key; {near}the keys here are {keys}"));
            }
        }
    }
}

/// The table's name, if it is valid in a path.
fn plain_name<'t>(table: &'t DeTable<'_>) -> Option<&'t str> {
    table.get("name")?.get_ref().as_str().filter(|name| is_plain(name))
}

fn is_plain(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=31).contains(&word.len()) && word.chars().all(plain)
}

fn shown_key(key: &str) -> String {
    if is_plain(key) { key.to_owned() } else { quoted(key) }
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {}", quoted(text)),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
