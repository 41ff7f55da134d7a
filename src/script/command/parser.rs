//! Statements to commands.

use super::location::SEVERAL;
use super::reader::words;
use super::{Command, Copies, Location, Point, Statement, Strength, Test, VERBS, Verb, Word};
use crate::script::ast::{BinaryOp, Expr, ExprKind, Literal};
use crate::script::check::nearest;
use crate::script::error::{ExprError, Span};
use crate::script::parser::parse;

/// Commands that are prefixes of commands of their own, one in another.
const MAX_PREFIXES: usize = 8;

/// The command in `span` of `source`, with its block.
pub(super) fn command(
    source: &str,
    span: Span,
    block: Option<Vec<Statement>>,
) -> Result<Command, ExprError> {
    Head { source, span }.command(block, 0)
}

/// The text of a command without its block.
#[derive(Clone, Copy)]
struct Head<'s> {
    source: &'s str,
    span: Span,
}

impl<'s> Head<'s> {
    fn command(self, block: Option<Vec<Statement>>, depth: usize) -> Result<Command, ExprError> {
        let words = words(self.source, self.span);
        let Some((first, rest)) = words.split_first() else {
            return Err(ExprError::new(self.span, "a command is missing"));
        };
        let verb = Verb::by_name(&first.text).ok_or_else(|| unknown(first))?;
        let takes_block = matches!(
            verb,
            Verb::Trace | Verb::Break | Verb::Snap | Verb::Every | Verb::On
        );
        if block.is_some() && !takes_block {
            return Err(ExprError::new(
                self.span,
                format!("`{}` takes no block", verb.name()),
            ));
        }
        match verb {
            Verb::Trace => self.point(Strength::Trace, first, rest, block),
            Verb::Break => self.point(Strength::Break, first, rest, block),
            Verb::Snap => self.point(Strength::Snap, first, rest, block),
            Verb::Every => {
                let ns = self.duration(first, rest)?;
                let block = block.ok_or_else(|| {
                    ExprError::new(self.span, "`every` needs a block: every 5s { summary }")
                })?;
                Ok(Command::Every(ns, block))
            }
            Verb::For => Ok(Command::For(self.duration(first, rest)?)),
            Verb::On => self.on(first, rest, block, depth),
            Verb::Condition => self.condition(first, rest),
            Verb::Print => self.print(first),
            Verb::Whatis => {
                let rest = self.after(first.span.end);
                let expr = rest.expression("of what? whatis req.Header")?;
                Ok(Command::Whatis(Box::new(expr)))
            }
            Verb::Set if matches!(rest, [one] if one.text == "-e") => Ok(Command::StopOnError),
            Verb::Goroutine | Verb::Frame | Verb::Deferred => self.prefix(verb, rest, 1, depth),
            Verb::Goroutines => {
                let exec = rest.iter().position(|w| w.text == "-exec");
                self.prefix(verb, rest, exec.map_or(rest.len(), |at| at + 1), depth)
            }
            _ => Ok(Command::Plain(verb, rest.to_vec(), None)),
        }
    }

