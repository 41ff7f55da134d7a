//! Tokens to a tree, by precedence climbing.

use super::ast::{BinaryOp, Builtin, Expr, ExprKind, Field, Literal, TypeText, UnaryOp};
use super::error::{ExprError, Span};
use super::lexer::{Token, tokens};

/// Nested parentheses and unary operators: each level costs stack here.
const MAX_NESTING: usize = 50;
/// Levels of the tree: each costs stack where it is checked and evaluated.
const MAX_DEPTH: usize = 100;
/// The same with long chains of `||` or `&&`, which are checked and evaluated
/// flat, but dropped level by level.
const MAX_CHAIN: usize = 1000;

/// Tokens of a type in an assertion.
const MAX_TYPE: usize = 256;

/// Reads an expression. The error's span is in bytes of `source`.
pub fn parse(source: &str) -> Result<Expr, ExprError> {
    let mut parser = Parser {
        source,
        tokens: tokens(source)?.into_iter().peekable(),
        end: Span::new(source.len(), source.len()),
        nesting: 0,
    };
    if parser.peek() == &Token::End {
        return Err(ExprError::new(parser.span(), "the expression is empty"));
    }
    let tree = parser.binary(1)?;
    match parser.peek() {
        Token::End => Ok(tree.expr),
        Token::Close => parser.fail("this parenthesis was not opened"),
        Token::CloseIndex => parser.fail("this bracket was not opened"),
        Token::Address => parser.fail("`&` is not an operator here; did you mean `&&`?"),
        Token::Name(word) => {
            let message = match word.as_str() {
                "and" => "expected an operator; did you mean `&&`?".to_owned(),
                "or" => "expected an operator; did you mean `||`?".to_owned(),
                _ => "expected an operator before this".to_owned(),
            };
            parser.fail(message)
        }
        Token::Open => parser.fail("expected an operator; functions cannot be called here"),
        _ => parser.fail("expected an operator before this"),
    }
}

/// An expression, and how many levels it has.
struct Tree {
    expr: Expr,
    depth: usize,
}

impl Tree {
    /// This, inside what `wrap` makes of it, which ends at `end`.
    fn within(
        self,
        end: Span,
        wrap: impl FnOnce(Box<Expr>) -> ExprKind,
    ) -> Result<Tree, ExprError> {
        Ok(Tree {
            depth: deeper(self.depth, end)?,
            expr: Expr {
                span: self.expr.span.to(end),
                kind: wrap(Box::new(self.expr)),
            },
        })
    }
}

struct Parser<'s> {
    source: &'s str,
    tokens: std::iter::Peekable<std::vec::IntoIter<(Token, Span)>>,
    end: Span,
    nesting: usize,
}

