//! The live view: what stands where. It is drawn from [`Figures`] alone.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, RenderDirection, Sparkline};

use super::figures::{CoreFigures, Figures, Fill, HISTORY_SECONDS, SaleFigures};
use super::format::{bytes, clock, grouped, milliseconds};
use super::palette::Palette;
use super::tally::Call;

const WIDTH_MIN: u16 = 60;
const HEIGHT_MIN: u16 = 18;
/// From this width on past sales stand beside the pools.
const WIDTH_BESIDE: u16 = 120;
const SALES_WIDTH: u16 = 69;
/// From this height on sections are set apart and sparklines are taller.
const HEIGHT_ROOMY: u16 = 32;
/// The most cores with a line of their own, where there is little room.
const CORE_LINES_MAX: u16 = 4;

const NAME_WIDTH: u16 = 10;
const RATE_WIDTH: u16 = 8;
const LATENCY_WIDTH: u16 = 8;
const BAR_WIDTH_MAX: u16 = 40;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, figures: &Figures, palette: &Palette) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        let text = format!("The live view wants {WIDTH_MIN}x{HEIGHT_MIN}; q quits");
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let view = View { figures, palette };
    let gap = u16::from(area.height >= HEIGHT_ROOMY);
    let [title, hint, _, sale, _, body, _, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(gap),
        Constraint::Length(2),
        Constraint::Length(gap),
        Constraint::Fill(1),
        Constraint::Length(gap),
        Constraint::Length(1),
    ])
    .areas(area);
    view.title(frame, title);
    view.hint(frame, hint);
    view.sale(frame, sale);
    let rest = view.work(frame, body, gap);
    if area.width >= WIDTH_BESIDE {
        let [pools, sales] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(SALES_WIDTH)])
            .spacing(3)
            .areas(rest);
        view.pools(frame, pools);
        view.past_sales(frame, sales);
    } else {
        view.pools(frame, rest);
    }
    view.keys(frame, keys);
}

struct View<'a> {
    figures: &'a Figures,
    palette: &'a Palette,
}

