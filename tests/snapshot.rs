//! Frozen copies of a live program: each holds the memory of its moment and
//! nothing else of the target, and nothing is left when it is dropped, or when
//! gotap is killed.

mod support;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;

use gotap::addr::{ImageAddr, LiveAddr};
use gotap::arch::prologue::parse_stack_check;
use gotap::image::Image;
use gotap::memory::Memory;
use gotap::process::region::SiteBytes;
use gotap::process::snapshot::{estimate, memory_of, refusal};
use gotap::process::{Event, ProcessMemory, Tracer};
use support::clients::{Clients, children, is_there};
use support::{Fixture, SOON, Target, oracle, poll, wait_for};

/// The site behind `main.handle`'s stack check, and the program's code. Its
/// addresses are those of the file.
fn site(path: &Path) -> (SiteBytes, (LiveAddr, LiveAddr)) {
    let image = Image::open(path).expect("the fixture");
    let functions = image.functions();
    let handle = functions.by_name("main.handle").pop().expect("main.handle");
    let entry = handle.entry();
    let code = image.bytes(entry, 64).expect("its code");
    let check = parse_stack_check(code).map_or(0, |c| c.len);
    let at = ImageAddr(entry.0 + check as u64);
    let mut bytes = [0; 15];
    bytes.copy_from_slice(&code[check..check + 15]);
    assert_eq!(bytes[0], 0x55, "push rbp");
    let site = SiteBytes {
        at: LiveAddr(at.0),
        code: bytes,
        insn_len: 1,
        doubtful: false,
    };
    let module = image.module();
    (
        site,
        (LiveAddr(module.text.start.0), LiveAddr(module.text.end.0)),
    )
}

#[test]
fn a_hundred_copies_under_load() {
    let fixture = Fixture::build("snapshot", &[]);
    let mut server = Target::start(&fixture, &["-mb", "200"]);
    let line = server.expect_line("listening ");
    let addr = line.split(' ').nth(1).expect("an address").to_owned();
    let pid = server.pid();
    let before = oracle::footprint(pid);
    let (clients, mut idle) = Clients::start(&addr, 8, 492);
    let (site, text) = site(&fixture.path);

    let mut tracer = Tracer::attach(pid).expect("attach");
    tracer
        .install(std::slice::from_ref(&site), text, true)
        .expect("install");
    let index = tracer.site_index(site.at).expect("it is installed");
    tracer.arm(index).expect("arm");
    let live = ProcessMemory::open(pid).expect("its memory");
    let mut numbers = HashSet::new();
    let mut pauses = Vec::new();
    let mut held = Vec::new();
    while pauses.len() < 100 {
        let Event::Hit(hit) = tracer.next_event() else {
            continue;
        };
        let request = LiveAddr(hit.regs.rax);
        let number = live.read_u64(request).expect("the request");
        let copy = tracer
            .snapshot(Some(&hit), text, false)
            .expect("a snapshot");
        pauses.push(copy.pause);
        tracer.pass(&hit);
        // The target has long gone on when the copy is asked.
        let asked = ProcessMemory::open(copy.pid).expect("its memory");
        let seen = asked.read_u64(request).expect("the request");
        let again = asked
            .read_u64(LiveAddr(request.0 + 8))
            .expect("the request");
        assert_eq!((seen, again), (number, number), "as it was at the hit");
        assert!(numbers.insert(number), "each hit is another request");
        let fds = std::fs::read_dir(format!("/proc/{}/fd", copy.pid)).expect("its descriptors");
        assert_eq!(fds.count(), 0, "a copy holds no descriptor");
        let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", copy.pid));
        assert_eq!(score.expect("a file").trim(), "1000");
        assert!(memory_of(copy.pid).is_some());
        held.push((copy, request, number));
        if held.len() > 3 {
            let (copy, request, number) = held.remove(0);
            let asked = ProcessMemory::open(copy.pid).expect("its memory");
            assert_eq!(asked.read_u64(request), Ok(number), "it stays as it was");
            assert!(copy.hold.is_there());
            let pid = copy.pid;
            drop(copy);
            assert!(poll(SOON, || !is_there(pid)), "it is gone");
        }
        if let Some(conn) = idle.pop() {
            drop(conn);
        }
    }
    // A hit that waits is passed by leaving.
    tracer.leave().expect("leave");
    let copies: Vec<i32> = held.iter().map(|(copy, ..)| copy.pid).collect();
    for (copy, request, number) in &held {
        let asked = ProcessMemory::open(copy.pid).expect("its memory");
        assert_eq!(asked.read_u64(*request), Ok(*number), "it is held on");
    }
    held.truncate(1);
    drop(tracer);
    for copy in copies {
        assert!(poll(SOON, || !is_there(copy)), "gone with the tracer");
    }
    let asked = clients.end();
    assert!(asked >= 100);
    server.tell("served");
    let served: u64 = server.expect_line("served ")[7..]
        .parse()
        .expect("a number");
    assert_eq!(served, asked);
    assert_eq!(
        children(pid),
        Vec::<i32>::new(),
        "no zombie under the target"
    );
    drop(idle);
    assert!(server.answers());
    oracle::assert_clean(pid, &before, &server.label);
}

