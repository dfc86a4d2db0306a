//! As much of HTTP as the tests need: one request on a connection, and streams of events.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take: far more than it takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(known, _)| known == name);
        header.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The last part of a problem's type, whose form is checked.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let document = self.json();
        assert_eq!(document["status"], self.status, "{self:?}");
        for field in ["title", "detail"] {
            assert!(
                document[field].as_str().is_some_and(|text| !text.is_empty()),
                "{self:?}"
            );
        }
        assert!(
            document["retryable"].is_boolean() && document["applied"] != true,
            "{self:?}"
        );
        assert_eq!(
            document["retryable"] == true,
            self.header("retry-after").is_some(),
            "{self:?}"
        );
        document["type"]
            .as_str()
            .unwrap()
            .strip_prefix("/problems/")
            .unwrap()
            .to_owned()
    }
}

/// A request with headers and a body as they are given.
pub(crate) fn call(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    raw(address, &format!("{text}\r\n{body}"))
}

/// Sends these bytes, and reads an answer.
pub(crate) fn raw(address: SocketAddr, text: &str) -> Reply {
    let mut stream = connect(address);
    stream.write_all(text.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let (status, headers) = head(&mut reader);
    let is_chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let mut body = String::new();
    if is_chunked {
        while let Some(chunk) = chunk(&mut reader) {
            body.push_str(&chunk);
        }
    } else {
        reader.read_to_string(&mut body).unwrap();
    }
    Reply { status, headers, body }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Reply {
    call(address, "GET", path, &[], "")
}

/// A request with a body of JSON.
pub(crate) fn send(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let headers = [&[("content-type", "application/json")], headers].concat();
    call(address, method, path, &headers, body)
}

/// A reserve under a key.
pub(crate) fn reserve(address: SocketAddr, key: &str, body: &str) -> Reply {
    send(address, "POST", "/v1/reservations", &[("idempotency-key", key)], body)
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn head(reader: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        assert!(
            reader.read_line(&mut line).unwrap() > 0,
            "the answer broke off after {lines:?}"
        );
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
    (
        status,
        headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
    )
}

/// The next chunk; `None`: that was all, or the connection is gone.
fn chunk(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let size = usize::from_str_radix(line.trim(), 16).ok()?;
    let mut bytes = vec![0; size + 2];
    reader.read_exact(&mut bytes).ok()?;
    bytes.truncate(size);
    (size > 0).then(|| String::from_utf8(bytes).unwrap())
}

/// A stream of events.
pub(crate) struct EventStream {
    reader: BufReader<TcpStream>,
    pending: String,
}

/// What stands between two blank lines of a stream.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) id: Option<String>,
    pub(crate) event: Option<String>,
    pub(crate) data: Option<Value>,
    pub(crate) comment: Option<String>,
}

impl EventStream {
    pub(crate) fn open(address: SocketAddr, query: &str, last_id: Option<&str>) -> EventStream {
        let mut stream = connect(address);
        let resumed = last_id.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let text = format!("GET /v1/events{query} HTTP/1.1\r\nhost: {address}\r\n{resumed}\r\n");
        stream.write_all(text.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let (status, headers) = head(&mut reader);
        assert_eq!(status, 200, "{headers:?}");
        assert!(
            headers.contains(&("content-type".into(), "text/event-stream".into())),
            "{headers:?}"
        );
        EventStream {
            reader,
            pending: String::new(),
        }
    }

    /// What is told next; `None`: the stream has ended.
    pub(crate) fn next(&mut self) -> Option<Told> {
        loop {
            if let Some((block, rest)) = self.pending.split_once("\n\n") {
                let told = told(block);
                self.pending = rest.to_owned();
                return Some(told);
            }
            let more = chunk(&mut self.reader)?;
            self.pending.push_str(&more);
        }
    }

    /// The next event, comments passed over.
    pub(crate) fn event(&mut self) -> Option<Told> {
        loop {
            let told = self.next()?;
            if told.event.is_some() {
                return Some(told);
            }
        }
    }
}

fn told(block: &str) -> Told {
    let mut told = Told::default();
    for line in block.lines() {
        match line.split_once(": ") {
            Some(("", comment)) => told.comment = Some(comment.to_owned()),
            Some(("id", id)) => told.id = Some(id.to_owned()),
            Some(("event", event)) => told.event = Some(event.to_owned()),
            Some(("data", data)) => told.data = Some(serde_json::from_str(data).unwrap()),
            _ => panic!("a stream told {line:?}"),
        }
    }
    told
}
