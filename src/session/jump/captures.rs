//! What the trampoline of each site writes down: as much as the reporter will
//! ask for, because later the registers are gone, the stack has moved on, and
//! what pointers lead to may have changed.

use crate::arch::jump::capture::G;
use crate::arch::jump::{Capture, Shape};
use crate::golang::copied::Copied;
use crate::golang::family::{Family, Flow, Gives, Receiver};
use crate::golang::layout::Layouts;
use crate::probe::decode::{Decoder, Needs};
use crate::probe::plan::{Event, Plan, Role};
use crate::session::report::Reporter;

/// Most bytes of the stack that are written down.
const MAX_STACK: u64 = 512;

/// Most bytes of a payload that are.
pub const MAX_PAYLOAD: usize = 1024;

/// Most frames of a stack that are shown: of each the trampoline writes down two
/// words, and wrappers take some.
pub const MAX_FRAMES: usize = 31;

/// A site's records.
#[derive(Debug, Clone, Default)]
pub struct SiteRecord {
    /// What is in them.
    pub shape: Shape,
    /// The connection, if there is one: at which word, and which fields.
    pub conn: Option<(usize, ConnFields)>,
    /// What of it is left out where it was copied before: the first word, the
    /// object's address, and how many.
    pub copied: Option<(usize, usize)>,
    /// The word with the first return address of the stack.
    pub frames: Option<(usize, usize)>,
    /// The words of the buffer that the call has filled: the first, and how many.
    pub filled: Option<(usize, usize)>,
    /// The word with the thread's id.
    pub tid: Option<usize>,
}

/// Where the fields of a connection lie that a trampoline writes down: the
/// descriptor, and the data words of both addresses, which show later whether
/// the struct is still the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnFields {
    /// Offsets from the pointer, the descriptor's first.
    pub fields: Vec<i32>,
    /// Words that make the addresses and the network unknown when they are
    /// taken for 0.
    pub blank: Vec<i32>,
}

impl ConnFields {
    /// The addresses' words are among them.
    pub fn has_addresses(&self) -> bool {
        self.fields.len() > 1
    }
}

/// The captures of one site. `None` when there is more than fits.
pub fn of_site(
    reporter: &Reporter,
    (plan, copied): (&Plan, &Copied),
    roles: &[Role],
    (payload, frames): (usize, &dyn Fn(usize) -> usize),
) -> Option<SiteRecord> {
    let layouts = reporter.layouts();
    let mut needs = Needs::default();
    let mut captures = Vec::new();
    let mut conn = None;
    let mut tid = None;
    let mut filled = None;
    let max = u32::try_from(payload.next_multiple_of(16)).ok()?;
    let of_roles = roles.iter().filter_map(|role| match role {
        Role::Entry(func) | Role::Return(Some(func)) => Some(frames(*func)),
        Role::Return(None) | Role::Event(_) | Role::Place(_) => None,
    });
    let frames = of_roles.max().filter(|frames| *frames > 0);
    if let Some(frames) = frames {
        captures.push(Capture::Frames {
            max: u32::try_from(with_wrappers(frames)).ok()?,
        });
    }
    if !roles.iter().all(|r| matches!(r, Role::Event(_))) {
        tid = Some(captures.len());
        captures.push(Capture::Chain {
            from: G,
            hops: vec![near(layouts.g.m)?],
            fields: vec![near(layouts.m.procid)?],
        });
    }
    for role in roles {
        match *role {
            Role::Entry(func) => {
                needs = needs.and(
                    reporter
                        .decoder(func)
                        .map_or(Needs::REGISTERS, Decoder::args_need),
                );
                if let Some(family) = reporter.family(func) {
                    if let Some((register, kind)) = family.receiver {
                        needs.ints |= 1 << register;
                        if kind == Receiver::Interface {
                            needs.ints |= 2 << register;
                        }
                        if let Some((capture, fields)) = connection(layouts, register, kind) {
                            conn = Some((captures.len(), fields));
                            captures.push(capture);
                        }
                        captures.extend(copied.connection(register, kind, true));
                    }
                    if let Some(buffer) = family.buffer {
                        needs.ints |= 1 << buffer.ptr | 1 << buffer.len;
                        if payload > 0 && family.flow == Flow::Out {
                            let (ptr, len) = (buffer.ptr, buffer.len);
                            captures.push(Capture::Bytes { ptr, len, max });
                        } else if payload > 0 && fills(&family) {
                            let (ptr, len) = (buffer.ptr, buffer.len);
                            captures.push(Capture::Buffer { ptr, len, max });
                        }
                    }
                }
            }
            Role::Return(own) => {
                for func in ends_here(plan, own) {
                    needs = needs.and(results(reporter, func));
                    let fills = reporter.family(func).is_some_and(|f| fills(&f));
                    if payload > 0 && fills && filled.is_none() {
                        filled = Some(captures.len());
                        captures.push(Capture::Filled { max });
                    }
                    let gives = reporter.family(func).and_then(|f| f.gives);
                    let given = gives.and_then(|g| connection(layouts, g.register, g.kind));
                    if let Some((capture, fields)) = given
                        && conn.is_none()
                    {
                        conn = Some((captures.len(), fields));
                        captures.push(capture);
                    }
                    let connection = |g: Gives| copied.connection(g.register, g.kind, false);
                    captures.extend(gives.and_then(connection));
                    let error = error_registers(reporter, func);
                    captures.extend(error.map(|(itab, data)| copied.error(itab, data)));
                }
                if let Some(spill) = own.and_then(|func| reporter.spill(func)) {
                    let offset = u32::try_from(spill).ok()?;
                    captures.push(Capture::Stack { offset, words: 1 });
                }
            }
            Role::Event(Event::Recovery) => {
                needs.ints |= 1;
                captures.extend(reporter.recovery_reads());
            }
            Role::Event(_) | Role::Place(_) => {}
        }
    }
    let registers = (0..9)
        .filter(|i| needs.ints & (1 << i) != 0)
        .map(Capture::Int);
    let floats = (0..15)
        .filter(|i| needs.floats & (1 << i) != 0)
        .map(Capture::Float);
    let mut all: Vec<Capture> = registers.chain(floats).collect();
    if let Some((first, end)) = needs.stack {
        let words = end
            .min(first.saturating_add(MAX_STACK))
            .saturating_sub(first)
            .div_ceil(8);
        all.push(Capture::Stack {
            offset: u32::try_from(first & !7).ok()?,
            words: u32::try_from(words.saturating_add(1)).ok()?,
        });
    }
    let before = all.len();
    all.extend(captures);
    let shape = Shape::new(all.clone())?;
    let word_of = |index: usize| {
        let wanted = all.get(before + index)?;
        shape.parts().find(|(c, _)| *c == wanted).map(|(_, at)| at)
    };
    let copied = shape.parts().find_map(|(capture, at)| match capture {
        Capture::Copied { once: Some(_), .. } => Some((at, capture.words())),
        _ => None,
    });
    Some(SiteRecord {
        conn: conn.and_then(|(index, fields)| Some((word_of(index)?, fields))),
        copied,
        frames: match frames {
            Some(frames) => Some((word_of(0)?, with_wrappers(frames))),
            None => None,
        },
        filled: filled
            .and_then(word_of)
            .map(|at| (at, Capture::Filled { max }.words())),
        tid: tid.and_then(word_of),
        shape,
    })
}