/// The peer sees a connection end although a copy is held, and the port is free
/// when the target is killed.
#[test]
fn a_copy_keeps_no_connection_and_no_port() {
    let fixture = Fixture::build("snapshot", &[]);
    let mut server = Target::start(&fixture, &[]);
    let line = server.expect_line("listening ");
    let addr = line.split(' ').nth(1).expect("an address").to_owned();
    let pid = server.pid();
    let (_, text) = site(&fixture.path);
    let mut peer = TcpStream::connect(&addr).expect("connect");
    writeln!(peer, "7").expect("ask");
    let mut answers = BufReader::new(peer.try_clone().expect("clone"));
    let mut answer = String::new();
    answers.read_line(&mut answer).expect("an answer");
    assert_eq!(answer, "7\n");

    let mut tracer = Tracer::attach(pid).expect("attach");
    let copy = tracer.snapshot(None, text, false).expect("a snapshot");
    // Nobody would attend to its signals here.
    tracer.leave().expect("leave");
    assert!(server.answers(), "the target goes on");
    server.signal(nix::sys::signal::Signal::SIGKILL);
    answer.clear();
    assert!(
        matches!(answers.read_line(&mut answer), Ok(0) | Err(_)),
        "the end is seen"
    );
    let free = || std::net::TcpListener::bind(&addr).is_ok();
    assert!(poll(SOON, free), "the port is free");
    assert!(is_there(copy.pid), "the copy is still held");
    let pid = copy.pid;
    drop(copy);
    tracer.keep_snapshots();
    assert!(!is_there(pid));
}

/// All threads are stopped before, and stand where their registers say.
#[test]
fn a_consistent_copy_knows_the_registers_of_all_threads() {
    let fixture = Fixture::build("snapshot", &[]);
    let mut server = Target::start(&fixture, &[]);
    let line = server.expect_line("listening ");
    let addr = line.split(' ').nth(1).expect("an address").to_owned();
    let pid = server.pid();
    let before = oracle::footprint(pid);
    let (clients, idle) = Clients::start(&addr, 4, 10);
    let (site, text) = site(&fixture.path);
    let mut tracer = Tracer::attach(pid).expect("attach");
    tracer
        .install(std::slice::from_ref(&site), text, true)
        .expect("install");
    let index = tracer.site_index(site.at).expect("it is installed");
    tracer.arm(index).expect("arm");
    for _ in 0..20 {
        let hit = loop {
            if let Event::Hit(hit) = tracer.next_event() {
                break hit;
            }
        };
        let threads: HashSet<i32> = tracer.thread_ids().collect();
        let copy = tracer.snapshot(Some(&hit), text, true).expect("a snapshot");
        tracer.pass(&hit);
        let known: HashSet<i32> = copy.threads.iter().map(|t| t.tid).collect();
        assert!(known.is_superset(&threads), "{known:?} {threads:?}");
        let asked = ProcessMemory::open(copy.pid).expect("its memory");
        for thread in &copy.threads {
            assert!(asked.read_u64(LiveAddr(thread.regs.rsp)).is_ok());
            assert!(thread.tid != hit.tid || thread.regs.rip == site.at.0);
        }
    }
    tracer.leave().expect("leave");
    drop(tracer);
    assert!(clients.end() > 0);
    drop(idle);
    assert!(server.answers());
    oracle::assert_clean(pid, &before, &server.label);
}

