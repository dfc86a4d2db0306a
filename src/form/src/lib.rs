//! How pools, reservations and events are written outside the engine: the JSON of the HTTP interface and of `--json`, files of pools as
//! CSV and NDJSON, times and amounts. The command line and the sidecar share it, so that what one writes the other reads.

mod amount;
mod availability;
mod by_dimension;
mod csv_rows;
mod event;
mod file_errors;
pub mod json;
pub mod limits;
mod pool;
mod pool_file;
mod reservation;
mod rules;
mod time;
mod value_error;

pub use amount::parse_amount;
pub use availability::{AvailabilityForm, AvailablePoolForm};
pub use by_dimension::{ByDimension, by_name};
pub use csv_rows::{CsvRow, CsvRows};
pub use event::{AfterForm, EventForm, after_form};
pub use file_errors::{FileError, FileErrors};
pub use pool::{DefinitionForm, PoolForm, PoolMode, PoolState, csv_header, csv_row, etag_of, mode_of, state_of};
pub use pool_file::{FileForm, PoolRow, broken_name_rule, read_pools, wire_form, without_byte_order_mark};
pub use reservation::{ReservationForm, ReservationState};
pub use rules::{BrokenRule, broken_definition_rules};
pub use time::{format_time, parse_time, parse_time_end};
pub use value_error::ValueError;
