//! Where a variable's bytes are: a DWARF expression evaluated over registers
//! and memory.

use gimli::{EvaluationResult, LittleEndian, Location, Value};

use super::scope::Expression;
use super::{Dwarf, Slice};
use crate::addr::{Bias, LiveAddr};
use crate::memory::Memory;

/// Steps of one expression.
const MAX_STEPS: u32 = 1000;
/// Pieces of one value.
const MAX_PIECES: usize = 256;

/// A frame of a machine: what an expression may ask for.
pub struct MachineFrame<'a> {
    /// The stack pointer as it was before the call that made the frame, which
    /// is where the caller's part of the stack begins (`DW_OP_call_frame_cfa`).
    pub cfa: LiveAddr,
    /// What the loader added to the file's addresses.
    pub bias: Bias,
    /// Registers by DWARF's numbers (System V ABI, AMD64 supplement, figure
    /// 3.36; 17 and up: the low 64 bits of xmm0 and up). `None` where a frame's
    /// own value is not known: a call overwrites them all.
    pub registers: &'a dyn Fn(u16) -> Option<u64>,
    /// The target's memory.
    pub memory: &'a dyn Memory,
}

/// Where a part of a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// In memory.
    Memory(LiveAddr),
    /// Known: it was in a register, or is a constant. Low bytes first.
    Word(u64),
    /// In a register that this frame's own value is not known of.
    LostRegister(u16),
    /// Nowhere: optimised away.
    Nowhere,
}

/// A part of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Bytes; `None`: all that is left.
    pub size: Option<u64>,
    /// Where they are.
    pub source: Source,
}

/// Why an expression came to nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LocateError {
    /// gimli refuses it, or it asks for what Go's compiler never uses.
    #[error("its place is not understood: {0}")]
    Expression(String),
    /// It depends on memory or a register that cannot be read.
    #[error("its place depends on {0}, which cannot be read")]
    Unreadable(String),
}

impl Dwarf {
    /// The parts of a value, in order of its bytes.
    pub fn locate(
        &self,
        expression: &Expression,
        frame: &MachineFrame<'_>,
    ) -> Result<Vec<Part>, LocateError> {
        let wrong = |e: gimli::Error| LocateError::Expression(e.to_string());
        let unit = self
            .units
            .holding(expression.unit)
            .ok_or_else(|| LocateError::Expression("its unit is gone".to_owned()))?;
        let bytes: Slice<'_> = Slice::new(&expression.bytes, LittleEndian);
        let mut evaluation = gimli::Expression(bytes).evaluation(unit.encoding);
        evaluation.set_max_iterations(MAX_STEPS);
        let mut state = evaluation.evaluate().map_err(wrong)?;
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                // All functions of Go have DW_OP_call_frame_cfa as their base.
                EvaluationResult::RequiresFrameBase => {
                    evaluation.resume_with_frame_base(frame.cfa.0)
                }
                EvaluationResult::RequiresCallFrameCfa => {
                    evaluation.resume_with_call_frame_cfa(frame.cfa.0)
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = (frame.registers)(register.0).ok_or_else(|| {
                        LocateError::Unreadable(format!("register {}", register.0))
                    })?;
                    evaluation.resume_with_register(Value::Generic(value))
                }
                EvaluationResult::RequiresMemory { address, size, .. } => {
                    let value = read_word(frame.memory, address, size).ok_or_else(|| {
                        LocateError::Unreadable(format!("memory at {address:#x}"))
                    })?;
                    evaluation.resume_with_memory(Value::Generic(value))
                }
                EvaluationResult::RequiresRelocatedAddress(at) => {
                    evaluation.resume_with_relocated_address(at.wrapping_add(frame.bias.0))
                }
                EvaluationResult::RequiresIndexedAddress { index, relocate } => {
                    let value = gimli::AttributeValue::DebugAddrIndex(index);
                    let at = self.address(unit, &value).ok_or_else(|| {
                        LocateError::Expression(format!("no address {}", index.0))
                    })?;
                    let bias = if relocate { frame.bias.0 } else { 0 };
                    evaluation.resume_with_indexed_address(at.wrapping_add(bias))
                }
                other => {
                    return Err(LocateError::Expression(format!("{other:?}")));
                }
            }
            .map_err(wrong)?;
        }
        let pieces = evaluation.as_result();
        let parts = pieces.iter().take(MAX_PIECES).map(|piece| Part {
            size: piece.size_in_bits.map(|bits| bits / 8),
            source: match piece.location {
                Location::Empty | Location::Bytes { .. } | Location::ImplicitPointer { .. } => {
                    Source::Nowhere
                }
                Location::Address { address } => Source::Memory(LiveAddr(address)),
                Location::Register { register } => match (frame.registers)(register.0) {
                    Some(word) => Source::Word(word),
                    None => Source::LostRegister(register.0),
                },
                Location::Value { value } => {
                    value.to_u64(u64::MAX).map_or(Source::Nowhere, Source::Word)
                }
            },
        });
        Ok(parts.collect())
    }
}

fn read_word(memory: &dyn Memory, at: u64, size: u8) -> Option<u64> {
    let mut word = [0; 8];
    memory
        .read(LiveAddr(at), word.get_mut(..usize::from(size))?)
        .ok()?;
    Some(u64::from_le_bytes(word))
}
