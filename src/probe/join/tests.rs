use super::*;

const G: Stack = Stack::Goroutine(7);

fn site(func: usize) -> EntrySite<'static> {
    EntrySite {
        func,
        branch_target: false,
        tail_callers: &[],
        sure: false,
    }
}

/// Runs steps, gives (id, end) of what ended, in order.
struct Run {
    join: Join<()>,
    ended: Vec<Ended<()>>,
    now: u64,
}

impl Run {
    fn new() -> Run {
        Run {
            join: Join::default(),
            ended: Vec::new(),
            now: 0,
        }
    }

    fn enter_at(&mut self, site: EntrySite<'_>, depth: u64) -> Entry {
        self.now += 1;
        self.join
            .enter(G, site, depth, self.now, || (), &mut self.ended)
    }

    fn enter(&mut self, func: usize, depth: u64) {
        assert!(matches!(
            self.enter_at(site(func), depth),
            Entry::Began { .. }
        ));
    }

    fn leave(&mut self, depth: u64) -> bool {
        self.now += 1;
        self.join.leave(G, depth, self.now, &mut self.ended)
    }

    fn ends(&self) -> Vec<(u64, End)> {
        self.ended.iter().map(|e| (e.call.id, e.end)).collect()
    }
}

#[test]
fn nested_calls_return_inside_out_and_know_their_parent() {
    let mut r = Run::new();
    r.enter(0, 100);
    r.enter(1, 200);
    assert_eq!(r.join.open_on(G)[1].parent, Some(1));
    assert!(r.leave(200));
    assert!(r.leave(100));
    assert_eq!(r.ends(), [(2, End::Return), (1, End::Return)]);
    assert_eq!(r.join.open_count(), 0);
}

#[test]
fn a_ret_ends_the_wrapper_that_tail_jumped_here_too() {
    let mut r = Run::new();
    r.enter(0, 100);
    r.enter_at(
        EntrySite {
            tail_callers: &[0],
            ..site(1)
        },
        100,
    );
    assert!(r.leave(100));
    assert_eq!(r.ends(), [(2, End::Return), (1, End::Return)]);
}

#[test]
fn an_entry_at_the_same_depth_means_the_other_call_is_gone() {
    let mut r = Run::new();
    r.enter(0, 100);
    r.enter(1, 100);
    assert_eq!(r.ends(), [(1, End::Unwound)]);
}

#[test]
fn recursion_is_many_calls() {
    let mut r = Run::new();
    for depth in 1..=61 {
        r.enter(0, depth * 64);
    }
    for depth in (1..=61).rev() {
        assert!(r.leave(depth * 64));
    }
    assert_eq!(r.ended.len(), 61);
    assert!(r.ended.iter().all(|e| e.end == End::Return));
}

#[test]
fn a_loop_to_the_functions_own_entry_is_one_call() {
    let mut r = Run::new();
    let looping = EntrySite {
        branch_target: true,
        ..site(0)
    };
    assert!(matches!(r.enter_at(looping, 100), Entry::Began { .. }));
    assert!(matches!(r.enter_at(looping, 100), Entry::Again));
    assert!(r.leave(100));
    assert!(matches!(r.enter_at(looping, 100), Entry::Began { .. }));
}

#[test]
fn a_panic_recovered_three_frames_up() {
    let mut r = Run::new();
    r.enter(0, 100);
    r.enter(1, 200);
    r.enter(2, 300);
    r.join.unwinding(G, End::Panic);
    r.enter(3, 500); // a deferred function, called by gopanic
    assert!(r.leave(500));
    r.join.recovered(G, Some(150), 40, &mut r.ended);
    assert!(r.leave(100));
    assert_eq!(
        r.ends(),
        [
            (4, End::Return),
            (3, End::Panic),
            (2, End::Panic),
            (1, End::Return)
        ]
    );
    assert_eq!(r.ended[1].at_ns, 40);
}

#[test]
fn the_oldest_are_forgotten() {
    let mut r = Run::new();
    for goroutine in 0..100 {
        for (func, depth) in [(0, 50), (1, 100)] {
            let stack = Stack::Goroutine(goroutine);
            r.join
                .enter(stack, site(func), depth, 1, || (), &mut r.ended);
        }
    }
    assert_eq!(r.join.forget(|func| func == 1, 200), 0);
    assert_eq!(r.join.forget(|func| func == 1, 30), 70);
    assert_eq!(r.join.open_count(), 130);
    assert_eq!(r.join.open_on(Stack::Goroutine(69)).len(), 1);
    assert_eq!(r.join.open_on(Stack::Goroutine(70)).len(), 2);
    assert!(r.join.leave(Stack::Goroutine(99), 100, 2, &mut r.ended));
    assert_eq!(r.ended.len(), 1);
}

#[test]
fn without_the_recovering_frame_the_next_ret_tells() {
    let mut r = Run::new();
    r.enter(0, 100);
    r.enter(1, 200);
    r.join.unwinding(G, End::Panic);
    r.join.recovered(G, None, 40, &mut r.ended);
    assert!(r.leave(100));
    assert_eq!(r.ends(), [(2, End::Panic), (1, End::Return)]);
    assert_eq!(r.ended[0].at_ns, 40);
}

#[test]
fn goexit_ends_all() {
    let mut r = Run::new();
    r.enter(0, 100);
    r.enter(1, 200);
    r.join.unwinding(G, End::Exit);
    r.join.stack_gone(G, 9, &mut r.ended);
    assert_eq!(r.ends(), [(2, End::Exit), (1, End::Exit)]);
}

