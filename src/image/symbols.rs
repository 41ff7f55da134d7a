//! Debug information from another file of the same build, as a debugger takes
//! it through a debuglink: the unstripped twin of a program, or what
//! `objcopy --only-keep-debug` makes of one.
//!
//! Build ids say that it is of the same build; sections and segments must lie
//! at the same addresses, and where both files have the function table, its
//! bytes must be equal. Nothing else is ever taken from that file.

use std::fs::File;
use std::path::Path;

use super::elf::Elf;
use super::error::ImageError;
use super::open::{Image, NT_GNU_BUILD_ID, NT_GO_BUILD_ID};

/// The build ids of a file.
#[derive(PartialEq, Eq, Debug)]
struct BuildIds<'a> {
    go: Option<&'a [u8]>,
    gnu: Option<&'a [u8]>,
}

impl BuildIds<'_> {
    fn of(elf: &Elf) -> BuildIds<'_> {
        BuildIds {
            go: elf.note("Go", NT_GO_BUILD_ID),
            gnu: elf.note("GNU", NT_GNU_BUILD_ID),
        }
    }

    /// `None` when they have none in common.
    fn same(&self, other: &BuildIds<'_>) -> Option<bool> {
        let both = [(self.go, other.go), (self.gnu, other.gnu)];
        let mut pairs = both.into_iter().filter_map(|(a, b)| Some((a?, b?)));
        let first = pairs.next()?;
        Some(first.0 == first.1 && pairs.all(|(a, b)| a == b))
    }

    /// As `go tool buildid` and readelf print them.
    fn text(&self) -> String {
        use std::fmt::Write;
        let go = self
            .go
            .map(|id| format!("Go {}", String::from_utf8_lossy(id)));
        let gnu = self.gnu.map(|id| {
            let mut text = "GNU ".to_owned();
            for byte in id {
                let _ = write!(text, "{byte:02x}");
            }
            text
        });
        let both: Vec<String> = go.into_iter().chain(gnu).collect();
        if both.is_empty() {
            "none".to_owned()
        } else {
            both.join(", ")
        }
    }
}

impl Image {
    /// Takes debug information from `path` from here on. Refused unless it is
    /// of the same build and laid out the same.
    pub fn add_symbols(&self, path: &Path) -> Result<(), ImageError> {
        let name = path.display().to_string();
        let failed = |source| ImageError::Open {
            name: name.clone(),
            source,
        };
        // Opening a pipe would wait for a writer.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(ImageError::NotAFile { name });
        }
        let twin = Elf::open(&File::open(path).map_err(failed)?, &name)?;
        let (own, its) = (BuildIds::of(&self.elf), BuildIds::of(&twin));
        if own.same(&its) != Some(true) {
            return Err(ImageError::OtherBuild {
                program: self.name().to_owned(),
                program_id: own.text(),
                symbols: name,
                symbols_id: its.text(),
            });
        }
        if let Some(what) = self.moved(&twin) {
            return Err(ImageError::OtherAddresses {
                program: self.name().to_owned(),
                symbols: name,
                what,
            });
        }
        let info = |n: &str| twin.section_header(n).is_some_and(|s| s.size > 0);
        if !info(".debug_info") && !info(".zdebug_info") {
            return Err(ImageError::NoDebugInfo { name });
        }
        // A second file would have to agree with what was told of the first.
        let _ = self.symbols.set(twin);
        Ok(())
    }

    /// What lies elsewhere in `twin`.
    fn moved(&self, twin: &Elf) -> Option<String> {
        for name in [".text", ".gopclntab", ".data.rel.ro.gopclntab", ".rodata"] {
            let both = (self.elf.section_header(name), twin.section_header(name));
            if let (Some(a), Some(b)) = both
                && (a.addr, a.size) != (b.addr, b.size)
            {
                return Some(format!(
                    "{name} is at {:#x} with {:#x} bytes, there at {:#x} with {:#x}",
                    a.addr.0, a.size, b.addr.0, b.size
                ));
            }
        }
        let loads = |elf: &Elf| -> Vec<(u64, u64)> {
            let loads = elf.segments.iter();
            loads.map(|s| (s.vaddr.0, s.memsz)).collect()
        };
        if loads(&self.elf) != loads(twin) {
            return Some("its segments are others".to_owned());
        }
        if twin.entry != self.elf.entry {
            return Some("it begins elsewhere".to_owned());
        }
        let text = self.text_base();
        let inside = |elf: &Elf| {
            elf.segments
                .iter()
                .any(|s| s.executable && s.contains(text))
        };
        if !inside(twin) {
            return Some(format!("there is no code at {:#x}", text.0));
        }
        let table = self.elf.address_of(self.tab.file.start)?;
        let own = self.elf.data().get(self.tab.file.clone())?;
        // A file with debug information alone has no table.
        let its = twin.bytes(table, own.len())?;
        (own != its).then(|| "its function table says something else".to_owned())
    }
}
