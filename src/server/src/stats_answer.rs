//! The answer to a question for statistics: read from the counters of all cores, none of which is asked.

use std::rc::Rc;

use plimsoll_protocol::flatbuffers::{FlatBufferBuilder, WIPOffset};
use plimsoll_protocol::frame::Head;
use plimsoll_protocol::{Status, wire};

use crate::connection::Connection;
use crate::core::Core;
use crate::stats::{ACTIONS, CoreCounters, CoreStats, OUTCOMES};

impl Core {
    pub(crate) fn answer_stats(&self, connection: &Rc<Connection>, head: Head) -> Result<(), (Status, String)> {
        let shared = &self.shared;
        self.with(|inner| {
            let at = inner.clock.now().0;
            let encoded = inner
                .encoder
                .table(&mut connection.unsent.borrow_mut(), head, |builder| {
                    let cores: Vec<_> = shared
                        .counters
                        .iter()
                        .map(|core| encode(builder, &CoreCounters::read(core)))
                        .collect();
                    let cores = Some(builder.create_vector(&cores));
                    let server = Some(builder.create_string(concat!("plimsoll ", env!("CARGO_PKG_VERSION"))));
                    let args = wire::StatsArgs {
                        cores,
                        at,
                        started_at: shared.started_at,
                        server,
                        is_history_whole: shared.is_history_whole(),
                        memory_bytes: shared.host.memory_bytes(),
                        disk_size_bytes: shared.host.disk_size_bytes(),
                        disk_free_bytes: shared.host.disk_free_bytes(),
                    };
                    wire::Stats::create(builder, &args)
                });
            encoded.map_err(|error| (Status::FrameTooLarge, format!("the answer does not fit: {error}")))
        })?;
        self.wants_flush(connection);
        Ok(())
    }
}

fn encode<'builder>(
    builder: &mut FlatBufferBuilder<'builder>,
    core: &CoreStats,
) -> WIPOffset<wire::CoreStats<'builder>> {
    let mut commands = Vec::new();
    let mut latencies = Vec::new();
    for (action, (counts, times)) in ACTIONS.iter().zip(core.commands.0.iter().zip(&core.command_micros.0)) {
        for (outcome, (count, micros)) in OUTCOMES.iter().zip(counts.iter().zip(times)) {
            if *count > 0 {
                commands.push(wire::CommandCount::new(*action, *outcome, 0, 0, *count));
            }
            if !micros.counts().is_empty() {
                let micros = Some(builder.create_vector(micros.counts()));
                let args = wire::CommandLatencyArgs {
                    action: *action,
                    outcome: *outcome,
                    micros,
                };
                latencies.push(wire::CommandLatency::create(builder, &args));
            }
        }
    }
    let args = wire::CoreStatsArgs {
        syncs: core.syncs_total,
        sync_micros: core.sync_micros_total,
        sync_times: Some(builder.create_vector(core.sync_micros.counts())),
        records: core.records_total,
        records_per_sync: Some(builder.create_vector(core.records_per_sync.counts())),
        journal_bytes: core.journal_bytes_total,
        commands: Some(builder.create_vector(&commands)),
        latencies: Some(builder.create_vector(&latencies)),
        commands_shed: core.commands_overloaded_total,
        availability_answers: core.availability_answers_total,
        commands_in_engine: core.commands_in_engine(),
        commands_unanswered: core.commands_unanswered,
        tickets_waiting: core.tickets_waiting,
        connections: core.connections,
        pools: core.pools,
        reservations_held: core.reservations_held,
        reservations_confirmed: core.reservations_confirmed,
        reservation_slots: core.reservation_slots,
        published_at: core.published_at,
        is_journal_full: core.is_journal_full,
    };
    wire::CoreStats::create(builder, &args)
}
