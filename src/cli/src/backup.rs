//! `plimsoll backup`: a consistent copy of a data directory.

use std::path::PathBuf;

use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use plimsoll_journal::{BackupError, backup};

use crate::failure::Failure;
use crate::output::Output;

/// The command line of `plimsoll backup`.
#[derive(Debug, Args)]
#[command(after_help = "\
A server may run on the directory meanwhile: the copy holds all that was acknowledged when the command began, and maybe more. It is a
data directory of its own; to restore, start a server on it, or on a copy of it. A copy that was broken off is no data
directory: remove it and begin again.

Examples:
  plimsoll backup --data ./slots --to /mnt/backup/slots-monday
  plimsoll serve --data /mnt/backup/slots-monday --listen 127.0.0.1:7441")]
pub(crate) struct BackupArguments {
    /// The data directory to copy
    #[arg(long, value_name = "DIR", default_value = "plimsoll-data")]
    data: PathBuf,

    /// Where to; made if it does not exist, empty otherwise
    #[arg(long, value_name = "DIR")]
    to: PathBuf,

    /// Print what was copied as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &BackupArguments) -> Result<(), Failure> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {bytes} copied, {bytes_per_sec} {msg}") {
        bar.set_style(style);
    }
    let result = backup(&arguments.data, &arguments.to, |progress| {
        bar.set_position(progress.bytes);
        bar.set_message(format!("({} files)", progress.files));
    });
    bar.finish_and_clear();
    let summary = result.map_err(|error| failure_of(error, arguments))?;
    if arguments.json {
        let ends: Vec<_> = summary
            .ends
            .iter()
            .map(|(journal, lsn)| serde_json::json!({"journal": journal.directory_name(), "lsn": lsn.0}))
            .collect();
        let line = serde_json::json!({
            "files": summary.copied.files,
            "bytes": summary.copied.bytes,
            "journals": ends,
        });
        let mut output = Output::new();
        output.line(format_args!("{line}"))?;
        return output.finish();
    }
    tracing::info!(
        files = summary.copied.files,
        size = %HumanBytes(summary.copied.bytes),
        "copied"
    );
    Ok(())
}

fn failure_of(error: BackupError, arguments: &BackupArguments) -> Failure {
    let help = match &error {
        BackupError::TargetNotEmpty { .. } => "choose an empty place for the copy with --to",
        BackupError::Directory(_) => "name a data directory of plimsoll with --data",
        _ => "check the disk and the rights on both directories; remove the unfinished copy",
    };
    Failure::failed(format!(
        "cannot copy {} to {}",
        arguments.data.display(),
        arguments.to.display()
    ))
    .because(error)
    .help(help)
}
