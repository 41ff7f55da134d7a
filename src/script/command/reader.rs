//! Text to statements: where a command ends, where its block begins.

use super::parser::command;
use super::{Script, Statement, Word};
use crate::script::error::{ExprError, Span};

/// No script that a person writes is longer, in bytes.
const MAX_SCRIPT: usize = 1 << 20;
/// Blocks in blocks.
const MAX_BLOCKS: usize = 16;
/// Errors that are told of one text.
const MAX_ERRORS: usize = 100;

/// What was read of a text.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// What could be read.
    pub script: Script,
    /// What is wrong with the rest, in order of place.
    pub errors: Vec<ExprError>,
    /// A block is open at the end: more lines may follow at a prompt.
    pub unclosed: bool,
}

/// Reads a whole text; it goes on behind what is wrong. Spans are in bytes of
/// `source`.
pub fn parse_script(source: &str) -> Parsed {
    let mut parsed = Parsed::default();
    if source.len() > MAX_SCRIPT {
        parsed.errors.push(ExprError::new(
            Span::default(),
            format!("longer than {MAX_SCRIPT} bytes"),
        ));
        return parsed;
    }
    let mut reader = Reader {
        source,
        at: 0,
        errors: Vec::new(),
        unclosed: false,
    };
    loop {
        parsed.script.statements.extend(reader.statements(0));
        if reader.peek() != Some('}') {
            break;
        }
        let at = reader.at;
        reader.at += 1;
        reader.fail(Span::new(at, at + 1), "this `}` closes nothing");
    }
    parsed.errors = reader.errors;
    parsed.errors.sort_by_key(|e| e.span.start);
    parsed.unclosed = reader.unclosed;
    parsed
}

/// At a prompt: a block is open, and more lines are to follow.
pub fn is_incomplete(text: &str) -> bool {
    parse_script(text).unclosed
}

/// The word needs no quotes.
pub(super) fn is_plain_word(text: &str) -> bool {
    // What is open in one word would hide the ends of those behind it.
    let mut depth = 0_usize;
    for c in text.chars() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' if depth == 0 => return false,
            ')' | ']' => depth -= 1,
            '"' | '`' => return false,
            _ => {}
        }
    }
    if depth > 0 || text == "if" {
        return false;
    }
    let mut reader = Reader::new(text);
    let end = reader.head();
    let found = words(text, Span::new(0, text.len()));
    reader.errors.is_empty()
        && end.start == 0
        && end.end == text.len()
        && matches!(found.as_slice(), [one] if one.text == text)
}

struct Reader<'s> {
    source: &'s str,
    at: usize,
    errors: Vec<ExprError>,
    unclosed: bool,
}

impl<'s> Reader<'s> {
    fn new(source: &'s str) -> Self {
        Reader {
            source,
            at: 0,
            errors: Vec::new(),
            unclosed: false,
        }
    }

