//! ```text
//! conns [REGEX]
//! ```
//!
//! Lists the process's sockets: descriptor, network, both ends, TCP's state,
//! and which goroutines wait to read or write.

use super::fds::waiters;
use crate::process::sockets::{self, Socket};
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;
use crate::session::look::{Wanted, look};

/// Lists them.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    super::not_of_copies(shell, &call)?;
    let Some(pid) = shell.source.pid else {
        return Err(call.fail("a core file has no open sockets"));
    };
    let survey = look(
        &shell.source,
        &Wanted {
            each: true,
            ..Wanted::default()
        },
    )
    .map_err(|e| call.fail(e))?;
    let pattern = super::pattern(&call)?;
    let mut text = String::new();
    for socket in sockets::of_process(pid).map_err(|e| call.fail(e))? {
        let fd = i64::from(socket.fd);
        let line = format!("fd {fd:<4} {}{}", describe(&socket), waiters(&survey, fd));
        if pattern.is_match(&line) {
            text.push_str(&crate::value::escaped(&line));
            text.push('\n');
        }
    }
    if text.is_empty() {
        text.push_str("(none)\n");
    }
    shell.answer(Verb::Conns, &text);
    Ok(())
}

/// `tcp 127.0.0.1:80 <-> 127.0.0.1:5000 ESTABLISHED`
pub fn describe(socket: &Socket) -> String {
    let mut text = format!("{} {}", socket.network, socket.local);
    if !socket.remote.is_empty() {
        text.push_str(" <-> ");
        text.push_str(&socket.remote);
    }
    if socket.state != "NONE" {
        text.push(' ');
        text.push_str(socket.state);
    }
    text
}
