//! A reader of Go declarations, as far as the built-in table uses them.

/// Levels of nesting of a type.
const MAX_DEPTH: u32 = 24;

/// A function: `net.(*conn).Read(c *net.conn, b []byte) (n int, err error)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Decl<'a> {
    /// As pclntab names it.
    pub(crate) name: &'a str,
    /// The receiver first.
    pub(crate) params: Vec<Named<'a>>,
    pub(crate) results: Vec<Named<'a>>,
}

/// A parameter, a result, a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Named<'a> {
    /// `_` for none.
    pub(crate) name: &'a str,
    pub(crate) ty: Expr<'a>,
    /// A field marked `~`: embedded.
    pub(crate) embedded: bool,
}

/// A type as written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Expr<'a> {
    /// `int`, `net.IP`, `atomic.Pointer[T]`
    Name(&'a str),
    Pointer(Box<Self>),
    Slice(Box<Self>),
    Array(u64, Box<Self>),
    Map(Box<Self>, Box<Self>),
    /// With its arrow: `chan `, `<-chan `, `chan<- `.
    Chan(&'a str, Box<Self>),
    /// As written.
    Func(&'a str),
    Interface {
        empty: bool,
    },
    Struct(Vec<Named<'a>>),
}

impl<'a> Decl<'a> {
    /// Reads one declaration, without version range.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        // The name ends where the parameters begin: at the first parenthesis
        // that does not open a receiver, `(*T)`.
        let open = text
            .match_indices('(')
            .map(|(at, _)| at)
            .find(|at| !text.get(*at..).is_some_and(|t| t.starts_with("(*")))?;
        let (name, rest) = text.split_at_checked(open)?;
        let mut cursor = Cursor { rest };
        let params = cursor.list()?;
        let results = if cursor.eat(" ") {
            cursor.list()?
        } else {
            Vec::new()
        };
        cursor.rest.is_empty().then_some(Self {
            name,
            params,
            results,
        })
    }
}

/// Reads a type written alone.
pub(crate) fn parse_type(text: &str) -> Option<Expr<'_>> {
    let mut cursor = Cursor { rest: text };
    let ty = cursor.ty(0)?;
    cursor.rest.is_empty().then_some(ty)
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn take(&mut self, len: usize) -> Option<&'a str> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    /// `(name type, name type)`
    fn list(&mut self) -> Option<Vec<Named<'a>>> {
        self.eat("(").then_some(())?;
        let mut list = Vec::new();
        if self.eat(")") {
            return Some(list);
        }
        loop {
            list.push(self.named(0)?);
            if self.eat(")") {
                return Some(list);
            }
            self.eat(", ").then_some(())?;
        }
    }

    fn named(&mut self, depth: u32) -> Option<Named<'a>> {
        let embedded = self.eat("~");
        let name = self.take(self.rest.find(' ')?)?;
        self.eat(" ");
        Some(Named {
            name,
            ty: self.ty(depth)?,
            embedded,
        })
    }

    fn ty(&mut self, depth: u32) -> Option<Expr<'a>> {
        (depth < MAX_DEPTH).then_some(())?;
        let depth = depth.saturating_add(1);
        if self.eat("*") {
            return Some(Expr::Pointer(Box::new(self.ty(depth)?)));
        }
        if self.eat("[]") || self.eat("...") {
            return Some(Expr::Slice(Box::new(self.ty(depth)?)));
        }
        if self.eat("[") {
            let len = self.take(self.rest.find(']')?)?.parse().ok()?;
            self.eat("]");
            return Some(Expr::Array(len, Box::new(self.ty(depth)?)));
        }
        if self.eat("map[") {
            let key = self.ty(depth)?;
            self.eat("]").then_some(())?;
            return Some(Expr::Map(Box::new(key), Box::new(self.ty(depth)?)));
        }
        for arrow in ["chan<- ", "<-chan ", "chan "] {
            if self.eat(arrow) {
                let parenthesised = self.eat("(");
                let elem = self.ty(depth)?;
                if parenthesised {
                    self.eat(")").then_some(())?;
                }
                return Some(Expr::Chan(arrow, Box::new(elem)));
            }
        }
        if self.rest.starts_with("func(") {
            let start = self.rest;
            self.eat("func");
            self.balanced('(', ')')?;
            if self.rest.starts_with(" (") {
                self.eat(" ");
                self.balanced('(', ')')?;
            } else if self.rest.starts_with(' ') {
                self.eat(" ");
                self.ty(depth)?;
            }
            return start
                .get(..start.len().checked_sub(self.rest.len())?)
                .map(Expr::Func);
        }
        if self.eat("interface") {
            self.eat(" ");
            let body = self.balanced('{', '}')?;
            return Some(Expr::Interface {
                empty: body == "{}",
            });
        }
        if self.eat("struct{") {
            let mut fields = Vec::new();
            while !self.eat("}") {
                if !fields.is_empty() {
                    self.eat("; ").then_some(())?;
                }
                fields.push(self.named(depth)?);
            }
            return Some(Expr::Struct(fields));
        }
        self.name()
    }

    /// A name with its package and its type arguments.
    fn name(&mut self) -> Option<Expr<'a>> {
        let start = self.rest;
        let plain = |c: char| !(c.is_alphanumeric() || matches!(c, '.' | '_' | '/' | '-'));
        let len = start.find(plain).unwrap_or(start.len());
        (len > 0).then_some(())?;
        self.take(len)?;
        if self.rest.starts_with('[') {
            self.balanced('[', ']')?;
        }
        start
            .get(..start.len().checked_sub(self.rest.len())?)
            .map(Expr::Name)
    }

    /// From an opening bracket to its closing one.
    fn balanced(&mut self, open: char, close: char) -> Option<&'a str> {
        self.rest.starts_with(open).then_some(())?;
        let mut depth = 0_u32;
        for (at, c) in self.rest.char_indices() {
            if c == open {
                depth = depth.saturating_add(1);
            } else if c == close {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return self.take(at.checked_add(c.len_utf8())?);
                }
            }
        }
        None
    }
}

impl Expr<'_> {
    /// As Go prints it.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Name("byte") => "uint8".into(),
            Self::Name("rune") => "int32".into(),
            Self::Name("any") | Self::Interface { empty: true } => "interface {}".into(),
            Self::Name(name) => (*name).into(),
            Self::Pointer(elem) => format!("*{}", elem.text()),
            Self::Slice(elem) => format!("[]{}", elem.text()),
            Self::Array(len, elem) => format!("[{len}]{}", elem.text()),
            Self::Map(key, value) => format!("map[{}]{}", key.text(), value.text()),
            Self::Chan(arrow, elem) => format!("{arrow}{}", elem.text()),
            Self::Func(text) => (*text).into(),
            Self::Interface { empty: false } => "interface { ... }".into(),
            Self::Struct(fields) if fields.is_empty() => "struct {}".into(),
            Self::Struct(fields) => {
                let fields: Vec<_> = fields
                    .iter()
                    .map(|f| format!("{} {}", f.name, f.ty.text()))
                    .collect();
                format!("struct {{ {} }}", fields.join("; "))
            }
        }
    }
}
