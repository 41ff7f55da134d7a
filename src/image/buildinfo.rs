//! Build information: what `go version -m` prints
//! (debug/buildinfo/buildinfo.go, runtime/debug/mod.go).

use super::bytes::{array_at, u8_at, u64_at, uvarint};
use super::elf::Elf;
use super::goversion::GoVersion;
use super::relocations::ImageMemory;
use crate::addr::{ImageAddr, LiveAddr};
use crate::memory::Memory;

const MAGIC: &[u8; 14] = b"\xff Go buildinf:";
/// The blob is so aligned; programs that embed debug/buildinfo hold
/// unaligned copies of the magic.
const ALIGN: usize = 16;
/// Version and module text follow the header in place (Go 1.18 and later).
const FLAG_INLINE: u8 = 2;
/// Longer texts are cut off.
const MAX_TEXT: usize = 16 << 20;
/// The linker wraps the module text in 16 bytes on both sides
/// (cmd/go/internal/modload/build.go: infoStart, infoEnd).
const SENTINEL: usize = 16;

/// A module, as the build listed it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Module {
    /// Its path.
    pub path: String,
    /// Its version; `(devel)` for the main module of a plain `go build`.
    pub version: String,
    /// Its go.sum hash, where one is noted.
    pub sum: String,
    /// What replaced it.
    pub replace: Option<Box<Module>>,
}

/// What the program states about its build. Empty where it states nothing
/// (Bazel builds state a version only).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BuildInfo {
    /// The Go version.
    pub go_version: GoVersion,
    /// Import path of the main package.
    pub path: String,
    /// The main module.
    pub main: Option<Module>,
    /// The modules it was built from.
    pub deps: Vec<Module>,
    /// `build` lines: `-buildmode`, `CGO_ENABLED`, `vcs.revision`…
    pub settings: Vec<(String, String)>,
}

impl BuildInfo {
    /// The value of a `build` line.
    pub fn setting(&self, key: &str) -> Option<&str> {
        let found = self.settings.iter().find(|(k, _)| k == key);
        found.map(|(_, value)| value.as_str())
    }

    /// Nothing known.
    pub(crate) fn unknown() -> Self {
        Self::parse("", "")
    }

    /// Reads a version and the module text (sentinels stripped).
    pub fn parse(version: &str, text: &str) -> Self {
        let mut info = Self {
            go_version: GoVersion::parse(version),
            path: String::new(),
            main: None,
            deps: Vec::new(),
            settings: Vec::new(),
        };
        let mut last_is_main = false;
        for line in text.lines() {
            let Some((kind, rest)) = line.split_once('\t') else {
                continue;
            };
            match kind {
                "path" => rest.clone_into(&mut info.path),
                "mod" => {
                    info.main = Some(parse_module(rest));
                    last_is_main = true;
                }
                "dep" => {
                    info.deps.push(parse_module(rest));
                    last_is_main = false;
                }
                "=>" => {
                    let replaced = if last_is_main {
                        info.main.as_mut()
                    } else {
                        info.deps.last_mut()
                    };
                    if let Some(module) = replaced {
                        module.replace = Some(Box::new(parse_module(rest)));
                    }
                }
                "build" => {
                    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
                    info.settings.push((key.to_owned(), unquote(value)));
                }
                _ => {}
            }
        }
        info
    }
}

fn parse_module(text: &str) -> Module {
    let mut words = text.split('\t').map(str::to_owned);
    let mut next = || words.next().unwrap_or_default();
    Module {
        path: next(),
        version: next(),
        sum: next(),
        replace: None,
    }
}

/// Values with blanks or quotes are written as Go strings
/// (runtime/debug/mod.go: quoteValue).
fn unquote(value: &str) -> String {
    if value.starts_with('"') {
        // Go's and JSON's escapes agree on what build settings hold.
        if let Ok(text) = serde_json::from_str(value) {
            return text;
        }
    }
    value.trim_matches('`').to_owned()
}

/// Finds and reads the program's build information.
pub(crate) fn find(elf: &Elf, memory: &ImageMemory<'_>) -> Option<BuildInfo> {
    let section = elf.section_header(".go.buildinfo");
    if let Some(found) = section.and_then(|s| read(elf, memory, s.addr)) {
        return Some(found);
    }
    // Writable segments first, as debug/buildinfo does.
    let mut segments: Vec<_> = elf.segments.iter().filter(|s| !s.executable).collect();
    segments.sort_by_key(|s| !s.writable);
    segments.into_iter().find_map(|segment| {
        let bytes = elf.segment_bytes(segment)?;
        bytes
            .chunks(ALIGN)
            .zip(0u64..)
            .filter(|(chunk, _)| chunk.starts_with(MAGIC))
            .find_map(|(_, n)| read(elf, memory, segment.vaddr.offset(n * ALIGN as u64)))
    })
}

fn read(elf: &Elf, memory: &ImageMemory<'_>, at: ImageAddr) -> Option<BuildInfo> {
    let data = elf.tail(at)?;
    if array_at::<14>(data, 0)? != *MAGIC {
        return None;
    }
    let (version, modules) = if u8_at(data, 15)? & FLAG_INLINE != 0 {
        let mut at = 32;
        let version = inline_string(data, &mut at)?;
        (version.to_vec(), inline_string(data, &mut at)?.to_vec())
    } else {
        // Go 1.17 and older: pointers to string headers.
        let string = |skip: usize| -> Option<Vec<u8>> {
            let header = LiveAddr(u64_at(data, skip)?);
            let start = memory.read_addr(header).ok()?;
            let len = memory.read_u64(LiveAddr(header.0.checked_add(8)?)).ok()?;
            let len = usize::try_from(len).ok().filter(|&n| n <= MAX_TEXT)?;
            elf.bytes(ImageAddr(start.0), len).map(<[u8]>::to_vec)
        };
        (string(16)?, string(24).unwrap_or_default())
    };
    // Without the sentinels it is not module text.
    let text = modules
        .get(SENTINEL..modules.len().saturating_sub(SENTINEL))
        .filter(|text| text.ends_with(b"\n"))
        .unwrap_or_default();
    Some(BuildInfo::parse(
        &String::from_utf8_lossy(&version),
        &String::from_utf8_lossy(text),
    ))
}

fn inline_string<'a>(data: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let len = usize::try_from(uvarint(data, at)?).ok()?;
    let end = at.checked_add(len).filter(|_| len <= MAX_TEXT)?;
    let text = data.get(*at..end)?;
    *at = end;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_replacements_and_settings() {
        let text = "path\texample.com/cmd/x\nmod\texample.com\t(devel)\t\n\
                    dep\ta.b/c\tv1.2.3\th1:abc=\n=>\t./local\t(devel)\t\n\
                    build\t-ldflags=\"-s -w\"\nbuild\tCGO_ENABLED=1\nnonsense\n";
        let info = BuildInfo::parse("go1.26.8", text);
        assert_eq!(info.path, "example.com/cmd/x");
        assert_eq!(info.main.as_ref().unwrap().version, "(devel)");
        let replaced = info.deps.first().unwrap();
        assert_eq!(replaced.replace.as_ref().unwrap().path, "./local");
        assert_eq!(info.setting("-ldflags"), Some("-s -w"));
        assert_eq!(info.setting("CGO_ENABLED"), Some("1"));
        assert_eq!(info.setting("GOOS"), None);
    }
}
