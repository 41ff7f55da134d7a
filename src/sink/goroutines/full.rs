//! A stack with the variables of each frame.

use std::io::{self, Write};

use crate::value::escaped;
use crate::value::frame::{FrameValues, NamedValue};

/// Writes frames, innermost first, a line per variable; a name in parentheses is
/// hidden by a later variable of that name:
///
/// ```text
/// main.(*Server).handle
///     /src/server.go:88
///         s = &main.Server{…}
///         n = 7
///         (err) = nil
/// ```
pub fn frames(to: &mut dyn Write, frames: &[FrameValues]) -> io::Result<()> {
    for frame in frames {
        let inlined = if frame.source.inlined {
            " (inlined)"
        } else {
            ""
        };
        writeln!(to, "{}", escaped(&frame.source.function))?;
        writeln!(
            to,
            "    {}:{}{inlined}",
            escaped(&frame.source.file),
            frame.source.line
        )?;
        for one in &frame.values {
            variable(to, one)?;
        }
    }
    Ok(())
}

/// Writes one variable as a line.
fn variable(to: &mut dyn Write, one: &NamedValue) -> io::Result<()> {
    let name = escaped(&one.name);
    let name = if one.shadowed {
        format!("({name})")
    } else {
        name
    };
    writeln!(to, "        {name} = {}", one.value)
}
