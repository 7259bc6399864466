//! How a run went, as a picture: operations per second, their latency, and the faults behind both.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::history::History;
use crate::run::recovery::percentile;
use crate::run::schedule::Fault;
use crate::run::svg::Svg;

const WIDTH: f64 = 1200.0;
const LEFT: f64 = 140.0;
const RIGHT: f64 = 20.0;
const CHART: f64 = 180.0;
const THROUGHPUT_TOP: f64 = 40.0;
const LATENCY_TOP: f64 = THROUGHPUT_TOP + CHART + 50.0;
const FAULTS_TOP: f64 = LATENCY_TOP + CHART + 50.0;
/// Height of a kind of fault.
const LANE: f64 = 16.0;
const TIME_AXIS: f64 = 30.0;
/// Points of a curve, at most.
const POINTS: u64 = 600;
/// The latency's axis, in milliseconds: its decades.
const DECADES: [f64; 6] = [0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0];
const COLOURS: [&str; 7] = ["#e4572e", "#f3a712", "#a8c686", "#669bbc", "#8e6c8a", "#29335c", "#b56576"];
const GRID: &str = "stroke=\"#ddd\"";
const TITLE: &str = "font-size=\"14\"";
const AXIS: &str = "text-anchor=\"end\" fill=\"#555\"";

/// What happened in one piece of time.
#[derive(Debug, Default, Clone, PartialEq)]
struct Piece {
    per_second: f64,
    middle: Option<Duration>,
    slow: Option<Duration>,
}

pub fn draw(history: &History) -> String {
    let end = history.operations.iter().map(|it| it.ended).max().unwrap_or_default().as_secs_f64().max(1.0);
    let x = move |seconds: f64| LEFT + (WIDTH - LEFT - RIGHT) * (seconds / end).min(1.0);
    let length = Duration::from_secs((end as u64).div_ceil(POINTS).max(1));
    let pieces = pieces(history, length);
    let kinds: BTreeSet<Fault> = history.spans.iter().map(|span| span.fault).collect();
    let bottom = FAULTS_TOP + LANE * kinds.len() as f64;
    let mut svg = Svg::new(WIDTH, bottom + TIME_AXIS);
    faults(&mut svg, history, &kinds, &x);
    axis_of_time(&mut svg, end, bottom, &x);
    let at = |place: usize| x((place as f64 + 0.5) * length.as_secs_f64());
    throughput(&mut svg, &pieces, &at);
    latency(&mut svg, &pieces, &at);
    svg.finish()
}

fn pieces(history: &History, length: Duration) -> Vec<Piece> {
    let mut took: Vec<Vec<Duration>> = Vec::new();
    for operation in &history.operations {
        let Some(time) = operation.took else { continue };
        let place = (operation.ended.as_nanos() / length.as_nanos()) as usize;
        if took.len() <= place {
            took.resize(place + 1, Vec::new());
        }
        took[place].push(time);
    }
    let piece = |took: &Vec<Duration>| Piece {
        per_second: took.len() as f64 / length.as_secs_f64(),
        middle: percentile(took, 0.5),
        slow: percentile(took, 0.99),
    };
    took.iter().map(piece).collect()
}

/// A lane for each kind; and behind the curves, so that one sees what each did to them.
fn faults(svg: &mut Svg, history: &History, kinds: &BTreeSet<Fault>, x: &impl Fn(f64) -> f64) {
    svg.text(LEFT, FAULTS_TOP - 12.0, TITLE, "Faults (dark) and recovery (light)");
    let lane = |fault: &Fault| FAULTS_TOP + LANE * kinds.range(..fault).count() as f64;
    for kind in kinds {
        svg.text(LEFT - 6.0, lane(kind) + 12.0, AXIS, kind.name());
        svg.line([LEFT, lane(kind), WIDTH - RIGHT, lane(kind)], GRID);
    }
    for span in &history.spans {
        let colour = COLOURS[span.fault as usize % COLOURS.len()];
        let [from, healed, over] = [span.from, span.healed, span.over].map(|at| x(at.as_secs_f64()));
        let (from_s, lasted) = (span.from.as_secs_f64(), (span.healed - span.from).as_secs_f64());
        let recovering = (span.over - span.healed).as_secs_f64();
        let nodes = &span.nodes;
        let title = format!(
            "{} {nodes:?} at {from_s:.1} s for {lasted:.1} s, recovered in {recovering:.1} s",
            span.fault.name()
        );
        let in_lane = (lane(&span.fault) + 2.0, LANE - 3.0, 1.0, 0.5);
        for (top, height, strong, weak) in
            [(THROUGHPUT_TOP, CHART, 0.25, 0.1), (LATENCY_TOP, CHART, 0.25, 0.1), in_lane]
        {
            let style = |opacity| format!("fill=\"{colour}\" opacity=\"{opacity}\"");
            svg.rect([from, top, (healed - from).max(1.5), height], &style(strong), &title);
            svg.rect([healed, top, over - healed, height], &style(weak), &title);
        }
    }
}

