//! The picture of the balancing benchmark: latency percentiles by device, and what each back-end got over time.

mod figures;
mod panels;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use panels::Panel;
use plotters::prelude::{IntoDrawingArea, SVGBackend, WHITE};
use std::path::PathBuf;

const WIDTH: u32 = 1200;
const PANEL_HEIGHT: u32 = 320;
const COLUMNS: usize = 2;

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
    let mut panels: Vec<Panel<'_>> = latencies.iter().map(Panel::Latencies).collect();
    for (device, trace) in &traces {
        // Weights that stay tell nothing.
        if trace.has_moving_slots() {
            panels.push(Panel::Slots(device, trace));
        }
        panels.push(Panel::Connections(device, trace));
    }
    ensure!(!panels.is_empty(), "{} has nothing to draw", options.results.display());
    let rows = panels.len().div_ceil(COLUMNS);
    let size = (WIDTH, PANEL_HEIGHT * u32::try_from(rows)?);
    let area = SVGBackend::new(&options.output, size).into_drawing_area();
    area.fill(&WHITE)?;
    for (cell, panel) in area.split_evenly((rows, COLUMNS)).iter().zip(&panels) {
        panel.draw(cell)?;
    }
    area.present().with_context(|| format!("writing {}", options.output.display()))?;
    Ok(())
}
