//! What a question answers: tables in Markdown and plots, with all figures in them made here.

use std::fmt::Write as _;
use std::path::Path;

use crate::measure::{Compared, Spread};
use crate::plot::Plot;

pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// How it was measured, in Markdown.
    pub(crate) method: String,
    pub(crate) tables: Vec<Table>,
    pub(crate) plots: Vec<Plot>,
}

pub(crate) struct Table {
    pub(crate) caption: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(caption: impl Into<String>, head: &[&str]) -> Self {
        Self { caption: caption.into(), head: head.iter().map(|&name| name.to_owned()).collect(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        println!("  {} | {}", self.caption, cells.join(" | "));
        self.rows.push(cells);
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{}:\n\n", self.caption);
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        text += &line(&self.head);
        text += &format!("|{}\n", "---|".repeat(self.head.len()));
        self.rows.iter().for_each(|row| text += &line(row));
        text
    }
}

impl Section {
    /// Writes the section and its plots into a directory, under the question's name.
    pub(crate) fn write(&self, dir: &Path, question: &str, origin: &str) {
        let mut text = format!("## {}\n\n{}\n\n{origin}\n", self.title, self.method);
        for table in &self.tables {
            write!(text, "\n{}", table.markdown()).expect("memory can be written");
        }
        for (plot, number) in self.plots.iter().zip(1..) {
            let file = format!("{question}-{number}.svg");
            plot.draw(&dir.join(&file));
            write!(text, "\n![{}]({file})\n", plot.title()).expect("memory can be written");
        }
        std::fs::write(dir.join(format!("{question}.md")), text).expect("a result can be written");
    }
}

/// A rate with its unit.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        1e6.. => format!("{} M/s", three_digits(per_second / 1e6)),
        1e3.. => format!("{} k/s", three_digits(per_second / 1e3)),
        _ => format!("{} /s", three_digits(per_second)),
    }
}

pub(crate) fn three_digits(figure: f64) -> String {
    match figure.abs() {
        99.95.. => format!("{figure:.0}"),
        9.995.. => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

pub(crate) fn times(ratio: Spread) -> String {
    let Spread { median, least, most } = ratio;
    format!("**{}** ({} to {})", three_digits(median), three_digits(least), three_digits(most))
}

/// The peer's rate, and how many times plaudit's is that.
pub(crate) fn against(compared: &Compared) -> String {
    format!("{}; {}", rate(peer_median(compared)), times(compared.ratio()))
}

/// plaudit's own rate over all that it was compared in.
pub(crate) fn own<'a>(all: impl IntoIterator<Item = &'a Compared>) -> String {
    let spread = Spread::of(all.into_iter().flat_map(|compared| compared.plaudit.iter().copied()));
    format!("{} ({} to {})", rate(spread.median), rate(spread.least), rate(spread.most))
}

/// Each peer's results beside plaudit, one for each column.
pub(crate) type Results = Vec<(String, Vec<Compared>)>;

/// plaudit's own rates first, under the name that is given, then each peer's with the ratio.
pub(crate) fn compared_table(caption: &str, columns: &[String], plaudit: &str, results: &Results) -> Table {
    let head: Vec<&str> = ["peer"].into_iter().chain(columns.iter().map(String::as_str)).collect();
    let mut table = Table::new(caption, &head);
    let of_plaudit = (0..columns.len()).map(|at| own(results.iter().map(|(_, compared)| &compared[at])));
    table.row([plaudit.to_owned()].into_iter().chain(of_plaudit).collect());
    for (name, compared) in results {
        table.row([name.clone()].into_iter().chain(compared.iter().map(against)).collect());
    }
    table
}

/// The medians of the same, with the columns at these places of the x axis.
pub(crate) fn compared_plot(
    (title, x, y): (&str, &str, &str),
    columns: &[usize],
    plaudit: &str,
    results: &Results,
) -> Plot {
    let points = |rate: &dyn Fn(usize) -> f64| columns.iter().zip(0..).map(|(x, at)| (*x as f64, rate(at))).collect();
    let of_plaudit = |at: usize| plaudit_median(results, at);
    let mut lines = vec![(plaudit.to_owned(), points(&of_plaudit))];
    for (name, all) in results {
        lines.push((name.clone(), points(&|at| peer_median(&all[at]))));
    }
    Plot::Lines { title: title.to_owned(), x: x.to_owned(), y: y.to_owned(), lines }
}

/// plaudit's rate in a column, over all that it was compared in.
pub(crate) fn plaudit_median(results: &Results, at: usize) -> f64 {
    Spread::of(results.iter().flat_map(|(_, all)| all[at].plaudit.iter().copied())).median
}

pub(crate) fn peer_median(compared: &Compared) -> f64 {
    Spread::of(compared.peer.iter().copied()).median
}
