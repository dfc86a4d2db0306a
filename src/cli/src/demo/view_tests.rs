use std::collections::VecDeque;

use plimsoll_server::Stats;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::demo::figures::{Recorder, Setting};
use crate::demo::tally::Tally;

fn fill(name: &str, confirmed: i64, held: i64) -> Fill {
    Fill {
        name: name.to_owned(),
        dimension: "orders",
        confirmed,
        held,
        ceiling: 120,
        overbook: 0,
        is_shadow: false,
        is_closed: false,
    }
}

fn sale(opens_in: Duration, sold_out_after: Option<Duration>) -> SaleFigures {
    SaleFigures {
        name: "centre:delivery:2026-12-24T20".to_owned(),
        crowd_count: 280,
        opens_in,
        turned_away: 1_234,
        sold_out_after,
        is_over: false,
        fill: Some(Fill {
            ceiling: 80,
            ..fill("centre:delivery:2026-12-24T20", 60, 20)
        }),
    }
}

fn figures() -> Figures {
    let setting = Setting {
        address: "127.0.0.1:40123".to_owned(),
        page: Some("http://127.0.0.1:7480".to_owned()),
        pool_count: 1_232,
        core_count: 2,
        seed: 7,
    };
    let mut figures = Recorder::new(setting, Stats::default()).figures;
    figures.uptime = Duration::from_secs(83);
    figures.rate = 300;
    figures.history = std::array::from_fn(|call| (0..60).map(|second| second * (call as u64 + 1)).collect());
    let mut second = Tally::new();
    for _ in 0..1_612 {
        second.done(Call::Query);
        second.answered(Call::Query, Duration::from_micros(420));
    }
    second.full = 43;
    figures.window = second.clone();
    figures.total = second.clone();
    figures.second = second;
    figures.cores = (0..2)
        .map(|core| CoreFigures {
            syncs_per_second: 812 + core,
            sync_micros_p50: 180,
            sync_micros_p99: 1_420,
            records_p50: 3,
            records_p99: 17,
            commands_per_second: 977,
            ..CoreFigures::default()
        })
        .collect();
    figures.confirmed = 4_567;
    figures.held = 321;
    figures.fills = (0..40)
        .map(|slot| fill(&format!("harbour:delivery:2026-12-{slot:02}T08"), 120 - slot, 2))
        .collect();
    figures.fills[1].is_shadow = true;
    figures.sale = Some(sale(Duration::ZERO, Some(Duration::from_millis(870))));
    figures.past_sales = vec![sale(Duration::ZERO, None)];
    figures
}

fn screen(figures: &Figures, palette: &Palette, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, figures, palette)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| row(y).trim_end().to_owned() + "\n").collect()
}

fn check(figures: &Figures, width: u16, height: u16, expected: &[&str]) {
    let screen = screen(figures, &Palette::coloured(), width, height);
    for text in expected {
        assert!(
            screen.contains(text),
            "{text:?} is missing at {width}x{height}:\n{screen}"
        );
    }
}

/// What stands on every screen.
const ALWAYS: [&str; 16] = [
    "Plimsoll demo   1,232 pools on 2 cores, seed 7",
    "up 1:23",
    "plimsoll pool list --engine 127.0.0.1:40123",
    "FULL centre:delivery:2026-12-24T20  in 0.87 s, 1,234 turned away",
    "60 confirmed  20 held   0 free",
    "queries     1,612",
    "0.42    0.42    0.42",
    "43 full",
    "4,567 confirmed   321 held",
    "0           812    0.18    1.42              3    17          977        0",
    "1           813",
    "fullest pools   █ confirmed  ▒ held  · free",
    "harbour:delivery:2026-12-00T08",
    "122/120 orders",
    "121/120 orders shadow",
    "300 shoppers/s",
];

#[test]
fn a_small_terminal_shows_everything() {
    check(&figures(), 80, 24, &ALWAYS);
    check(
        &figures(),
        80,
        24,
        &[" q  quit   space  pause   b  sale now   ↑↓  300 shoppers/s"],
    );
}

#[test]
fn a_large_one_shows_past_sales_and_more_pools_as_well() {
    check(&figures(), 140, 40, &ALWAYS);
    check(
        &figures(),
        140,
        40,
        &[
            "sales so far",
            "not full           1,234 turned away",
            "connections",
            "harbour:delivery:2026-12-12T08",
        ],
    );
}

#[test]
fn a_sale_is_announced_runs_and_sells_out() {
    let mut figures = figures();
    figures.sale = Some(sale(Duration::from_millis(2_300), None));
    check(
        &figures,
        80,
        24,
        &["OPENS SOON centre:delivery:2026-12-24T20  in 2.3 s, 280 shoppers on their way"],
    );
    figures.sale = Some(sale(Duration::ZERO, None));
    check(
        &figures,
        80,
        24,
        &["ON SALE centre:delivery:2026-12-24T20  280 shoppers"],
    );
    figures.sale = None;
    check(&figures, 80, 24, &["The first sale is about to be announced"]);
}

#[test]
fn a_pause_says_so() {
    let mut figures = figures();
    figures.is_paused = true;
    check(&figures, 80, 24, &["space  go on", "PAUSED"]);
}

#[test]
fn any_size_is_drawn() {
    let mut figures = figures();
    figures.cores = vec![CoreFigures::default(); 64];
    for (width, height) in [(1, 1), (20, 5), (60, 18), (80, 24), (119, 31), (120, 32), (300, 100)] {
        let screen = screen(&figures, &Palette::plain(), width, height);
        assert_eq!(screen.lines().count(), usize::from(height));
    }
    check(&figures, 80, 24, &["and 59 more", "harbour:delivery:2026-12-00T08"]);
    check(&figures, 59, 24, &["The live view wants 60x18; q quits"]);
}

#[test]
fn no_colour_means_none() {
    let mut terminal = Terminal::new(TestBackend::new(140, 40)).unwrap();
    let figures = figures();
    terminal.draw(|frame| draw(frame, &figures, &Palette::plain())).unwrap();
    let buffer = terminal.backend().buffer();
    let is_coloured = |cell: &ratatui::buffer::Cell| {
        use ratatui::style::Color::Reset;
        cell.fg != Reset || cell.bg != Reset
    };
    assert!(!buffer.content().iter().any(is_coloured));
    terminal
        .draw(|frame| draw(frame, &figures, &Palette::coloured()))
        .unwrap();
    assert!(terminal.backend().buffer().content().iter().any(is_coloured));
}

#[test]
fn a_history_fits_the_room_it_gets() {
    let history: VecDeque<u64> = (0..60).collect();
    assert_eq!(binned(&history, 60).len(), 60);
    assert_eq!(binned(&history, 200).len(), 60);
    assert_eq!(binned(&history, 30)[..2], [0, 2]);
    assert_eq!(binned(&history, 0).len(), 1);
}
