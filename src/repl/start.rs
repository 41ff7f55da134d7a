//! Sessions from their beginning to their end: a script alone, or a prompt.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::check::check;
use super::complete::Offers;
use super::output::{Form, Output, Writer};
use super::prompt::Prompt;
use super::shell::{Event, Mode, Shell, Woke};
use super::terminal::Terminal;
use super::tracing::{Begun, records};
use crate::addr::LiveAddr;
use crate::process::{ProcessError, ProcessMemory, procfs};
use crate::session::look::Source;
use crate::session::{Live, Said, SessionError};
use crate::sys::signals;

/// How long output is gathered where a prompt is drawn anew for each portion.
const LINGER: Duration = Duration::from_millis(15);

/// What is looked at.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A process.
    Process(i32),
    /// A program that gotap starts, with its arguments.
    Program(Vec<OsString>),
    /// A core file, and its executable.
    Core(PathBuf, Option<PathBuf>),
}

/// How a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Well.
    Well,
    /// Something of it failed, and was said.
    Failed,
}

impl Subject {
    fn open(
        &self,
        symbols: Option<&Path>,
        events: &Sender<Event>,
    ) -> Result<(Source, Option<Begun>), SessionError> {
        if let Subject::Program(argv) = self {
            return started(argv, symbols, events).map(|(source, begun)| (source, Some(begun)));
        }
        let source = self.open_bare()?;
        if let Some(symbols) = symbols {
            source.target.image.add_symbols(symbols)?;
        }
        Ok((source, None))
    }

    fn open_bare(&self) -> Result<Source, SessionError> {
        match self {
            Subject::Core(core, program) => Source::core(core, program.as_deref()),
            Subject::Program(_) => Err(ProcessError::Gone(0).into()),
            Subject::Process(pid) => {
                let source = Source::process(*pid)?;
                // Opening the executable takes less permission than reading memory.
                let text: LiveAddr = source.target.text().0;
                ProcessMemory::read_only(*pid)
                    .check(LiveAddr(text.0))
                    .map_err(|_| procfs::denied(*pid))?;
                Ok(source)
            }
        }
    }
}

/// Starts a program, which stands before its own packages are initialised then.
fn started(
    argv: &[OsString],
    symbols: Option<&Path>,
    events: &Sender<Event>,
) -> Result<(Source, Begun), SessionError> {
    let records = records();
    let (tell, at_main) = channel();
    let events = events.clone();
    let say = move |said: Said| {
        // A session that begins then finds the news.
        let there = match &said {
            Said::Stopped(_) => Some(true),
            Said::Over => Some(false),
            _ => None,
        };
        let _ = events.send(Event::Tracer(1, said));
        if let Some(there) = there {
            let _ = tell.send(there);
        }
    };
    let symbols = symbols.map(Path::to_owned);
    let (live, target, pid) = Live::launch(argv.to_vec(), symbols, records.0.clone(), say)?;
    if at_main.recv() != Ok(true) {
        return Err(ProcessError::Gone(pid).into());
    }
    let begun = Begun { live, records };
    match Source::of_target(target, pid) {
        Ok(source) => Ok((source, begun)),
        Err(error) => {
            abandon(pid, Some(begun));
            Err(error)
        }
    }
}

/// Ends a program that was started, and has run nothing of its own.
fn abandon(pid: i32, begun: Option<Begun>) {
    if let Some(begun) = begun {
        let _ = signals::send(pid, libc::SIGKILL);
        drop(begun);
    }
}

/// A script alone. Its errors are found before the target is touched.
pub fn script(
    subject: &Subject,
    symbols: Option<&Path>,
    path: &Path,
    form: Form,
) -> Result<Ended, anyhow::Error> {
    use anyhow::Context;
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let events = channel();
    let (source, begun) = subject.open(symbols, &events.0)?;
    refuse_wrong(&source, &name, &text)?;
    let out = Output::start(form, stdout(), Duration::ZERO);
    listen(events.0.clone());
    let mut shell = Shell::new(source, out, Mode::Script, events, begun);
    shell.run_text(&name, &text);
    Ok(rest_of_script(&mut shell))
}

/// Until Ctrl-C, the end of the target or of the time; then the end.
fn rest_of_script(shell: &mut Shell) -> Ended {
    // Nobody is there to let it go on.
    shell.resume();
    while shell.has_more() {
        match shell.wait() {
            Woke::Over | Woke::TargetGone | Woke::Cancelled => break,
            Woke::Line(_)
            | Woke::Resumed
            | Woke::Eof
            | Woke::Stopped
            | Woke::Snapped
            | Woke::Nothing => {}
        }
    }
    ended(shell)
}

fn ended(shell: &mut Shell) -> Ended {
    let well = shell.finish();
    if well && !(shell.has_failed() && shell.mode == Mode::Script) {
        Ended::Well
    } else {
        Ended::Failed
    }
}

fn refuse_wrong(source: &Source, name: &str, text: &str) -> Result<(), anyhow::Error> {
    let found = check(Some(&source.target), name, text);
    for one in &found {
        // A terminal acts on nothing in it: carets escape what is printed.
        let _ = writeln!(std::io::stderr(), "{}", one.0);
    }
    match found.len() {
        0 => Ok(()),
        1 => anyhow::bail!("one error in {name}; nothing was touched"),
        n => anyhow::bail!("{n} errors in {name}; nothing was touched"),
    }
}

