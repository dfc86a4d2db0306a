//! The terminal while the live view is on: taken at the start, given back at the end, on an error and on a panic.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use tokio::sync::mpsc;

use super::figures::Figures;
use super::palette::Palette;
use super::view;
use crate::failure::Failure;

/// How long the end waits for the thread that reads keys, at most.
const KEY_PATIENCE: Duration = Duration::from_millis(50);
/// Keys that wait to be taken.
const ACTION_COUNT_MAX: usize = 64;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Pause,
    Sale,
    Faster,
    Slower,
    /// The terminal has another size.
    Redraw,
}

/// Whether standard output can show the live view.
pub(super) fn is_capable() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// The terminal, taken.
pub(super) struct Terminal {
    terminal: DefaultTerminal,
    palette: Palette,
    actions: mpsc::Receiver<Action>,
    is_over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    pub(super) fn take() -> Result<Terminal, Failure> {
        // A panic gives the terminal back as well.
        let terminal =
            ratatui::try_init().map_err(|error| Failure::failed("cannot take the terminal").because(error))?;
        let (sender, actions) = mpsc::channel(ACTION_COUNT_MAX);
        let is_over = Arc::new(AtomicBool::new(false));
        let reader = std::thread::Builder::new().name("keys".into()).spawn({
            let is_over = Arc::clone(&is_over);
            move || read_keys(&sender, &is_over)
        });
        // Without keys the view is still worth something, and a signal ends it.
        let reader = reader.ok();
        Ok(Terminal {
            terminal,
            palette: Palette::from_environment(),
            actions,
            is_over,
            reader,
        })
    }

    pub(super) fn draw(&mut self, figures: &Figures) -> Result<(), Failure> {
        let drawn = self.terminal.draw(|frame| view::draw(frame, figures, &self.palette));
        drawn.map(drop).map_err(Failure::stdout)
    }

    /// The next key; never when no more can come.
    pub(super) async fn action(&mut self) -> Action {
        match self.actions.recv().await {
            Some(action) => action,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            // It cannot have panicked in a way that matters now.
            let _ = reader.join();
        }
        ratatui::restore();
    }
}

fn read_keys(sender: &mpsc::Sender<Action>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let event = match event::poll(KEY_PATIENCE) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        let action = match event {
            Ok(Event::Key(key)) if key.is_press() || key.is_repeat() => action_of(key),
            Ok(Event::Resize(..)) => Some(Action::Redraw),
            Ok(_) => None,
            // No terminal to read from.
            Err(_) => return,
        };
        if let Some(action) = action {
            // Whoever holds a key down loses a few repetitions when the view is slow.
            let _ = sender.try_send(action);
        }
    }
}

fn action_of(key: KeyEvent) -> Option<Action> {
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        // The terminal sends no signal for it now.
        KeyCode::Char('c' | 'd') if is_control => Action::Quit,
        KeyCode::Char('l') if is_control => Action::Redraw,
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Action::Quit,
        KeyCode::Char(' ') => Action::Pause,
        KeyCode::Char('b' | 'B') => Action::Sale,
        KeyCode::Up | KeyCode::Char('+') => Action::Faster,
        KeyCode::Down | KeyCode::Char('-') => Action::Slower,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let check =
            |code, modifiers, expected| assert_eq!(action_of(KeyEvent::new(code, modifiers)), expected, "{code:?}");
        check(KeyCode::Char('q'), KeyModifiers::NONE, Some(Action::Quit));
        check(KeyCode::Char('c'), KeyModifiers::CONTROL, Some(Action::Quit));
        check(KeyCode::Char('c'), KeyModifiers::NONE, None);
        check(KeyCode::Char(' '), KeyModifiers::NONE, Some(Action::Pause));
        check(KeyCode::Char('b'), KeyModifiers::NONE, Some(Action::Sale));
        check(KeyCode::Up, KeyModifiers::NONE, Some(Action::Faster));
        check(KeyCode::Down, KeyModifiers::NONE, Some(Action::Slower));
    }
}
