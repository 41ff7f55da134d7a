use super::*;
use std::path::Path;
use std::process::Command;

fn go_image() -> Image {
    let out = Command::new("go").args(["env", "GOROOT"]).output();
    let out = out.expect("no `go` on PATH: install Go, e.g. apt-get install golang-go");
    let root = String::from_utf8(out.stdout).expect("a path");
    let path = format!("{}/bin/go", root.trim());
    Image::open(Path::new(&path)).expect("the go command is a Go program")
}

/// What people trace must stay traceable, what runs with signals blocked not.
#[test]
fn signal_handlers_are_left_alone_and_nothing_else() {
    let image = go_image();
    let d = Disassembler::new().unwrap();
    let mut avoid = Avoid::new();
    let mut why = |name: &str| {
        let function = image.functions().by_name(name).first().copied();
        let function = function.unwrap_or_else(|| panic!("no {name}"));
        avoid.why(&image, &d, &function)
    };
    for name in [
        "runtime.sigtramp",
        "runtime.sigtrampgo",
        "runtime.sighandler",
        "runtime.doSigPreempt",
        "runtime.sigsend",
        "runtime.adjustSignalStack",
        "runtime.traceback1",
        "runtime.throw",
        "runtime.newosproc",
        "runtime.minit",
        "runtime.mstart1",
        "runtime.mexit",
        // A thread that ends may start another, and allocates it.
        "runtime.startm",
        "runtime.mallocgc",
        "runtime.newobject",
        "runtime.gcStart",
        "runtime.gcAssistAlloc",
        "runtime.unlock2",
        "runtime.casgstatus",
        "runtime.clearSignalHandlers",
        "runtime.setsig",
        "syscall.forkAndExecInChild1",
        "syscall.RawSyscall6",
        "runtime.gogo",
        "runtime.morestack",
        "runtime.asyncPreempt",
        "runtime.asmcgocall",
        "runtime.rt0_go",
        "_rt0_amd64_linux",
        "memeqbody",
    ] {
        assert!(why(name).is_some(), "{name}");
    }
    for name in [
        "net.(*conn).Read",
        "internal/poll.(*FD).Read",
        "syscall.Syscall",
        "syscall.read",
        "syscall.Close",
        "syscall.forkExec",
        "os.(*File).Write",
        "runtime.newproc1",
        "runtime.goexit0",
        "runtime.goexit1",
        "runtime.gopanic",
        "runtime.recovery",
        "runtime.main",
        "runtime.gopark",
        "runtime.park_m",
        "runtime.ready",
        "runtime.execute",
        "runtime.schedule",
        "runtime.chansend",
        "runtime.chanrecv",
        "runtime.selectgo",
        "runtime.newstack",
        "runtime.copystack",
        "runtime.semacquire1",
        "runtime.netpollblock",
        "time.Sleep",
    ] {
        assert_eq!(why(name), None, "{name}");
    }
}

#[test]
fn what_is_reached_is_looked_for_in_the_right_packages() {
    let image = go_image();
    let d = Disassembler::new().unwrap();
    let reached = find_reached(&image, &d);
    println!("{} functions reached", reached.len());
    assert!((100..1000).contains(&reached.len()));
    for index in reached.keys() {
        let function = image.functions().get(*index as usize).unwrap();
        let name = function.name();
        assert!(may_be_reached(&name) || by_name(&name).is_some(), "{name}");
    }
}

#[test]
fn names_tell() {
    for name in [
        "memeqbody",
        "x_cgo_init",
        "_cgo_1234",
        "go:buildid",
        "x_cgo_init.cold",
    ] {
        assert_eq!(by_name(name), Some(Never::NotGo), "{name}");
    }
    assert_eq!(by_name("runtime.duffcopy"), Some(Never::EnteredMidway));
    for name in [
        "go.uber.org/zap.New",
        "main.cold",
        "main.main",
        "x.y",
        "net.(*conn).Read",
    ] {
        assert_eq!(by_name(name), None, "{name}");
    }
}
