//! Text to tokens.

use super::ast::BinaryOp;
use super::error::{ExprError, Span};

/// No expression that a person writes is longer, in bytes.
pub(super) const MAX_SOURCE: usize = 64 * 1024;

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Token {
    Int(u64),
    Float(f64),
    Str(String),
    Duration(u64),
    Name(String),
    /// `-` is `Binary(Sub)`, also where it turns out to be unary.
    Binary(BinaryOp),
    Not,
    Open,
    Close,
    /// `,`: in types alone.
    Comma,
    /// `[`, `]`, `:`: indexing and slicing.
    OpenIndex,
    CloseIndex,
    Colon,
    /// `&`: the address of.
    Address,
    Dot,
    End,
}

/// Longer ones first.
const BINARY: [BinaryOp; 15] = [
    BinaryOp::Or,
    BinaryOp::And,
    BinaryOp::Eq,
    BinaryOp::Ne,
    BinaryOp::Le,
    BinaryOp::Ge,
    BinaryOp::Match,
    BinaryOp::NotMatch,
    BinaryOp::Lt,
    BinaryOp::Gt,
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::Div,
    BinaryOp::Rem,
];

/// The tokens of `source` with their places; the last one is [`Token::End`].
pub(super) fn tokens(source: &str) -> Result<Vec<(Token, Span)>, ExprError> {
    if source.len() > MAX_SOURCE {
        return Err(ExprError::new(
            Span::default(),
            format!("longer than {MAX_SOURCE} bytes"),
        ));
    }
    let mut lexer = Lexer { source, at: 0 };
    let mut out = Vec::new();
    loop {
        lexer.skip_while(char::is_whitespace);
        let start = lexer.at;
        let token = lexer.token()?;
        let end = token == Token::End;
        out.push((token, Span::new(start, lexer.at)));
        if end {
            return Ok(out);
        }
    }
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        self.source.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn peek_second(&self) -> Option<char> {
        self.rest().chars().nth(1)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// Moves past the characters that `wanted` accepts and returns them.
    fn skip_while(&mut self, wanted: impl Fn(char) -> bool) -> &'s str {
        let rest = self.rest();
        let len = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).unwrap_or("")
    }

    fn fail<T>(&self, start: usize, message: impl Into<String>) -> Result<T, ExprError> {
        Err(ExprError::new(Span::new(start, self.at), message))
    }

    fn token(&mut self) -> Result<Token, ExprError> {
        let start = self.at;
        let Some(c) = self.peek() else {
            return Ok(Token::End);
        };
        if is_name_start(c) {
            return Ok(Token::Name(self.skip_while(is_name_char).to_owned()));
        }
        match c {
            '0'..='9' => return self.number(),
            '"' => return self.interpreted_string(),
            '`' => return self.raw_string(),
            _ => {}
        }
        if let Some(op) = BINARY.into_iter().find(|op| self.eat(op.as_str())) {
            return Ok(Token::Binary(op));
        }
        self.next();
        match c {
            '!' => Ok(Token::Not),
            '(' => Ok(Token::Open),
            ')' => Ok(Token::Close),
            '.' => Ok(Token::Dot),
            ',' => Ok(Token::Comma),
            '[' => Ok(Token::OpenIndex),
            ']' => Ok(Token::CloseIndex),
            ':' => Ok(Token::Colon),
            '&' => Ok(Token::Address),
            '=' => self.fail(start, "`=` is not an operator; did you mean `==`?"),
            '|' => self.fail(start, "`|` is not an operator here; did you mean `||`?"),
            '~' => self.fail(start, "`~` alone is not an operator; did you mean `=~`?"),
            '\'' => self.fail(start, "text stands in \"double quotes\" or `backquotes`"),
            c => self.fail(start, format!("unexpected character {c:?}")),
        }
    }

    fn raw_string(&mut self) -> Result<Token, ExprError> {
        let start = self.at;
        self.next();
        let text = self.skip_while(|c| c != '`').to_owned();
        if self.next().is_none() {
            return self.fail(start, "this text has no closing backquote");
        }
        Ok(Token::Str(text))
    }

    fn interpreted_string(&mut self) -> Result<Token, ExprError> {
        let start = self.at;
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None => return self.fail(start, "this text has no closing quote"),
                Some('"') => return Ok(Token::Str(text)),
                Some('\\') => text.push(self.escape()?),
                Some(c) => text.push(c),
            }
        }
    }

    /// What follows a backslash: Go's escapes (the Go specification, "Rune
    /// literals"), but `\x` and octal ones only for ASCII: facts are text.
    fn escape(&mut self) -> Result<char, ExprError> {
        let start = self.at - 1;
        let Some(c) = self.next() else {
            return self.fail(start, "this text has no closing quote");
        };
        let (radix, digits) = match c {
            'a' => return Ok('\x07'),
            'b' => return Ok('\x08'),
            'f' => return Ok('\x0c'),
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            'v' => return Ok('\x0b'),
            '\\' | '"' => return Ok(c),
            'x' => (16, 2),
            'u' => (16, 4),
            'U' => (16, 8),
            '0'..='7' => {
                self.at -= 1;
                (8, 3)
            }
            c => {
                return self.fail(
                    start,
                    format!(
                        "unknown escape `\\{c}`; write `\\\\{c}`, or put the text in backquotes"
                    ),
                );
            }
        };
        let mut value: u32 = 0;
        for _ in 0..digits {
            let digit = self.peek().and_then(|c| c.to_digit(radix));
            let Some(digit) = digit else {
                return self.fail(start, format!("this escape needs {digits} digits"));
            };
            self.next();
            value = value.saturating_mul(radix).saturating_add(digit);
        }
        if digits < 4 && value >= 0x80 {
            return self.fail(start, "bytes above 0x7f are written as \\u and four digits");
        }
        match char::from_u32(value) {
            Some(c) => Ok(c),
            None => self.fail(start, "this is not a Unicode character"),
        }
    }

    fn number(&mut self) -> Result<Token, ExprError> {
        let start = self.at;
        for (prefixes, radix) in [(["0x", "0X"], 16), (["0b", "0B"], 2), (["0o", "0O"], 8)] {
            if prefixes.into_iter().any(|prefix| self.eat(prefix)) {
                let digits = self.skip_while(is_name_char).replace('_', "");
                return match u64::from_str_radix(&digits, radix) {
                    Ok(n) => Ok(Token::Int(n)),
                    Err(_) => self.fail(start, "not a number of 64 bits in this base"),
                };
            }
        }
        let whole = self.digits();
        if whole.len() > 1 && whole.starts_with('0') && !self.rest().starts_with('.') {
            return self.fail(
                start,
                "a number with a leading 0; octal ones are written 0o17",
            );
        }
        let fraction = self.fraction();
        if let Some(exponent) = self.exponent() {
            let text = format!("{whole}.{}e{exponent}", fraction.as_deref().unwrap_or("0"));
            return self.float(start, &text);
        }
        if self.peek().is_some_and(is_name_start) {
            return self.with_unit(start, &whole, fraction.as_deref().unwrap_or(""));
        }
        match fraction {
            Some(fraction) => self.float(start, &format!("{whole}.{fraction}")),
            None => match whole.parse() {
                Ok(n) => Ok(Token::Int(n)),
                Err(_) => self.fail(start, "a number of more than 64 bits"),
            },
        }
    }

    fn float(&self, start: usize, text: &str) -> Result<Token, ExprError> {
        match text.parse::<f64>() {
            Ok(x) if x.is_finite() => Ok(Token::Float(x)),
            _ => self.fail(start, "a number that no float can hold"),
        }
    }

    fn digits(&mut self) -> String {
        self.skip_while(|c| c.is_ascii_digit() || c == '_')
            .replace('_', "")
    }

    /// `.5` of `1.5`; a dot that no digit follows is a selector's.
    fn fraction(&mut self) -> Option<String> {
        let digit_follows = self.peek_second().is_some_and(|c| c.is_ascii_digit());
        (self.peek() == Some('.') && digit_follows).then(|| {
            self.next();
            self.digits()
        })
    }

    fn exponent(&mut self) -> Option<String> {
        let rest = self.rest();
        let after = rest.strip_prefix(['e', 'E'])?;
        let digits = after.strip_prefix(['+', '-']).unwrap_or(after);
        digits.starts_with(|c: char| c.is_ascii_digit()).then(|| {
            self.next();
            let sign = if self.eat("-") { "-" } else { "" };
            self.eat("+");
            format!("{sign}{}", self.digits())
        })
    }

    /// A duration (`1h30m`, `2.5ms`) or a size (`4KiB`).
    fn with_unit(&mut self, start: usize, whole: &str, fraction: &str) -> Result<Token, ExprError> {
        let unit_at = self.at;
        let unit = self.skip_while(is_unit_char);
        if let Some(size) = size_unit(unit) {
            return match scaled(whole, fraction, size) {
                Some(n) => Ok(Token::Int(n)),
                None => self.fail(start, "not a whole number of bytes of 64 bits"),
            };
        }
        let mut total: u64 = 0;
        let (mut whole, mut fraction) = (whole.to_owned(), fraction.to_owned());
        let (mut unit, mut unit_at) = (unit, unit_at);
        loop {
            let Some(size) = duration_unit(unit) else {
                if unit.is_empty() {
                    return self.fail(start, "the last part of this duration has no unit");
                }
                return Err(ExprError::new(
                    Span::new(unit_at, self.at),
                    format!(
                        "unknown unit `{unit}`; durations end in ns, us, ms, s, m or h, sizes in KiB, MiB, GiB or TiB"
                    ),
                ));
            };
            let sum = scaled(&whole, &fraction, size).and_then(|ns| total.checked_add(ns));
            match sum {
                Some(sum) if i64::try_from(sum).is_ok() => total = sum,
                _ => {
                    return self.fail(
                        start,
                        "not a duration of whole nanoseconds, or longer than 292 years",
                    );
                }
            }
            if !self.peek().is_some_and(|c| c.is_ascii_digit()) {
                return Ok(Token::Duration(total));
            }
            whole = self.digits();
            fraction = self.fraction().unwrap_or_default();
            unit_at = self.at;
            unit = self.skip_while(is_unit_char);
        }
    }
}

/// `whole.fraction` units, when that is a whole number.
fn scaled(whole: &str, fraction: &str, unit: u64) -> Option<u64> {
    let fraction = fraction.trim_end_matches('0');
    let mut value = u128::from(whole.parse::<u64>().ok()?).checked_mul(u128::from(unit))?;
    if !fraction.is_empty() {
        let parts = u128::from(fraction.parse::<u64>().ok()?).checked_mul(u128::from(unit))?;
        let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        if parts % scale != 0 {
            return None;
        }
        value = value.checked_add(parts / scale)?;
    }
    u64::try_from(value).ok()
}

fn duration_unit(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        // U+00B5 micro sign and U+03BC Greek mu, as time.ParseDuration takes both.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

fn size_unit(unit: &str) -> Option<u64> {
    Some(match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    })
}

fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_unit_char(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}
