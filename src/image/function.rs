//! Functions, read out of the function table in place: nothing is kept per
//! function, so memory does not grow with the program.

use std::borrow::Cow;

use super::Image;
use super::arginfo::{self, ArgInfo};
use super::bytes::{i32_at, u8_at, u32_at, until_nul};
use super::pclntab::Layout;
use super::pcvalue::PcValues;
use crate::addr::ImageAddr;

/// `abi.FuncFlagTopFrame`: unwinding stops here (internal/abi/symtab.go).
pub const FLAG_TOP_FRAME: u8 = 1;
/// `abi.FuncFlagSPWrite`: the function changes SP in ways its table does not tell.
pub const FLAG_SP_WRITE: u8 = 2;
/// `abi.FuncFlagAsm`: written in assembly.
pub const FLAG_ASM: u8 = 4;

/// `abi.PCDATA_UnsafePoint`
pub const PCDATA_UNSAFE_POINT: u32 = 0;
/// `abi.PCDATA_StackMapIndex`
pub const PCDATA_STACK_MAP_INDEX: u32 = 1;
/// `abi.PCDATA_InlTreeIndex`
pub const PCDATA_INL_TREE_INDEX: u32 = 2;
/// `abi.FUNCDATA_InlTree`
pub const FUNCDATA_INL_TREE: u8 = 3;
/// `abi.FUNCDATA_ArgInfo`
pub const FUNCDATA_ARG_INFO: u8 = 5;
/// `abi.FUNCDATA_ArgLiveInfo`
pub const FUNCDATA_ARG_LIVE_INFO: u8 = 6;

/// Longer names are cut off: instances of generics nest deep, but not so deep.
const MAX_NAME: usize = 1 << 16;
/// More bodies than are ever inlined into one function.
const MAX_INLINED: i32 = 1 << 16;

/// All functions of a program, in order of address.
#[derive(Clone, Copy)]
pub struct Functions<'a> {
    pub(crate) image: &'a Image,
    pub(crate) data: &'a [u8],
}

impl<'a> Functions<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.image.tab.functions
    }

    /// True when there are none (never so in an opened image).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The function with this index.
    pub fn get(&self, index: usize) -> Option<Function<'a>> {
        if index >= self.len() {
            return None;
        }
        let at = self.image.tab.funcs.checked_add(index.checked_mul(8)?)?;
        let base = self.image.text_base();
        let entry = base.offset(u32_at(self.data, at)?.into());
        let record = usize::try_from(u32_at(self.data, at + 4)?).ok()?;
        let end = base.offset(u32_at(self.data, at + 8)?.into());
        let record = self
            .data
            .get(self.image.tab.funcs.checked_add(record)?..)
            .filter(|r| r.len() >= self.image.tab.layout.func_id_at() + 4)?;
        Some(Function {
            functions: *self,
            index: u32::try_from(index).ok()?,
            entry,
            end,
            record,
        })
    }

    /// All of them, in order of address.
    pub fn iter(&self) -> impl Iterator<Item = Function<'a>> + use<'a> {
        let this = *self;
        (0..this.len()).filter_map(move |i| this.get(i))
    }

    /// The function whose code holds `pc`.
    pub fn find(&self, pc: ImageAddr) -> Option<Function<'a>> {
        let offset = u32::try_from(pc.0.checked_sub(self.image.text_base().0)?).ok()?;
        let entry = |i: usize| u32_at(self.data, self.image.tab.funcs + i * 8).unwrap_or(u32::MAX);
        // The first index whose entry is beyond the pc.
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if entry(middle) <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let found = self.get(low.checked_sub(1)?)?;
        (pc >= found.entry && pc < found.end).then_some(found)
    }

    /// Every function of this name (as Go writes it, `%2e` decoded or not).
    /// Both ABIs of an assembly function share one name, as do a method and
    /// its wrapper: the body that people mean comes first, wrappers last.
    pub fn by_name(&self, name: &str) -> Vec<Function<'a>> {
        self.by_names(&[name]).pop().unwrap_or_default()
    }

    /// [`Functions::by_name`] for several names in one pass over the table;
    /// the answers are in the order of `names`.
    pub fn by_names(&self, names: &[&str]) -> Vec<Vec<Function<'a>>> {
        let mut wanted = std::collections::HashMap::<&[u8], Vec<usize>>::new();
        let mut marks = [false; MARKS];
        for (n, name) in names.iter().enumerate() {
            wanted.entry(name.as_bytes()).or_default().push(n);
            if let Some(mark) = marks.get_mut(mark_of(name.as_bytes())) {
                *mark = true;
            }
        }
        let mut found = vec![Vec::new(); names.len()];
        for function in self.iter() {
            let raw = function.name_bytes();
            let marked = marks.get(mark_of(raw)).is_some_and(|m| *m);
            let plain = if marked { wanted.get(raw) } else { None };
            let slots = plain.or_else(|| {
                if !raw.contains(&b'%') {
                    return None;
                }
                wanted.get(function.name().as_bytes())
            });
            for &slot in slots.into_iter().flatten() {
                if let Some(list) = found.get_mut(slot) {
                    list.push(function);
                }
            }
        }
        for list in &mut found {
            list.sort_by_key(|f: &Function<'_>| f.is_wrapper());
        }
        found
    }

    /// A name out of the table of names.
    pub(crate) fn name_at(&self, offset: i32) -> &'a [u8] {
        let names = self.data.get(self.image.tab.names.clone());
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|at| names?.get(at..))
            .unwrap_or_default();
        let window = rest.get(..MAX_NAME).unwrap_or(rest);
        until_nul(window, 0).unwrap_or(window)
    }
}

