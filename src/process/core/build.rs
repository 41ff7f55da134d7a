//! Is the executable that was given the one that the core is of?
//!
//! The kernel dumps the first page of every mapped ELF file (core(5), bit 4 of
//! coredump_filter), and so does gcore: the build id is in it.

use goblin::elf::Elf;
use goblin::elf::note::NoteDataIterator;
use goblin::elf::program_header::{PT_NOTE, ProgramHeader};

use super::{CTX, Core, CoreError, EHDR};
use crate::addr::ImageAddr;
use crate::image::Image;

/// Bytes of the executable's beginning that are dumped and compared.
const PAGE: usize = 4096;
/// Program headers that are looked at.
const MAX_HEADERS: usize = 64;

/// The build id notes of an ELF file.
#[derive(Default, PartialEq, Eq, Clone)]
pub(super) struct BuildId {
    go: Option<String>,
    gnu: Option<String>,
}

impl BuildId {
    fn text(&self) -> &str {
        let known = self.go.as_deref().or(self.gnu.as_deref());
        known.unwrap_or("not to be found")
    }
}

/// Compares core and executable; leaves a remark when nothing can be compared.
pub(super) fn check(core: &mut Core) -> Result<(), CoreError> {
    let image = core.image.clone();
    let first = image.segments().iter().find(|s| s.offset == 0);
    let start = first.map_or(ImageAddr(0), |s| s.vaddr);
    let page = core.dumped(core.bias.live(start).0, PAGE);
    let ours = image.bytes(start, PAGE);
    let (Some(page), Some(ours)) = (page, ours) else {
        core.remarks.push(format!(
            "whether {} is the executable of {} could not be checked: the core has no copy of its first page",
            image.name(),
            core.name
        ));
        return Ok(());
    };
    let found = ids_in(core, page);
    let own = of_image(&image);
    let same = match (&found, &own) {
        (BuildId { go: Some(a), .. }, BuildId { go: Some(b), .. })
        | (BuildId { gnu: Some(a), .. }, BuildId { gnu: Some(b), .. }) => a == b,
        // No build id at all (-buildid= and no GNU one): the headers tell.
        _ => page.get(EHDR..) == ours.get(EHDR..page.len()),
    };
    if same {
        Ok(())
    } else {
        Err(other(&core.name, Some(&found), &image))
    }
}

/// The error that says so.
pub(super) fn other(core: &str, found: Option<&BuildId>, image: &Image) -> CoreError {
    CoreError::OtherBinary {
        core: core.to_owned(),
        binary: image.name().to_owned(),
        of_core: found.map_or("not to be found", BuildId::text).to_owned(),
        of_binary: of_image(image).text().to_owned(),
    }
}

fn of_image(image: &Image) -> BuildId {
    BuildId {
        go: image.go_build_id().map(str::to_owned),
        gnu: image.gnu_build_id().map(hex),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

/// The ids that a dumped first page leads to.
fn ids_in(core: &Core, page: &[u8]) -> BuildId {
    let mut ids = BuildId::default();
    let Ok(header) = Elf::parse_header(page) else {
        return ids;
    };
    let offset = usize::try_from(header.e_phoff).unwrap_or(usize::MAX);
    let count = usize::from(header.e_phnum).min(MAX_HEADERS);
    let Ok(headers) = ProgramHeader::parse(page, offset, count, CTX) else {
        return ids;
    };
    for header in headers.iter().filter(|h| h.p_type == PT_NOTE) {
        let at = core.bias.live(ImageAddr(header.p_vaddr)).0;
        let len = usize::try_from(header.p_filesz).unwrap_or(0).min(PAGE);
        let notes = core.dumped(at, len).unwrap_or_default();
        add_ids(notes, header.p_align, &mut ids);
    }
    if ids == BuildId::default() {
        // A linker may leave the notes out of PT_NOTE.
        find_go_id(page, &mut ids);
    }
    ids
}

fn add_ids(bytes: &[u8], align: u64, ids: &mut BuildId) {
    let align = usize::try_from(align).unwrap_or(4).clamp(4, 8);
    let notes = NoteDataIterator {
        data: bytes,
        size: bytes.len(),
        offset: 0,
        ctx: (align, CTX),
    };
    for note in notes.map_while(Result::ok) {
        match (note.name.trim_end_matches('\0'), note.n_type) {
            ("Go", 4) => ids.go = std::str::from_utf8(note.desc).ok().map(str::to_owned),
            ("GNU", goblin::elf::note::NT_GNU_BUILD_ID) => ids.gnu = Some(hex(note.desc)),
            _ => {}
        }
    }
}

/// Looks for the header of a Go build id note (size, type 4, name) in a page.
fn find_go_id(page: &[u8], ids: &mut BuildId) {
    let mark = b"\x04\0\0\0Go\0\0";
    let Some(at) = page.windows(mark.len()).position(|w| w == mark) else {
        return;
    };
    let note = at.checked_sub(8).and_then(|from| page.get(from..));
    add_ids(note.unwrap_or_default(), 4, ids);
}
