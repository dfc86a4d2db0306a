//! The other side: a listener whose connections a test drives frame by frame.

use std::future::Future;
use std::time::Duration;

use plimsoll_client::protocol::frame::{self, Decoded, Head};
use plimsoll_client::protocol::{
    Applies, CommandsView, CorrelationId, Encoder, Header, Operation, Outcomes, ReservationId, Status, payload, wire,
};
use plimsoll_client::{Backoff, Client, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longer than anything in these tests takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How long nothing must happen to be taken for nothing.
pub(crate) const QUIET: Duration = Duration::from_millis(60);

/// What the peer says in its welcome.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) directory_id: &'static str,
    pub(crate) commands_max: u16,
    pub(crate) window_commands: u32,
    pub(crate) items_max: u32,
    pub(crate) frame_size_max: u32,
}

pub(crate) const LIMITS: Limits = Limits {
    directory_id: "0123456789abcdef0123456789abcdef",
    commands_max: 8192,
    window_commands: 65_536,
    items_max: 1000,
    frame_size_max: 1 << 20,
};

/// Names of the peer's dimensions.
pub(crate) const DIMENSIONS: [&str; 2] = ["orders", "kg"];

/// Options with which tests are quick.
pub(crate) fn quick() -> Options {
    let backoff = Backoff {
        min: Duration::from_millis(1),
        max: Duration::from_millis(5),
    };
    Options {
        backoff,
        ..Options::default()
    }
}

pub(crate) struct Peer {
    listener: TcpListener,
    pub(crate) limits: Limits,
}

impl Peer {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        Self {
            listener,
            limits: LIMITS,
        }
    }

    pub(crate) fn address(&self) -> String {
        self.listener.local_addr().expect("it is bound").to_string()
    }

    /// Takes the next connection, without hello.
    pub(crate) async fn accept_bare(&self) -> Connection {
        let (stream, _) = soon(self.listener.accept()).await.expect("it is accepted");
        stream.set_nodelay(true).expect("it can be set");
        Connection {
            stream,
            bytes: Vec::new(),
            encoder: Encoder::new(),
        }
    }

    /// Takes the next connection and welcomes it.
    pub(crate) async fn accept(&self) -> Connection {
        let mut connection = self.accept_bare().await;
        let hello = connection.read().await;
        assert_eq!(hello.header.request(), Ok(Operation::Hello));
        let table = payload::table::<wire::Hello>("Hello", &hello.payload).expect("it is valid");
        assert_eq!((table.version_min(), table.version_max()), (1, 1));
        assert!(table.credentials().is_none());
        let limits = self.limits.clone();
        connection
            .table(&hello, |builder| {
                let server = Some(builder.create_string("peer 0"));
                let directory_id = Some(builder.create_string(limits.directory_id));
                let names = DIMENSIONS.map(|name| builder.create_string(name));
                let dimensions = Some(builder.create_vector(&names));
                let args = wire::WelcomeArgs {
                    version: 1,
                    server,
                    directory_id,
                    dimensions,
                    cores: 1,
                    frame_size_max: limits.frame_size_max,
                    commands_max: limits.commands_max,
                    window_commands: limits.window_commands,
                    items_max: limits.items_max,
                };
                wire::Welcome::create(builder, &args)
            })
            .await;
        connection
    }

    /// A client, and the peer's end of its first connection.
    pub(crate) async fn connect(&self, options: Options) -> (Client, Connection) {
        let (client, connection) =
            soon(async { tokio::join!(Client::connect(self.address(), options), self.accept()) }).await;
        (client.expect("it is welcomed"), connection)
    }
}

/// A frame that has arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
}

/// A command as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Arrived {
    pub(crate) command: wire::Command,
    pub(crate) units: Vec<u32>,
    pub(crate) reference: Option<String>,
}

impl Received {
    pub(crate) fn commands(&self) -> Vec<Arrived> {
        assert_eq!(self.header.request(), Ok(Operation::Commands));
        let view = CommandsView::new(&self.payload, self.header.count, DIMENSIONS.len()).expect("it is valid");
        view.iter()
            .map(|found| Arrived {
                command: *found.command,
                units: found.units.iter().collect(),
                reference: found.reference.map(str::to_owned),
            })
            .collect()
    }

    /// Texts of a request with one vector of names.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = match self.header.request() {
            Ok(Operation::ResolvePools) => payload::table::<wire::ResolvePools>("ResolvePools", &self.payload)
                .expect("it is valid")
                .names(),
            Ok(Operation::GetPools) => payload::table::<wire::GetPools>("GetPools", &self.payload)
                .expect("it is valid")
                .names(),
            other => panic!("expected a request with names, found {other:?}"),
        };
        names.iter().map(str::to_owned).collect()
    }
}

