//! The table of commands: names, aliases, what each needs.

/// A command by its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "each is explained by its row of the table")]
pub enum Verb {
    Trace,
    Break,
    Snap,
    Breakpoints,
    Clear,
    ClearAll,
    Toggle,
    Condition,
    On,
    Every,
    For,
    Continue,
    Halt,
    Next,
    Step,
    StepOut,
    StepInstruction,
    NextInstruction,
    Print,
    Args,
    Locals,
    Vars,
    Whatis,
    Set,
    Regs,
    ExamineMem,
    Display,
    Goroutines,
    Goroutine,
    Threads,
    Thread,
    Stack,
    Frame,
    Up,
    Down,
    Deferred,
    Funcs,
    Types,
    Packages,
    Sources,
    List,
    Disassemble,
    Libraries,
    Fds,
    Conns,
    Summary,
    Snapshot,
    Snapshots,
    Source,
    Transcript,
    Config,
    Dump,
    Exit,
    Help,
    Watch,
    Call,
    Rewind,
    Restart,
    Rebuild,
    Rev,
    Checkpoint,
    Checkpoints,
    ClearCheckpoint,
    Edit,
    Target,
}

/// What a command needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nothing: it always works.
    Works,
    /// Delve has it, gotap leaves it out; why, and what to do instead.
    LeftOut(&'static str),
}

/// A row of [`VERBS`].
#[derive(Clone, Copy, Debug)]
pub struct VerbInfo {
    /// Which.
    pub verb: Verb,
    /// As it is printed.
    pub name: &'static str,
    /// What else it is called.
    pub aliases: &'static [&'static str],
    /// What follows it.
    pub usage: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// What it needs.
    pub standing: Standing,
}

const fn row(
    verb: Verb,
    name: &'static str,
    aliases: &'static [&'static str],
    usage: &'static str,
    about: &'static str,
) -> VerbInfo {
    VerbInfo {
        verb,
        name,
        aliases,
        usage,
        about,
        standing: Standing::Works,
    }
}

impl VerbInfo {
    const fn but(self, standing: Standing) -> VerbInfo {
        VerbInfo { standing, ..self }
    }
}

use Standing::LeftOut;

