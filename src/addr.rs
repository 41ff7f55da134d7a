//! Address types: where something lies in an ELF file's own numbering and
//! where it lies in a running process are two types; only a [`Bias`] converts.

use std::fmt;

/// An address as the ELF file numbers it (`p_vaddr`, symbol values).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ImageAddr(pub u64);

/// An address in the target's address space (or in the core's).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LiveAddr(pub u64);

/// What the loader added to an image's addresses: 0 unless position independent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Bias(pub u64);

impl Bias {
    /// The place in the target of an address of the file.
    pub fn live(self, at: ImageAddr) -> LiveAddr {
        LiveAddr(at.0.wrapping_add(self.0))
    }

    /// The file's number for a place in the target.
    pub fn image(self, at: LiveAddr) -> ImageAddr {
        ImageAddr(at.0.wrapping_sub(self.0))
    }
}

macro_rules! address {
    ($name:ident) => {
        impl $name {
            /// This address moved on by `bytes`; wraps like the machine does.
            #[must_use]
            pub fn offset(self, bytes: u64) -> Self {
                Self(self.0.wrapping_add(bytes))
            }

            /// True for address zero.
            pub fn is_null(self) -> bool {
                self.0 == 0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:#x})", stringify!($name), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address!(ImageAddr);
address!(LiveAddr);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bias_goes_both_ways() {
        let bias = Bias(0x5555_5555_4000);
        let at = ImageAddr(0x1000);
        assert_eq!(bias.live(at), LiveAddr(0x5555_5555_5000));
        assert_eq!(bias.image(bias.live(at)), at);
    }
}
