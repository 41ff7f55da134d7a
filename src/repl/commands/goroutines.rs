//! ```text
//! goroutines [-with WHAT TEXT] [-without WHAT TEXT] [-group WHAT] [-t] [-exec COMMAND]
//!                                                                  alias: grs
//! ```
//!
//! Lists the program's goroutines without stopping it: what each does, since
//! when at least, on which descriptor or lock, where, and what made it.
//!
//! -with and -without choose by a piece of text, -group puts together what has
//! the same; the words for WHAT are
//!
//! ```text
//!     user    the innermost frame of the program's own code
//!     curr    the innermost frame outside of package runtime
//!     go      the `go` statement that made it
//!     start   the function that it began with (not for -group)
//!     state   running, waiting, IO wait …  reason  why it waits
//!     peer    the other end of its connection
//!     label   a pprof label, as key=value
//!     stack   the whole stack (for -group only)
//!     running, with no text: those that run
//! ```
//!
//! -t shows each one's stack, -exec runs a command that looks at one for each:
//! `stack`, `print`, `args`, `locals`, `frame N print …`.
//!
//! ```text
//!     goroutines -group reason
//!     goroutines -with user main.serve -t
//! ```

use crate::repl::output::Form;
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::{Verb, Word};
use crate::session::look::{Wanted, look};
use crate::sink::goroutines::{json, table};
use crate::survey::group::{self, By, other_end};
use crate::survey::verdict::verdict;
use crate::survey::{Entry, Survey, status_word};

/// Groups that are shown.
const GROUPS: usize = 25;

#[derive(Default)]
struct Asked {
    filters: Vec<(bool, What, String)>,
    group: Option<By>,
    stacks: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    User,
    Current,
    Go,
    Start,
    State,
    Reason,
    Peer,
    Label,
    Running,
}

const WORDS: &[(&str, What)] = &[
    ("user", What::User),
    ("curr", What::Current),
    ("go", What::Go),
    ("start", What::Start),
    ("state", What::State),
    ("reason", What::Reason),
    ("peer", What::Peer),
    ("label", What::Label),
    ("running", What::Running),
];

/// Lists them.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let asked = parse(&call)?;
    let wanted = Wanted {
        all_stacks: asked.stacks || asked.group == Some(By::Stack),
        each: asked.group.is_none() || !asked.filters.is_empty(),
        args: false,
        details: asked.group.is_none(),
        only: None,
    };
    let survey = look(&shell.source, &wanted).map_err(|e| call.fail(e))?;
    let chosen: Vec<&Entry> = survey
        .goroutines
        .iter()
        .filter(|e| asked.filters.iter().all(|f| holds(&survey, e, f)))
        .collect();
    if let Some(then) = call.then {
        let looks = matches!(
            then.command.verb(),
            Verb::Stack
                | Verb::Goroutine
                | Verb::Print
                | Verb::Whatis
                | Verb::Args
                | Verb::Locals
                | Verb::Frame
                | Verb::Deferred
                | Verb::List
        );
        if !looks {
            return Err(ExprError::new(
                then.span,
                "-exec runs what looks at a goroutine: stack, print, args, locals, frame N …",
            ));
        }
        for one in &chosen {
            let before = (
                shell.goroutine.replace(one.goid),
                std::mem::take(&mut shell.frame),
            );
            let done = shell.execute(then, "");
            (shell.goroutine, shell.frame) = before;
            // What cannot be done for one may be done for the next.
            match done {
                Err(error) if chosen.len() > 1 => {
                    shell.say(&format!("goroutine {}: {}", one.goid, error.message));
                }
                done => done?,
            }
        }
        return Ok(());
    }
    let text = print(shell, &survey, &chosen, &asked).map_err(|e| call.fail(e))?;
    match shell.form() {
        Form::Text => shell.answer(Verb::Goroutines, &String::from_utf8_lossy(&text)),
        Form::Json => shell.out.push(&text),
    }
    Ok(())
}