/// Every command, in the order of `help`. Names and aliases are Delve's
/// (pkg/terminal/command.go of Delve 1.27) where it has the command.
pub const VERBS: &[VerbInfo] = &[
    row(Verb::Trace, "trace", &["t"], "[NAME] LOCATION [if CONDITION] [{ ACTIONS }]", "record every call of a function; nothing is stopped"),
    row(Verb::Break, "break", &["b"], "[NAME] LOCATION [if CONDITION] [{ ACTIONS }]", "stop the target at a place"),
    row(Verb::Snap, "snap", &[], "[-count N] [-consistent] [NAME] LOCATION [if CONDITION] [{ ACTIONS }]", "copy the target at a place and look at the copy"),
    row(Verb::Breakpoints, "breakpoints", &["bp"], "[-save FILE]", "list points, or write them to a file that `source` reads"),
    row(Verb::Clear, "clear", &[], "ID", "take a point out"),
    row(Verb::ClearAll, "clearall", &[], "[LOCATION]", "take all points out, or those at a place"),
    row(Verb::Toggle, "toggle", &[], "ID", "switch a point off, or on again"),
    row(Verb::Condition, "condition", &["cond"], "ID EXPR | -hitcount ID OP N | -per-g-hitcount ID OP N | -clear ID", "set what a call or hit must meet"),
    row(Verb::On, "on", &[], "ID ACTION | ID { ACTIONS } | exit { COMMANDS }", "set what is done at each hit, or when the script ends"),
    row(Verb::Every, "every", &[], "DURATION { COMMANDS }", "do something again and again"),
    row(Verb::For, "for", &[], "DURATION", "end the session after this time"),
    row(Verb::Continue, "continue", &["c"], "", "let a stopped target run; in a script, wait"),
    row(Verb::Halt, "halt", &[], "", "stop the target now"),
    row(Verb::Next, "next", &["n"], "[COUNT]", "step over to the next line"),
    row(Verb::Step, "step", &["s"], "", "step to the next line, into calls"),
    row(Verb::StepOut, "stepout", &["so"], "", "step out of the function"),
    row(Verb::StepInstruction, "step-instruction", &["si", "stepi"], "", "step one instruction"),
    row(Verb::NextInstruction, "next-instruction", &["ni", "nexti"], "", "step one instruction, over calls"),
    row(Verb::Print, "print", &["p"], "EXPR, EXPR …", "print facts and values of a call, or of a frame"),
    row(Verb::Args, "args", &[], "[REGEX]", "print arguments and results of a call, or of a frame"),
    row(Verb::Locals, "locals", &[], "[REGEX]", "print the local variables of a frame"),
    row(Verb::Vars, "vars", &[], "[REGEX]", "print package variables"),
    row(Verb::Whatis, "whatis", &[], "EXPR", "print the type of an expression"),
    row(Verb::Set, "set", &[], "VARIABLE = VALUE; -e at the head of a script", "change a variable"),
    row(Verb::Regs, "regs", &[], "[-a]", "print registers"),
    row(Verb::ExamineMem, "examinemem", &["x"], "[-fmt FORMAT] [-count N] [-size N] ADDRESS | -x EXPR", "print raw memory"),
    row(Verb::Display, "display", &[], "-a EXPR | -d N", "print an expression at each stop"),
    row(Verb::Goroutines, "goroutines", &["grs"], "[-with WHAT TEXT] [-without WHAT TEXT] [-group WHAT] [-t] [-exec COMMAND]", "list goroutines, or groups of them"),
    row(Verb::Goroutine, "goroutine", &["gr"], "[ID [COMMAND]]", "print or choose a goroutine, or look at another once"),
    row(Verb::Threads, "threads", &[], "", "list threads"),
    row(Verb::Thread, "thread", &["tr"], "ID", "choose a thread"),
    row(Verb::Stack, "stack", &["bt"], "[GOID] [DEPTH] [-full]", "print a stack"),
    row(Verb::Frame, "frame", &[], "N [COMMAND]", "choose a frame"),
    row(Verb::Up, "up", &[], "[N]", "choose a frame further out"),
    row(Verb::Down, "down", &[], "[N]", "choose a frame further in"),
    row(Verb::Deferred, "deferred", &[], "[N]", "list what a goroutine has deferred"),
    row(Verb::Funcs, "funcs", &[], "[REGEX]", "list functions"),
    row(Verb::Types, "types", &[], "[REGEX]", "list types"),
    row(Verb::Packages, "packages", &[], "[REGEX]", "list packages"),
    row(Verb::Sources, "sources", &[], "[REGEX]", "list source files"),
    row(Verb::List, "list", &["ls", "l"], "[LOCATION]", "show source code"),
    row(Verb::Disassemble, "disassemble", &["disass"], "LOCATION", "show a function's instructions"),
    row(Verb::Libraries, "libraries", &[], "", "list what is mapped into the process"),
    row(Verb::Fds, "fds", &[], "[REGEX]", "list descriptors, and who waits for them"),
    row(Verb::Conns, "conns", &[], "[REGEX]", "list sockets, and who waits for them"),
    row(Verb::Summary, "summary", &[], "", "counts, errors, bytes and latencies of the calls so far"),
    row(Verb::Snapshot, "snapshot", &[], "[N | live | drop N | drop all]", "look at a copy, or at the target again, or drop copies"),
    row(Verb::Snapshots, "snapshots", &[], "", "list copies"),
    row(Verb::Source, "source", &[], "FILE", "run the commands of a file"),
    row(Verb::Transcript, "transcript", &[], "[-t] [-x] FILE | -off", "copy what is printed to a file"),
    row(Verb::Config, "config", &[], "[-list] | NAME VALUE", "show or change settings"),
    row(Verb::Dump, "dump", &[], "FILE", "write a core file"),
    row(Verb::Exit, "exit", &["quit", "q"], "", "detach and let the target run"),
    row(Verb::Help, "help", &["h"], "[COMMAND]", "explain a command"),
    row(Verb::Watch, "watch", &[], "EXPR", "").but(LeftOut("watch needs hardware breakpoints in every thread, which gotap does not set; trace the functions that write the variable")),
    row(Verb::Call, "call", &[], "EXPR", "").but(LeftOut("call would run code in the target, which gotap never does; print shows values without it")),
    row(Verb::Rewind, "rewind", &["rw"], "", "").but(LeftOut("rewind needs a recording of the whole run; gotap keeps none")),
    row(Verb::Restart, "restart", &["r"], "", "").but(LeftOut("restart would end the target, which gotap never does; start it again yourself and attach")),
    row(Verb::Rebuild, "rebuild", &[], "", "").but(LeftOut("rebuild would end the target, which gotap never does; build it yourself and attach")),
    row(Verb::Rev, "rev", &[], "", "").but(LeftOut("rev needs a recording of the whole run; gotap keeps none")),
    row(Verb::Checkpoint, "checkpoint", &["check"], "", "").but(LeftOut("checkpoint needs a recording of the whole run; gotap keeps none")),
    row(Verb::Checkpoints, "checkpoints", &[], "", "").but(LeftOut("checkpoints need a recording of the whole run; gotap keeps none")),
    row(Verb::ClearCheckpoint, "clear-checkpoint", &["clearcheck"], "", "").but(LeftOut("checkpoints need a recording of the whole run; gotap keeps none")),
    row(Verb::Edit, "edit", &["ed"], "", "").but(LeftOut("edit would start an editor; gotap leaves your files alone")),
    row(Verb::Target, "target", &[], "", "").but(LeftOut("a session has one target; attach to another process in a session of its own")),
];

impl Verb {
    /// By name or alias.
    pub fn by_name(name: &str) -> Option<Verb> {
        VERBS
            .iter()
            .find(|row| row.name == name || row.aliases.contains(&name))
            .map(|row| row.verb)
    }

    /// Its row.
    pub fn info(self) -> &'static VerbInfo {
        // Every verb has a row (see the tests); trace's stands in for none.
        VERBS.iter().find(|row| row.verb == self).unwrap_or(&TRACE)
    }

    /// As it is printed.
    pub fn name(self) -> &'static str {
        self.info().name
    }
}

static TRACE: VerbInfo = row(Verb::Trace, "trace", &[], "", "");
