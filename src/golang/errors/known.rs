//! The Error methods of the standard library, by type.
//!
//! A template is the method's text with fields in braces: `{Err}` is printed
//! by the field's own type (a string, a number, an error), `{Num:q}` as
//! strconv.Quote does, `{}` is the value itself (`type X string`). A template
//! holds only if the type has all its fields, so a stranger of the same name
//! falls back to its structure. Sources: GOROOT/src of Go 1.19 to 1.27.

/// How an Error method makes its text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Method {
    /// Text with fields.
    Template(&'static str),
    /// Text with fields that changed with a Go minor version: before, and from it on.
    Since(u32, &'static str, &'static str),
    /// A method that decides something.
    Special(Special),
}

/// Error methods that are more than a template.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Special {
    /// net/net.go
    OpError,
    /// net/net.go
    DnsError,
    /// net/net.go
    AddrError,
    /// errors/join.go
    Join,
    /// syscall/syscall_unix.go
    Errno,
    /// crypto/tls/alert.go
    Alert,
    /// net/http/h2_bundle.go: a code
    Http2Connection,
    /// net/http/h2_bundle.go: stream, code, cause
    Http2Stream,
    /// net/http/h2_bundle.go
    Http2GoAway,
    /// os/exec/exec.go, os/exec_posix.go
    Exit,
    /// runtime/error.go
    TypeAssertion,
    /// crypto/x509/verify.go
    UnknownAuthority,
    /// crypto/x509/verify.go
    CertificateInvalid,
    /// crypto/x509/verify.go
    SystemRoots,
    /// crypto/tls/ech.go
    EchConfig,
}

use Method::{Special as S, Template as T};

