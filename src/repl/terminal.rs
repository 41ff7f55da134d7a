//! The terminal's modes: the line editor changes them, and a session may end,
//! or be suspended, while it does.

use std::io::Write;

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

/// The modes that were found.
pub struct Terminal {
    found: Termios,
}

impl Terminal {
    /// Remembers them, where stdin is a terminal.
    pub fn remember() -> Option<Terminal> {
        let found = tcgetattr(std::io::stdin()).ok()?;
        Some(Terminal { found })
    }

    /// Sets them again. Gives what was set now.
    pub fn restore(&self) -> Option<Termios> {
        let now = tcgetattr(std::io::stdin()).ok();
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &self.found);
        now
    }

    /// The same at the end: the editor may be in the middle of a line.
    pub fn leave(&self, editing: bool) {
        if editing {
            // No bracketed paste any more (console_codes(4), xterm).
            let _ = std::io::stdout().write_all(b"\x1b[?2004l\n");
            let _ = std::io::stdout().flush();
        }
        self.restore();
    }

    /// Sets modes that [`Terminal::restore`] gave.
    pub fn set(modes: &Termios) {
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, modes);
    }
}
