//! What is drawn, read from the benchmark's files.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;

/// The percentiles that are drawn.
pub const PERCENTILES: [&str; 3] = ["p50", "p99", "p99.9"];

/// One scenario at one load.
#[derive(Debug, PartialEq)]
pub struct Latencies {
    /// "unequal-90"
    pub title: String,
    /// In the order measured: device, and the median over the rounds of each of [`PERCENTILES`] in milliseconds.
    pub devices: Vec<(String, [f64; 3])>,
}

/// From lines "DEVICE SCENARIO-LOAD-FIGURE VALUE".
pub fn read_latencies(text: &str) -> Result<Vec<Latencies>> {
    let (mut order, mut values) = (Vec::<(String, String)>::new(), BTreeMap::<_, Vec<f64>>::new());
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [device, figure, value] = fields[..] else { anyhow::bail!("'{line}' is not DEVICE FIGURE VALUE") };
        let (title, percentile) = figure.rsplit_once('-').with_context(|| format!("no scenario in '{line}'"))?;
        let place = (title.to_owned(), device.to_owned());
        if !order.contains(&place) {
            order.push(place);
        }
        let value: f64 = value.parse().with_context(|| format!("no number in '{line}'"))?;
        values.entry((title, device, percentile)).or_default().push(value);
    }
    let mut panels: Vec<Latencies> = Vec::new();
    for (title, device) in &order {
        let median_of = |percentile| Some(median(values.get(&(title.as_str(), device.as_str(), percentile))?.clone()));
        let [Some(p50), Some(p99), Some(p999)] = PERCENTILES.map(median_of) else { continue };
        let entry = (device.clone(), [p50, p99, p999]);
        match panels.iter_mut().find(|panel| panel.title == *title) {
            Some(panel) => panel.devices.push(entry),
            None => panels.push(Latencies { title: title.clone(), devices: vec![entry] }),
        }
    }
    Ok(panels)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// One back-end at one look, in percent of the pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    pub seconds: f64,
    /// Of the slots in force.
    pub slots: f64,
    /// Of the connections since the look before.
    pub connections: f64,
}

/// By back-end: what it got over time.
#[derive(Debug, Default)]
pub struct Trace(pub BTreeMap<String, Vec<Moment>>);

impl Trace {
    /// Whether weights followed anything.
    pub fn has_moving_slots(&self) -> bool {
        self.0.values().any(|moments| moments.windows(2).any(|pair| pair[0].slots != pair[1].slots))
    }
}

/// A look with fewer connections than this in all says nothing about shares.
const FEWEST: f64 = 16.0;

/// From lines "SECONDS BACKEND SLOTS% CONNECTIONS IN-FLIGHT".
pub fn read_trace(text: &str) -> Result<Trace> {
    let (mut rows, mut totals) = (Vec::new(), BTreeMap::<u64, f64>::new());
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        ensure!(fields.len() == 5, "'{line}' is not SECONDS BACKEND SLOTS% CONNECTIONS IN-FLIGHT");
        let number = |field: usize| fields[field].parse::<f64>().with_context(|| format!("no number in '{line}'"));
        let moment = Moment { seconds: number(0)?, slots: number(2)?, connections: number(3)? };
        // Lines of one look have the same time.
        *totals.entry(moment.seconds.to_bits()).or_default() += moment.connections;
        rows.push((fields[1].to_owned(), moment));
    }
    let mut trace = Trace::default();
    for (backend, moment) in rows {
        let total = totals[&moment.seconds.to_bits()];
        if total >= FEWEST {
            let moment = Moment { connections: 100.0 * moment.connections / total, ..moment };
            trace.0.entry(backend).or_default().push(moment);
        }
    }
    Ok(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_are_the_scenarios_and_devices_keep_their_order() {
        let text = "z unequal-90-p50 3\nz unequal-90-p99 30\nz unequal-90-p99.9 300\nz unequal-90-errors 0\n\
                    a unequal-90-p50 1\na unequal-90-p99 2\na unequal-90-p99.9 3\nz unequal-90-p50 5\n";
        let panels = read_latencies(text).unwrap();
        let devices = vec![("z".to_owned(), [4.0, 30.0, 300.0]), ("a".to_owned(), [1.0, 2.0, 3.0])];
        assert_eq!(panels, [Latencies { title: "unequal-90".to_owned(), devices }]);
        assert!(read_latencies("z unequal-90-p50\n").is_err() && read_latencies("z unequal-90-p50 x\n").is_err());
    }

    #[test]
    fn connections_become_shares_of_their_moment() {
        let text = "0.1 b1 12.5 30 4\n0.1 b2 12.5 10 1\n0.2 b1 20 0 0\n0.2 b2 20 1 0\n";
        let trace = read_trace(text).unwrap();
        let moment = |connections| Moment { seconds: 0.1, slots: 12.5, connections };
        assert_eq!((&trace.0["b1"][..], &trace.0["b2"][..]), (&[moment(75.0)][..], &[moment(25.0)][..]));
        assert!(!trace.has_moving_slots());
    }
}
