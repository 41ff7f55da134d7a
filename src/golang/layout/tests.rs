use super::*;

struct Fields(&'static [(&'static str, &'static str, u64)]);

impl StructFields for Fields {
    fn offset_of(&self, strukt: &str, path: &str) -> Option<u64> {
        self.0
            .iter()
            .find(|f| f.0 == strukt && f.1 == path)
            .map(|f| f.2)
    }
    fn size_of(&self, strukt: &str) -> Option<u64> {
        self.offset_of(strukt, "")
    }
}

#[test]
fn the_table_answers_for_known_versions() {
    let old = Layouts::resolve(Some(19), None);
    assert_eq!(old.source, LayoutSource::Table);
    assert!(old.notes.is_empty());
    assert_eq!(old.g.goid, 152);
    assert_eq!(old.g.parent_goid, None);
    assert_eq!(old.poll_fd.runtime_ctx, 24);
    let new = Layouts::resolve(Some(26), None);
    assert_eq!(new.g.parent_goid, Some(280));
    assert_eq!(new.poll_desc.self_, 288);
    assert_eq!(Layouts::resolve(Some(24), None).g.goid, 160);
}

#[test]
fn a_go_newer_than_known_says_so() {
    let layouts = Layouts::resolve(Some(31), None);
    assert_eq!(layouts.source, LayoutSource::Nearest);
    assert_eq!(layouts.g.goid, 152);
    assert!(layouts.notes[0].contains("Go 1.31"), "{:?}", layouts.notes);
    assert!(Layouts::resolve(None, None).notes[0].contains("not understood"));
}

#[test]
fn type_data_wins_and_a_lost_field_is_told() {
    let fields = Fields(&[("runtime.g", "", 500), ("runtime.g", "goid", 200)]);
    let layouts = Layouts::resolve(Some(26), Some(&fields));
    assert_eq!(layouts.g.goid, 200);
    assert_eq!(layouts.g.size, 500);
    assert_eq!(
        layouts.g.parent_goid, None,
        "its struct is known, it has none"
    );
    assert!(layouts.notes.iter().any(|n| n.contains("atomicstatus")));
    assert!(layouts.agrees_with(Some(144)));
    assert!(!layouts.agrees_with(Some(152)));
}

/// The program's own type data against the table of release toolchains.
#[test]
fn type_data_and_table_agree() {
    use crate::golang::dynamic::type_section;
    use crate::golang::globals::Globals;
    use crate::golang::testing::{Flavour, fixture};
    use crate::image::Image;
    use crate::image::rtti::RttiTypes;
    for flavour in [Flavour::Plain, Flavour::Stripped, Flavour::Pie] {
        let image = Image::open(&fixture("parked", flavour)).unwrap();
        let types = RttiTypes::new(image.memory(), type_section(&image));
        let minor = image.go_version().minor();
        let read = Layouts::resolve(minor, Some(&types));
        let table = Layouts::resolve(minor, None);
        assert_eq!(read.notes, Vec::<String>::new());
        assert_eq!(read.source, LayoutSource::TypeData);
        assert!(read.agrees_with(Globals::resolve(&image).g_atomicstatus));
        for strukt in [
            G::GO,
            M::GO,
            PollDesc::GO,
            PollFd::GO,
            NetFd::GO,
            TlsConn::GO,
        ] {
            assert!(types.size_of(strukt).is_some(), "{strukt} has no type data");
        }
        assert_eq!(
            Layouts {
                source: LayoutSource::Table,
                ..read
            },
            table
        );
    }
}