impl std::fmt::Debug for Functions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Functions({})", self.len())
    }
}

/// How many [`mark_of`]s there are.
const MARKS: usize = 4096;

/// A number that few names share and that costs less than hashing a name: most
/// of a program's hundred thousand names are told off by it.
fn mark_of(name: &[u8]) -> usize {
    let byte = |at: usize| name.get(at).copied().map_or(0, usize::from);
    let len = name.len();
    let (last, middle) = (byte(len.wrapping_sub(1)), byte(len.wrapping_sub(4)));
    (len ^ last.wrapping_mul(67) ^ middle.wrapping_mul(2029)) % MARKS
}

/// One function.
#[derive(Clone, Copy)]
pub struct Function<'a> {
    functions: Functions<'a>,
    index: u32,
    entry: ImageAddr,
    end: ImageAddr,
    /// `_func` (runtime/runtime2.go) and whatever follows it.
    record: &'a [u8],
}

impl<'a> Function<'a> {
    /// Its place in the table: an id that stays the same for a file.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its first instruction.
    pub fn entry(&self) -> ImageAddr {
        self.entry
    }

    /// Where the next function begins: its code and the padding after it.
    pub fn end(&self) -> ImageAddr {
        self.end
    }

    /// Bytes from entry to end, padding included.
    pub fn size(&self) -> u64 {
        self.end.0.saturating_sub(self.entry.0)
    }