    /// The text behind a place, as a head of its own.
    fn after(self, at: usize) -> Head<'s> {
        let rest = self.source.get(at..self.span.end).unwrap_or("");
        let skipped = rest.len() - rest.trim_start().len();
        Head {
            source: self.source,
            span: Span::new(at + skipped, self.span.end.max(at + skipped)),
        }
    }

    fn nested(self, at: usize, depth: usize) -> Result<Statement, ExprError> {
        let head = self.after(at);
        if depth >= MAX_PREFIXES {
            return Err(ExprError::new(
                head.span,
                format!("more than {MAX_PREFIXES} commands one before another"),
            ));
        }
        Ok(Statement {
            command: head.command(None, depth + 1)?,
            span: head.span,
        })
    }

    /// `count` words, and a command behind them.
    fn prefix(
        self,
        verb: Verb,
        rest: &[Word],
        count: usize,
        depth: usize,
    ) -> Result<Command, ExprError> {
        let own = rest.get(..count).unwrap_or(rest);
        let then = match (own.last(), rest.len() > count) {
            (Some(last), true) => Some(Box::new(self.nested(last.span.end, depth)?)),
            (Some(last), false) if last.text == "-exec" => {
                return Err(ExprError::new(last.span, "a command follows `-exec`"));
            }
            _ => None,
        };
        Ok(Command::Plain(verb, own.to_vec(), then))
    }

    fn point(
        self,
        strength: Strength,
        first: &Word,
        rest: &[Word],
        actions: Option<Vec<Statement>>,
    ) -> Result<Command, ExprError> {
        let (copies, rest) = match strength {
            Strength::Snap => copies(rest)?,
            Strength::Trace | Strength::Break => (Copies::default(), rest),
        };
        let if_at = rest.iter().position(|w| is_bare_if(self.source, w));
        let places = rest.get(..if_at.unwrap_or(rest.len())).unwrap_or(rest);
        let several;
        let (name, location) = match places {
            [] => {
                return Err(ExprError::new(
                    first.span,
                    format!("say where: {} net.(*conn).Read", strength.verb().name()),
                ));
            }
            [.., open, close] if is_several(open, close) => {
                let name = match places {
                    [name, _, _] => Some(point_name(name)?),
                    _ => None,
                };
                several = Word {
                    text: format!("{} {}", open.text, close.text),
                    span: Span::new(open.span.start, close.span.end),
                };
                (name, &several)
            }
            [location] => (None, location),
            [name, location] => (Some(point_name(name)?), location),
            [_, _, third, ..] => {
                return Err(ExprError::new(
                    third.span,
                    "a name and a location are all that may stand before `if`",
                ));
            }
        };
        let condition = match if_at.and_then(|at| rest.get(at)) {
            Some(word) => Some(
                self.after(word.span.end)
                    .expression("a condition follows `if`")?,
            ),
            None => None,
        };
        Ok(Command::Point(Box::new(Point {
            strength,
            copies,
            name,
            location: Location::parse(location)?,
            condition,
            actions,
        })))
    }

    /// The whole of it as an expression.
    fn expression(self, missing: &str) -> Result<Expr, ExprError> {
        let text = self
            .source
            .get(self.span.start..self.span.end)
            .unwrap_or("");
        if text.trim().is_empty() {
            return Err(ExprError::new(self.span, missing));
        }
        let by = self.span.start;
        match parse(text) {
            Ok(mut expr) => {
                shift(&mut expr, by);
                Ok(expr)
            }
            Err(error) => Err(ExprError::new(
                Span::new(error.span.start + by, error.span.end + by),
                error.message,
            )),
        }
    }

    fn print(self, first: &Word) -> Result<Command, ExprError> {
        let rest = self.after(first.span.end);
        let mut exprs = Vec::new();
        for span in comma_parts(self.source, rest.span) {
            let part = Head { span, ..self };
            let skipped = part.after(span.start);
            exprs.push(skipped.expression("print what? print goid, fd, err")?);
        }
        Ok(Command::Print(exprs))
    }

    fn duration(self, first: &Word, rest: &[Word]) -> Result<u64, ExprError> {
        let name = first.text.as_str();
        let span = match rest {
            [one] => one.span,
            [] => return Err(ExprError::new(first.span, format!("how long? {name} 5s"))),
            [_, second, ..] => {
                return Err(ExprError::new(second.span, "one duration is enough"));
            }
        };
        let head = Head { span, ..self };
        match head.expression("")?.kind {
            ExprKind::Literal(Literal::Duration(ns)) if ns > 0 => Ok(ns),
            _ => Err(ExprError::new(
                span,
                format!("a duration has a unit: {name} 5s"),
            )),
        }
    }

    fn on(
        self,
        first: &Word,
        rest: &[Word],
        block: Option<Vec<Statement>>,
        depth: usize,
    ) -> Result<Command, ExprError> {
        let Some((id, more)) = rest.split_first() else {
            return Err(ExprError::new(
                first.span,
                "on what? on 1 print err, or on exit { summary }",
            ));
        };
        if let (None, [verb, ..]) = (&block, more) {
            match Verb::by_name(&verb.text) {
                // As in Delve: `on ID cond …` is `cond ID …`.
                Some(Verb::Condition) => return self.condition_of(id, verb),
                Some(Verb::Trace) => {
                    return Err(ExprError::new(
                        verb.span,
                        "a breakpoint stays one: trace LOCATION records without stopping",
                    ));
                }
                _ => {}
            }
        }
        let actions = match (block, more) {
            (Some(block), []) => block,
            (Some(_), [extra, ..]) => {
                return Err(ExprError::new(
                    extra.span,
                    "either one command or a block follows",
                ));
            }
            (None, []) => {
                return Err(ExprError::new(
                    id.span,
                    "a command or a block follows: on 1 print err",
                ));
            }
            (None, [_, ..]) => vec![self.nested(id.span.end, depth)?],
        };
        Ok(match id.text.as_str() {
            "exit" => Command::OnExit(actions),
            _ => Command::On(id.clone(), actions),
        })
    }

    fn condition(self, first: &Word, rest: &[Word]) -> Result<Command, ExprError> {
        let usage = "condition ID EXPR, or condition -hitcount ID >= 5";
        let missing = || ExprError::new(first.span, usage);
        let (flag, rest) = match rest.split_first() {
            Some((flag, rest)) if flag.text.starts_with('-') => (Some(flag), rest),
            _ => (None, rest),
        };
        let (id, more) = rest.split_first().ok_or_else(missing)?;
        let test = match flag.map(|f| f.text.as_str()) {
            None => Test::Holds(self.after(id.span.end).expression(usage)?),
            Some("-clear") => match more {
                [] => Test::Cleared,
                [extra, ..] => return Err(ExprError::new(extra.span, "nothing follows the ID")),
            },
            Some("-hitcount") => {
                let (op, n) = self.hits(id)?;
                Test::Hits(op, n)
            }
            Some("-per-g-hitcount") => {
                let (op, n) = self.hits(id)?;
                Test::HitsPerGoroutine(op, n)
            }
            Some(_) => {
                return Err(ExprError::new(
                    flag.map_or(first.span, |f| f.span),
                    "the options are -hitcount, -per-g-hitcount and -clear",
                ));
            }
        };
        Ok(Command::Condition(id.clone(), test))
    }

    /// `on ID cond …`: what follows is as behind `condition`, without the ID.
    fn condition_of(self, id: &Word, verb: &Word) -> Result<Command, ExprError> {
        let rest = words(self.source, self.after(verb.span.end).span);
        let usage = "on ID cond EXPR, or on ID cond -hitcount >= 5";
        let test = match rest.first() {
            Some(flag) if flag.text == "-hitcount" => {
                let (op, n) = self.hits(flag)?;
                Test::Hits(op, n)
            }
            Some(flag) if flag.text == "-per-g-hitcount" => {
                let (op, n) = self.hits(flag)?;
                Test::HitsPerGoroutine(op, n)
            }
            Some(flag) if flag.text == "-clear" => Test::Cleared,
            _ => Test::Holds(self.after(verb.span.end).expression(usage)?),
        };
        Ok(Command::Condition(id.clone(), test))
    }

    /// `>= 5` behind the ID.
    fn hits(self, id: &Word) -> Result<(BinaryOp, u64), ExprError> {
        const OPS: [BinaryOp; 7] = [
            BinaryOp::Eq,
            BinaryOp::Ne,
            BinaryOp::Le,
            BinaryOp::Ge,
            BinaryOp::Lt,
            BinaryOp::Gt,
            BinaryOp::Rem,
        ];
        let rest = self.after(id.span.end);
        let text = self
            .source
            .get(rest.span.start..rest.span.end)
            .unwrap_or("")
            .trim_end();
        let wrong = || {
            ExprError::new(
                rest.span,
                "a count is compared by == != < <= > >= or %: -hitcount 1 >= 5",
            )
        };
        let op = OPS
            .into_iter()
            .find(|op| text.starts_with(op.as_str()))
            .ok_or_else(wrong)?;
        let n: u64 = text
            .get(op.as_str().len()..)
            .and_then(|n| n.trim().parse().ok())
            .ok_or_else(wrong)?;
        if op == BinaryOp::Rem && n == 0 {
            return Err(ExprError::new(rest.span, "division by zero"));
        }
        Ok((op, n))
    }
}

