//! Programs that people run, as Debian ships them (Go 1.19, stripped): what
//! `--preset conn` says of each connection against what its client counted.

mod support;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::{Gotap, LATER, SOON, Target, oracle, poll, wait_for};

/// Connections, and requests on each.
const CLIENTS: usize = 4;
const REQUESTS: usize = 25;

#[test]
fn caddy() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let file = vec![b'x'; 100_000];
    std::fs::write(folder.path().join("big.txt"), &file).expect("write a file");
    let config = folder.path().join("Caddyfile");
    let text = format!(
        "{{\n\tadmin off\n\tauto_https off\n}}\n:{port} {{\n\tbind 127.0.0.1\n\trespond /hello \"hello\"\n\troot * {}\n\tfile_server\n}}\n",
        folder.path().display()
    );
    std::fs::write(&config, text).expect("write a Caddyfile");
    let mut command = installed("/usr/bin/caddy", "caddy");
    command
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(&config);
    command
        .env("HOME", folder.path())
        .env("XDG_DATA_HOME", folder.path());
    work(
        command,
        "caddy",
        folder.path(),
        port,
        &["/hello", "/big.txt", "/missing"],
    );
}

#[test]
fn prometheus() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let config = folder.path().join("prometheus.yml");
    std::fs::write(&config, "global:\n  scrape_interval: 1h\n").expect("write a file");
    let mut command = installed("/usr/bin/prometheus", "prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.path().join("data").display()
        ));
    let paths = ["/metrics", "/api/v1/query?query=up", "/-/ready"];
    work(command, "prometheus", folder.path(), port, &paths);
}

#[test]
fn etcd() {
    let folder = tempfile::tempdir().expect("a folder");
    let (port, peer) = (free_port(), free_port());
    let mut command = installed("/usr/bin/etcd", "etcd-server");
    let own = format!("http://127.0.0.1:{port}");
    let peers = format!("http://127.0.0.1:{peer}");
    command
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .args([
            "--listen-client-urls",
            &own,
            "--advertise-client-urls",
            &own,
            "--listen-peer-urls",
            &peers,
            "--initial-advertise-peer-urls",
            &peers,
            "--initial-cluster",
            &format!("default={peers}"),
        ]);
    work(
        command,
        "etcd",
        folder.path(),
        port,
        &["/version", "/health", "/metrics"],
    );
}

/// Starts it, traces it while clients work, compares, and leaves it serving.
fn work(mut command: Command, name: &str, folder: &Path, port: u16, paths: &[&str]) {
    let log = File::create(folder.join("log")).expect("a log");
    command.current_dir(folder).stderr(log);
    let mut server = Target::spawn(command, name);
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    wait_for(&format!("{name} serves"), LATER, || {
        assert!(
            server.is_alive(),
            "{name} ended; its log:\n{}",
            std::fs::read_to_string(folder.join("log")).unwrap_or_default()
        );
        let mut client = Client::connect(at)?;
        client.get(paths[0], true).ok()
    });
    let pid = server.pid();
    let before = oracle::footprint(pid);

    let gotap = Gotap::trace_json(pid, &[], &["--preset", "conn"]);
    let clients: Vec<std::thread::JoinHandle<Client>> = (0..CLIENTS)
        .map(|_| {
            let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
            std::thread::spawn(move || {
                let mut client = Client::connect(at).expect("connect");
                for i in 0..REQUESTS {
                    let path = &paths[i % paths.len()];
                    client.get(path, i + 1 == REQUESTS).expect("an answer");
                }
                client
            })
        })
        .collect();
    let clients: Vec<Client> = clients
        .into_iter()
        .map(|c| c.join().expect("a client"))
        .collect();
    // Until the server closed its ends: every call on them is over then.
    assert!(poll(SOON, || {
        let open = oracle::tcp_sockets(pid);
        clients
            .iter()
            .all(|c| open.values().all(|s| s.remote != c.local))
    }));
    let outcome = gotap.stop();
    let calls = outcome.must_succeed().calls();
    let gaps: Vec<Value> = outcome.records();
    let gaps: Vec<&Value> = gaps.iter().filter(|r| r.get("func").is_none()).collect();
    assert_eq!(
        outcome.tally().lost,
        0,
        "{name}: {gaps:?}\n{}",
        outcome.errors()
    );

    let flows = bytes_by_remote(&calls);
    for client in &clients {
        let remote = client.local.to_string();
        let (read, written) = flows.get(&remote).copied().unwrap_or_default();
        assert_eq!(read, client.sent, "{name}: bytes read from {remote}");
        assert_eq!(
            written, client.received,
            "{name}: bytes written to {remote}"
        );
    }

    assert!(server.is_alive(), "{name} is dead");
    let mut client = Client::connect(at).expect("connect after gotap left");
    client
        .get(paths[0], true)
        .expect("an answer after gotap left");
    oracle::assert_clean(pid, &before, name);
}