    /// Its code and the padding after it, as the file has it.
    pub fn code(&self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.size()).ok()?;
        self.functions.image.bytes(self.entry, len)
    }

    fn field(&self, at: usize) -> u32 {
        u32_at(self.record, at).unwrap_or(0)
    }

    fn layout(&self) -> Layout {
        self.functions.image.tab.layout
    }

    pub(crate) fn name_offset(&self) -> i32 {
        self.field(4).cast_signed()
    }

    /// Its name's bytes in the file, escapes and all.
    pub fn name_bytes(&self) -> &'a [u8] {
        self.functions.name_at(self.name_offset())
    }

    /// Its name as Go prints it, with the linker's escapes (`%2e` for a dot in
    /// the last element of an import path) decoded.
    pub fn name(&self) -> Cow<'a, str> {
        decode_name(self.name_bytes())
    }

    /// Bytes of arguments and results on the stack (ABI0); negative when unknown.
    pub fn args_size(&self) -> i32 {
        self.field(8).cast_signed()
    }

    /// Offset from the entry of the call of deferreturn, when it has one.
    pub fn deferreturn(&self) -> Option<u32> {
        Some(self.field(12)).filter(|&at| at != 0)
    }

    /// `_func.funcID` (internal/abi/symtab.go: FuncID).
    pub fn func_id(&self) -> u8 {
        u8_at(self.record, self.layout().func_id_at()).unwrap_or(0)
    }

    /// `_func.flag` (internal/abi/symtab.go: FuncFlag).
    pub fn flags(&self) -> u8 {
        u8_at(self.record, self.layout().func_id_at() + 1).unwrap_or(0)
    }

    /// Written in assembly.
    pub fn is_asm(&self) -> bool {
        self.flags() & FLAG_ASM != 0
    }

    /// Without a line of source: method wrappers of all kinds, method values
    /// (`-fm`), package initialisers, `type:.eq`
    /// (cmd/compile/internal/base/print.go: AutogeneratedPos).
    pub fn is_autogenerated(&self) -> bool {
        self.file() == Some("<autogenerated>")
    }

    /// Unwinding ends here.
    pub fn is_top_frame(&self) -> bool {
        self.flags() & FLAG_TOP_FRAME != 0
    }

    /// `abi.FuncIDWrapper`: ABI wrappers, wrappers of `go` and `defer`, method
    /// wrappers that call. Those that end in a jump are not marked so: see
    /// [`Function::is_autogenerated`]. Tracebacks hide what is marked.
    pub fn is_wrapper(&self) -> bool {
        self.func_id() == self.functions.image.wrapper_id()
    }

    /// The line of its `func` keyword (from Go 1.20 on; before, the line of its entry).
    pub fn start_line(&self) -> Option<u32> {
        match self.layout() {
            Layout::Go120 => Some(self.field(36)),
            Layout::Go118 => self.line_at(self.entry),
        }
    }

    /// The source file of its first instruction, as the compiler was told.
    pub fn file(&self) -> Option<&'a str> {
        self.file_at(self.entry)
    }

    fn offset_of(&self, pc: ImageAddr) -> Option<u32> {
        let offset = pc.0.checked_sub(self.entry.0)?;
        u32::try_from(offset).ok()
    }

    /// A pc-value table by its offset; 0 means none.
    pub(crate) fn table(&self, offset: u32) -> Option<PcValues<'a>> {
        let tables = self.functions.image.tab.pcvalues.clone();
        let start = usize::try_from(offset).ok().filter(|&o| o != 0)?;
        let data = self.functions.data.get(tables)?.get(start..)?;
        Some(PcValues::new(data))
    }

    /// How far SP is from the return address, along the code (pcsp).
    pub fn sp_values(&self) -> Option<PcValues<'a>> {
        self.table(self.field(16))
    }

    /// Bytes between SP and the return address at `pc`.
    pub fn sp_delta(&self, pc: ImageAddr) -> Option<i32> {
        self.sp_values()?.value_at(self.offset_of(pc)?)
    }

    /// The line of `pc`, of inlined code the line in the inlined function.
    pub fn line_at(&self, pc: ImageAddr) -> Option<u32> {
        let line = self.line_values()?.value_at(self.offset_of(pc)?)?;
        u32::try_from(line).ok()
    }

    /// Its lines, along the code.
    pub(crate) fn line_values(&self) -> Option<PcValues<'a>> {
        self.table(self.field(24))
    }

    /// The numbers of its source files, along the code.
    pub(crate) fn file_values(&self) -> Option<PcValues<'a>> {
        self.table(self.field(20))
    }

    /// The source file of `pc`.
    pub fn file_at(&self, pc: ImageAddr) -> Option<&'a str> {
        let tab = &self.functions.image.tab;
        let number = self.file_values()?.value_at(self.offset_of(pc)?)?;
        let slot = u64::from(self.field(32)).checked_add(u64::try_from(number).ok()?)?;
        let cutab = self.functions.data.get(tab.cutab.clone())?;
        let offset = u32_at(cutab, usize::try_from(slot).ok()?.checked_mul(4)?)?;
        let files = self.functions.data.get(tab.files.clone())?;
        let name = until_nul(files, usize::try_from(offset).ok()?)?;
        std::str::from_utf8(name).ok()
    }

    fn pcdata_count(&self) -> usize {
        usize::try_from(self.field(28)).unwrap_or(0)
    }

    /// The pc-value table of PCDATA `kind`.
    pub fn pcdata(&self, kind: u32) -> Option<PcValues<'a>> {
        let kind = usize::try_from(kind).ok()?;
        if kind >= self.pcdata_count() {
            return None;
        }
        let at = self.layout().func_id_at() + 4 + kind * 4;
        self.table(u32_at(self.record, at)?)
    }

    /// PCDATA `kind` at `pc`; -1 where there is none, as the runtime has it.
    pub fn pcdata_at(&self, kind: u32, pc: ImageAddr) -> i32 {
        self.pcdata(kind)
            .zip(self.offset_of(pc))
            .and_then(|(table, offset)| table.value_at(offset))
            .unwrap_or(-1)
    }

    /// Where FUNCDATA `kind` lies.
    pub fn funcdata(&self, kind: u8) -> Option<ImageAddr> {
        let head = self.layout().func_id_at() + 4;
        if kind >= u8_at(self.record, head - 1)? {
            return None;
        }
        let skip = self.pcdata_count().checked_add(usize::from(kind))?;
        let offset = u32_at(self.record, head.checked_add(skip.checked_mul(4)?)?)?;
        if offset == u32::MAX {
            return None;
        }
        let base = self.functions.image.module().gofunc;
        Some(base.offset(offset.into()))
    }

    /// The shape of its arguments; none for assembly and for no arguments.
    pub fn arg_info(&self) -> Option<ArgInfo> {
        let image = self.functions.image;
        let info = image.elf.tail(self.funcdata(FUNCDATA_ARG_INFO)?)?;
        let live = self
            .funcdata(FUNCDATA_ARG_LIVE_INFO)
            .and_then(|at| image.elf.tail(at))
            .and_then(|bytes| u8_at(bytes, 0));
        arginfo::parse(info, live)
    }

    /// The number of inlined bodies' records is not stored: the largest index
    /// that the pc-value table mentions tells.
    pub(crate) fn inlined(&self) -> impl Iterator<Item = InlinedBody> + use<'a> {
        let this = *self;
        let last = self.pcdata(PCDATA_INL_TREE_INDEX).and_then(|table| {
            this.funcdata(FUNCDATA_INL_TREE)?;
            table.map(|range| range.value).max()
        });
        (0..=last.unwrap_or(-1).min(MAX_INLINED)).map_while(move |index| this.inlined_body(index))
    }

    /// Record `index` of the inline tree (runtime/symtabinl.go: inlinedCall;
    /// before Go 1.20 runtime/symtab.go).
    pub(crate) fn inlined_body(&self, index: i32) -> Option<InlinedBody> {
        let (size, name_at) = match self.layout() {
            Layout::Go120 => (16, 4),
            Layout::Go118 => (20, 12),
        };
        let skip = u64::try_from(index).ok()?.checked_mul(size)?;
        let at = self.funcdata(FUNCDATA_INL_TREE)?.offset(skip);
        let record = self
            .functions
            .image
            .bytes(at, usize::try_from(size).ok()?)?;
        Some(InlinedBody {
            name: i32_at(record, name_at)?,
            parent_pc: i32_at(record, name_at + 4)?,
        })
    }

    /// The place in this function itself that stands for `pc`, where that lies
    /// in an inlined body; else `pc`.
    pub fn outermost(&self, pc: ImageAddr) -> ImageAddr {
        super::inline::outermost(self, pc)
    }

    pub(crate) fn functions(&self) -> Functions<'a> {
        self.functions
    }
}

impl std::fmt::Debug for Function<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.name(), self.entry)
    }
}

impl PartialEq for Function<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.entry == other.entry
    }
}

impl Eq for Function<'_> {}

/// A function's body as it was inlined somewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InlinedBody {
    /// Offset of its name.
    pub(crate) name: i32,
    /// An instruction at the place of the call, in bytes from the entry.
    pub(crate) parent_pc: i32,
}

/// Undoes cmd/internal/objabi.PathToPrefix: `%` and two lower-case hex digits.
pub(crate) fn decode_name(raw: &[u8]) -> Cow<'_, str> {
    if !raw.contains(&b'%') {
        return String::from_utf8_lossy(raw);
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [first, after @ ..] = rest {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        if let Some((high, low)) = escaped {
            decoded.push(high << 4 | low);
            rest = after.get(2..).unwrap_or_default();
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_in_import_paths_are_decoded() {
        let name = b"sigs.k8s.io/yaml/goyaml%2ev2.init";
        assert_eq!(decode_name(name), "sigs.k8s.io/yaml/goyaml.v2.init");
        assert_eq!(decode_name(b"a%2"), "a%2");
        assert_eq!(decode_name(b"100%."), "100%.");
    }
}
