//! Answers of the rare operations as FlatBuffers tables.

use flatbuffers::{FlatBufferBuilder, WIPOffset};
use plimsoll_domain::PoolDefinition;
use plimsoll_engine::{PoolReport, PutResult, ReservationReport};
use plimsoll_protocol::frame::Head;
use plimsoll_protocol::limits::FRAME_SIZE_BYTES_MAX;
use plimsoll_protocol::{EncodeError, Encoder, VERSION, wire};

/// What a client learns at first.
pub(crate) struct Welcome<'server> {
    pub(crate) directory_id: &'server str,
    pub(crate) dimensions: &'server [String],
    pub(crate) cores: u16,
    pub(crate) commands_max: u16,
    pub(crate) window_commands: u32,
    pub(crate) items_max: u32,
}

pub(crate) fn welcome(encoder: &mut Encoder, out: &mut Vec<u8>, head: Head, welcome: &Welcome<'_>) {
    let result = encoder.table(out, head, |builder| {
        let dimensions: Vec<_> = welcome
            .dimensions
            .iter()
            .map(|name| builder.create_string(name))
            .collect();
        let args = wire::WelcomeArgs {
            version: VERSION,
            server: Some(builder.create_string(concat!("plimsoll ", env!("CARGO_PKG_VERSION")))),
            directory_id: Some(builder.create_string(welcome.directory_id)),
            dimensions: Some(builder.create_vector(&dimensions)),
            cores: welcome.cores,
            frame_size_max: FRAME_SIZE_BYTES_MAX,
            commands_max: welcome.commands_max,
            window_commands: welcome.window_commands,
            items_max: welcome.items_max,
        };
        wire::Welcome::create(builder, &args)
    });
    assert!(result.is_ok(), "a welcome fits any frame");
}

pub(crate) fn resolved(encoder: &mut Encoder, out: &mut Vec<u8>, head: Head, ids: &[u64]) -> Result<(), EncodeError> {
    encoder.table(out, head, |builder| {
        let pools = Some(builder.create_vector(ids));
        wire::ResolvedPools::create(builder, &wire::ResolvedPoolsArgs { pools })
    })
}

pub(crate) fn put_results(
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
    head: Head,
    results: &[PutResult],
) -> Result<(), EncodeError> {
    encoder.table(out, head, |builder| {
        let results: Vec<_> = results
            .iter()
            .map(|result| {
                wire::PutResult::new(result.status.number(), result.change, 0, 0, result.pool, result.version)
            })
            .collect();
        let results = Some(builder.create_vector(&results));
        wire::PutPoolsResult::create(builder, &wire::PutPoolsResultArgs { results })
    })
}

pub(crate) fn pools(
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
    head: Head,
    dimension_count: usize,
    pools: &[PoolReport],
    more: bool,
) -> Result<(), EncodeError> {
    encoder.table(out, head, |builder| {
        let pools = Some(pool_tables(builder, pools, dimension_count));
        wire::Pools::create(builder, &wire::PoolsArgs { pools, more })
    })
}

pub(crate) fn past_pools<'builder>(
    builder: &mut FlatBufferBuilder<'builder>,
    pools: &[PoolReport],
    more: bool,
    dimension_count: usize,
) -> WIPOffset<wire::PastPools<'builder>> {
    let pools = Some(pool_tables(builder, pools, dimension_count));
    wire::PastPools::create(builder, &wire::PastPoolsArgs { pools, more })
}

fn pool_tables<'builder>(
    builder: &mut FlatBufferBuilder<'builder>,
    pools: &[PoolReport],
    dimension_count: usize,
) -> WIPOffset<flatbuffers::Vector<'builder, flatbuffers::ForwardsUOffset<wire::Pool<'builder>>>> {
    let mut tables = Vec::with_capacity(pools.len());
    for pool in pools {
        let definition = Some(pool_definition(
            builder,
            &pool.definition,
            pool.version,
            dimension_count,
        ));
        let held = Some(builder.create_vector(&pool.held.0[..dimension_count]));
        let confirmed = Some(builder.create_vector(&pool.confirmed.0[..dimension_count]));
        let args = wire::PoolArgs {
            pool: pool.id.0,
            definition,
            held,
            confirmed,
        };
        tables.push(wire::Pool::create(builder, &args));
    }
    builder.create_vector(&tables)
}

pub(crate) fn pool_definition<'builder>(
    builder: &mut FlatBufferBuilder<'builder>,
    definition: &PoolDefinition,
    version: u64,
    dimension_count: usize,
) -> WIPOffset<wire::PoolDefinition<'builder>> {
    let coverage: Vec<_> = definition
        .coverage
        .iter()
        .map(|prefix| builder.create_string(prefix))
        .collect();
    let args = wire::PoolDefinitionArgs {
        name: Some(builder.create_string(&definition.name)),
        zone: Some(builder.create_string(&definition.zone)),
        kind: Some(builder.create_string(&definition.kind)),
        starts_at: definition.starts_at.0,
        ends_at: definition.ends_at.0,
        opens_at: definition.opens_at.0,
        closes_at: definition.closes_at.0,
        coverage: Some(builder.create_vector(&coverage)),
        closed: definition.closed,
        shadow: definition.shadow,
        limits: Some(builder.create_vector(&definition.limits.0[..dimension_count])),
        overbook: Some(builder.create_vector(&definition.overbook.0[..dimension_count])),
        version,
    };
    wire::PoolDefinition::create(builder, &args)
}

pub(crate) fn reservations<'report>(
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
    head: Head,
    dimension_count: usize,
    reservations: impl Iterator<Item = &'report ReservationReport>,
) -> Result<(), EncodeError> {
    encoder.table(out, head, |builder| {
        let mut tables = Vec::new();
        for report in reservations {
            let view = &report.view;
            let reference = report.reference.as_deref().map(|text| builder.create_string(text));
            let args = wire::ReservationArgs {
                reservation_high: (view.id.0 >> 64) as u64,
                reservation_low: view.id.0 as u64,
                state: plimsoll_engine::wire_state(view.state),
                pool: Some(builder.create_string(&report.pool_name)),
                units: Some(builder.create_vector(&view.units.0[..dimension_count])),
                reference,
                created_at: view.created_at.0,
                expires_at: view.expires_at.map_or(0, |time| time.0),
                version: view.version,
                would_refuse: view.would_refuse,
            };
            tables.push(wire::Reservation::create(builder, &args));
        }
        let reservations = Some(builder.create_vector(&tables));
        wire::Reservations::create(builder, &wire::ReservationsArgs { reservations })
    })
}
