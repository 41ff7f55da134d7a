//! Files that are not what they seem: each is refused with one line, or read
//! without a panic.

use std::io::{Seek, SeekFrom, Write};

use proptest::prelude::*;

use super::fixture::{Build, open, path};
use crate::addr::{ImageAddr, LiveAddr};
use crate::image::{Image, ImageError, Limits, resolve};
use crate::memory::Memory;

/// The error of a file with these bytes.
fn refused(bytes: &[u8]) -> ImageError {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    std::fs::write(&file, bytes).unwrap();
    let error = Image::open(&file).unwrap_err();
    assert!(!error.to_string().contains('\n'));
    error
}

fn program() -> Vec<u8> {
    std::fs::read(path(Build::Stripped)).unwrap()
}

#[test]
fn each_kind_of_wrong_file_has_its_own_line() {
    assert!(matches!(refused(b""), ImageError::NotElf { .. }));
    assert!(matches!(refused(b"#!/bin/sh\n"), ImageError::NotElf { .. }));
    assert!(matches!(refused(b"\x7fELF"), ImageError::Truncated { .. }));
    let mut bytes = program();
    bytes[4] = 1;
    assert!(matches!(refused(&bytes), ImageError::Bits32 { .. }));
    let mut bytes = program();
    bytes[18] = 183;
    let text = refused(&bytes).to_string();
    assert!(text.contains("is built for arm64"), "{text}");
    let mut bytes = program();
    bytes[16] = 1;
    assert!(matches!(refused(&bytes), ImageError::NotExecutable { .. }));
    let mut bytes = program();
    bytes.truncate(bytes.len() / 2);
    assert!(matches!(refused(&bytes), ImageError::Truncated { .. }));
    let missing = Image::open("/no/such/file".as_ref()).unwrap_err();
    assert!(matches!(missing, ImageError::Open { .. }));
    let directory = Image::open("/".as_ref()).unwrap_err();
    assert!(matches!(directory, ImageError::NotAFile { .. }));
    let other = Image::open("/bin/sh".as_ref()).unwrap_err();
    assert!(matches!(other, ImageError::NotGo { .. }));
}

/// Where the function table begins in the file.
fn table(image: &Image) -> usize {
    file_offset(image, image.module().pclntab)
}

fn file_offset(image: &Image, at: ImageAddr) -> usize {
    let segment = image.segments().iter().find(|s| s.contains(at)).unwrap();
    usize::try_from(at.0 - segment.vaddr.0 + segment.offset).unwrap()
}

#[test]
fn other_function_tables_are_named() {
    let at = table(&open(Build::Stripped));
    let mut garbled = program();
    garbled[at..at + 4].copy_from_slice(&[0x12, 0x34, 0x56, 0x78]);
    assert!(matches!(refused(&garbled), ImageError::Garbled { .. }));
    let mut old = program();
    old[at] = 0xfa;
    let text = refused(&old).to_string();
    assert!(text.contains("Go 1.16 or 1.17"), "{text}");
}

#[test]
fn a_program_without_a_section_table_is_searched() {
    for build in [Build::Stripped, Build::StrippedPie, Build::ExternalPie] {
        let expected = open(build);
        let mut bytes = std::fs::read(path(build)).unwrap();
        bytes[40..48].fill(0);
        bytes[58..64].fill(0);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        std::fs::write(&file, bytes).unwrap();
        let image = Image::open(&file).unwrap();
        assert!(image.sections().is_empty());
        assert_eq!(image.module(), expected.module());
        assert_eq!(image.build_info(), expected.build_info());
        assert_eq!(image.functions().len(), expected.functions().len());
    }
}

/// Asks everything of an image that its bytes decide.
fn exercise(image: &Image) {
    let functions = image.functions();
    let step = (functions.len() / 97).max(1);
    for function in functions.iter().step_by(step) {
        let (entry, end) = (function.entry(), function.end());
        for pc in [entry, entry.offset(9), entry.offset(40), end] {
            let _ = image.frames_at(pc);
            let _ = image.sp_delta(pc);
            let _ = function.pcdata_at(0, pc);
        }
        let _ = (function.name(), function.file(), function.start_line());
        let _ = (function.arg_info(), function.code(), function.is_wrapper());
        let _ = function.inlined().take(100).count();
    }
    let _ = functions.get(usize::MAX);
    let _ = resolve(image, &["main.*"], &Limits { max_matches: 3 });
    let _ = (image.is_cgo(), image.go_build_id(), image.gnu_build_id());
    let _ = image.section(".debug_info");
    let types = image.module().types.start.0;
    let _ = image.memory().read_vec(LiveAddr(types), 4096);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Any few bytes of headers and tables changed: no panic, no endless loop.
    #[test]
    fn changed_bytes_never_panic(
        changes in prop::collection::vec((0usize..5, 0usize..4096, any::<u8>()), 1..12),
        pie in any::<bool>(),
    ) {
        let build = if pie { Build::StrippedPie } else { Build::Stripped };
        let image = open(build);
        let mut starts = vec![0, table(&image), file_offset(&image, image.module().at)];
        // The first functions' records, and the relocations.
        let entries = image.functions().len() * 8;
        starts.push(table(&image) + entries);
        let rela = image.section_header(".rela").or(image.section_header(".rela.dyn"));
        starts.push(rela.map_or(0, |s| usize::try_from(s.offset).unwrap()));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::copy(&mut std::fs::File::open(path(build)).unwrap(), &mut file).unwrap();
        for (place, skip, byte) in changes {
            // Headers are short: most changes go to the first bytes.
            let skip = if skip % 2 == 0 { skip / 32 } else { skip };
            file.seek(SeekFrom::Start((starts[place] + skip) as u64)).unwrap();
            file.write_all(&[byte]).unwrap();
        }
        if let Ok(image) = Image::open(file.path()) {
            exercise(&image);
        }
    }

    /// A file cut anywhere is refused, or read as far as it goes.
    #[test]
    fn cut_files_never_panic(part in 0u64..1000) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes = std::fs::read(path(Build::Default)).unwrap();
        let len = bytes.len() * usize::try_from(part).unwrap() / 1000;
        std::fs::write(file.path(), &bytes[..len]).unwrap();
        if let Ok(image) = Image::open(file.path()) {
            exercise(&image);
        }
    }
}