fn axis_of_time(svg: &mut Svg, end: f64, bottom: f64, x: &impl Fn(f64) -> f64) {
    let step = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 3600.0];
    let step = step.into_iter().find(|step| end / step <= 20.0).unwrap_or(36_000.0);
    for tick in 0..=(end / step) as usize {
        let at = tick as f64 * step;
        svg.text(x(at), bottom + 20.0, "text-anchor=\"middle\" fill=\"#555\"", &format!("{at:.0} s"));
        for (top, under) in [(THROUGHPUT_TOP, CHART), (LATENCY_TOP, CHART), (FAULTS_TOP, bottom - FAULTS_TOP)] {
            svg.line([x(at), top, x(at), top + under], GRID);
        }
    }
}

fn throughput(svg: &mut Svg, pieces: &[Piece], at: &impl Fn(usize) -> f64) {
    let most = pieces.iter().map(|piece| piece.per_second).fold(1.0, f64::max);
    let y = |value: f64| THROUGHPUT_TOP + CHART * (1.0 - value / most);
    for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let value = most * part;
        svg.line([LEFT, y(value), WIDTH - RIGHT, y(value)], GRID);
        svg.text(LEFT - 6.0, y(value) + 4.0, AXIS, &format!("{value:.0}"));
    }
    svg.text(LEFT, THROUGHPUT_TOP - 12.0, TITLE, "Acknowledged operations per second");
    let points: Vec<(f64, f64)> =
        pieces.iter().enumerate().map(|(place, piece)| (at(place), y(piece.per_second))).collect();
    svg.polyline(&points, "stroke=\"#1b4965\" stroke-width=\"1.5\"");
}

fn latency(svg: &mut Svg, pieces: &[Piece], at: &impl Fn(usize) -> f64) {
    let (least, most) = (DECADES[0].log10(), DECADES[DECADES.len() - 1].log10());
    let y = |ms: f64| LATENCY_TOP + CHART * (1.0 - (ms.log10().clamp(least, most) - least) / (most - least));
    for decade in DECADES {
        svg.line([LEFT, y(decade), WIDTH - RIGHT, y(decade)], GRID);
        svg.text(LEFT - 6.0, y(decade) + 4.0, AXIS, &format!("{decade} ms"));
    }
    svg.text(LEFT, LATENCY_TOP - 12.0, TITLE, "Latency: p50 (dark) and p99 (light)");
    type Value = fn(&Piece) -> Option<Duration>;
    let curves: [(Value, &str); 2] = [
        (|piece| piece.slow, "stroke=\"#62b6cb\" stroke-width=\"1.2\""),
        (|piece| piece.middle, "stroke=\"#1b4965\" stroke-width=\"1.5\""),
    ];
    for (value, style) in curves {
        let point = |(place, piece): (usize, &Piece)| {
            value(piece).map(|took| (at(place), y(took.as_secs_f64().max(1e-6) * 1000.0)))
        };
        let points: Vec<(f64, f64)> = pieces.iter().enumerate().filter_map(point).collect();
        svg.polyline(&points, style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{s, span};
    use crate::history::{Action, Operation};

    fn operation(ended_ms: u64, took_ms: Option<u64>) -> Operation {
        let took = took_ms.map(Duration::from_millis);
        Operation { action: Action::Publish, ended: Duration::from_millis(ended_ms), took }
    }

    #[test]
    fn operations_fall_into_their_piece_of_time() {
        let operations =
            vec![operation(100, Some(4)), operation(900, Some(8)), operation(1_500, None), operation(2_100, Some(1))];
        let pieces = pieces(&History { operations, ..History::default() }, s(1));
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(pieces[0], Piece { per_second: 2.0, middle: ms(4), slow: ms(8) });
        assert_eq!(pieces[1], Piece::default(), "what was not answered is no throughput");
        assert_eq!(pieces[2].per_second, 1.0);
    }

    #[test]
    fn the_picture_names_the_faults() {
        let spans = vec![span(Fault::PartitionLeader, &[1], 3, 5)];
        let history = History { operations: vec![operation(9_000, Some(2))], spans, ..History::default() };
        let picture = draw(&history);
        assert!(picture.contains("partition of the leader [1] at 3.0 s for 2.0 s"));
        assert!(picture.matches("<polyline").count() == 3);
        assert!(!picture.contains("NaN") && !picture.contains("inf"));
    }
}