/// A prompt, or commands from a pipe; after a script, if there is one.
pub fn attach(
    subject: &Subject,
    symbols: Option<&Path>,
    first: Option<&Path>,
    form: Form,
) -> Result<Ended, anyhow::Error> {
    use anyhow::Context;
    let events = channel();
    let (source, begun) = subject.open(symbols, &events.0)?;
    let script = match first {
        Some(path) => {
            let name = path.display().to_string();
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
            if let Err(error) = refuse_wrong(&source, &name, &text) {
                abandon(source.pid.unwrap_or(0), begun);
                return Err(error);
            }
            Some((name, text))
        }
        None => None,
    };
    let at_terminal =
        crate::sys::is_terminal(&std::io::stdin()) && crate::sys::is_terminal(&std::io::stdout());
    if at_terminal && form == Form::Text {
        return Ok(prompt(subject, (source, begun), script.as_ref(), events));
    }
    let out = Output::start(form, stdout(), Duration::ZERO);
    listen(events.0.clone());
    let lines = Prompt::piped(events.0.clone());
    let mut shell = Shell::new(source, out, Mode::Script, events, begun);
    if let Some((name, text)) = &script {
        shell.run_text(name, text);
    }
    let mut number = 0;
    while !shell.is_over() {
        lines.ask();
        loop {
            match shell.wait() {
                Woke::Line(line) => {
                    number += 1;
                    shell.out.typed(&line);
                    shell.run_text(&format!("stdin, command {number}"), &line);
                    break;
                }
                Woke::Resumed | Woke::Stopped | Woke::Snapped | Woke::Nothing => {}
                Woke::Eof => return Ok(rest_of_script(&mut shell)),
                Woke::Cancelled | Woke::TargetGone | Woke::Over => return Ok(ended(&mut shell)),
            }
        }
    }
    Ok(ended(&mut shell))
}

fn prompt(
    subject: &Subject,
    (source, begun): (Source, Option<Begun>),
    script: Option<&(String, String)>,
    events: (Sender<Event>, Receiver<Event>),
) -> Ended {
    let terminal = Terminal::remember();
    listen(events.0.clone());
    let (give, writer) = channel::<Writer>();
    // The editor is made on its own thread, and tells how to print above it.
    let later = Arc::new(std::sync::Mutex::new(None::<Writer>));
    let own = later.clone();
    let out = Output::start(
        Form::Text,
        Box::new(move |bytes| {
            let mut slot = own
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if slot.is_none() {
                *slot = writer.recv().ok();
            }
            match slot.as_mut() {
                Some(write) => write(bytes),
                None => std::io::stdout().write_all(bytes),
            }
        }),
        LINGER,
    );
    let mut shell = Shell::new(
        source,
        out,
        Mode::Prompt,
        (events.0.clone(), events.1),
        begun,
    );
    shell.terminal = terminal;
    let offers = Offers {
        target: shell.source.target.clone(),
        pid: shell.source.pid,
        core: match subject {
            Subject::Core(core, program) => Some((core.clone(), program.clone())),
            Subject::Process(_) | Subject::Program(_) => None,
        },
        points: shell.points.clone(),
        in_scope: shell.in_scope.clone(),
    };
    let lines = Prompt::terminal(offers, give, events.0);
    greet(&shell);
    if let Some((name, text)) = script {
        shell.run_text(name, text);
    }
    while !shell.is_over() {
        shell.out.settle();
        if !shell.asked {
            shell.asked = true;
            lines.ask();
        }
        match shell.wait() {
            Woke::Line(line) if line.trim().is_empty() => shell.repeat(),
            Woke::Line(line) => {
                shell.out.typed(&line);
                shell.run_text("", &line);
            }
            Woke::Resumed
            | Woke::Cancelled
            | Woke::TargetGone
            | Woke::Stopped
            | Woke::Snapped
            | Woke::Nothing => {}
            Woke::Eof => shell.end(),
            Woke::Over => break,
        }
    }
    if shell.asks_of_program() {
        lines.ask();
        shell.await_answer();
    }
    // The editor ends, unless a line is being typed.
    drop(lines);
    let editing = shell.asked;
    if let Some(terminal) = &shell.terminal {
        terminal.leave(editing);
    }
    ended(&mut shell)
}

fn greet(shell: &Shell) {
    let version = shell.source.target.image.go_version().text();
    for note in shell.source.target.notes() {
        shell.say(&format!("{version}: {note}"));
    }
    shell.say(&match shell.source.pid {
        Some(pid) => format!(
            "process {pid}, {}, {version}; it {}. `help` lists commands, Ctrl-D leaves.",
            procfs::name(pid),
            match shell.started {
                Some(_) => "stands before main until continue",
                None => "runs on",
            }
        ),
        None => format!("a core file, {version}. `help` lists commands, Ctrl-D leaves."),
    });
}

fn stdout() -> Writer {
    Box::new(|bytes| {
        let mut to = std::io::stdout().lock();
        to.write_all(bytes)?;
        to.flush()
    })
}

/// Takes the signals that every thread has blocked.
fn listen(events: Sender<Event>) {
    std::thread::spawn(move || {
        while let Ok(signal) = signals::wait_orderly() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    });
}
