//! Calls that were running before the traps were there, and stacks at a hit.

use std::collections::HashMap;
use std::sync::Arc;

use super::target::Target;
use crate::addr::{Bias, LiveAddr};
use crate::golang::globals::Globals;
use crate::golang::inside::{Found, Search, Traced};
use crate::golang::stack::{StackCopy, Unwinder, source_frames};
use crate::image::Image;
use crate::memory::{Memory, Patchwork};
use crate::probe::plan::Plan;
use crate::process::ProcessMemory;
use crate::record::Frame;

/// As much of a stack as is copied at once.
const COPY: u64 = 16 << 10;
/// How far from the call's own return address others are looked for.
const DEEPEST: usize = 1 << 20;
/// Places whose names are remembered.
const REMEMBERED: usize = 1 << 16;

/// Reads stacks of one program.
pub(super) struct Stacks {
    image: Arc<Image>,
    bias: Bias,
    unwinder: Unwinder,
    names: HashMap<u64, Vec<Frame>>,
}

impl Stacks {
    pub fn new(target: &Target) -> Stacks {
        Stacks {
            image: target.image.clone(),
            bias: target.bias,
            unwinder: Unwinder::new(),
            names: HashMap::new(),
        }
    }

    /// The frames from `pc` outwards, `limit` of them: the function that was
    /// entered first. `hi` bounds the stack.
    pub fn at(
        &mut self,
        memory: &dyn Memory,
        (pc, sp, hi): (u64, u64, u64),
        limit: usize,
    ) -> Vec<Frame> {
        let len = usize::try_from(hi.saturating_sub(sp).min(COPY)).unwrap_or(0);
        let bytes = memory.read_vec(LiveAddr(sp), len).unwrap_or_default();
        let copy = StackCopy {
            at: LiveAddr(sp),
            bytes: &bytes,
            beyond: memory,
        };
        self.named(&copy, (pc, sp), limit)
    }

    /// The same of a stack that has changed since, by its return addresses: where
    /// each lay, and what it was. Unwinding asks for nothing else.
    pub fn of_words(
        &mut self,
        words: &[u64],
        (pc, sp, hi): (u64, u64, u64),
        limit: usize,
    ) -> Vec<Frame> {
        let pairs = words.chunks_exact(2).map(|pair| match pair {
            [at, word] => (*at, *word),
            _ => (0, 0),
        });
        let pairs = pairs.take_while(|(at, _)| *at >= sp && *at < hi);
        let mut bytes = Vec::new();
        for (at, word) in pairs {
            let Ok(from) = usize::try_from(at.saturating_sub(sp)) else {
                break;
            };
            if from > DEEPEST {
                break;
            }
            if bytes.len() < from.saturating_add(8) {
                bytes.resize(from.saturating_add(8), 0);
            }
            if let Some(place) = bytes.get_mut(from..from.saturating_add(8)) {
                place.copy_from_slice(&word.to_le_bytes());
            }
        }
        let copy = StackCopy {
            at: LiveAddr(sp),
            bytes: &bytes,
            beyond: &Patchwork::default(),
        };
        self.named(&copy, (pc, sp), limit)
    }

    fn named(&mut self, copy: &StackCopy<'_>, (pc, sp): (u64, u64), limit: usize) -> Vec<Frame> {
        let at = (LiveAddr(pc), LiveAddr(sp));
        // Wrappers are unwound and not shown.
        let with_wrappers = limit.saturating_mul(2).saturating_add(2);
        let unwound = self
            .unwinder
            .unwind(&self.image, self.bias, copy, at, with_wrappers);
        let Ok(stack) = unwound else {
            return Vec::new();
        };
        let mut frames = Vec::with_capacity(limit);
        for (index, frame) in stack.frames.iter().enumerate() {
            if index > 0 && frame.wrapper {
                continue;
            }
            // The same place looks itself up once.
            let key = frame.lookup(self.bias).0;
            if self.names.len() > REMEMBERED {
                self.names.clear();
            }
            let named = self.names.entry(key).or_insert_with(|| {
                source_frames(&self.image, self.bias, std::slice::from_ref(frame))
                    .into_iter()
                    .map(|f| Frame {
                        func: Arc::from(&*f.function),
                        file: Arc::from(&*f.file),
                        line: f.line,
                        inlined: f.inlined,
                    })
                    .collect()
            });
            frames.extend(named.iter().cloned());
        }
        frames.truncate(limit);
        frames
    }

    /// Looks for goroutines parked inside the functions of a plan. The indexes
    /// in what is found count in the plan.
    pub fn inside(
        &mut self,
        plan: &Plan,
        target: &Target,
        globals: &Globals,
        memory: &ProcessMemory,
    ) -> Option<Found> {
        let mut order: Vec<usize> = (0..plan.functions.len())
            .filter(|i| plan.functions.get(*i).is_some_and(|f| f.trap.is_ok()))
            .collect();
        order.sort_by_key(|i| plan.functions.get(*i).map(|f| f.entry));
        let traced: Vec<Traced> = order
            .iter()
            .filter_map(|i| {
                let function = plan.functions.get(*i)?;
                let trap = function.trap.as_ref().ok()?;
                let site = plan.sites.get(trap.entry_site)?.at;
                Some(Traced {
                    entry: function.entry,
                    end: function.end,
                    site,
                })
            })
            .collect();
        let search = Search {
            image: &self.image,
            bias: self.bias,
            memory,
            layouts: &target.layouts,
            globals,
            traced: &traced,
            threads: &[],
        };
        match search.run(&mut self.unwinder) {
            Ok(mut found) => {
                for call in &mut found.calls {
                    call.traced = order.get(call.traced).copied().unwrap_or(usize::MAX);
                }
                Some(found)
            }
            Err(error) => {
                tracing::warn!(%error, "calls that were running already are not known");
                None
            }
        }
    }
}
