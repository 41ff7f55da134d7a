//! Whether a function's code surely stores its receiver in its spill slot.
//!
//! The slot belongs to that one argument, but holds garbage until the callee
//! stores it (cmd/compile/abi-internal.md). Only a store on the straight way
//! from the entry to the first call counts.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use crate::image::Image;
use crate::probe::plan::FunctionPlan;

/// Code looked at, bytes.
const WINDOW: usize = 256;

/// True when RAX is stored at `argp + spill` before anything else can happen.
pub(super) fn stores_receiver(image: &Image, function: &FunctionPlan, spill: u64) -> bool {
    let Some(found) = image.functions().get(function.index as usize) else {
        return false;
    };
    let Some(code) = found.code() else {
        return false;
    };
    let code = code.get(..WINDOW).unwrap_or(code);
    let mut decoder = Decoder::with_ip(64, code, function.entry.0, DecoderOptions::NONE);
    let mut insn = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut insn);
        let at = crate::addr::ImageAddr(insn.ip());
        match insn.flow_control() {
            FlowControl::Next => {}
            // The stack check is left by falling through.
            FlowControl::ConditionalBranch if insn.near_branch_target() > insn.ip() => continue,
            _ => return false,
        }
        let stores = insn.mnemonic() == Mnemonic::Mov
            && insn.op0_kind() == OpKind::Memory
            && insn.memory_base() == Register::RSP
            && insn.memory_index() == Register::None
            && insn.op1_kind() == OpKind::Register
            && insn.op1_register() == Register::RAX;
        let Some(delta) = found.sp_delta(at) else {
            return false;
        };
        let slot = u64::try_from(delta)
            .unwrap_or(0)
            .wrapping_add(8)
            .wrapping_add(spill);
        if stores && insn.memory_displacement64() == slot {
            return true;
        }
        let overwritten = insn.op0_kind() == OpKind::Register
            && insn.op0_register().full_register() == Register::RAX
            && insn.mnemonic() != Mnemonic::Test
            && insn.mnemonic() != Mnemonic::Cmp;
        if overwritten {
            return false;
        }
    }
    false
}