/// Bytes in and out by remote address: outermost calls only, a call nested in
/// another of the same connection is summed with that one.
fn bytes_by_remote(calls: &[Value]) -> BTreeMap<String, (u64, u64)> {
    let by_id: HashMap<u64, &Value> = calls
        .iter()
        .map(|c| (c["id"].as_u64().expect("an id"), c))
        .collect();
    let mut flows: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for call in calls {
        let (Some(remote), Some(way)) = (call["remote"].as_str(), way(call)) else {
            continue;
        };
        let mut outer = call["parent"].as_u64();
        let mut nested = false;
        while let Some(parent) = outer.and_then(|id| by_id.get(&id)) {
            nested |= way_is(parent, way) && parent["remote"] == call["remote"];
            outer = parent["parent"].as_u64();
        }
        if nested {
            continue;
        }
        let flow = flows.entry(remote.to_string()).or_default();
        let n = call["n"].as_u64().unwrap_or(0);
        match way {
            Way::In => flow.0 += n,
            Way::Out => flow.1 += n,
        }
    }
    flows
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

fn way_is(call: &Value, wanted: Way) -> bool {
    way(call) == Some(wanted)
}

/// Which way the bytes of a method of a connection go. `ReadFrom` of a TCP
/// connection writes to it, `WriteTo` reads from it.
fn way(call: &Value) -> Option<Way> {
    let func = call["func"].as_str()?;
    let method = func.rsplit('.').next()?;
    match method {
        "Read" | "WriteTo" => Some(Way::In),
        "Write" | "ReadFrom" | "writeBuffers" => Some(Way::Out),
        _ => None,
    }
}

fn installed(path: &str, package: &str) -> Command {
    assert!(
        Path::new(path).exists(),
        "{path} is missing: apt-get install {package}"
    );
    Command::new(path)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// A small HTTP/1.1 client that counts its bytes.
struct Client {
    stream: TcpStream,
    local: SocketAddr,
    sent: u64,
    received: u64,
}

impl Client {
    fn connect(at: SocketAddr) -> Option<Client> {
        let stream = TcpStream::connect_timeout(&at, Duration::from_secs(10)).ok()?;
        stream.set_read_timeout(Some(SOON)).ok()?;
        let local = stream.local_addr().ok()?;
        Some(Client {
            stream,
            local,
            sent: 0,
            received: 0,
        })
    }

    /// One request; its answer is read whole, to the end of the stream when it
    /// is the last.
    fn get(&mut self, path: &str, last: bool) -> std::io::Result<Vec<u8>> {
        let connection = if last { "close" } else { "keep-alive" };
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n");
        self.stream.write_all(request.as_bytes())?;
        self.sent += request.len() as u64;
        let mut answer = Vec::new();
        let mut part = vec![0_u8; 1 << 16];
        while last || !is_whole(&answer) {
            let n = self.stream.read(&mut part)?;
            if n == 0 {
                break;
            }
            self.received += n as u64;
            answer.extend_from_slice(&part[..n]);
        }
        if answer.starts_with(b"HTTP/1.1 ") {
            Ok(answer)
        } else {
            Err(std::io::ErrorKind::InvalidData.into())
        }
    }
}

/// Header and body are complete (RFC 9112: Content-Length, or chunked).
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else {
        return false;
    };
    let header = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let body = &answer[end + 4..];
    for line in header.lines() {
        if let Some(length) = line.strip_prefix("content-length:") {
            let length: usize = length.trim().parse().expect("a length");
            return body.len() >= length;
        }
    }
    header.contains("transfer-encoding: chunked") && body.ends_with(b"0\r\n\r\n")
}
