//! The preset `hot`: how much slower one pool is than many that one core owns.
//!
//! Two runs, one after the other, each with a server of its own.

use std::path::Path;

use anyhow::Result;

use crate::preset::Settings;
use crate::run::{Measured, measure};
use crate::setup::Setup;

/// Measures many pools, then one. The report is that of the one.
pub(crate) async fn measure_both(setup: &Setup, settings: &Settings, directory: &Path) -> Result<Measured> {
    let uniform = measure(setup, settings, directory).await?;
    let one = Settings {
        pools: 1,
        ..settings.clone()
    };
    let mut hot = measure(setup, &one, directory).await?;
    let report = &mut hot.report;
    report.extra.uniform_rate = Some(uniform.report.rate);
    report.extra.ratio = Some(report.rate / uniform.report.rate);
    if settings.cores > 1 {
        let remark = format!(
            "the many pools are spread over {} cores, the one is on one",
            settings.cores
        );
        report.extra.remarks.push(remark);
    }
    if !uniform.report.sums_are_right {
        report.sums_are_right = false;
        report.sums = format!("of many pools: {}", uniform.report.sums);
    }
    Ok(hot)
}