#[test]
fn a_ret_without_an_entry_began_before_we_looked() {
    let mut r = Run::new();
    assert!(!r.leave(100));
    r.join.found_running(G, 0, 200, (0, false), ());
    r.join.found_running(G, 0, 100, (0, false), ());
    r.join.found_running(G, 0, 100, (0, false), ());
    assert_eq!(r.join.open_count(), 2);
    assert!(r.leave(200));
    assert_eq!(r.ended[0].call.began_ns, None);
}

#[test]
fn a_function_given_up_leaves_the_others() {
    let mut r = Run::new();
    r.enter(0, 100);
    r.enter(1, 200);
    r.enter(0, 300);
    let taken = r.join.take_function(0, 9);
    let told: Vec<_> = taken.iter().map(|e| (e.call.id, e.end, e.at_ns)).collect();
    assert_eq!(told, [(1, End::Open, 9), (3, End::Open, 9)]);
    assert_eq!(r.join.open_count(), 1);
    assert!(r.leave(200));
    assert_eq!(r.ends(), [(2, End::Return)]);
}

#[test]
fn slow_calls_are_told_once() {
    let mut r = Run::new();
    r.enter(0, 100);
    let mut seen = Vec::new();
    r.join.take_slow(5, |c, _| seen.push(c.id));
    r.join.take_slow(5, |c, _| seen.push(c.id));
    assert_eq!(seen, [1]);
}

/// Entry and end of what ended, and whether that is believed.
fn told(r: &Run) -> Vec<(u64, End, bool)> {
    let ended = r.ended.iter();
    ended.map(|e| (e.call.id, e.end, e.doubtful)).collect()
}

#[test]
fn without_losses_nothing_is_doubtful() {
    let mut r = Run::new();
    r.join.losing(false);
    r.enter(0, 100);
    r.join.losing(false);
    r.enter(0, 100);
    assert!(r.leave(100));
    assert!(!r.join.has_lost());
    assert_eq!(
        told(&r),
        [(1, End::Unwound, false), (2, End::Return, false)]
    );
}

#[test]
fn what_was_open_when_hits_were_lost_is_lost_not_unwound() {
    let mut r = Run::new();
    r.enter(0, 100); // its RET is lost
    r.join.losing(true);
    r.join.losing(false);
    assert!(r.join.has_lost());
    r.enter(0, 100);
    r.enter(0, 100); // whatever takes this one away, nothing was lost by now
    assert_eq!(told(&r), [(1, End::Lost, true), (2, End::Unwound, false)]);
}

#[test]
fn what_begins_while_hits_are_lost_is_lost_too() {
    let mut r = Run::new();
    r.join.losing(true);
    r.enter(0, 100);
    r.enter(1, 200);
    r.enter(0, 100);
    r.join.losing(false);
    assert!(r.leave(100));
    r.enter(0, 100);
    assert!(r.leave(100));
    let expected = [
        (2, End::Lost, true),
        (1, End::Lost, true),
        // The RET may be that of a later call, whose entry was lost.
        (3, End::Return, true),
        (4, End::Return, false),
    ];
    assert_eq!(told(&r), expected);
}

#[test]
fn a_call_in_one_that_may_be_gone_is_doubtful() {
    let mut r = Run::new();
    r.enter(0, 100);
    r.join.losing(true);
    r.join.losing(false);
    r.enter(1, 200);
    assert!(r.leave(200));
    r.enter(1, 200);
    r.enter(2, 300);
    assert!(r.leave(300));
    // The parent of the last is not.
    let expected = [(2, End::Return, true), (4, End::Return, false)];
    assert_eq!(told(&r), expected);
}

#[test]
fn a_panic_that_was_seen_explains_what_is_gone_all_the_same() {
    let mut r = Run::new();
    r.enter(0, 100);
    r.enter(1, 200);
    r.enter(2, 300);
    r.join.losing(true);
    r.join.losing(false);
    r.join.unwinding(G, End::Panic);
    r.join.recovered(G, Some(250), 40, &mut r.ended);
    // The recovery has spared the others: they returned unseen.
    r.enter(0, 100);
    let expected = [
        (3, End::Panic, true),
        (2, End::Lost, true),
        (1, End::Lost, true),
    ];
    assert_eq!(told(&r), expected);
}

#[test]
fn hits_that_are_never_lost_are_believed() {
    let mut r = Run::new();
    let sure = EntrySite {
        sure: true,
        ..site(0)
    };
    r.enter_at(sure, 100);
    r.enter_at(sure, 200);
    r.join.losing(true);
    assert!(r.leave(200));
    r.enter(1, 100);
    assert_eq!(
        told(&r),
        [(2, End::Return, false), (1, End::Unwound, false)]
    );
}

#[test]
fn at_the_end_nobody_knows_what_became_of_them() {
    let mut r = Run::new();
    r.enter(0, 100);
    r.join.losing(true);
    r.join.losing(false);
    r.enter(0, 200);
    r.join.take_slow(u64::MAX, |c, _| assert_eq!(c.id, 2));
    let ended = r.join.drain(End::Open, 9);
    let ends: Vec<_> = ended.iter().map(|e| (e.call.id, e.end)).collect();
    assert_eq!(ends, [(1, End::Lost), (2, End::Open)]);
}

#[test]
fn one_that_was_found_running_may_have_ended_unseen() {
    let mut r = Run::new();
    r.join.found_running(G, 0, 100, (0, true), ());
    r.join.losing(true);
    r.enter(0, 100);
    r.join.losing(false);
    r.join
        .found_running(Stack::Goroutine(8), 0, 100, (0, true), ());
    r.join
        .enter(Stack::Goroutine(8), site(0), 100, 5, || (), &mut r.ended);
    let silent: Vec<_> = r.ended.iter().map(|e| (e.end, e.silent)).collect();
    assert_eq!(silent, [(End::Lost, false), (End::Unwound, true)]);
}
