//! A chart of lines as SVG. Colours come from the page's style, so that it is right in light and in dark.

use std::fmt::{self, Write};

/// How values lie along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    /// Values are above 0.
    Log,
}

/// A value along an axis with its text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) text: String,
}

/// One axis.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) scale: Scale,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) ticks: Vec<Tick>,
}

/// One line of a chart.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: String,
    /// Which of the page's colours.
    pub(super) colour: usize,
    /// Points with what is said of each; a gap between two runs of points.
    pub(super) runs: Vec<Vec<(f64, f64, String)>>,
}

/// A time at which something happened.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) at: f64,
    pub(super) name: String,
}

/// A chart of lines.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) note: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
    pub(super) marks: Vec<Mark>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 28.0;
/// Half of the widest text below the axis of x, less the margin.
const EDGE: f64 = 12.0;
/// A line of more points shows no dots: its points can still be pointed at.
const DOTS_MAX: usize = 40;

impl Axis {
    /// From 0 to a round number at or above `max`.
    pub(super) fn up_to(max: f64, text: impl Fn(f64) -> String) -> Self {
        let step = round_step(max.max(f64::MIN_POSITIVE) / 4.0);
        let count = (max / step).ceil().max(1.0) as usize;
        Self {
            scale: Scale::Linear,
            from: 0.0,
            to: step * count as f64,
            ticks: (0..=count)
                .map(|index| {
                    let at = step * index as f64;
                    Tick { at, text: text(at) }
                })
                .collect(),
        }
    }

    /// From 0 to `max`, exactly.
    pub(super) fn within(max: f64, text: impl Fn(f64) -> String) -> Self {
        let mut axis = Self::up_to(max, text);
        axis.to = max;
        axis.ticks.retain(|tick| tick.at <= max);
        axis
    }

    /// Powers of ten around `min` and `max`.
    pub(super) fn decades(min: f64, max: f64, text: impl Fn(f64) -> String) -> Self {
        let first = min.log10().floor() as i32;
        let last = (max.log10().ceil() as i32).max(first + 1);
        Self {
            scale: Scale::Log,
            from: 10_f64.powi(first),
            to: 10_f64.powi(last),
            ticks: (first..=last)
                .map(|power| {
                    let at = 10_f64.powi(power);
                    Tick { at, text: text(at) }
                })
                .collect(),
        }
    }

    /// Where a value lies, 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Log => (value / self.from).log10() / (self.to / self.from).log10(),
        };
        place.clamp(0.0, 1.0)
    }
}

/// 1, 2 or 5 times a power of ten, at or above `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// A text that has no meaning as markup.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

impl Chart {
    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn write_axes(&self, out: &mut String) -> fmt::Result {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in &self.y.ticks {
            let y = self.y(tick.at);
            let text = escaped(&tick.text);
            write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 8.0,
                y + 4.0,
            )?;
        }
        for tick in &self.x.ticks {
            let x = self.x(tick.at);
            let text = escaped(&tick.text);
            // At the edge the text would be cut in its middle.
            let (anchor, text_x) = if x > right - EDGE {
                ("end", WIDTH)
            } else {
                ("middle", x)
            };
            write!(
                out,
                "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{}\"/>\
                 <text class=\"tick\" x=\"{text_x:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{text}</text>",
                bottom + 4.0,
                bottom + 18.0,
            )?;
        }
        write!(
            out,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>"
        )
    }

    fn write_marks(&self, out: &mut String) -> fmt::Result {
        for mark in &self.marks {
            let (x, name) = (self.x(mark.at), escaped(&mark.name));
            // Beyond the middle the text stands on the left, so that it stays within the chart.
            let (anchor, text_x) = if x > f64::midpoint(LEFT, WIDTH) {
                ("end", x - 5.0)
            } else {
                ("start", x + 5.0)
            };
            write!(
                out,
                "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{}\"/>\
                 <text class=\"tick\" x=\"{text_x:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{name}</text>",
                HEIGHT - BOTTOM,
                TOP - 6.0,
            )?;
        }
        Ok(())
    }

    fn write_line(&self, line: &Line, out: &mut String) -> fmt::Result {
        let colour = line.colour;
        let count: usize = line.runs.iter().map(Vec::len).sum();
        for run in &line.runs {
            let points: Vec<String> = run
                .iter()
                .map(|(x, y, _)| format!("{:.1},{:.1}", self.x(*x), self.y(*y)))
                .collect();
            write!(
                out,
                "<polyline class=\"line c{colour}\" points=\"{}\"/>",
                points.join(" ")
            )?;
        }
        let (class, radius) = if count > DOTS_MAX { ("hit", 5.0) } else { ("dot", 2.5) };
        for (x, y, said) in line.runs.iter().flatten() {
            write!(
                out,
                "<circle class=\"{class} c{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius}\"><title>{}: {}</title></circle>",
                self.x(*x),
                self.y(*y),
                escaped(&line.name),
                escaped(said)
            )?;
        }
        Ok(())
    }

    /// The chart with its title and legend.
    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        let title = escaped(&self.title);
        write!(
            out,
            "<figure><figcaption><h2>{title}</h2><p>{}</p></figcaption>",
            escaped(&self.note)
        )?;
        if self.lines.len() > 1 {
            out.push_str("<ul class=\"legend\">");
            for line in &self.lines {
                write!(
                    out,
                    "<li><span class=\"key c{}\"></span>{}</li>",
                    line.colour,
                    escaped(&line.name)
                )?;
            }
            out.push_str("</ul>");
        }
        write!(
            out,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">"
        )?;
        self.write_axes(out)?;
        for line in &self.lines {
            self.write_line(line, out)?;
        }
        self.write_marks(out)?;
        out.push_str("</svg></figure>\n");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_ticks() {
        let check = |axis: Axis, expected: &[f64]| {
            let ticks: Vec<f64> = axis.ticks.iter().map(|tick| tick.at).collect();
            assert_eq!(ticks, expected);
        };
        check(Axis::up_to(10.0, |_| String::new()), &[0.0, 5.0, 10.0]);
        check(Axis::up_to(101.0, |_| String::new()), &[0.0, 50.0, 100.0, 150.0]);
        check(Axis::up_to(4.0, |_| String::new()), &[0.0, 1.0, 2.0, 3.0, 4.0]);
        check(Axis::within(7.0, |_| String::new()), &[0.0, 2.0, 4.0, 6.0]);
        check(Axis::decades(30.0, 900.0, |_| String::new()), &[10.0, 100.0, 1000.0]);
        check(Axis::decades(10.0, 10.0, |_| String::new()), &[10.0, 100.0]);
    }

    #[test]
    fn a_line_lies_where_its_values_say() {
        let axis = || Axis::up_to(4.0, |at| at.to_string());
        let chart = Chart {
            title: "a < b".to_owned(),
            note: String::new(),
            x: axis(),
            y: axis(),
            lines: vec![Line {
                name: "x".to_owned(),
                colour: 1,
                runs: vec![vec![(0.0, 0.0, String::new()), (4.0, 4.0, "top".to_owned())]],
            }],
            marks: vec![Mark {
                at: 2.0,
                name: "kill".to_owned(),
            }],
        };
        let mut text = String::new();
        chart.write(&mut text).expect("a string takes everything");
        for part in [
            "<h2>a &lt; b</h2>",
            "points=\"64.0,272.0 744.0,18.0\"",
            "<title>x: top</title>",
            "class=\"mark\" x1=\"404.0\"",
        ] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    }
}
