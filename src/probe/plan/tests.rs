use super::*;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

fn go_image() -> Image {
    let out = Command::new("go").args(["env", "GOROOT"]).output();
    let out = out.expect("no `go` on PATH: install Go, e.g. apt-get install golang-go");
    let root = String::from_utf8(out.stdout).expect("a path");
    let path = format!("{}/bin/go", root.trim());
    Image::open(Path::new(&path)).expect("the go command is a Go program")
}

const ALL: [Event; 5] = [
    Event::Panic,
    Event::Goexit,
    Event::GoexitDone,
    Event::Recovery,
    Event::Main,
];

fn plan_of(image: &Image, names: &[&str]) -> Plan {
    let d = Disassembler::new().unwrap();
    let found = image.functions().by_names(names);
    let wanted: Vec<Wanted<'_>> = found
        .into_iter()
        .zip(names)
        .map(|(f, name)| Wanted {
            function: *f.first().unwrap_or_else(|| panic!("no {name}")),
            exact: true,
        })
        .collect();
    plan(image, &d, &wanted, &ALL)
}

fn function<'p>(plan: &'p Plan, name: &str) -> &'p FunctionPlan {
    plan.functions.iter().find(|f| f.name == name).unwrap()
}

#[test]
fn a_method_and_the_wrapper_that_jumps_to_it() {
    let image = go_image();
    let plan = plan_of(&image, &["net.(*TCPConn).Read", "net.(*conn).Read"]);
    println!("{}", plan.explain());
    let wrapper = function(&plan, "net.(*TCPConn).Read")
        .trap
        .as_ref()
        .unwrap();
    let method = function(&plan, "net.(*conn).Read").trap.as_ref().unwrap();
    assert!(method.after_check && method.returns > 0 && !method.never_returns);
    let site = &plan.sites[method.entry_site];
    assert_eq!(site.instruction(), "push rbp");
    assert_eq!(site.roles, [Role::Entry(1)]);
    // A tail jump or, in some versions of Go, a call.
    if wrapper.returns == 0 {
        assert_eq!(method.tail_callers, [0]);
        assert!(!wrapper.never_returns);
    }
    // Alone, the wrapper borrows the method's RETs.
    let alone = plan_of(&image, &["net.(*TCPConn).Read"]);
    let trap = alone.functions[0].trap.as_ref().unwrap();
    assert!(trap.returns + trap.foreign_returns > 0);
    if wrapper.returns == 0 {
        assert_eq!(trap.foreign_returns, method.returns);
        let foreign = alone
            .sites
            .iter()
            .filter(|s| s.roles == [Role::Return(None)]);
        assert_eq!(foreign.count(), method.returns);
    }
}

#[test]
fn events_are_there() {
    let image = go_image();
    let plan = plan_of(&image, &["net.(*conn).Read"]);
    for (event, name) in Event::ALL {
        // Goexit is linked only into programs that call it.
        let there = !image.functions().by_name(name).is_empty();
        assert!(there || event == Event::Goexit, "{name}");
        let site = plan.event_site(event);
        assert_eq!(site.is_some(), there);
        if let Some(site) = site {
            assert!(plan.sites[site].roles.contains(&Role::Event(event)));
        }
    }
    assert!(plan.sites.is_sorted_by_key(|s| s.at));
}

#[test]
fn some_are_refused_with_a_reason() {
    let image = go_image();
    let plan = plan_of(
        &image,
        &[
            "runtime.mcall",
            "runtime.sighandler",
            "runtime.minit",
            "runtime.sigprof",
            "syscall.RawSyscall6",
            "runtime.throw",
            "memeqbody",
        ],
    );
    println!("{}", plan.explain());
    for f in &plan.functions {
        assert!(matches!(f.trap, Err(Refusal::Never(_))), "{}", f.name);
        assert!(f.explain().starts_with("not armed: it "));
    }
    // Nothing to trace, nothing to arm.
    assert!(plan.sites.is_empty());
}

#[test]
fn hot_paths_only_by_name() {
    let image = go_image();
    let d = Disassembler::new().unwrap();
    let function = image.functions().by_name("runtime.schedule")[0];
    for exact in [false, true] {
        let plan = plan(&image, &d, &[Wanted { function, exact }], &[]);
        assert_eq!(plan.functions[0].trap.is_ok(), exact);
    }
}

#[test]
fn every_function_of_a_real_program_is_planned_or_refused() {
    let image = go_image();
    let d = Disassembler::new().unwrap();
    let all = image.functions();
    let wanted: Vec<Wanted<'_>> = all
        .iter()
        .map(|function| Wanted {
            function,
            exact: false,
        })
        .collect();
    let start = Instant::now();
    let plan = plan(&image, &d, &wanted, &ALL);
    let took = start.elapsed();
    let (armed, sites) = (plan.armed(), plan.sites.len());
    println!(
        "{} functions, {armed} armed, {sites} sites, {took:?}",
        wanted.len()
    );
    let (mut looping, mut unseen, mut endless, mut faulting, mut odd) = (0, 0, 0, 0, 0);
    for f in &plan.functions {
        match &f.trap {
            Ok(trap) => {
                let site = &plan.sites[trap.entry_site];
                assert!(site.at >= f.entry && site.at < f.end, "{}", f.name);
                looping += usize::from(trap.branch_target);
                unseen += usize::from(!trap.unseen_ends.is_empty());
                endless += usize::from(trap.never_returns);
                faulting += usize::from(site.can_fault);
                // A fault in its slot that nobody traces is blamed on the
                // caller, whose address must be where the stack pointer points.
                let delta = image.sp_delta(site.at);
                assert!(!site.can_fault || delta == Some(0), "{}: {delta:?}", f.name);
                assert!(!(trap.after_check && trap.branch_target), "{}", f.name);
            }
            Err(Refusal::Never(_) | Refusal::Hot) => {
                assert!(!f.name.starts_with("net."), "{}", f.name);
            }
            Err(why) => {
                println!("{}: {why}", f.name);
                odd += 1;
            }
        }
    }
    println!("{looping} looping, {unseen} ending unseen, {endless} endless, {faulting} can fault");
    assert!(armed * 10 > wanted.len() * 9);
    assert!(odd < 10 && unseen < 30);
}
