//! Where lines come from: an editor at a terminal, or a pipe. Each has a thread
//! of its own, which reads a line when it is asked to.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{
    Cmd, ConditionalEventHandler, Config, Editor, Event as KeyPress, EventContext, EventHandler,
    ExternalPrinter, KeyEvent, RepeatCount,
};

use super::complete::{Assistant, Offers};
use super::output::Writer;
use super::shell::Event;
use crate::script::command::is_incomplete;

/// What stands before what is typed.
const PROMPT: &str = "(gotap) ";
/// Lines that are remembered across runs.
const HISTORY: usize = 10_000;

/// Asks for lines.
pub struct Prompt {
    asks: Sender<()>,
}

impl Prompt {
    /// A pipe or a file: a line at a time, blocks whole.
    pub fn piped(events: Sender<Event>) -> Prompt {
        let (asks, asked) = channel();
        std::thread::spawn(move || read_lines(&asked, &events));
        Prompt { asks }
    }

    /// A terminal. `offers` is what Tab offers, `write` where it is given how to
    /// print above the line that is typed.
    pub fn terminal(offers: Offers, write: Sender<Writer>, events: Sender<Event>) -> Prompt {
        let (asks, asked) = channel();
        std::thread::spawn(move || {
            if let Err(error) = edit_lines(offers, &write, &asked, &events) {
                tracing::warn!(%error, "the line editor cannot be used");
                let _ = events.send(Event::Eof);
            }
        });
        Prompt { asks }
    }

    /// The next line comes as an event.
    pub fn ask(&self) {
        let _ = self.asks.send(());
    }
}

fn read_lines(asked: &Receiver<()>, events: &Sender<Event>) {
    let mut lines = std::io::stdin().lock().lines();
    while asked.recv().is_ok() {
        let mut text = String::new();
        loop {
            match lines.next() {
                Some(Ok(line)) => text.push_str(&line),
                Some(Err(_)) | None if text.is_empty() => {
                    let _ = events.send(Event::Eof);
                    return;
                }
                Some(Err(_)) | None => break,
            }
            if !is_incomplete(&text) {
                break;
            }
            text.push('\n');
        }
        if events.send(Event::Line(text)).is_err() {
            return;
        }
    }
}

/// Ctrl-Z: the session leaves the target first.
struct Suspends(Arc<AtomicBool>);

impl ConditionalEventHandler for Suspends {
    fn handle(&self, _: &KeyPress, _: RepeatCount, _: bool, _: &EventContext<'_>) -> Option<Cmd> {
        self.0.store(true, Ordering::SeqCst);
        Some(Cmd::Interrupt)
    }
}

fn edit_lines(
    offers: Offers,
    write: &Sender<Writer>,
    asked: &Receiver<()>,
    events: &Sender<Event>,
) -> rustyline::Result<()> {
    let config = Config::builder()
        .max_history_size(HISTORY)?
        .history_ignore_dups(true)?
        .completion_type(rustyline::CompletionType::List)
        .completion_show_all_if_ambiguous(true)
        .build();
    let mut editor: Editor<Assistant, FileHistory> = Editor::with_config(config)?;
    editor.set_helper(Some(Assistant::new(offers)));
    let suspended = Arc::new(AtomicBool::new(false));
    editor.bind_sequence(
        KeyEvent::ctrl('Z'),
        EventHandler::Conditional(Box::new(Suspends(suspended.clone()))),
    );
    let history = history_file();
    if let Some(path) = &history {
        // The first time there is none.
        let _ = editor.load_history(path);
    }
    let writer: Writer = match editor.create_external_printer() {
        Ok(mut printer) => {
            let mut gone = false;
            Box::new(move |bytes| {
                // What the editor is given in its last moment waits until the
                // editor is dropped, and comes back as an error.
                let text = || String::from_utf8_lossy(bytes).into_owned();
                gone = gone || printer.print(text()).is_err();
                if gone { directly(bytes) } else { Ok(()) }
            })
        }
        // A terminal that cannot move its cursor.
        Err(_) => Box::new(directly),
    };
    let _ = write.send(writer);
    while asked.recv().is_ok() {
        let event = match editor.readline(PROMPT) {
            Ok(line) => {
                if !line.trim().is_empty() {
                    let _ = editor.add_history_entry(line.as_str());
                    if let Some(path) = &history {
                        save(&mut editor, path);
                    }
                }
                Event::Line(line)
            }
            Err(ReadlineError::Interrupted) if suspended.swap(false, Ordering::SeqCst) => {
                Event::Suspend
            }
            Err(ReadlineError::Interrupted) => Event::Interrupted,
            Err(ReadlineError::Eof) => Event::Eof,
            Err(error) => return Err(error),
        };
        // Behind the end of input there may be a question.
        if events.send(event).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn directly(bytes: &[u8]) -> std::io::Result<()> {
    std::io::stdout().write_all(bytes)?;
    std::io::stdout().flush()
}

/// After each line, so that nothing is lost whatever ends gotap.
fn save(editor: &mut Editor<Assistant, FileHistory>, path: &PathBuf) {
    if let Some(folder) = path.parent() {
        let _ = std::fs::create_dir_all(folder);
    }
    if let Err(error) = editor.append_history(path) {
        tracing::debug!(%error, "the history cannot be written");
    }
}

/// `$XDG_STATE_HOME/gotap/history` (XDG Base Directory Specification), by
/// default below `~/.local/state`.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute());
    let state = state.or_else(|| {
        let home = std::env::var_os("HOME").filter(|h| !h.is_empty())?;
        Some(PathBuf::from(home).join(".local/state"))
    })?;
    Some(state.join("gotap").join("history"))
}
