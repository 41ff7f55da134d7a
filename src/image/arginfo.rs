//! The shape of a function's arguments as the compiler notes it for
//! tracebacks (cmd/compile/internal/ssagen/abi.go: EmitArgInfo,
//! internal/abi/symtab.go: TraceArgs*).

const END: u8 = 0xff;
const START_AGG: u8 = 0xfe;
const END_AGG: u8 = 0xfd;
const DOTDOTDOT: u8 = 0xfc;
const OFFSET_TOO_LARGE: u8 = 0xfb;

/// The compiler stops after 10 words and 5 levels; a longer list is not one of its own.
const MAX_BYTES: usize = 512;
const MAX_DEPTH: usize = 8;

/// One argument, or a part of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ArgShape {
    /// A word or less.
    Scalar {
        /// Bytes from the start of the argument area (`SP + 8` at entry).
        offset: u8,
        /// Bytes.
        size: u8,
    },
    /// A scalar too far away to be noted.
    FarScalar,
    /// A struct, an array, a string, a slice, an interface.
    Aggregate(Vec<ArgShape>),
    /// More parts follow that were not noted (`...` in a traceback).
    More,
}

/// The arguments of a function: receiver first, results never, the dictionary
/// of a generic function never.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArgInfo {
    /// In order of declaration.
    pub args: Vec<ArgShape>,
    /// The lowest offset of a register argument's spill slot: a scalar below
    /// it came on the stack, one at or above it in a register. `None`: nothing
    /// came in registers.
    pub spill_start: Option<u8>,
}

/// Reads FUNCDATA_ArgInfo; `live` is the first byte of FUNCDATA_ArgLiveInfo.
pub(crate) fn parse(data: &[u8], live: Option<u8>) -> Option<ArgInfo> {
    let mut open: Vec<Vec<ArgShape>> = vec![Vec::new()];
    let mut bytes = data.iter().take(MAX_BYTES).copied();
    loop {
        let shape = match bytes.next()? {
            END => break,
            START_AGG => {
                if open.len() > MAX_DEPTH {
                    return None;
                }
                open.push(Vec::new());
                continue;
            }
            END_AGG => ArgShape::Aggregate(open.pop()?),
            DOTDOTDOT => ArgShape::More,
            OFFSET_TOO_LARGE => ArgShape::FarScalar,
            offset => ArgShape::Scalar {
                offset,
                size: bytes.next()?,
            },
        };
        open.last_mut()?.push(shape);
    }
    let args = open.pop()?;
    open.is_empty().then_some(ArgInfo {
        args,
        spill_start: live,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_with_a_slice() {
        // func (c *conn) Read(b []byte)
        let info = parse(&[0, 8, 0xfe, 8, 8, 16, 8, 24, 8, 0xfd, 0xff], Some(0)).unwrap();
        let word = |offset| ArgShape::Scalar { offset, size: 8 };
        assert_eq!(
            info.args,
            [
                word(0),
                ArgShape::Aggregate(vec![word(8), word(16), word(24)])
            ]
        );
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(parse(&[0xfd, 0xff], None), None);
        assert_eq!(parse(&[0xfe, 0xff], None), None);
        assert_eq!(parse(&[0xfe; 600], None), None);
        assert_eq!(parse(&[0, 8], None), None);
    }
}
