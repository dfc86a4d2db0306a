//! Writes the first inputs of every target: `seeds DIRECTORY`.

use std::path::PathBuf;

use plimsoll_fuzz::{commands, frames, journals, manifests, snapshots};

fn main() -> std::io::Result<()> {
    let directory = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "corpus".into()));
    let targets = [
        ("frames", frames::seeds()),
        ("commands", commands::seeds()),
        ("journals", journals::seeds()),
        ("manifests", manifests::seeds()),
        ("snapshots", snapshots::seeds()),
    ];
    for (target, seeds) in targets {
        let directory = directory.join(target);
        std::fs::create_dir_all(&directory)?;
        for (name, bytes) in seeds {
            std::fs::write(directory.join(name), bytes)?;
        }
    }
    Ok(())
}
