//! The calls in a stretch of code: what a step into a line's calls plans from.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl};

/// A call instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallSite {
    /// Where it is.
    pub at: u64,
    /// Where it returns to.
    pub returns_to: u64,
    /// What it calls; `None` where a register or memory tells (closures,
    /// methods of interfaces).
    pub target: Option<u64>,
}

/// The calls of `code`, whose first byte is an instruction's and lies at `at`.
pub fn calls_in(code: &[u8], at: u64) -> Vec<CallSite> {
    Decoder::with_ip(64, code, at, DecoderOptions::NONE)
        .into_iter()
        .filter(|i| i.code() != Code::INVALID)
        .filter_map(|i| {
            let target = match i.flow_control() {
                FlowControl::Call => Some(i.near_branch_target()),
                FlowControl::IndirectCall => None,
                _ => return None,
            };
            Some(CallSite {
                at: i.ip(),
                returns_to: i.next_ip(),
                target,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direct_and_indirect_calls_are_found() {
        // nop; call +0x10; call [rdx]; call rax; jmp +2
        let code = [
            0x90, 0xe8, 0x10, 0, 0, 0, 0xff, 0x12, 0xff, 0xd0, 0xeb, 0x02,
        ];
        let found = calls_in(&code, 0x1000);
        let site = |at, returns_to, target| CallSite {
            at,
            returns_to,
            target,
        };
        assert_eq!(
            found,
            [
                site(0x1001, 0x1006, Some(0x1016)),
                site(0x1006, 0x1008, None),
                site(0x1008, 0x100a, None),
            ]
        );
    }

    #[test]
    fn garbage_ends() {
        let code: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        assert!(calls_in(&code, u64::MAX - 100).len() < code.len());
        assert!(calls_in(&[0xe8], 0).is_empty());
    }
}