/// `<multiple locations>:0`, which Delve writes without quotes.
fn is_several(open: &Word, close: &Word) -> bool {
    let text = format!("{} {}", open.text, close.text);
    text.strip_suffix(":0") == Some(SEVERAL)
}

/// The word `if` without quotes.
fn is_bare_if(source: &str, word: &Word) -> bool {
    source.get(word.span.start..word.span.end) == Some("if")
}

/// Letters and digits, not a number (service/api of Delve: ValidBreakpointName).
fn point_name(word: &Word) -> Result<Word, ExprError> {
    let fine = word.text.chars().all(char::is_alphanumeric);
    let number = word.text.chars().all(|c| c.is_ascii_digit());
    if fine && !number && word.text != "exit" {
        return Ok(word.clone());
    }
    Err(ExprError::new(
        word.span,
        "a name is letters and digits, not a number and not `exit`",
    ))
}

fn unknown(word: &Word) -> ExprError {
    let names: Vec<String> = VERBS
        .iter()
        .flat_map(|row| std::iter::once(&row.name).chain(row.aliases))
        .map(ToString::to_string)
        .collect();
    let hint = match nearest(&word.text, &names) {
        Some(found) => format!("; did you mean `{found}`?"),
        None => "; `help` lists them".to_owned(),
    };
    ExprError::new(word.span, format!("unknown command `{}`{hint}", word.text))
}

