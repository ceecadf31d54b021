//! The picture of the balancing benchmark: latency percentiles by device, and what each back-end got over time.

mod figures;
mod panels;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use plotters::prelude::{IntoDrawingArea, SVGBackend, WHITE};
use std::path::PathBuf;

const WIDTH: u32 = 1200;
const PANEL_HEIGHT: u32 = 320;

#[derive(Parser)]
#[command(about = "Draws what tests/bench/balance measured")]
struct Options {
    /// Lines "DEVICE SCENARIO-LOAD-FIGURE VALUE".
    #[arg(long)]
    results: PathBuf,
    /// What `watch-balance trace` printed while a device was measured: DEVICE=FILE.
    #[arg(long = "trace", value_name = "DEVICE=FILE")]
    traces: Vec<String>,
    /// The SVG file to write.
    #[arg(long)]
    output: PathBuf,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("reading {path}"));
    let latencies = figures::read_latencies(&read(&options.results.to_string_lossy())?)?;
    let traces = options.traces.iter().map(|trace| {
        let (device, file) = trace.split_once('=').context("--trace is DEVICE=FILE")?;
        Ok((device.to_owned(), figures::read_trace(&read(file)?)?))
    });
    let traces: Vec<_> = traces.collect::<Result<_>>()?;
    // Two panels of latencies stand side by side, a trace takes the width.
    let rows = latencies.len().div_ceil(2) + traces.len();
    ensure!(rows > 0, "{} has nothing to draw", options.results.display());
    let height = PANEL_HEIGHT * u32::try_from(rows)?;
    let area = SVGBackend::new(&options.output, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let rows = area.split_evenly((rows, 1));
    let (upper, lower) = rows.split_at(latencies.len().div_ceil(2));
    for (row, pair) in upper.iter().zip(latencies.chunks(2)) {
        for (cell, panel) in row.split_evenly((1, 2)).iter().zip(pair) {
            panels::draw_latencies(cell, panel)?;
        }
    }
    for (row, (device, trace)) in lower.iter().zip(&traces) {
        panels::draw_trace(row, device, trace)?;
    }
    area.present().with_context(|| format!("writing {}", options.output.display()))?;
    Ok(())
}
