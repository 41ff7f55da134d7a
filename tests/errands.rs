//! What stepping is made of: a stopped program lets one goroutine or thread run to
//! a place, and stands still again.

mod support;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ::gotap::addr::ImageAddr;
use ::gotap::arch::scan::Disassembler;
use ::gotap::probe::plan::{PlaceWanted, plan_with};
use ::gotap::session::{
    Answer, Errand, Hook, Live, Options, Said, Stop, Target as Program, Test, Who, Why,
};
use ::gotap::sink::queue::queue;
use support::oracle::{assert_clean, footprint};
use support::{Fixture, LATER, SOON, Target};

/// The fixture, stopped where `main.visit` is entered.
struct Stopped {
    program: Arc<Program>,
    live: Live,
    news: Receiver<Said>,
    visit: ImageAddr,
}

impl Stopped {
    fn start(target: &mut Target) -> (Stopped, Stop) {
        ::gotap::sys::signals::prepare().expect("signals");
        let program = Arc::new(Program::of_process(target.pid()).expect("the process"));
        let functions = program.image.functions();
        let visit = functions.by_name("main.visit").pop().expect("main.visit");
        let plan = plan_with(
            &program.image,
            &Disassembler::new().expect("a disassembler"),
            &[],
            &[PlaceWanted::Entry(visit.index())],
            &[],
        );
        let at = plan.places[0].as_ref().expect("it can be armed").at;
        let options = Options {
            hooks: vec![Hook {
                copies: None,
                id: 1,
                answer: Answer::Stop,
                place: 0,
                func: None,
                scope: None,
                test: Test::default(),
                takes: ::gotap::session::hook::Takes::default(),
            }],
            ..Options::default()
        };
        let (sender, _receiver) = queue(16);
        let (tell, news) = channel();
        let (live, armed) = Live::start(
            target.pid(),
            program.clone(),
            Arc::new(plan),
            options,
            Arc::new(sender),
            move |said| drop(tell.send(said)),
        )
        .expect("it is attached");
        assert!(armed.refused.is_empty(), "{:?}", armed.refused);
        let stopped = Stopped {
            program,
            live,
            news,
            visit: at,
        };
        let stop = stopped.next();
        assert_eq!(stop.why, Why::Points(vec![1]));
        (stopped, stop)
    }

    fn next(&self) -> Stop {
        loop {
            match self.news.recv_timeout(LATER).expect("news of a stop") {
                Said::Stopped(stop) => return *stop,
                Said::Message(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn run(&self, who: Who, to: ImageAddr, alone: Option<Duration>) -> Stop {
        let errand = Errand::planned(&self.program, who, &[(to, None)]).expect("a place");
        self.live.run(Errand { alone, ..errand }).expect("it runs");
        self.next()
    }

    /// Where the instructions of a function begin that can be armed.
    fn instructions(&self, name: &str) -> Vec<ImageAddr> {
        let functions = self.program.image.functions();
        let function = functions.by_name(name).pop().expect("a function");
        let code = function.code().expect("its code");
        let disassembler = Disassembler::new().expect("a disassembler");
        let mut all = Vec::new();
        let mut offset = 0;
        while let Some(len) = disassembler.insn_len(&code[offset..], offset as u64) {
            all.push(PlaceWanted::At(function.entry().offset(offset as u64)));
            offset += len;
            if offset >= code.len() {
                break;
            }
        }
        let plan = plan_with(&self.program.image, &disassembler, &[], &all, &[]);
        plan.places.into_iter().flatten().map(|p| p.at).collect()
    }
}

#[test]
fn a_goroutine_runs_to_a_place_and_all_stand_still() {
    let mut target = Target::start(&Fixture::build("breaks", &[]), &[]);
    target.expect_line("ready ");
    let before = footprint(target.pid());
    target.ask("spin on");
    let (stopped, first) = Stopped::start(&mut target);
    let goid = first.goid.expect("a goroutine");
    let live = |at: ImageAddr| stopped.program.bias.live(at);
    assert_eq!(first.at, live(stopped.visit));
    // More places than regions may pile up: the caller's instructions, one by one.
    let places = stopped.instructions("main.run");
    assert!(places.len() > 50, "{}", places.len());
    let mut arrived = 0;
    for at in places {
        let stop = stopped.run(Who::Goroutine(goid), at, None);
        assert_eq!(stop.goid, Some(goid));
        match stop.why {
            Why::Arrived => {
                arrived += 1;
                assert_eq!(stop.at, live(at));
            }
            // It came by the breakpoint before.
            Why::Points(_) => assert_eq!(stop.at, live(stopped.visit)),
            why => panic!("{why:?}"),
        }
    }
    assert!(arrived > 20, "{arrived}");
    stopped.live.leave();
    assert!(target.answers());
    target.ask("spin off");
    assert_clean(target.pid(), &before, "after errands");
}

#[test]
fn a_thread_runs_alone() {
    let mut target = Target::start(&Fixture::build("breaks", &[]), &[]);
    target.expect_line("ready ");
    let before = footprint(target.pid());
    target.ask("spin on");
    let (stopped, first) = Stopped::start(&mut target);
    let own = |stop: &Stop| {
        let mut threads = stop.threads.iter();
        threads
            .find(|t| t.tid == first.tid)
            .expect("its thread")
            .regs
    };
    // Behind `push rbp`.
    let next = stopped.visit.offset(1);
    let alone = Some(Duration::from_secs(30));
    let stop = stopped.run(Who::Thread(first.tid), next, alone);
    assert_eq!(stop.why, Why::Arrived);
    assert_eq!(own(&stop).rip, stopped.program.bias.live(next).0);
    assert_eq!(own(&stop).rsp, own(&first).rsp - 8);
    // The others stood meanwhile.
    for thread in stop.threads.iter().filter(|t| t.tid != first.tid) {
        let then = first.threads.iter().find(|t| t.tid == thread.tid);
        assert_eq!(then.map(|t| t.regs.rip), Some(thread.regs.rip));
    }
    // To where it does not come alone: it stands somewhere.
    let elsewhere = stopped.instructions("main.answer")[0];
    let short = Some(Duration::from_millis(100));
    let mut stop = stopped.run(Who::Thread(first.tid), elsewhere, short);
    while let Why::Points(_) = stop.why {
        stop = stopped.run(Who::Thread(first.tid), elsewhere, short);
    }
    assert_eq!(stop.why, Why::NotThere);
    stopped.live.resume();
    match stopped.news.recv_timeout(SOON).expect("the next stop") {
        Said::Stopped(stop) => assert_eq!(stop.why, Why::Points(vec![1])),
        other => panic!("{other:?}"),
    }
    drop(stopped);
    assert!(target.answers());
    target.ask("spin off");
    assert_clean(target.pid(), &before, "after running alone");
}