/// The first process of a pid namespace is given copies as its children: it is
/// made to collect them, by this gotap or, when that was killed, by the next.
#[test]
fn no_zombie_under_the_first_process_of_a_namespace() {
    let fixture = Fixture::build("snapshot", &[]);
    let mut server = Target::in_namespace(&fixture);
    server.expect_line("listening ");
    let pid = wait_for("a child of unshare", SOON, || {
        children(server.pid()).first().copied()
    });
    let (_, text) = site(&fixture.path);
    let mut tracer = Tracer::attach(pid).expect("attach");
    let one = tracer.snapshot(None, text, false).expect("a snapshot");
    let two = tracer.snapshot(None, text, false).expect("a snapshot");
    let of_it: HashSet<i32> = children(pid).into_iter().collect();
    assert_eq!(
        of_it,
        HashSet::from([one.pid, two.pid]),
        "it collects orphans"
    );
    drop(one);
    assert!(poll(SOON, || {
        tracer.collect_ended();
        children(pid) == [two.pid]
    }));
    tracer.leave().expect("leave");
    drop(two);
    tracer.keep_snapshots();
    assert_eq!(children(pid), Vec::<i32>::new(), "collected after leaving");
    assert!(server.answers());
}

#[test]
fn what_it_would_cost_is_known_before() {
    let fixture = Fixture::build("snapshot", &[]);
    let mut server = Target::start(&fixture, &["-mb", "64"]);
    server.expect_line("listening ");
    let cost = estimate(server.pid()).expect("an estimate");
    assert!(cost.resident > 64 << 20, "{cost:?}");
    assert_eq!(cost.refusal(cost.pause), None, "{cost:?}");
    let refusal = cost.refusal(std::time::Duration::ZERO).expect("too long");
    assert!(refusal.contains("snap-max-pause"), "{refusal}");
}

/// Its filter of system calls is read, and decides: what would kill it is not
/// tried. That takes root; others are told before anything is touched.
#[test]
fn a_filter_of_system_calls_is_read_first() {
    let fixture = Fixture::build("snapshot", &[]);
    let root = nix::unistd::getuid().is_root();
    for (name, allowed) in [
        ("harmless", true),
        ("close", true),
        ("clone", false),
        ("wait", false),
    ] {
        let mut server = Target::start(&fixture, &[]);
        server.expect_line("listening ");
        let pid = server.pid();
        let before = oracle::footprint(pid);
        let (_, text) = site(&fixture.path);
        server.tell(&format!("filter {name}"));
        assert_eq!(server.expect_line("filter "), "filter set");
        let told = refusal(pid, SOON).expect("it is there");
        assert_eq!(told.is_none(), root, "{told:?}");
        let mut tracer = Tracer::attach(pid).expect("attach");
        match tracer.snapshot(None, text, false) {
            Ok(copy) => {
                assert!(allowed && root, "{name}");
                let asked = ProcessMemory::open(copy.pid).expect("its memory");
                assert!(asked.read_u64(text.0).is_ok());
            }
            Err(error) => {
                let error = error.to_string();
                assert!(!(allowed && root), "{name}: {error}");
                assert!(
                    error.contains("seccomp") && !error.contains('\n'),
                    "{error}"
                );
            }
        }
        tracer.leave().expect("leave");
        drop(tracer);
        assert!(server.answers(), "{name}");
        oracle::assert_clean(pid, &before, name);
    }
}
