//! The preset `hot`: how much slower one pool is than many that one core owns.
//!
//! Three runs, one after the other, each with a server of its own: many pools, one pool, many pools again. A drift of the machine
//! thus weighs on both sides, and shows.

use std::path::Path;

use anyhow::Result;

use crate::preset::Settings;
use crate::report::DRIFT_MAX;
use crate::run::{Measured, measure};
use crate::setup::Setup;

/// Measures one pool between many. The report is that of the one.
pub(crate) async fn measure_both(setup: &Setup, settings: &Settings, directory: &Path) -> Result<Measured> {
    let many = Settings {
        seconds: settings.seconds.div_ceil(2),
        ..settings.clone()
    };
    let one = Settings {
        pools: 1,
        ..settings.clone()
    };
    let before = measure(setup, &many, directory).await?.report;
    let mut hot = measure(setup, &one, directory).await?;
    let after = measure(setup, &many, directory).await?.report;

    let report = &mut hot.report;
    let uniform = f64::midpoint(before.rate, after.rate);
    report.extra.uniform_rate = Some(uniform);
    report.extra.ratio = Some(report.rate / uniform);
    let drift = before.rate.max(after.rate) / before.rate.min(after.rate);
    if drift > DRIFT_MAX {
        let remark = format!("the rates of many pools before and after differ {drift:.1} times: measure again");
        report.extra.remarks.push(remark);
    }
    if settings.cores > 1 {
        let remark = format!(
            "the many pools are spread over {} cores, the one is on one",
            settings.cores
        );
        report.extra.remarks.push(remark);
    }
    for many in [before, after] {
        if !many.sums_are_right {
            report.sums_are_right = false;
            report.sums = format!("of many pools: {}", many.sums);
        }
    }
    Ok(hot)
}
