//! Plots as SVG, both axes logarithmic where they span much.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

const SIZE: (u32, u32) = (960, 540);
const FONT: &str = "sans-serif";

pub(crate) enum Plot {
    /// A bar for each name, on a logarithmic scale.
    Bars { title: String, unit: String, bars: Vec<(String, f64)> },
    /// A line for each name, both scales logarithmic.
    Lines { title: String, x: String, y: String, lines: Vec<(String, Vec<(f64, f64)>)> },
}

impl Plot {
    pub(crate) fn title(&self) -> &str {
        match self {
            Self::Bars { title, .. } | Self::Lines { title, .. } => title,
        }
    }

    pub(crate) fn draw(&self, path: &Path) {
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        area.fill(&WHITE).expect("a plot can be drawn");
        match self {
            Self::Bars { title, unit, bars } => draw_bars(&area, title, unit, bars),
            Self::Lines { title, x, y, lines } => draw_lines(&area, title, (x, y), lines),
        }
        area.present().expect("a plot can be written");
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// plaudit is the same colour everywhere.
fn color(name: &str, number: usize) -> RGBColor {
    const PLAUDIT: RGBColor = RGBColor(214, 39, 40);
    const OTHERS: [RGBColor; 11] = [
        RGBColor(31, 119, 180),
        RGBColor(44, 160, 44),
        RGBColor(148, 103, 189),
        RGBColor(255, 127, 14),
        RGBColor(23, 190, 207),
        RGBColor(140, 86, 75),
        RGBColor(227, 119, 194),
        RGBColor(127, 127, 127),
        RGBColor(188, 189, 34),
        RGBColor(0, 0, 0),
        RGBColor(174, 199, 232),
    ];
    if name.starts_with("plaudit") { PLAUDIT } else { OTHERS[number % OTHERS.len()] }
}

fn draw_bars(area: &Area<'_>, title: &str, unit: &str, bars: &[(String, f64)]) {
    const TOP: i32 = 60;
    const LEFT: i32 = 230;
    const RIGHT: i32 = 830;
    let text = |text: String, at: (i32, i32), size: i32| {
        area.draw(&Text::new(text, at, (FONT, size).into_font())).expect("a plot can be drawn");
    };
    text(format!("{title} ({unit}, logarithmic)"), (20, 18), 20);
    let step = ((SIZE.1 as i32 - TOP - 20) / bars.len().max(1) as i32).min(40);
    let least = bars.iter().map(|bar| bar.1).fold(f64::MAX, f64::min).log10().floor() - 0.2;
    let most = bars.iter().map(|bar| bar.1).fold(f64::MIN, f64::max).log10();
    for ((name, value), number) in bars.iter().zip(0..) {
        let y = TOP + number * step;
        let share = (value.log10() - least) / (most - least).max(1e-9);
        let end = LEFT + ((RIGHT - LEFT) as f64 * share) as i32;
        let fill = if name.starts_with("plaudit") { color(name, 0) } else { RGBColor(150, 170, 190) };
        let bar = Rectangle::new([(LEFT, y), (end, y + step * 3 / 4)], fill.filled());
        area.draw(&bar).expect("a plot can be drawn");
        text(name.clone(), (20, y + step / 5), 16);
        text(crate::report::three_digits(*value), (end + 8, y + step / 5), 16);
    }
}

fn draw_lines(area: &Area<'_>, title: &str, (x, y): (&str, &str), lines: &[(String, Vec<(f64, f64)>)]) {
    let points = || lines.iter().flat_map(|(_, points)| points.iter());
    let range = |values: &dyn Fn(&(f64, f64)) -> f64| {
        let (least, most) = points().map(values).fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
        (least / 1.2)..(most * 1.3).max(least * 1.5)
    };
    let (plot, legend) = area.split_horizontally(SIZE.0 - 210);
    let mut chart = ChartBuilder::on(&plot)
        .caption(title, (FONT, 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(range(&|point| point.0).log_scale(), range(&|point| point.1).log_scale())
        .expect("a plot can be drawn");
    let label = |value: &f64| match *value {
        1e6.. => format!("{} M", value / 1e6),
        1e3.. => format!("{} k", value / 1e3),
        _ => format!("{value}"),
    };
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(x).y_desc(y).x_label_formatter(&label).y_label_formatter(&label);
    mesh.light_line_style(WHITE).draw().expect("a plot can be drawn");
    let mut peers: Vec<&str> = Vec::new();
    for ((name, points), number) in lines.iter().zip(0..) {
        let (peer, is_second_way) = name
            .strip_suffix(" a call")
            .map_or((&name[..], false), |name| (name.rsplit_once(',').map_or(name, |(peer, _)| peer), true));
        if !peers.contains(&peer) {
            peers.push(peer);
        }
        let color = color(name, peers.len() - 1);
        let width = if name.starts_with("plaudit") { 3 } else { 2 };
        let style = color.stroke_width(width);
        chart.draw_series(LineSeries::new(points.iter().copied(), style)).expect("a plot can be drawn");
        // A peer in its second way has the same colour, and hollow dots.
        let fill = if is_second_way { WHITE.filled() } else { color.filled() };
        let dots = points.iter().flat_map(|point| {
            [Circle::new(*point, width + 1, fill), Circle::new(*point, width + 1, color.stroke_width(1))]
        });
        chart.draw_series(dots).expect("a plot can be drawn");
        let at = 60 + number * 24;
        let line = PathElement::new(vec![(0, at + 7), (22, at + 7)], style);
        legend.draw(&line).expect("a plot can be drawn");
        let dot = Circle::new((11, at + 7), width + 1, fill);
        legend.draw(&dot).expect("a plot can be drawn");
        let text = Text::new(name.clone(), (28, at), (FONT, 14).into_font());
        legend.draw(&text).expect("a plot can be drawn");
    }
}