fn print(
    shell: &Shell,
    survey: &Survey,
    chosen: &[&Entry],
    asked: &Asked,
) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let by = asked.group.unwrap_or_default();
    let groups = group::groups(survey, by, chosen.iter().copied());
    let sentence = verdict(survey);
    if shell.form() == Form::Json {
        let beside = json::Beside {
            pid: shell.source.pid,
            groups: &groups,
            verdict: sentence.as_deref(),
        };
        let list = asked.group.is_none().then_some(chosen);
        json::write(&mut out, survey, &beside, list)?;
        return Ok(out);
    }
    table::head(&mut out, survey, sentence.as_deref())?;
    out.push(b'\n');
    if asked.group.is_some() {
        table::groups(&mut out, survey, &groups, GROUPS)?;
        return Ok(out);
    }
    let most = shell.config.max_goroutines;
    let shown = chosen.get(..most).unwrap_or(chosen);
    if asked.stacks {
        for one in shown {
            table::stack(&mut out, survey, one, usize::MAX)?;
            out.push(b'\n');
        }
    } else {
        table::list(&mut out, survey, shown)?;
    }
    let more = chosen.len() - shown.len();
    if more > 0 {
        out.extend_from_slice(
            format!("… and {more} more (config max-goroutines N shows more)\n").as_bytes(),
        );
    }
    Ok(out)
}

fn parse(call: &Call<'_>) -> Result<Asked, ExprError> {
    let mut asked = Asked::default();
    let mut words = call.words.iter();
    while let Some(word) = words.next() {
        match word.text.as_str() {
            flag @ ("-with" | "-w" | "-without" | "-wo") => {
                let kind = words.next().ok_or_else(|| missing(word))?;
                let what = what(kind)?;
                let text = match what {
                    What::Running => String::new(),
                    _ => words.next().ok_or_else(|| missing(kind))?.text.clone(),
                };
                asked
                    .filters
                    .push((flag.starts_with("-without") || flag == "-wo", what, text));
            }
            "-group" => {
                let kind = words.next().ok_or_else(|| missing(word))?;
                asked.group = Some(by(kind)?);
            }
            "-t" => asked.stacks = true,
            // Which location Delve shows; all are in the table here.
            "-u" | "-r" | "-g" | "-s" | "-l" | "-exec" => {}
            _ => {
                return Err(ExprError::new(
                    word.span,
                    "the options are -with, -without, -group, -t and -exec",
                ));
            }
        }
    }
    Ok(asked)
}

fn missing(word: &Word) -> ExprError {
    ExprError::new(
        word.span,
        "user, curr, go, start, state, reason, peer, label or running follows, and a text",
    )
}

fn what(word: &Word) -> Result<What, ExprError> {
    let found = WORDS.iter().find(|(name, _)| {
        *name == word.text || (*name, &*word.text) == ("user", "userloc") || {
            (*name, &*word.text) == ("curr", "curloc")
        }
    });
    found.map(|(_, what)| *what).ok_or_else(|| missing(word))
}

fn by(word: &Word) -> Result<By, ExprError> {
    Ok(match word.text.as_str() {
        "user" | "userloc" => By::User,
        "curr" | "curloc" | "func" => By::Func,
        "go" | "goloc" | "created" => By::Created,
        "state" | "running" => By::State,
        "reason" => By::Reason,
        "peer" => By::Peer,
        "label" => By::Label,
        "stack" => By::Stack,
        "all" => By::All,
        _ => {
            return Err(ExprError::new(
                word.span,
                "group by user, curr, go, state, reason, peer, label, stack or all",
            ));
        }
    })
}

fn holds(survey: &Survey, one: &Entry, filter: &(bool, What, String)) -> bool {
    let (without, what, text) = filter;
    let place = |id| {
        let place = survey.names.find(id);
        place.is_some_and(|p| format!("{} {}:{}", p.func, p.file, p.line).contains(text))
    };
    let found = match what {
        What::User => place(one.user),
        What::Current => place(one.func),
        What::Go => place(one.created),
        What::Start => place(one.start),
        // The table shows why one waits in the place of "waiting".
        What::State => status_word(one.status).contains(text) || one.reason.contains(text),
        What::Reason => one.reason.contains(text),
        What::Peer => other_end(one).is_some_and(|p| p.to_string().contains(text)),
        What::Label => one
            .labels
            .iter()
            .flat_map(|l| l.iter())
            .any(|(k, v)| format!("{k}={v}").contains(text)),
        What::Running => status_word(one.status) == "running",
    };
    found != *without
}
