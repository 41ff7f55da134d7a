//! A goroutine profile for `go tool pprof`: profile.proto, gzipped
//! (github.com/google/pprof/proto/profile.proto).
//!
//! One sample per stack, state and labels; every frame is kept. Goroutines
//! whose stacks could not be read count under a frame that says so.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::golang::labels::Labels;
use crate::survey::{Entry, Line, PlaceId, StackId, StackState, Survey, status_word};

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A number; 0 is left out, as proto3 has it.
    fn number(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.varint(field << 3);
            self.varint(value);
        }
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, inner: &Message) {
        self.bytes(field, &inner.0);
    }

    fn packed(&mut self, field: u64, values: &[u64]) {
        let mut inner = Message::default();
        for value in values {
            inner.varint(*value);
        }
        self.message(field, &inner);
    }
}

#[derive(Default)]
struct Strings {
    all: Vec<String>,
    index: HashMap<String, u64>,
}

impl Strings {
    fn id(&mut self, text: &str) -> u64 {
        if let Some(id) = self.index.get(text) {
            return *id;
        }
        let id = self.all.len() as u64;
        self.all.push(text.to_owned());
        self.index.insert(text.to_owned(), id);
        id
    }
}

struct Profile<'a> {
    survey: &'a Survey,
    strings: Strings,
    functions: HashMap<(u64, u64), u64>,
    locations: HashMap<(u64, PlaceId), u64>,
    unknown: HashMap<&'static str, u64>,
    message: Message,
}

type SampleKey = (
    Option<StackId>,
    StackState,
    Arc<str>,
    &'static str,
    Option<Arc<Labels>>,
);

/// Writes `list` as a gzipped profile.
pub fn write(to: &mut dyn Write, survey: &Survey, list: &[&Entry]) -> io::Result<()> {
    let mut gzip = GzEncoder::new(to, Compression::default());
    gzip.write_all(&encode(survey, list))?;
    gzip.finish()?;
    Ok(())
}

/// The profile, not compressed.
pub(super) fn encode(survey: &Survey, list: &[&Entry]) -> Vec<u8> {
    let mut profile = Profile {
        survey,
        strings: Strings::default(),
        functions: HashMap::new(),
        locations: HashMap::new(),
        unknown: HashMap::new(),
        message: Message::default(),
    };
    profile.strings.id("");
    let mut kind = Message::default();
    kind.number(1, profile.strings.id("goroutine"));
    kind.number(2, profile.strings.id("count"));
    profile.message.message(1, &kind);
    let mut order: Vec<SampleKey> = Vec::new();
    let mut counts: HashMap<SampleKey, u64> = HashMap::new();
    for one in list {
        let key = (
            one.stack,
            one.stack_state,
            one.reason.clone(),
            status_word(one.status),
            one.labels.clone(),
        );
        let count = counts.entry(key.clone()).or_insert_with(|| {
            order.push(key);
            0
        });
        *count += one.count as u64;
    }
    for key in &order {
        profile.sample(key, counts.get(key).copied().unwrap_or(0));
    }
    profile.message.message(11, &kind);
    profile.message.number(12, 1);
    if let Some(time) = survey.time_ns {
        profile.message.number(9, time as u64);
    }
    // After everything that names strings.
    let Profile {
        strings,
        mut message,
        ..
    } = profile;
    for text in &strings.all {
        message.bytes(6, text.as_bytes());
    }
    message.0
}

impl Profile<'_> {
    fn sample(&mut self, key: &SampleKey, count: u64) {
        let (stack, state, reason, status, labels) = key;
        let locations = match stack {
            Some(id) => self.stack(*id),
            None => vec![self.unknown(match state {
                StackState::Running => "[running]",
                StackState::Unstable => "[moved while it was read]",
                _ => "[unreadable]",
            })],
        };
        let mut sample = Message::default();
        sample.packed(1, &locations);
        sample.packed(2, &[count]);
        let doing = if reason.is_empty() { status } else { &**reason };
        let own = ("state".to_owned(), doing.to_owned());
        let given = labels.iter().flat_map(|l| l.iter());
        for (name, value) in given.chain(std::iter::once(&own)) {
            let mut label = Message::default();
            label.number(1, self.strings.id(name));
            label.number(2, self.strings.id(value));
            sample.message(3, &label);
        }
        self.message.message(2, &sample);
    }

    /// Location ids of a stack, innermost first.
    fn stack(&mut self, id: StackId) -> Vec<u64> {
        let lines = self.survey.names.lines(id).to_vec();
        let mut locations = Vec::new();
        let mut rest = lines.as_slice();
        while !rest.is_empty() {
            // Inlined bodies and the function that holds them are one location.
            let own = rest.iter().position(|l| !l.inlined).unwrap_or(rest.len());
            let (frames, after) = rest.split_at((own + 1).min(rest.len()));
            locations.extend(self.location(frames));
            rest = after;
        }
        locations
    }

    fn location(&mut self, frames: &[Line]) -> Option<u64> {
        let first = frames.first()?;
        if let Some(id) = self.locations.get(&(first.pc, first.place)) {
            return Some(*id);
        }
        let id = (self.locations.len() + self.unknown.len() + 1) as u64;
        self.locations.insert((first.pc, first.place), id);
        let mut location = Message::default();
        location.number(1, id);
        location.number(3, first.pc);
        for frame in frames {
            let Some(place) = self.survey.names.get(frame.place).cloned() else {
                continue;
            };
            let mut line = Message::default();
            line.number(1, self.function(&place.func, &place.file));
            line.number(2, u64::from(place.line));
            location.message(4, &line);
        }
        self.message.message(4, &location);
        Some(id)
    }

    fn unknown(&mut self, name: &'static str) -> u64 {
        if let Some(id) = self.unknown.get(name) {
            return *id;
        }
        let id = (self.locations.len() + self.unknown.len() + 1) as u64;
        self.unknown.insert(name, id);
        let mut line = Message::default();
        line.number(1, self.function(name, ""));
        let mut location = Message::default();
        location.number(1, id);
        location.message(4, &line);
        self.message.message(4, &location);
        id
    }

    fn function(&mut self, name: &str, file: &str) -> u64 {
        let key = (self.strings.id(name), self.strings.id(file));
        if let Some(id) = self.functions.get(&key) {
            return *id;
        }
        let id = self.functions.len() as u64 + 1;
        self.functions.insert(key, id);
        let mut function = Message::default();
        function.number(1, id);
        function.number(2, key.0);
        function.number(3, key.0);
        function.number(4, key.1);
        self.message.message(5, &function);
        id
    }
}