/// (type as Go prints it, import path of its package, method)
const KNOWN: &[(&str, &str, Method)] = &[
    ("*errors.errorString", "errors", T("{s}")),
    ("*errors.joinError", "errors", S(Special::Join)),
    ("*fmt.wrapError", "fmt", T("{msg}")),
    ("*fmt.wrapErrors", "fmt", T("{msg}")),
    ("syscall.Errno", "syscall", S(Special::Errno)),
    ("*os.SyscallError", "os", T("{Syscall}: {Err}")),
    ("*os.LinkError", "os", T("{Op} {Old} {New}: {Err}")),
    ("*fs.PathError", "io/fs", T("{Op} {Path}: {Err}")),
    (
        "poll.errNetClosing",
        "internal/poll",
        T("use of closed network connection"),
    ),
    (
        "*poll.DeadlineExceededError",
        "internal/poll",
        T("i/o timeout"),
    ),
    (
        "context.deadlineExceededError",
        "context",
        T("context deadline exceeded"),
    ),
    // net
    ("*net.OpError", "net", S(Special::OpError)),
    ("*net.DNSError", "net", S(Special::DnsError)),
    ("*net.AddrError", "net", S(Special::AddrError)),
    ("*net.ParseError", "net", T("invalid {Type}: {Text}")),
    (
        "*net.DNSConfigError",
        "net",
        T("error reading DNS config: {Err}"),
    ),
    ("*net.timeoutError", "net", T("i/o timeout")),
    ("net.canceledError", "net", T("operation was canceled")),
    ("*net.notFoundError", "net", T("{s}")),
    ("*net.temporaryError", "net", T("{s}")),
    ("net.UnknownNetworkError", "net", T("unknown network {}")),
    ("net.InvalidAddrError", "net", T("{}")),
    // net/http and HTTP/2
    ("*http.ProtocolError", "net/http", T("{ErrorString}")),
    (
        "*http.MaxBytesError",
        "net/http",
        T("http: request body too large"),
    ),
    ("*http.timeoutError", "net/http", T("{err}")),
    ("*http.httpError", "net/http", T("{err}")),
    ("*http.unsupportedTEError", "net/http", T("{err}")),
    (
        "http.tlsHandshakeTimeoutError",
        "net/http",
        T("net/http: TLS handshake timeout"),
    ),
    (
        "http.transportReadFromServerError",
        "net/http",
        T("net/http: Transport failed to read from server: {err}"),
    ),
    ("http.nothingWrittenError", "net/http", T("{error}")),
    (
        "http.http2ConnectionError",
        "net/http",
        S(Special::Http2Connection),
    ),
    ("http2.ConnectionError", "", S(Special::Http2Connection)),
    ("http.http2StreamError", "net/http", S(Special::Http2Stream)),
    ("http2.StreamError", "", S(Special::Http2Stream)),
    ("http.http2GoAwayError", "net/http", S(Special::Http2GoAway)),
    ("http2.GoAwayError", "", S(Special::Http2GoAway)),
    (
        "http.http2goAwayFlowError",
        "net/http",
        T("connection exceeded flow control window size"),
    ),
    (
        "http2.goAwayFlowError",
        "",
        T("connection exceeded flow control window size"),
    ),
    ("*http.http2httpError", "net/http", T("{msg}")),
    ("*http2.httpError", "", T("{msg}")),
    (
        "http.http2noCachedConnError",
        "net/http",
        T("http2: no cached connection was available"),
    ),
    (
        "http2.noCachedConnError",
        "",
        T("http2: no cached connection was available"),
    ),
    (
        "http.http2pseudoHeaderError",
        "net/http",
        T("invalid pseudo-header {:q}"),
    ),
    (
        "http2.pseudoHeaderError",
        "",
        T("invalid pseudo-header {:q}"),
    ),
    (
        "*textproto.Error",
        "net/textproto",
        Method::Since(26, "{Code:03} {Msg}", "{Code:03} {Msg:q}"),
    ),
    ("textproto.ProtocolError", "net/textproto", T("{}")),
    ("*url.Error", "net/url", T("{Op} {URL:q}: {Err}")),
    ("url.EscapeError", "net/url", T("invalid URL escape {:q}")),
    (
        "url.InvalidHostError",
        "net/url",
        T("invalid character {:q} in host name"),
    ),
    // crypto
    ("tls.alert", "crypto/tls", S(Special::Alert)),
    ("tls.AlertError", "crypto/tls", S(Special::Alert)),
    ("tls.RecordHeaderError", "crypto/tls", T("tls: {Msg}")),
    ("*tls.permanentError", "crypto/tls", T("{err}")),
    (
        "tls.timeoutError",
        "crypto/tls",
        T("tls: DialWithDialer timed out"),
    ),
    (
        "*tls.CertificateVerificationError",
        "crypto/tls",
        T("tls: failed to verify certificate: {Err}"),
    ),
    (
        "*tls.ECHRejectionError",
        "crypto/tls",
        T("tls: server rejected ECH"),
    ),
    ("*tls.echConfigErr", "crypto/tls", S(Special::EchConfig)),
    (
        "x509.UnknownAuthorityError",
        "crypto/x509",
        S(Special::UnknownAuthority),
    ),
    (
        "x509.CertificateInvalidError",
        "crypto/x509",
        S(Special::CertificateInvalid),
    ),
    (
        "x509.SystemRootsError",
        "crypto/x509",
        S(Special::SystemRoots),
    ),
    (
        "x509.UnhandledCriticalExtension",
        "crypto/x509",
        T("x509: unhandled critical extension"),
    ),
    (
        "x509.ConstraintViolationError",
        "crypto/x509",
        T("x509: invalid signature: parent certificate cannot sign this kind of certificate"),
    ),
    // os/exec
    ("*exec.Error", "os/exec", T("exec: {Name:q}: {Err}")),
    ("*exec.ExitError", "os/exec", S(Special::Exit)),
    ("exec.wrappedError", "os/exec", T("{prefix}: {err}")),
    // parsing
    (
        "*strconv.NumError",
        "strconv",
        T("strconv.{Func}: parsing {Num:q}: {Err}"),
    ),
    ("*json.SyntaxError", "encoding/json", T("{msg}")),
    (
        "*json.UnsupportedValueError",
        "encoding/json",
        T("json: unsupported value: {Str}"),
    ),
    // runtime
    ("runtime.errorString", "runtime", T("runtime error: {}")),
    ("runtime.plainError", "runtime", T("{}")),
    (
        "runtime.errorAddressString",
        "runtime",
        T("runtime error: {msg}"),
    ),
    (
        "*runtime.TypeAssertionError",
        "runtime",
        S(Special::TypeAssertion),
    ),
    (
        "*runtime.PanicNilError",
        "runtime",
        Method::Since(
            27,
            "panic called with nil argument",
            "runtime error: panic called with nil argument",
        ),
    ),
];

/// The Error method of a type of that name, whose package's import path is
/// `package` where the descriptor tells.
pub(super) fn method_of(name: &str, package: Option<&str>) -> Option<Method> {
    KNOWN
        .iter()
        .find(|(known, path, _)| {
            *known == name && (path.is_empty() || package.is_none_or(|p| p == *path))
        })
        .map(|k| k.2)
}