impl Parser<'_> {
    fn peek(&mut self) -> &Token {
        self.tokens.peek().map_or(&Token::End, |(token, _)| token)
    }

    fn span(&mut self) -> Span {
        self.tokens.peek().map_or(self.end, |(_, span)| *span)
    }

    fn next(&mut self) -> (Token, Span) {
        self.tokens.next().unwrap_or((Token::End, self.end))
    }

    fn fail<T>(&mut self, message: impl Into<String>) -> Result<T, ExprError> {
        Err(ExprError::new(self.span(), message))
    }

    /// Operators that bind at least as tight as `least`; all are left
    /// associative.
    fn binary(&mut self, least: u8) -> Result<Tree, ExprError> {
        let mut left = self.unary()?;
        loop {
            let op = match self.peek() {
                Token::Binary(op) if op.precedence() >= least => *op,
                _ => return Ok(left),
            };
            let (_, op_span) = self.next();
            let right = self.binary(op.precedence() + 1)?;
            left = join(op, op_span, left, right)?;
        }
    }

    fn unary(&mut self) -> Result<Tree, ExprError> {
        let op = match self.peek() {
            Token::Not => UnaryOp::Not,
            Token::Binary(BinaryOp::Sub) => UnaryOp::Neg,
            Token::Binary(BinaryOp::Mul) => UnaryOp::Deref,
            Token::Address => UnaryOp::Address,
            _ => return self.selected(),
        };
        let (_, span) = self.next();
        let operand = self.nested(Self::unary)?;
        Ok(Tree {
            depth: operand.depth + 1,
            expr: Expr {
                span: span.to(operand.expr.span),
                kind: ExprKind::Unary(op, Box::new(operand.expr)),
            },
        })
    }

    fn nested(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<Tree, ExprError>,
    ) -> Result<Tree, ExprError> {
        if self.nesting >= MAX_NESTING {
            return self.fail(format!("nested deeper than {MAX_NESTING} levels"));
        }
        self.nesting += 1;
        let tree = inner(self);
        self.nesting -= 1;
        tree
    }

    /// A primary and what follows it: selectors, indices, assertions.
    fn selected(&mut self) -> Result<Tree, ExprError> {
        let mut tree = self.primary()?;
        loop {
            tree = match self.peek() {
                Token::Dot => self.after_dot(tree)?,
                Token::OpenIndex => self.indexed(tree)?,
                _ => return Ok(tree),
            };
        }
    }

    fn after_dot(&mut self, tree: Tree) -> Result<Tree, ExprError> {
        self.next();
        match self.next() {
            (Token::Name(name), span) => {
                tree.within(span, |base| ExprKind::Select(base, Field { name, span }))
            }
            (Token::Open, open) => {
                let (ty, close) = self.type_text(open)?;
                tree.within(close, |base| ExprKind::Assert(base, ty))
            }
            (_, span) => Err(ExprError::new(span, "expected a name after the dot")),
        }
    }

    /// The source up to the parenthesis that closes it.
    fn type_text(&mut self, open: Span) -> Result<(TypeText, Span), ExprError> {
        let mut nested = 0_usize;
        for _ in 0..MAX_TYPE {
            match self.next() {
                (Token::Close, close) if nested == 0 => {
                    let span = Span::new(open.end, close.start);
                    let text = self.source.get(span.start..span.end).unwrap_or("");
                    let text = text.trim().to_owned();
                    if text.is_empty() {
                        return Err(ExprError::new(close, "expected a type before this"));
                    }
                    return Ok((TypeText { text, span }, close));
                }
                (Token::Close, _) => nested -= 1,
                (Token::Open, _) => nested += 1,
                (Token::End, _) => {
                    return Err(ExprError::new(open, "this parenthesis is not closed"));
                }
                _ => {}
            }
        }
        Err(ExprError::new(open, "this type is too long"))
    }

    fn indexed(&mut self, tree: Tree) -> Result<Tree, ExprError> {
        let (_, open) = self.next();
        let from = match self.peek() {
            Token::Colon => None,
            _ => Some(self.nested(|parser| parser.binary(1))?),
        };
        let sliced = self.peek() == &Token::Colon;
        let mut to = None;
        if sliced {
            self.next();
            if self.peek() != &Token::CloseIndex {
                to = Some(self.nested(|parser| parser.binary(1))?);
            }
        }
        let close = match self.next() {
            (Token::CloseIndex, close) => close,
            (Token::End, _) => return Err(ExprError::new(open, "this bracket is not closed")),
            (_, span) => return Err(ExprError::new(span, "expected an operator or `]`")),
        };
        let inner = |tree: &Option<Tree>| tree.as_ref().map_or(0, |t| t.depth);
        let depth = inner(&from).max(inner(&to)).max(tree.depth);
        let boxed = |tree: Option<Tree>| tree.map(|t| Box::new(t.expr));
        Tree { depth, ..tree }.within(close, |base| match (from, sliced) {
            (Some(index), false) => ExprKind::Index(base, Box::new(index.expr)),
            (from, _) => ExprKind::Slice(base, boxed(from), boxed(to)),
        })
    }

    /// `len(x)`, after its name.
    fn call(&mut self, builtin: Builtin, name: Span) -> Result<Tree, ExprError> {
        let (_, open) = self.next();
        let operand = self.nested(|parser| parser.binary(1))?;
        match self.next() {
            (Token::Close, close) => Ok(Tree {
                depth: deeper(operand.depth, close)?,
                expr: Expr {
                    span: name.to(close),
                    kind: ExprKind::Call(builtin, Box::new(operand.expr)),
                },
            }),
            (Token::End, _) => Err(ExprError::new(open, "this parenthesis is not closed")),
            (_, span) => Err(ExprError::new(span, "expected an operator or `)`")),
        }
    }

    fn primary(&mut self) -> Result<Tree, ExprError> {
        let (token, span) = self.next();
        let kind = match token {
            Token::Int(n) => ExprKind::Literal(Literal::Int(n)),
            Token::Float(x) => ExprKind::Literal(Literal::Float(x)),
            Token::Str(s) => ExprKind::Literal(Literal::Str(s)),
            Token::Duration(ns) => ExprKind::Literal(Literal::Duration(ns)),
            Token::Name(name) => match name.as_str() {
                "len" if self.peek() == &Token::Open => return self.call(Builtin::Len, span),
                "cap" if self.peek() == &Token::Open => return self.call(Builtin::Cap, span),
                "nil" => ExprKind::Literal(Literal::Nil),
                "true" => ExprKind::Literal(Literal::Bool(true)),
                "false" => ExprKind::Literal(Literal::Bool(false)),
                _ => ExprKind::Name(name),
            },
            Token::Open => return self.parentheses(span),
            Token::End => return Err(ExprError::new(span, "the expression ends too early")),
            Token::Close | Token::CloseIndex => {
                return Err(ExprError::new(span, "expected a value before this"));
            }
            Token::Binary(_)
            | Token::Not
            | Token::Dot
            | Token::Address
            | Token::Comma
            | Token::OpenIndex
            | Token::Colon => {
                return Err(ExprError::new(span, "expected a value here"));
            }
        };
        Ok(Tree {
            expr: Expr { kind, span },
            depth: 1,
        })
    }

    fn parentheses(&mut self, open: Span) -> Result<Tree, ExprError> {
        let mut tree = self.nested(|parser| parser.binary(1))?;
        match self.next() {
            (Token::Close, close) => {
                tree.expr.span = open.to(close);
                Ok(tree)
            }
            (Token::End, _) => Err(ExprError::new(open, "this parenthesis is not closed")),
            (_, span) => Err(ExprError::new(span, "expected an operator or `)`")),
        }
    }
}

fn join(op: BinaryOp, op_span: Span, left: Tree, right: Tree) -> Result<Tree, ExprError> {
    let deepest = left.depth.max(right.depth);
    let depth = if matches!(op, BinaryOp::And | BinaryOp::Or) {
        if deepest >= MAX_CHAIN {
            let message = format!("more than {MAX_CHAIN} terms; use =~ for long lists");
            return Err(ExprError::new(op_span, message));
        }
        deepest + 1
    } else {
        deeper(deepest, op_span)?
    };
    Ok(Tree {
        depth,
        expr: Expr {
            span: left.expr.span.to(right.expr.span),
            kind: ExprKind::Binary(op, Box::new(left.expr), Box::new(right.expr)),
        },
    })
}

fn deeper(depth: usize, at: Span) -> Result<usize, ExprError> {
    if depth >= MAX_DEPTH {
        return Err(ExprError::new(
            at,
            format!("more than {MAX_DEPTH} operators one after another"),
        ));
    }
    Ok(depth + 1)
}
