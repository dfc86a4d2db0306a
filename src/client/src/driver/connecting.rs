//! Making a connection: TCP, then hello and welcome.

use std::sync::Arc;

use plimsoll_protocol::frame::Head;
use plimsoll_protocol::limits::FRAME_HEADER_SIZE_BYTES;
use plimsoll_protocol::{CorrelationId, EncodeError, Encoder, Header, Operation, VERSION, payload, wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::directory::{Shared, Welcome};
use crate::error::ConnectError;

/// A connection on which hello has been answered.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) stream: TcpStream,
    pub(super) welcome: Arc<Welcome>,
}

/// Longest name of a caller in bytes; a longer one is cut.
const NAME_SIZE_BYTES_MAX: usize = 128;

/// Connects once, within the timeout.
pub(super) async fn connect(shared: &Shared) -> Result<Connected, ConnectError> {
    let after = shared.options.connect_timeout;
    let attempt = async {
        let mut stream = TcpStream::connect(&*shared.address).await.map_err(io("connecting"))?;
        stream.set_nodelay(true).map_err(io("setting TCP_NODELAY"))?;
        let hello = encode_hello(&shared.options.name).unwrap_or_default();
        stream.write_all(&hello).await.map_err(io("sending hello"))?;
        let welcome = Arc::new(read_welcome(&mut stream).await?);
        Ok(Connected { stream, welcome })
    };
    tokio::time::timeout(after, attempt)
        .await
        .map_err(|_| ConnectError::Timeout { after })?
}

fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> ConnectError {
    move |source| ConnectError::Io { doing, source }
}

fn encode_hello(name: &str) -> Result<Vec<u8>, EncodeError> {
    let name = &name[..name.floor_char_boundary(NAME_SIZE_BYTES_MAX)];
    let mut hello = Vec::new();
    Encoder::new().table(
        &mut hello,
        Head::request(Operation::Hello, CorrelationId(1)),
        |builder| {
            let client = Some(builder.create_string(name));
            let args = wire::HelloArgs {
                version_min: VERSION,
                version_max: VERSION,
                client,
                credentials: None,
            };
            wire::Hello::create(builder, &args)
        },
    )?;
    Ok(hello)
}

async fn read_welcome(stream: &mut TcpStream) -> Result<Welcome, ConnectError> {
    let mut header = [0; FRAME_HEADER_SIZE_BYTES];
    stream
        .read_exact(&mut header)
        .await
        .map_err(io("reading the answer to hello"))?;
    let header = Header::decode(&header)?;
    // The header's checks bound it to the size of a frame.
    let mut bytes = vec![0; header.payload_size()];
    stream
        .read_exact(&mut bytes)
        .await
        .map_err(io("reading the answer to hello"))?;
    header.check_payload(&bytes)?;
    if !header.status.is_ok() {
        let failure = payload::table::<wire::Failure>("Failure", &bytes);
        let detail = failure
            .ok()
            .and_then(|failure| failure.detail())
            .unwrap_or_default()
            .to_owned();
        return Err(ConnectError::Refused {
            status: header.status,
            detail,
        });
    }
    if !header.is_answer() || header.operation() != Some(Operation::Hello) {
        return Err(ConnectError::Operation {
            operation: header.operation,
        });
    }
    Welcome::decode(&bytes)
}