impl View<'_> {
    fn title(&self, frame: &mut Frame<'_>, area: Rect) {
        let setting = &self.figures.setting;
        let left = format!(
            " Plimsoll demo   {} pools on {} core{}, seed {}",
            grouped(setting.pool_count as u64),
            setting.core_count,
            if setting.core_count == 1 { "" } else { "s" },
            setting.seed
        );
        let right = format!("up {} ", clock(self.figures.uptime));
        let padding = usize::from(area.width).saturating_sub(left.len() + right.len());
        let line = Line::styled(format!("{left}{}{right}", " ".repeat(padding)), self.palette.title);
        frame.render_widget(line, area);
    }

    fn hint(&self, frame: &mut Frame<'_>, area: Rect) {
        let setting = &self.figures.setting;
        let mut spans = vec![
            Span::styled(" try it: ", self.palette.label),
            Span::raw(format!("plimsoll pool list --engine {}", setting.address)),
        ];
        if let Some(page) = &setting.page {
            spans.push(Span::styled("  page: ", self.palette.label));
            spans.push(Span::raw(page.clone()));
        }
        let line = Line::from(spans);
        frame.render_widget(line, area);
    }

    /// The headline, and its pool filling up.
    fn sale(&self, frame: &mut Frame<'_>, area: Rect) {
        let [headline, bar] = Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(area);
        let Some(sale) = &self.figures.sale else {
            let line = Line::styled(" The first sale is about to be announced", self.palette.label);
            frame.render_widget(line, headline);
            return;
        };
        frame.render_widget(self.headline(sale), headline);
        if let Some(fill) = &sale.fill {
            let numbers = format!(
                " {:>3} confirmed {:>3} held {:>3} free ",
                fill.confirmed,
                fill.held,
                (fill.ceiling - fill.used()).max(0)
            );
            let width = usize::from(bar.width).saturating_sub(numbers.len() + 1);
            let mut spans = vec![Span::raw(" ")];
            spans.extend(self.bar(fill, width));
            spans.push(Span::raw(numbers));
            frame.render_widget(Line::from(spans), bar);
        }
    }

    fn headline(&self, sale: &SaleFigures) -> Line<'static> {
        let name = Span::styled(sale.name.clone(), self.palette.strong);
        let turned_away = format!("{} turned away", grouped(sale.turned_away));
        if sale.opens_in > Duration::ZERO {
            return Line::from(vec![
                Span::styled(" OPENS SOON ", self.palette.alarm),
                name,
                Span::raw(format!(
                    "  in {:.1} s, {} shoppers on their way",
                    sale.opens_in.as_secs_f64(),
                    grouped(sale.crowd_count as u64)
                )),
            ]);
        }
        let (word, rest) = match sale.sold_out_after {
            None if sale.is_over => (" SALE OVER ", turned_away),
            None => (" ON SALE ", format!("{} shoppers", grouped(sale.crowd_count as u64))),
            Some(after) => {
                let sold_out = format!("in {:.2} s, {turned_away}", after.as_secs_f64());
                (if sale.is_over { " SOLD OUT " } else { " FULL " }, sold_out)
            }
        };
        Line::from(vec![
            Span::styled(word, self.palette.alarm),
            name,
            Span::raw(format!("  {rest}")),
        ])
    }

    /// Traffic and engine from the top; what is left below them.
    fn work(&self, frame: &mut Frame<'_>, area: Rect, gap: u16) -> Rect {
        let spark_height = 1 + gap;
        let traffic_height = 1 + spark_height * Call::ALL.len() as u16 + 2;
        let core_lines = self.core_lines(area.height, traffic_height);
        let [traffic, _, cores, _, rest] = Layout::vertical([
            Constraint::Length(traffic_height),
            Constraint::Length(gap),
            Constraint::Length(1 + core_lines),
            Constraint::Length(gap),
            Constraint::Fill(1),
        ])
        .areas(area);
        self.traffic(frame, traffic, spark_height);
        self.cores(frame, cores);
        rest
    }

    fn core_lines(&self, height: u16, traffic_height: u16) -> u16 {
        let count = u16::try_from(self.figures.cores.len()).unwrap_or(u16::MAX);
        let most = (height.saturating_sub(traffic_height) / 2).max(CORE_LINES_MAX);
        count.min(most)
    }

    fn traffic(&self, frame: &mut Frame<'_>, area: Rect, spark_height: u16) {
        let mut constraints = vec![Constraint::Length(1)];
        constraints.extend(Call::ALL.map(|_| Constraint::Length(spark_height)));
        constraints.extend([Constraint::Length(1), Constraint::Length(1)]);
        let rows = Layout::vertical(constraints).split(area);
        let columns = |area: Rect| -> [Rect; 4] {
            Layout::horizontal([
                Constraint::Length(NAME_WIDTH),
                Constraint::Length(RATE_WIDTH),
                Constraint::Fill(1),
                Constraint::Length(3 * LATENCY_WIDTH),
            ])
            .areas(area)
        };
        let head = columns(rows[0]);
        self.label(frame, head[0], " shoppers", false);
        self.label(frame, head[1], "/s", true);
        self.label(frame, head[2], "  last minute", false);
        self.label(frame, head[3], "p50 ms     p99   p99.9", true);
        for (row, call) in rows[1..].iter().zip(Call::ALL) {
            let [name, rate, spark, latency] = columns(*row);
            frame.render_widget(Line::raw(format!(" {}", call.name())), name);
            let done = grouped(self.figures.second.of(call).done);
            frame.render_widget(Line::styled(done, self.palette.strong).right_aligned(), rate);
            self.sparkline(frame, spark, call);
            let histogram = &self.figures.window.of(call).latency;
            let text: String = [0.5, 0.99, 0.999]
                .map(|quantile| format!("{:>8}", milliseconds(histogram.value_at_quantile(quantile))))
                .concat();
            frame.render_widget(Line::raw(text), latency);
        }
        let [.., refusals, live] = &*rows else { return };
        self.refusals(frame, *refusals);
        self.live(frame, *live);
    }

    fn sparkline(&self, frame: &mut Frame<'_>, area: Rect, call: Call) {
        let [_, area, _] =
            Layout::horizontal([Constraint::Length(2), Constraint::Fill(1), Constraint::Length(1)]).areas(area);
        let bars = binned(&self.figures.history[call as usize], usize::from(area.width));
        let sparkline = Sparkline::default()
            .data(bars)
            .direction(RenderDirection::RightToLeft)
            .style(self.palette.spark);
        frame.render_widget(sparkline, area);
    }

    fn refusals(&self, frame: &mut Frame<'_>, area: Rect) {
        let second = &self.figures.second;
        let mut spans = vec![Span::styled(" refused/s  ", self.palette.label)];
        let mut item = |count: u64, what: &'static str, is_alarming: bool| {
            let style = if count > 0 && is_alarming {
                self.palette.alarm
            } else {
                self.palette.strong
            };
            spans.push(Span::styled(grouped(count), style));
            spans.push(Span::raw(format!(" {what}   ")));
        };
        item(second.full, "full", true);
        item(second.not_on_sale, "not on sale", false);
        let total = &self.figures.total;
        item(total.expired, "holds expired so far", false);
        item(total.repeated, "retried", false);
        if total.failed + total.unknown > 0 {
            item(total.failed + total.unknown, "failed", true);
        }
        frame.render_widget(Line::from(spans), area);
    }

    fn live(&self, frame: &mut Frame<'_>, area: Rect) {
        let figures = self.figures;
        let live = |count: i64| grouped(u64::try_from(count).unwrap_or(0));
        let line = Line::from(vec![
            Span::styled(" live       ", self.palette.label),
            Span::styled(live(figures.confirmed), self.palette.strong),
            Span::raw(" confirmed   "),
            Span::styled(live(figures.held), self.palette.strong),
            Span::raw(" held   "),
            Span::styled(grouped(figures.total.of(Call::Release).done), self.palette.strong),
            Span::raw(" released so far"),
        ]);
        frame.render_widget(line, area);
    }

    fn cores(&self, frame: &mut Frame<'_>, area: Rect) {
        let head = " cores   syncs/s  p50 ms  p99 ms   records/sync   p99   commands/s  waiting";
        let is_wide = area.width >= 100;
        let wide_head = if is_wide { "   journal/s  connections" } else { "" };
        let mut lines = vec![Line::styled(format!("{head}{wide_head}"), self.palette.label)];
        let shown = usize::from(area.height.saturating_sub(1));
        let cores = &self.figures.cores;
        let own = if cores.len() > shown {
            shown.saturating_sub(1)
        } else {
            cores.len()
        };
        for (index, core) in cores.iter().take(own).enumerate() {
            lines.push(core_line(&index.to_string(), core, is_wide));
        }
        if own < cores.len() {
            let sum: u64 = cores[own..].iter().map(|core| core.commands_per_second).sum();
            let text = format!(" and {} more: {} commands/s", cores.len() - own, grouped(sum));
            lines.push(Line::styled(text, self.palette.label));
        }
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn pools(&self, frame: &mut Frame<'_>, area: Rect) {
        let mut lines = vec![Line::from(vec![
            Span::styled(" fullest pools   ", self.palette.label),
            Span::styled("█", self.palette.confirmed),
            Span::styled(" confirmed  ", self.palette.label),
            Span::styled("▒", self.palette.held),
            Span::styled(" held  ", self.palette.label),
            Span::styled("·", self.palette.free),
            Span::styled(" free", self.palette.label),
        ])];
        let fills = || {
            self.figures
                .fills
                .iter()
                .take(usize::from(area.height.saturating_sub(1)))
        };
        let name_width = fills().map(|fill| fill.name.len()).max().unwrap_or(0);
        // A space before and after the name, ` 1,234/1,234 orders` and a mark behind the bar.
        const BEHIND: usize = 22;
        let bar_width = usize::from(area.width)
            .saturating_sub(name_width + 2 + BEHIND)
            .min(usize::from(BAR_WIDTH_MAX));
        for fill in fills() {
            let mut spans = vec![Span::raw(format!(" {:<name_width$} ", fill.name))];
            spans.extend(self.bar(fill, bar_width));
            spans.push(Span::raw(format!(
                " {}/{} {}",
                fill.used(),
                fill.ceiling,
                fill.dimension
            )));
            let mark = match fill {
                Fill { is_shadow: true, .. } => " shadow".to_owned(),
                Fill { is_closed: true, .. } => " closed".to_owned(),
                Fill { overbook: 1.., .. } => format!(" +{}", fill.overbook),
                _ => String::new(),
            };
            spans.push(Span::styled(mark, self.palette.label));
            lines.push(Line::from(spans));
        }
        frame.render_widget(Paragraph::new(lines), area);
    }

    /// Confirmed, held and free in so many cells; whatever there is has at least one.
    fn bar(&self, fill: &Fill, width: usize) -> [Span<'static>; 3] {
        let cells = |units: i64| {
            let exact = units.max(0) as f64 / fill.ceiling.max(1) as f64 * width as f64;
            (exact.round() as usize).max(usize::from(units > 0))
        };
        let held = cells(fill.held).min(width);
        let is_full = fill.used() >= fill.ceiling;
        let confirmed = if is_full {
            width - held
        } else {
            cells(fill.confirmed).min((width - held).saturating_sub(1))
        };
        [
            Span::styled("█".repeat(confirmed), self.palette.confirmed),
            Span::styled("▒".repeat(held), self.palette.held),
            Span::styled("·".repeat(width - held - confirmed), self.palette.free),
        ]
    }

    fn past_sales(&self, frame: &mut Frame<'_>, area: Rect) {
        if self.figures.past_sales.is_empty() {
            return;
        }
        let mut lines = vec![Line::styled(" sales so far", self.palette.label)];
        for sale in &self.figures.past_sales {
            let end = match sale.sold_out_after {
                Some(after) => format!("full after {:.2} s", after.as_secs_f64()),
                None => "not full".to_owned(),
            };
            lines.push(Line::raw(format!(
                " {:<30} {end:<18} {:>5} turned away",
                sale.name,
                grouped(sale.turned_away)
            )));
        }
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn keys(&self, frame: &mut Frame<'_>, area: Rect) {
        let pause = if self.figures.is_paused { "go on" } else { "pause" };
        let mut spans = Vec::new();
        for (key, what) in [("q", "quit"), ("space", pause), ("b", "sale now")] {
            spans.push(Span::styled(format!(" {key} "), self.palette.key));
            spans.push(Span::raw(format!(" {what}  ")));
        }
        spans.push(Span::styled(" ↑↓ ", self.palette.key));
        spans.push(Span::raw(format!(" {} shoppers/s", grouped(self.figures.rate.into()))));
        if self.figures.is_paused {
            spans.push(Span::raw("  "));
            spans.push(Span::styled(" PAUSED ", self.palette.alarm));
        }
        frame.render_widget(Line::from(spans), area);
    }

    fn label(&self, frame: &mut Frame<'_>, area: Rect, text: &'static str, is_right: bool) {
        let line = Line::styled(text, self.palette.label);
        frame.render_widget(if is_right { line.right_aligned() } else { line }, area);
    }
}

fn core_line(name: &str, core: &CoreFigures, is_wide: bool) -> Line<'static> {
    let mut text = format!(
        " {name:<5} {:>9} {:>7} {:>7} {:>14} {:>5} {:>12} {:>8}",
        grouped(core.syncs_per_second),
        milliseconds(core.sync_micros_p50),
        milliseconds(core.sync_micros_p99),
        grouped(core.records_p50),
        grouped(core.records_p99),
        grouped(core.commands_per_second),
        grouped(core.waiting),
    );
    if is_wide {
        text.push_str(&format!(
            " {:>11} {:>12}",
            bytes(core.journal_bytes_per_second),
            core.connections
        ));
    }
    if core.overloaded > 0 {
        text.push_str(&format!("  {} overloaded", grouped(core.overloaded)));
    }
    Line::raw(text)
}

/// The history, newest first, in so many bars at most; with less room each is the mean of some seconds.
fn binned(history: &std::collections::VecDeque<u64>, width: usize) -> Vec<u64> {
    let seconds = HISTORY_SECONDS.div_ceil(width.max(1));
    let values: Vec<u64> = history.iter().copied().collect();
    values
        .chunks(seconds)
        .map(|chunk| chunk.iter().sum::<u64>() / chunk.len() as u64)
        .collect()
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
