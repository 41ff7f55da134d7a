//! What `--help` says below the options, and the manual pages with it.

/// Below the options of `gotap --help`.
pub(super) const GOTAP: &str = "\
Start here:
  gotap demo                                see that it works on this machine
  gotap ps                                  find the process
  gotap trace --preset conn -p PID          what it does with its connections
  gotap goroutines -p PID                   what every goroutine is doing

Exit codes:
  0   done, also when the reader of the output went away, or Ctrl-C ended it
  1   it went wrong; one line on standard error says what and what to do
  2   wrong usage

Environment:
  NO_COLOR   no colours, when it is set and not empty (https://no-color.org)
  RUST_LOG   what gotap tells about itself on standard error, e.g. gotap=debug";

/// Below the options of `gotap trace --help`.
pub(super) const TRACE: &str = r#"Examples:
  gotap trace 'net.(*conn).Read' -p 4242
      one function, by its name as Go writes it
  gotap trace --preset conn --where 'err != nil || dur > 10ms' -s 8 -p 4242
      what goes wrong or is slow on connections, and who called
  gotap trace 'net.(*conn).Read' --slow 1s --summary -q -p 4242
      no lines but a table in the end; hangs are told while they hang
  gotap trace 'main\..*' -o json --for 30s -p 4242 > calls.jsonl
      one JSON object a call, for jq and friends
  gotap trace 'net/http.(*conn).serve' --out calls.txt -- ./server -addr :8080
      a program that is started, from its first instruction
  gotap trace 'tls.*Handshake' --list -p 4242
      what matches and how it would be armed; nothing is touched
  gotap trace --preset conn -q --summary -p 4242
      every call of a busy server, at its full speed
  gotap trace --preset conn --record calls.gtr -p 4242
      into a file, for gotap show to filter, print and summarise later
  gotap trace --preset conn --plan -p 4242
      site by site: the bytes that a jump can replace, or why it has to trap

Firing (--fire):
  trap: an int3 a site; the thread that hits waits until gotap has looked at it.
  jump: a site jumps into generated code in the program itself, which writes a
  record into memory that gotap reads; no thread waits, and nobody traces the
  program meanwhile. Functions of which some site cannot jump are left out and
  named. auto (the default): each function jumps if it can and if what is shown of
  its values need not be read at once (texts, slices and the like, and errors of
  any type but those that methods of connections return; with -q --summary nothing
  is shown), else it traps; gotap -v says why. The program is traced only while
  something traps.
  Comparisons with == and != of fd, goid, n (with numbers) and err (with nil) that
  --where joins by && are asked by the generated code, and so is --every-nth:
  what they leave out costs no record. What n and err leave out is told by the
  last line as not having returned.
  By jumps there is no --max-rate, no --stack of more than 31 frames and no
  --payload of more than 1024 bytes. Addresses of connections and the errors of
  package net are written down at the call; what is read after it is marked as
  late. A ring that is full drops records: how many is said, and calls whose end
  may be among them end as lost, or are marked: entry_lost, doubtful.

Patterns:
  Tried as an exact name first, so that net.(*conn).Read needs no escapes; else
  as a regular expression, which matches anywhere in the name. Functions that
  the compiler generates (wrappers, type..eq) match only by their exact names,
  and so do the runtime's hot paths.

Filter (--where):
  Go's operators and precedence, =~ and !~ for regular expressions; durations
  (5ms), sizes (4KiB), nil, true, false. Names:
    id parent time dur dur_ns goid tid func fd network local remote note len
    n err end since_attach entry_lost doubtful late stack payload payload_len
    args.NAME results.NAME
  A call that lacks a fact is not let through by a comparison with it, but for
  NAME == nil. Examples:
    fd == 7 && n == 0      err =~ "reset"      dur > 5ms      end != "return"
    remote =~ "^10\\."     len >= 4KiB && n < 100

Output:
  Records go to standard output, everything else to standard error: what was
  armed, what was refused and why, and in the last line how many calls were
  seen, are still open, were filtered and were lost. A reader that stalls never
  slows the target: records that do not fit a bounded queue are counted as lost.

Keys and signals:
  Ctrl-C, SIGTERM, SIGHUP and SIGQUIT take everything out of the target and let
  it run on. Ctrl-Z does so too, and fg arms again. A program that gotap started
  runs on as well, unless the same Ctrl-C from the terminal ends it. After a
  kill -9 of gotap the target goes on; the next gotap that attaches takes out
  what was left behind.

Exit codes:
  0 done; 1 it went wrong; 2 wrong usage

Environment:
  NO_COLOR   no colours, when it is set and not empty (https://no-color.org)
  RUST_LOG   what gotap tells about itself on standard error, e.g. gotap=debug"#;

/// Below the options of `gotap show --help`.
pub(super) const SHOW: &str = r"Examples:
  gotap trace --preset conn --record calls.gtr -p 4242
      every call of a busy server, in few bytes
  gotap show calls.gtr --where 'err != nil || dur > 10ms'
      what went wrong or was slow
  gotap show calls.gtr -q --summary
      counts, errors, bytes and latencies per function
  gotap show calls.gtr -o json | jq ...
      the JSON lines that trace -o json would have written

Neither the process nor its program is needed, on any machine. What gotap was
not told to record (-s, --payload) is not in the file. A recording of a gotap
that was killed is shown up to some tenth of a second before; one that is
damaged is shown without the damaged blocks, and the records lost are counted.
The last line counts as that of gotap trace does: what its --where left out is
among the calls seen and filtered.

Exit codes:
  0 done; 1 it went wrong; 2 wrong usage";

/// Below the options of `gotap goroutines --help`.
pub(super) const GOROUTINES: &str = r#"Examples:
  gotap goroutines -p 4242
      counts, the largest groups, and what is the matter when that is plain
  gotap goroutines -p 4242 --by created
      who makes so many of them
  gotap goroutines -p 4242 --list --where 'reason == "IO wait" && wait > 5m'
      goroutines that have waited long, and for which connection
  gotap goroutines -p 4242 --diff 30s
      creation sites that grew in half a minute: a leak shows itself
  gotap goroutines --core core.4242 ./server
      the same of a core file
  gotap goroutines -p 4242 -o pprof > g.pb.gz && go tool pprof -top g.pb.gz
      a goroutine profile of a program that serves none
  gotap stack 34 -p 4242
      one goroutine's stack, with arguments
  gotap stack 34 -p 4242 --full
      with the variables of each frame, from the debug information: values as
      Go writes them, (optimised away) where the compiler kept none

Nothing is stopped: memory is read while the program runs. A stack that does
not hold still while it is read is counted, not shown; of a running goroutine
only its thread's registers tell where it is.
  --consistent stops every thread for the time of the read, some milliseconds,
  and says for how long: all is of one moment, and running goroutines have
  stacks. Whatever ends gotap meanwhile, the program runs on. What is read is
  kept in memory until then: some 500 bytes a goroutine, and its stack.

--symbols FILE:
  Debug information for a program that was stripped, from the file that it was
  before, or from what objcopy --only-keep-debug made of that. Its build id
  must be the program's; go build -ldflags=-w makes another build.

Waits:
  The runtime notes since when a goroutine waits in a collection only: what it
  noted is a lower bound, shown as >= 5m. What gotap saw itself between two looks
  (--every) is shown as "5m seen". An unknown wait matches no filter.

Filter (--where):
  Go's operators, =~ and !~ for regular expressions, durations. Names:
    goid status reason wait wait_ns wait_kind class fd network local remote mode
    deadline deadline_ns func user file line created_func created_file
    created_line start parent tid locked blocked_on address stack labels.NAME
  class is network, blocked, runtime, syscall, runnable or running.

Output (-o):
  text    a table;  json  one object a look, with --list one entry a goroutine
  text2   as the runtime prints all goroutines (debug=2), for tools that read it
  pprof   a gzipped profile.proto"#;

/// Below the options of `gotap memstats --help`.
pub(super) const MEMSTATS: &str = "\
Examples:
  gotap memstats -p 4242
  gotap memstats -p 4242 -o json
      the figures under the names that encoding/json gives runtime.MemStats
  gotap memstats --core core.4242 ./server

What the figures are:
  They are derived from the runtime's own as runtime.ReadMemStats derives them,
  with what each P has in its cache and not yet told. ReadMemStats stops the
  world for that; gotap stops nothing, so that of a program that runs they are
  approximate, which is said on standard error (JSON: approximate). What the
  runtime keeps twice is compared, and told when it differs (JSON: torn).";

/// Below the options of `gotap stack --help`.
pub(super) fn stack() -> String {
    let grammar = crate::value::GRAMMAR
        .replace("```text\n", "")
        .replace("```\n", "");
    format!(
        "\
Examples:
  gotap stack 34 -p 4242
  gotap stack 34 -p 4242 --full
      with the variables of each frame: parameters, results, locals, what a
      closure captured. A name in parentheses is shadowed by a later one.
  gotap stack 34 --full --core core.4242 ./server

Variables need the debug information that `go build` writes by default. What the
optimiser kept nowhere is (optimised away); -gcflags='all=-N -l' keeps everything.
A goroutine that runs has no stack to be read.

How values are written:
{grammar}"
    )
}

/// Below the options of `gotap attach --help`.
pub(super) const ATTACH: &str = r"Examples:
  gotap attach 4242
      a prompt; the process runs on
  gotap attach 4242 --script slow-reads.gotap
      a script first, then the prompt
  gotap attach --core core.4242 ./server
      the commands that only look, on a core file
  gotap attach -- ./server -addr :8080
      starts it; it stands before its own packages run until continue. It reads no
      standard input, writes to standard error, and Ctrl-C does not reach it. At the
      end of a prompt it is asked whether to kill it; after a script it runs on.
  echo 'goroutines -group reason' | gotap attach 4242
      commands from a pipe

At the prompt:
  (gotap) t net.(*conn).Read if n == 0 || err != nil
  (gotap) on 1 print fd, remote
  (gotap) goroutines -group reason
  (gotap) break main.(*Server).handle if req.ID == 42
  (gotap) help trace
  trace stops nothing; break stops the whole process until continue, and
  config max-stop 5s ends a stop that was forgotten. Names and aliases are Delve's. Records are shown above the line that is typed.
  Tab completes commands, functions, goroutines; Enter repeats the last command
  that only looked; what ends in an open { goes on on the next line.

Keys:
  Ctrl-C cancels what is typed or waited for. Ctrl-D and exit take everything out
  of the process and let it run. Ctrl-Z does so too, and fg puts it in again.

Files:
  $XDG_STATE_HOME/gotap/history, else ~/.local/state/gotap/history: what was typed

Environment:
  NO_COLOR   no colours, when it is set and not empty (https://no-color.org)
  TERM       dumb: no editing of lines";

/// Below the options of `gotap run --help`.
pub(super) const RUN: &str = r"A script:
  # slow-reads.gotap
  trace net.(*conn).Read if dur > 10ms || err != nil {
      print goid, fd, remote, n, err
      stack 8
  }
  every 5s { goroutines -group state }
  on exit { summary }
  for 10m                                          # then detach

  One command a line, or several with ; between them. The first { outside of
  brackets, quotes and /.../ opens a block. Locations are Delve's: a function, the
  end of its name, FILE:LINE, *ADDRESS, a regular expression between slashes.
  A break stops the whole process; its block is run, and then the process goes on,
  always. At the top level continue waits for the next stop: the commands behind
  it see that one, until the next continue or the script's end.
  What fails is told with file and line, and the script goes on; with set -e at
  its head it ends there.

Output (-o json):
  Every record, every result of print, args and stack, and the answer of every
  command is one object a line: records as gotap trace has them; actions with
  tracepoint, call and action; stops with event, breakpoints, goid, func, file and
  line; answers with command and output.

Exit codes:
  0 done; 1 it went wrong, or a command of the script did; 2 wrong usage";
