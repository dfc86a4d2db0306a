//! Styles that read on dark and on light: the terminal's own colours for text, few others, and none where they are unwanted.

use ratatui::style::{Color, Modifier, Style};

pub(super) struct Palette {
    pub(super) title: Style,
    pub(super) label: Style,
    pub(super) strong: Style,
    pub(super) key: Style,
    pub(super) alarm: Style,
    pub(super) spark: Style,
    pub(super) confirmed: Style,
    pub(super) held: Style,
    pub(super) free: Style,
}

impl Palette {
    /// Without colours when `NO_COLOR` is set and not empty.
    pub(super) fn from_environment() -> Palette {
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if is_unwanted {
            Palette::plain()
        } else {
            Palette::coloured()
        }
    }

    /// Weight and inversion only; the bars differ by their signs as well.
    pub(super) fn plain() -> Palette {
        let style = Style::new();
        Palette {
            title: style.add_modifier(Modifier::REVERSED),
            label: style.add_modifier(Modifier::DIM),
            strong: style.add_modifier(Modifier::BOLD),
            key: style.add_modifier(Modifier::REVERSED),
            alarm: style.add_modifier(Modifier::BOLD | Modifier::REVERSED),
            spark: style,
            confirmed: style,
            held: style,
            free: style.add_modifier(Modifier::DIM),
        }
    }

    /// Green, magenta and red are dark enough for white paper and bright enough for black glass.
    pub(super) fn coloured() -> Palette {
        let plain = Palette::plain();
        Palette {
            alarm: Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
            spark: plain.spark.fg(Color::Green),
            confirmed: plain.confirmed.fg(Color::Green),
            held: plain.held.fg(Color::Magenta),
            ..plain
        }
    }
}