/// The parts between commas outside of brackets and quotes.
fn comma_parts(source: &str, span: Span) -> Vec<Span> {
    let text = source.get(span.start..span.end).unwrap_or("");
    let mut parts = Vec::new();
    let (mut start, mut depth) = (span.start, 0_usize);
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        let at = span.start + at;
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some('"'), '\\') => escaped = true,
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '`') => quote = Some(c),
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(Span::new(start, at));
                start = at + 1;
            }
            (Some(_) | None, _) => {}
        }
    }
    parts.push(Span::new(start, span.end));
    parts
}

/// Moves the spans of an expression that was read out of a longer text.
fn shift(expr: &mut Expr, by: usize) {
    expr.span = Span::new(expr.span.start + by, expr.span.end + by);
    match &mut expr.kind {
        ExprKind::Literal(_) | ExprKind::Name(_) => {}
        ExprKind::Select(base, field) => {
            field.span = Span::new(field.span.start + by, field.span.end + by);
            shift(base, by);
        }
        ExprKind::Assert(base, to) => {
            to.span = Span::new(to.span.start + by, to.span.end + by);
            shift(base, by);
        }
        ExprKind::Slice(base, from, to) => {
            shift(base, by);
            for end in [from, to].into_iter().flatten() {
                shift(end, by);
            }
        }
        ExprKind::Unary(_, operand) | ExprKind::Call(_, operand) => shift(operand, by),
        ExprKind::Binary(_, left, right) | ExprKind::Index(left, right) => {
            shift(left, by);
            shift(right, by);
        }
    }
}

/// `-count N`, `-consistent` before the place of a `snap`.
fn copies(words: &[Word]) -> Result<(Copies, &[Word]), ExprError> {
    let mut copies = Copies::default();
    let mut rest = words;
    loop {
        rest = match rest {
            [flag, more @ ..] if flag.text == "-consistent" => {
                copies.consistent = true;
                more
            }
            [flag, more @ ..] if flag.text == "-count" => {
                let usage = "how many copies? snap -count 3 main.main";
                let (number, more) = more
                    .split_first()
                    .ok_or_else(|| ExprError::new(flag.span, usage))?;
                let count = number.text.parse().ok().filter(|n| *n > 0);
                copies.count = Some(count.ok_or_else(|| ExprError::new(number.span, usage))?);
                more
            }
            rest => return Ok((copies, rest)),
        };
    }
}