/// The outcome of a command that is done. A reserve's reservation has its key as id; what is held expires at 605.
pub(crate) fn done(arrived: &Arrived) -> wire::Outcome {
    let held = arrived.command.hold_seconds() > 0;
    let state = match arrived.command.action() {
        wire::Action::release => wire::State::released,
        wire::Action::reserve | wire::Action::resize if held => wire::State::held,
        _ => wire::State::confirmed,
    };
    wire::Outcome::about(
        Status::Ok,
        &Applies {
            reservation: ReservationId(arrived.command.reservation_id().0),
            state,
            version: 1,
            created_at: 5,
            expires_at: if held { 605 } else { 0 },
            repeated: false,
            would_refuse: false,
        },
    )
}

pub(crate) struct Connection {
    stream: TcpStream,
    bytes: Vec<u8>,
    pub(crate) encoder: Encoder,
}

impl Connection {
    /// The next frame.
    pub(crate) async fn read(&mut self) -> Received {
        soon(self.try_read()).await.expect("a frame, not the end")
    }

    /// The next frame; `None` at the end.
    pub(crate) async fn try_read(&mut self) -> Option<Received> {
        loop {
            if let Decoded::Frame(frame) = frame::decode(&self.bytes).expect("the client sends frames") {
                frame.check_payload().expect("undamaged");
                let received = Received {
                    header: frame.header,
                    payload: frame.payload.to_vec(),
                };
                self.bytes.drain(..received.header.size as usize);
                return Some(received);
            }
            // A client that goes away may reset the connection.
            match self.stream.read_buf(&mut self.bytes).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Asserts that nothing arrives for a while.
    pub(crate) async fn quiet(&mut self) {
        let frame = tokio::time::timeout(QUIET, self.try_read()).await;
        assert!(frame.is_err(), "expected nothing, found {frame:?}");
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        // The client may have closed the connection; what it does then is what the test looks at.
        let _ = self.stream.write_all(bytes).await;
    }

    /// The bytes of an answer of outcomes.
    pub(crate) fn outcomes(
        &mut self,
        correlation: CorrelationId,
        outcomes: &[wire::Outcome],
        remaining: &[i64],
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let batch = Outcomes { outcomes, remaining };
        self.encoder.outcomes(&mut bytes, correlation, batch).expect("it fits");
        bytes
    }

    /// Answers a frame of commands.
    pub(crate) async fn answer(&mut self, to: &Received, outcomes: &[wire::Outcome], remaining: &[i64]) {
        let bytes = self.outcomes(to.header.correlation, outcomes, remaining);
        self.write(&bytes).await;
    }

    /// Answers that all commands of a frame are done.
    pub(crate) async fn done(&mut self, to: &Received) {
        let outcomes: Vec<wire::Outcome> = to.commands().iter().map(done).collect();
        self.answer(to, &outcomes, &[]).await;
    }

    /// Answers each command with the same status.
    pub(crate) async fn refuse(&mut self, to: &Received, status: Status) {
        let outcomes = vec![wire::Outcome::refused(status); usize::from(to.header.count)];
        self.answer(to, &outcomes, &[]).await;
    }

    /// Refuses a frame as a whole.
    pub(crate) async fn fail(&mut self, to: &Received, status: Status, detail: &str) {
        let mut bytes = Vec::new();
        self.encoder
            .failure(&mut bytes, Head::answer_to(&to.header), status, detail);
        self.write(&bytes).await;
    }

    /// Answers with a table.
    pub(crate) async fn table<T>(
        &mut self,
        to: &Received,
        build: impl FnOnce(&mut flatbuffers::FlatBufferBuilder<'static>) -> flatbuffers::WIPOffset<T>,
    ) {
        let mut bytes = Vec::new();
        self.encoder
            .table(&mut bytes, Head::answer_to(&to.header), build)
            .expect("it fits");
        self.write(&bytes).await;
    }

    /// Answers a request for reservations with one of pool `a`, or with none.
    pub(crate) async fn reservation(&mut self, to: &Received, version: Option<u16>, units: [u32; 2]) {
        let table = payload::table::<wire::GetReservations>("GetReservations", &to.payload).expect("it is valid");
        let id = *table.reservations().get(0);
        self.table(to, |builder| {
            let found: Vec<_> = version
                .into_iter()
                .map(|version| {
                    let pool = Some(builder.create_string("a"));
                    let units = Some(builder.create_vector(&units));
                    let args = wire::ReservationArgs {
                        reservation_high: id.high(),
                        reservation_low: id.low(),
                        state: wire::State::held,
                        pool,
                        units,
                        expires_at: 605,
                        version,
                        ..Default::default()
                    };
                    wire::Reservation::create(builder, &args)
                })
                .collect();
            let reservations = Some(builder.create_vector(&found));
            wire::Reservations::create(builder, &wire::ReservationsArgs { reservations })
        })
        .await;
    }

    /// Answers a request to resolve names.
    pub(crate) async fn resolved(&mut self, to: &Received, ids: &[u64]) {
        assert_eq!(to.names().len(), ids.len());
        self.table(to, |builder| {
            let pools = Some(builder.create_vector(ids));
            wire::ResolvedPools::create(builder, &wire::ResolvedPoolsArgs { pools })
        })
        .await;
    }
}

/// Bounds what must come soon, so that a test fails instead of hanging.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it did not come")
}