/// It reads into a buffer, and its RET has the count in RAX.
fn fills(family: &Family) -> bool {
    family.buffer.is_some() && family.flow != Flow::Out && family.n == Some(0)
}

/// Wrappers are unwound and not shown.
fn with_wrappers(frames: usize) -> usize {
    frames.saturating_mul(2).saturating_add(2)
}

/// The functions whose calls a RET may end: its own, and those that end in a
/// jump to it.
pub(super) fn ends_here(plan: &Plan, own: Option<usize>) -> Vec<usize> {
    let mut functions: Vec<usize> = own.into_iter().collect();
    let trap = |f: usize| plan.functions.get(f).and_then(|f| f.trap.as_ref().ok());
    match own.and_then(trap) {
        Some(trap) => functions.extend(&trap.tail_callers),
        // Of somebody who is not traced: whoever ends elsewhere.
        None => functions.extend(
            (0..plan.functions.len()).filter(|f| trap(*f).is_some_and(|t| t.foreign_returns > 0)),
        ),
    }
    functions
}

/// Of methods of connections: others' errors are of any type, and there may be
/// thousands of them.
fn error_registers(reporter: &Reporter, func: usize) -> Option<(u8, u8)> {
    let family = reporter.family(func)?;
    Some((family.err?, family.err_data()?))
}

fn results(reporter: &Reporter, func: usize) -> Needs {
    let mut needs = reporter
        .decoder(func)
        .map_or(Needs::REGISTERS, Decoder::results_need);
    if let Some(family) = reporter.family(func) {
        let err = [family.err, family.err_data()];
        for register in err.into_iter().chain([family.n]).flatten() {
            needs.ints |= 1_u16.checked_shl(register.into()).unwrap_or(0);
        }
        if let Some(gives) = family.gives {
            needs.ints |= 3_u16.checked_shl(gives.register.into()).unwrap_or(0) & 0x1ff;
        }
    }
    needs
}

fn near(offset: u64) -> Option<i32> {
    i32::try_from(offset).ok()
}

/// The way from a receiver to its descriptor.
pub(super) fn connection(
    l: &Layouts,
    register: u8,
    kind: Receiver,
) -> Option<(Capture, ConnFields)> {
    let sysfd = l.net_fd.pfd.checked_add(l.poll_fd.sysfd)?;
    let addresses = [l.net_fd.laddr, l.net_fd.raddr];
    let (hops, with_addresses, descriptor) = match kind {
        Receiver::Conn => (vec![l.conn.fd], true, sysfd),
        Receiver::TcpListener => (vec![l.tcp_listener.fd], true, sysfd),
        Receiver::UnixListener => (vec![l.unix_listener.fd], true, sysfd),
        Receiver::NetFd => (vec![], true, sysfd),
        Receiver::PollFd => (vec![], false, l.poll_fd.sysfd),
        Receiver::File => {
            let inner = l.os_file_inner.pfd.checked_add(l.poll_fd.sysfd)?;
            (vec![l.os_file.file], false, inner)
        }
        // What they are is known from their types alone.
        Receiver::TlsConn
        | Receiver::HttpConn
        | Receiver::Interface
        | Receiver::InterfaceAt
        | Receiver::Fd => return None,
    };
    let mut fields = vec![near(descriptor)?];
    let mut blank = Vec::new();
    if with_addresses {
        for address in addresses {
            fields.push(near(address.checked_add(8)?)?);
            blank.extend([near(address)?, near(address.checked_add(8)?)?]);
        }
        blank.extend([near(l.net_fd.net)?, near(l.net_fd.net.checked_add(8)?)?]);
    }
    let hops = hops.into_iter().map(near).collect::<Option<Vec<i32>>>()?;
    let capture = Capture::Chain {
        from: register,
        hops,
        fields: fields.clone(),
    };
    Some((capture, ConnFields { fields, blank }))
}
