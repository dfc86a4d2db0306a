//! How a command ends when it does not end well.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// The exit codes that scripts rely on; they stand in the help of the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Nothing to report: the reader of standard output went away.
    Quiet,
    /// 1
    Failed,
    /// 2
    Usage,
    /// 3: the engine said no, for a reason of business.
    Refused,
    /// 4: it may or may not have happened.
    Unknown,
    /// 10 to 29, from the server's closed list.
    Fatal(u8),
}

impl Exit {
    fn number(self) -> u8 {
        match self {
            Exit::Quiet => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Refused => 3,
            Exit::Unknown => 4,
            Exit::Fatal(code) => code,
        }
    }
}

/// An exit code, one line of what went wrong with its causes, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
    details: Vec<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
    help: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure {
            exit,
            message: message.into(),
            details: Vec::new(),
            source: None,
            help: None,
        }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// Keeps the cause; its text and those below it follow the message.
    pub(crate) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        self.source = Some(source.into());
        self
    }

    /// What the reader can do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Failure {
        self.help = Some(help.into());
        self
    }

    /// Names what it is about, in front of the message.
    pub(crate) fn about(mut self, what: &str) -> Failure {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// What it means for a command that has changed something: nobody has read what it did, so it is never quiet.
    pub(crate) fn after_change(mut self) -> Failure {
        if self.exit == Exit::Quiet {
            self.exit = Exit::Failed;
            self.help = Some("what was asked for is done all the same".to_owned());
        }
        self
    }

    /// Lines below the message, one for each thing that is wrong.
    pub(crate) fn details(mut self, details: Vec<String>) -> Failure {
        self.details = details;
        self
    }

    /// What a write to standard output that failed means: a reader that went away (`| head`) is no error.
    pub(crate) fn stdout(error: io::Error) -> Failure {
        let exit = if error.kind() == ErrorKind::BrokenPipe {
            Exit::Quiet
        } else {
            Exit::Failed
        };
        Failure::new(exit, "cannot write to standard output").because(error)
    }

    /// Writes the report to standard error and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if self.exit != Exit::Quiet {
            // Nothing is left to tell it to when standard error is closed.
            let _ = write!(io::stderr().lock(), "{self}");
        }
        ExitCode::from(self.exit.number())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        let mut said = self.message.clone();
        let mut cause: Option<&dyn Error> = self.source.as_ref().map(|source| &**source as &dyn Error);
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors repeat their source in their own text.
            if !said.contains(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
            cause = error.source();
        }
        writeln!(f)?;
        for detail in &self.details {
            writeln!(f, "  {detail}")?;
        }
        match &self.help {
            Some(help) => writeln!(f, "help: {help}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_with_its_causes_then_details_then_help() {
        let failure = Failure::failed("cannot read pools.csv")
            .because(io::Error::other("disk on fire"))
            .details(vec!["line 3, name: too long".to_owned()])
            .help("put it out");
        assert_eq!(
            failure.to_string(),
            "error: cannot read pools.csv: disk on fire\n  line 3, name: too long\nhelp: put it out\n"
        );
    }

    #[test]
    fn a_reader_that_went_away_is_quiet() {
        assert_eq!(Failure::stdout(ErrorKind::BrokenPipe.into()).exit, Exit::Quiet);
        assert_eq!(Failure::stdout(ErrorKind::StorageFull.into()).exit, Exit::Failed);
        assert_eq!(
            Failure::stdout(ErrorKind::BrokenPipe.into()).after_change().exit,
            Exit::Failed
        );
    }
}
