//! Where things are printed: a terminal that is redrawn, or plain lines.

use std::io::{IsTerminal, Write, stdout};

use rustix::termios::tcgetwinsize;

/// Standard output.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    terminal: bool,
    started: tokio::time::Instant,
}

/// Columns of what is no terminal.
const PLAIN_WIDTH: usize = 180;

impl Screen {
    /// Standard output, as it is.
    pub fn new() -> Self {
        Self {
            terminal: stdout().is_terminal(),
            started: tokio::time::Instant::now(),
        }
    }

    /// Whether it can be redrawn.
    pub fn redraws(&self) -> bool {
        self.terminal
    }

    /// How many columns it has.
    pub fn width(&self) -> usize {
        self.size().map_or(PLAIN_WIDTH, |(width, _)| width)
    }

    /// How many lines it has; `None`: as many as there are.
    pub fn height(&self) -> Option<usize> {
        self.size().map(|(_, height)| height)
    }

    /// One line of progress, with the seconds since the start.
    pub fn progress(&self, what: &str) {
        self.print(&format!("{:5.1} s  {what}\n", self.started.elapsed().as_secs_f64()));
    }

    /// Prints as it is. An output that is gone is nobody's trouble.
    pub fn print(&self, text: &str) {
        let mut out = stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// Shows a page in place of the one before.
    pub fn page(&self, text: &str) {
        if self.terminal {
            // Home, each line cleared to its end, then everything below cleared: no flicker.
            let lines = text.replace('\n', "\x1b[K\n");
            self.print(&format!("\x1b[H{lines}\x1b[J"));
        } else {
            self.print(text);
        }
    }

    /// Clears what stands there.
    pub fn clear(&self) {
        if self.terminal {
            self.print("\x1b[2J\x1b[H");
        }
    }

    fn size(&self) -> Option<(usize, usize)> {
        let size = tcgetwinsize(stdout())
            .ok()
            .filter(|size| self.terminal && size.ws_col > 20)?;
        Some((size.ws_col.into(), size.ws_row.into()))
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}
