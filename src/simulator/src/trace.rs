//! What happened in a run: the last steps for reading, and a digest of all of them for comparing two runs.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write;

use crate::digest::Digest;

/// Steps that are kept for a report.
const STEP_COUNT_MAX: usize = 50;

#[derive(Clone, Copy)]
struct Entry {
    step: u64,
    at: i64,
    what: &'static str,
    values: [u64; 4],
}

struct Trace {
    seed: u64,
    step: u64,
    at: i64,
    command_line: String,
    entries: VecDeque<Entry>,
    digest: Digest,
    /// How often each sort of thing was noted.
    counts: Vec<(&'static str, u64)>,
}

thread_local! {
    // Of the thread, so that a panic inside the engine can still tell where the run was.
    static TRACE: RefCell<Trace> = const {
        RefCell::new(Trace {
            seed: 0,
            step: 0,
            at: 0,
            command_line: String::new(),
            entries: VecDeque::new(),
            digest: Digest(0),
            counts: Vec::new(),
        })
    };
}

/// A run begins on this thread.
pub(crate) fn begin(seed: u64, command_line: String) {
    TRACE.with_borrow_mut(|trace| {
        let (entries, counts) = (VecDeque::new(), Vec::new());
        *trace = Trace {
            seed,
            step: 0,
            at: 0,
            command_line,
            entries,
            digest: Digest::new(),
            counts,
        };
    });
}

pub(crate) fn set_step(step: u64, at: i64) {
    TRACE.with_borrow_mut(|trace| (trace.step, trace.at) = (step, at));
}

/// Notes what is done, with numbers that identify it.
pub(crate) fn note(what: &'static str, values: [u64; 4]) {
    TRACE.with_borrow_mut(|trace| {
        for value in values {
            trace.digest.add(value);
        }
        trace.digest.add(what.len() as u64 ^ trace.step << 8);
        match trace.counts.iter_mut().find(|(counted, _)| *counted == what) {
            Some((_, count)) => *count += 1,
            None => trace.counts.push((what, 1)),
        }
        if trace.entries.len() == STEP_COUNT_MAX {
            trace.entries.pop_front();
        }
        let (step, at) = (trace.step, trace.at);
        trace.entries.push_back(Entry { step, at, what, values });
    });
}

/// A digest of everything that was noted.
pub(crate) fn digest() -> u64 {
    TRACE.with_borrow(|trace| trace.digest.0)
}

/// How often each sort of thing was noted.
pub(crate) fn counts() -> Vec<(&'static str, u64)> {
    TRACE.with_borrow(|trace| trace.counts.clone())
}

/// The step that the run of this thread is at.
pub(crate) fn step() -> u64 {
    TRACE.with_borrow(|trace| trace.step)
}

/// Seed, command line and last steps, for a report of what went wrong on this thread.
pub fn report() -> String {
    TRACE.with_borrow(|trace| {
        let mut text = String::new();
        for entry in &trace.entries {
            let [a, b, c, d] = entry.values;
            let _ = writeln!(
                text,
                "  {:>6} {:>18} {:<28} {a} {b} {c} {d}",
                entry.step, entry.at, entry.what
            );
        }
        let _ = writeln!(
            text,
            "seed {}, step {}; to repeat it:\n  {}",
            trace.seed, trace.step, trace.command_line
        );
        text
    })
}

/// The command line that repeats the run of this thread.
pub fn command_line() -> String {
    TRACE.with_borrow(|trace| trace.command_line.clone())
}
