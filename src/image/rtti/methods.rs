//! Signatures of methods, from the method tables of types.

use crate::addr::LiveAddr;
use crate::image::rtti::{RttiTypes, search};
use crate::image::types::{Param, Signature, Source, TypeId};
use crate::memory::Memory;

/// A method's function and its types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MethodSignature {
    /// The receiver's type, as the function takes it.
    pub receiver: TypeId,
    /// Its func type, without receiver: see [`RttiTypes::func_types`].
    pub func: TypeId,
}

impl MethodSignature {
    /// The signature, the receiver first. `None` when the descriptors cannot
    /// be read.
    pub fn signature<M: Memory>(&self, types: &RttiTypes<M>) -> Option<Signature> {
        let (params, results) = types.func_types(self.func)?;
        let unnamed = |ty| Param { name: None, ty };
        let params = std::iter::once(self.receiver).chain(params);
        Some(Signature {
            params: params.map(unnamed).collect(),
            results: Some(results.into_iter().map(unnamed).collect()),
            source: Source::MethodTable,
        })
    }
}

/// See [`RttiTypes::signatures_for`].
pub(super) fn signatures_for<M: Memory>(
    types: &RttiTypes<M>,
    entries: &[LiveAddr],
) -> Vec<Option<MethodSignature>> {
    let mut found = vec![None; entries.len()];
    if entries.is_empty() {
        return found;
    }
    let mut wanted: Vec<(LiveAddr, usize)> = entries.iter().copied().zip(0..).collect();
    wanted.sort_unstable();
    let reader = types.reader();
    search::each_listed(&reader, |raw| {
        for method in reader.raw_methods(raw).into_iter().flatten() {
            let (Some(func), Some(code)) = method.kept(types.section()) else {
                continue;
            };
            let first = wanted.partition_point(|(at, _)| *at < code);
            let same = wanted.get(first..).unwrap_or_default();
            for (_, index) in same.iter().take_while(|(at, _)| *at == code) {
                let (Some(receiver), Some(func)) = (types.id(raw.at), types.at(func)) else {
                    continue;
                };
                if let Some(slot @ None) = found.get_mut(*index) {
                    *slot = Some(MethodSignature { receiver, func });
                }
            }
        }
    });
    found
}
