//! `plimsoll pool export`: all pools as a file that can be edited and imported.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use plimsoll_client::{Client, Pool};
use plimsoll_form::{FileForm, PoolForm, csv_header, csv_row};

use crate::args::ClientArguments;
use crate::connection::{block_on, connect, read_failure};
use crate::failure::Failure;
use crate::input::form_of;

#[derive(Debug, Args)]
#[command(after_help = "\
The columns are those that 'plimsoll pool import' reads, and held_D, confirmed_D and remaining_D for each dimension D, which
it ignores. So an export can be edited in a spreadsheet and imported again. A file is replaced when the export is whole.

Examples:
  plimsoll pool export pools.csv
  plimsoll pool export backup.ndjson.gz
  plimsoll pool export - | head")]
pub(crate) struct ExportArguments {
    /// The file: .csv or .ndjson, each also .gz; - is standard output, as CSV or with --json as NDJSON
    file: PathBuf,

    #[command(flatten)]
    client: ClientArguments,
}

pub(crate) fn run(arguments: &ExportArguments) -> Result<(), Failure> {
    if arguments.file == Path::new("-") {
        let form = if arguments.client.json {
            FileForm::Ndjson
        } else {
            FileForm::Csv
        };
        let stdout = BufWriter::new(io::stdout().lock());
        return export(arguments, form, stdout, Failure::stdout).map(drop);
    }
    let (form, compressed) = form_of(&arguments.file).ok_or_else(|| {
        Failure::usage(format!(
            "{}: the ending says neither CSV nor NDJSON",
            arguments.file.display()
        ))
        .help("name the file .csv or .ndjson, with .gz to compress it, or - for standard output")
    })?;
    let unwritable =
        |error: io::Error| Failure::failed(format!("cannot write {}", arguments.file.display())).because(error);
    // Beside the file, so that the last step only renames it.
    let directory = arguments.file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .prefix(".plimsoll-export-")
        // As any other new file, less what the umask takes.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory.unwrap_or(Path::new(".")))
        .map_err(unwritable)?;
    if compressed {
        let encoder = GzEncoder::new(BufWriter::new(&mut file), Compression::default());
        let encoder = export(arguments, form, encoder, unwritable)?;
        encoder
            .finish()
            .and_then(|mut buffer| buffer.flush())
            .map_err(unwritable)?;
    } else {
        export(arguments, form, BufWriter::new(&mut file), unwritable)?;
    }
    file.as_file().sync_all().map_err(unwritable)?;
    file.persist(&arguments.file).map_err(|error| unwritable(error.error))?;
    Ok(())
}

/// Writes all pools, and gives back the writer, flushed.
fn export<W: Write>(
    arguments: &ExportArguments,
    form: FileForm,
    writer: W,
    unwritable: impl Fn(io::Error) -> Failure,
) -> Result<W, Failure> {
    block_on(async {
        let client = connect(&arguments.client).await?;
        let dimensions = client.dimensions();
        match form {
            FileForm::Csv => {
                let mut writer = csv::Writer::from_writer(writer);
                let failed = |error: csv::Error| unwritable(error.into());
                writer.write_record(csv_header(&dimensions)).map_err(failed)?;
                each_pool(&client, &arguments.client, |pool| {
                    writer.write_record(csv_row(pool, dimensions.len())).map_err(failed)
                })
                .await?;
                writer.into_inner().map_err(|error| unwritable(error.into_error()))
            }
            FileForm::Ndjson => {
                let mut writer = writer;
                each_pool(&client, &arguments.client, |pool| {
                    serde_json::to_writer(&mut writer, &PoolForm::new(pool, &dimensions))
                        .map_err(|error| unwritable(error.into()))?;
                    writer.write_all(b"\n").map_err(&unwritable)
                })
                .await?;
                writer.flush().map_err(&unwritable)?;
                Ok(writer)
            }
        }
    })
}

async fn each_pool(
    client: &Client,
    arguments: &ClientArguments,
    mut take: impl FnMut(&Pool) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut pools = client.all_pools();
    while let Some(page) = pools
        .next()
        .await
        .map_err(|error| read_failure(error, &arguments.engine))?
    {
        page.iter().try_for_each(&mut take)?;
    }
    Ok(())
}
