//! How it is drawn.

use super::figures::{Latencies, Moment, PERCENTILES, Trace};
use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const CAPTION: (&str, u32) = ("sans-serif", 18);
/// One picture of the grid.
pub enum Panel<'a> {
    /// Percentiles of all devices in one scenario.
    Latencies(&'a Latencies),
    /// What each back-end has of the slots, of one device.
    Slots(&'a str, &'a Trace),
    /// What each back-end got of the new connections.
    Connections(&'a str, &'a Trace),
}

impl Panel<'_> {
    pub fn draw(&self, area: &Area<'_>) -> Result<()> {
        match self {
            Self::Latencies(latencies) => draw_latencies(area, latencies),
            Self::Slots(device, trace) => {
                draw_lines(area, &format!("{device}: share of the slots, %"), trace, |moment| moment.slots)
            }
            Self::Connections(device, trace) => {
                draw_lines(area, &format!("{device}: share of new connections, %"), trace, |moment| moment.connections)
            }
        }
    }
}

/// Light to dark as the percentile rises (colours that stay apart for the colour-blind).
const SHADES: [RGBColor; 3] = [RGBColor(120, 180, 220), RGBColor(30, 110, 180), RGBColor(210, 95, 20)];

/// Room right of the lines, as a part of their time.
const LEGEND: f64 = 1.15;

/// A line for each device, with a mark at each percentile; time to the right, on a logarithmic axis.
fn draw_latencies(area: &Area<'_>, latencies: &Latencies) -> Result<()> {
    let devices = &latencies.devices;
    let longest = devices.iter().flat_map(|(_, values)| values).fold(100.0f64, |most, value| most.max(*value));
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{} % of capacity: latency in ms", latencies.title.replace('-', ", ")), CAPTION)
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(165)
        .build_cartesian_2d((10.0..longest * 1.3).log_scale(), (0..devices.len()).into_segmented())?;
    let name = |value: &SegmentValue<usize>| match value {
        // The first measured stands at the top.
        SegmentValue::CenterOf(row) => devices.iter().rev().nth(*row).map(|(name, _)| name.clone()).unwrap_or_default(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(devices.len())
        .y_label_formatter(&name)
        .x_label_formatter(&|ms| format!("{ms:.0}"))
        .draw()?;
    for (row, (_, values)) in devices.iter().rev().enumerate() {
        let at = |value: f64| (value.max(10.0), SegmentValue::CenterOf(row));
        chart.draw_series(LineSeries::new([at(values[0]), at(values[2])], BLACK.mix(0.3)))?;
    }
    for (rank, shade) in SHADES.iter().enumerate() {
        let mark = |(row, (_, values)): (usize, &(String, [f64; 3]))| {
            Circle::new((values[rank].max(10.0), SegmentValue::CenterOf(row)), 5, shade.filled())
        };
        chart
            .draw_series(devices.iter().rev().enumerate().map(mark))?
            .label(PERCENTILES[rank])
            .legend(move |(x, y)| Circle::new((x + 8, y), 5, shade.filled()));
    }
    // Where no percentile is.
    let labels = &mut chart.configure_series_labels();
    labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE).border_style(BLACK.mix(0.3)).draw()?;
    Ok(())
}

/// A line for each back-end over time.
fn draw_lines(area: &Area<'_>, caption: &str, trace: &Trace, value: impl Fn(&Moment) -> f64) -> Result<()> {
    let points = || trace.0.values().flatten();
    let seconds = points().fold(1.0f64, |last, point| last.max(point.seconds));
    let most = points().fold(20.0f64, |most, point| most.max(value(point)));
    let mut chart = ChartBuilder::on(area)
        .caption(caption, CAPTION)
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..seconds * LEGEND, 0.0..most * 1.1)?;
    chart.configure_mesh().x_desc("s").light_line_style(WHITE).draw()?;
    for (number, (backend, points)) in trace.0.iter().enumerate() {
        let colour = HSLColor(number as f64 / trace.0.len() as f64, 0.7, 0.4);
        let line = points.iter().map(|point| (point.seconds, value(point)));
        chart
            .draw_series(LineSeries::new(line, &colour))?
            .label(backend)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour));
    }
    let labels = &mut chart.configure_series_labels();
    labels.position(SeriesLabelPosition::UpperRight).border_style(BLACK.mix(0.3)).draw()?;
    Ok(())
}