    fn rest(&self) -> &'s str {
        self.source.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn fail(&mut self, span: Span, message: impl Into<String>) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(ExprError::new(span, message));
        }
    }

    /// Statements up to the end, or up to a `}`, which is left.
    fn statements(&mut self, depth: usize) -> Vec<Statement> {
        let mut found = Vec::new();
        loop {
            self.skip_between();
            match self.peek() {
                None | Some('}') => return found,
                Some(_) => {}
            }
            let before = self.at;
            found.extend(self.statement(depth));
            if self.at == before {
                // Nothing is left unread for ever.
                self.at += self.peek().map_or(1, char::len_utf8);
            }
        }
    }

    /// White space, newlines, `;` and comments.
    fn skip_between(&mut self) {
        loop {
            let rest = self.rest();
            let next = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
            self.at += rest.len() - next.len();
            if !next.starts_with('#') {
                return;
            }
            self.at += next.find('\n').unwrap_or(next.len());
        }
    }

    fn statement(&mut self, depth: usize) -> Option<Statement> {
        let errors_before = self.errors.len();
        let span = self.head();
        let block = self.block(depth);
        let head_failed = self.errors.len() > errors_before && block.is_none();
        if span.start == span.end {
            if block.is_some() {
                self.fail(
                    Span::new(span.start, span.start + 1),
                    "a block stands behind a command",
                );
            }
            return None;
        }
        if head_failed {
            return None;
        }
        let text = self.source.get(..span.end).unwrap_or("");
        match command(text, span, block) {
            Ok(command) => Some(Statement { command, span }),
            Err(error) => {
                self.fail(error.span, error.message);
                None
            }
        }
    }

    /// The part of a statement before its block: up to a newline, `;`, a
    /// comment, or a brace outside of brackets, quotes and `/…/`.
    fn head(&mut self) -> Span {
        let (start, errors) = (self.at, self.errors.len());
        let (span, open) = self.head_with(true);
        if open == 0 {
            return span;
        }
        // A bracket that nothing closes hides nothing.
        self.at = start;
        self.errors.truncate(errors);
        self.head_with(false).0
    }

    /// The head, and how many brackets are open at its end.
    fn head_with(&mut self, brackets: bool) -> (Span, usize) {
        let start = self.at;
        let mut end = start;
        let mut depth = 0_usize;
        let mut word_start = true;
        let mut regexes = true;
        while let Some(c) = self.peek() {
            let outside = depth == 0;
            match c {
                '\n' => break,
                ';' | '{' | '}' if outside => break,
                '#' if word_start => break,
                '"' | '`' => {
                    if !self.quoted(c) {
                        break;
                    }
                    end = self.at;
                    word_start = false;
                    continue;
                }
                '/' if word_start && outside && regexes => {
                    if let Some(len) = regex_len(self.rest()) {
                        self.at += len;
                        end = self.at;
                        word_start = false;
                        continue;
                    }
                }
                '(' | '[' if brackets => depth += 1,
                ')' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if word_start && outside && regexes && is_if(self.rest()) {
                regexes = false;
            }
            self.at += c.len_utf8();
            word_start = c.is_whitespace();
            if !word_start {
                end = self.at;
            }
        }
        (Span::new(start, end), depth)
    }

    /// Moves behind a quoted text; false when it does not end on its line.
    fn quoted(&mut self, quote: char) -> bool {
        if let Some(len) = quoted_len(self.rest(), quote) {
            self.at += len;
            return true;
        }
        let at = self.at;
        let line = self.rest();
        self.at += line.find('\n').unwrap_or(line.len());
        self.fail(
            Span::new(at, at + 1),
            "this text has no closing quote on its line",
        );
        false
    }

    fn block(&mut self, depth: usize) -> Option<Vec<Statement>> {
        if self.peek() != Some('{') {
            return None;
        }
        let open = self.at;
        self.at += 1;
        if depth >= MAX_BLOCKS {
            self.fail(
                Span::new(open, open + 1),
                format!("blocks nested deeper than {MAX_BLOCKS}"),
            );
            self.at = self.source.len();
            return Some(Vec::new());
        }
        let inner = self.statements(depth + 1);
        if self.peek() == Some('}') {
            self.at += 1;
        } else if !self.unclosed {
            self.unclosed = true;
            self.fail(Span::new(open, open + 1), "this block is not closed");
        }
        Some(inner)
    }
}

/// `if` as a word of its own.
fn is_if(rest: &str) -> bool {
    rest.strip_prefix("if")
        .is_some_and(|after| after.chars().next().is_none_or(char::is_whitespace))
}

/// Bytes of `/…/` with no white space, when `rest` begins with it: behind it
/// the word or the statement ends. A path has no such end.
fn regex_len(rest: &str) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c.is_whitespace() => return None,
            '\\' => {
                chars.next();
            }
            '/' if at > 1 => {
                let ends = chars.peek().is_none_or(|(_, next)| {
                    next.is_whitespace() || matches!(next, ';' | '{' | '}')
                });
                if ends {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Bytes of a quoted text, quotes included, when it ends on its line.
fn quoted_len(rest: &str, quote: char) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\n' => return None,
            '\\' if quote == '"' => {
                chars.next().filter(|(_, c)| *c != '\n')?;
            }
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The words of a head: separated by white space outside of brackets and
/// quotes. A word that begins with a quote is what stands between the quotes.
pub(super) fn words(source: &str, span: Span) -> Vec<Word> {
    let mut found = Vec::new();
    let mut at = span.start;
    while let Some(rest) = source.get(at..span.end) {
        let skipped = rest.len() - rest.trim_start().len();
        at += skipped;
        let rest = rest.trim_start();
        if rest.is_empty() {
            break;
        }
        let len = word_len(rest);
        let text = rest.get(..len).unwrap_or(rest);
        let unquoted = unquote(text).unwrap_or_else(|| text.to_owned());
        found.push(Word {
            text: unquoted,
            span: Span::new(at, at + len),
        });
        at += len.max(1);
    }
    found
}

fn word_len(rest: &str) -> usize {
    if rest.starts_with('/')
        && let Some(len) = regex_len(rest)
    {
        return len;
    }
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(c) = rest.get(at..).and_then(|r| r.chars().next()) {
        match c {
            '"' | '`' => {
                let quoted = rest.get(at..).and_then(|r| quoted_len(r, c));
                at += quoted.unwrap_or(1);
                continue;
            }
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            c if c.is_whitespace() && depth == 0 => break,
            _ => {}
        }
        at += c.len_utf8();
    }
    at
}

/// What stands between the quotes of a word that is one quoted text.
fn unquote(word: &str) -> Option<String> {
    use crate::script::lexer::{Token, tokens};
    if !word.starts_with(['"', '`']) {
        return None;
    }
    match tokens(word).ok()?.as_slice() {
        [(Token::Str(text), _), (Token::End, _)] => Some(text.clone()),
        _ => None,
    }
}
