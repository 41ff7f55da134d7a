//! Tokens to a tree, by precedence climbing.

use super::ast::{BinaryOp, Expr, ExprKind, Field, Literal, UnaryOp};
use super::error::{ExprError, Span};
use super::lexer::{Token, tokens};

/// Nested parentheses and unary operators: each level costs stack here.
const MAX_NESTING: usize = 50;
/// Levels of the tree: each costs stack where it is checked and evaluated.
const MAX_DEPTH: usize = 100;
/// The same with long chains of `||` or `&&`, which are checked and evaluated
/// flat, but dropped level by level.
const MAX_CHAIN: usize = 1000;

/// Reads an expression. The error's span is in bytes of `source`.
pub fn parse(source: &str) -> Result<Expr, ExprError> {
    let mut parser = Parser {
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

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<(Token, Span)>>,
    end: Span,
    nesting: usize,
}

impl Parser {
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

    /// A primary and the selectors after it.
    fn selected(&mut self) -> Result<Tree, ExprError> {
        let mut tree = self.primary()?;
        while self.peek() == &Token::Dot {
            self.next();
            let (name, span) = match self.next() {
                (Token::Name(name), span) => (name, span),
                (_, span) => return Err(ExprError::new(span, "expected a name after the dot")),
            };
            let depth = deeper(tree.depth, span)?;
            tree = Tree {
                depth,
                expr: Expr {
                    span: tree.expr.span.to(span),
                    kind: ExprKind::Select(Box::new(tree.expr), Field { name, span }),
                },
            };
        }
        Ok(tree)
    }

    fn primary(&mut self) -> Result<Tree, ExprError> {
        let (token, span) = self.next();
        let kind = match token {
            Token::Int(n) => ExprKind::Literal(Literal::Int(n)),
            Token::Float(x) => ExprKind::Literal(Literal::Float(x)),
            Token::Str(s) => ExprKind::Literal(Literal::Str(s)),
            Token::Duration(ns) => ExprKind::Literal(Literal::Duration(ns)),
            Token::Name(name) => match name.as_str() {
                "nil" => ExprKind::Literal(Literal::Nil),
                "true" => ExprKind::Literal(Literal::Bool(true)),
                "false" => ExprKind::Literal(Literal::Bool(false)),
                _ => ExprKind::Name(name),
            },
            Token::Open => return self.parentheses(span),
            Token::End => return Err(ExprError::new(span, "the expression ends too early")),
            Token::Close => return Err(ExprError::new(span, "expected a value before this")),
            Token::Binary(_) | Token::Not | Token::Dot => {
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
