//! What the checks of a host come to.

use serde::Serialize;

/// How much what was found matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// It would keep a server from starting, or an acknowledged change could be lost.
    Must,
    /// It costs speed, evenness or room.
    Should,
    /// It cannot be told here.
    Unknown,
    /// Nothing is off.
    Fine,
}

impl Verdict {
    pub(super) fn name(self) -> &'static str {
        match self {
            Verdict::Must => "must",
            Verdict::Should => "should",
            Verdict::Unknown => "unknown",
            Verdict::Fine => "fine",
        }
    }
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The name of the check, for scripts.
    pub(super) check: &'static str,
    pub(super) verdict: Verdict,
    /// What was found, and why it matters when something is off.
    pub(super) found: String,
    /// The command that mends it, or what to do where no command can.
    pub(super) remedy: Option<String>,
}

/// One check, to be told what it found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check(pub(super) &'static str);

impl Check {
    pub(super) fn must(self, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        self.finding(Verdict::Must, found.into(), Some(remedy.into()))
    }

    pub(super) fn should(self, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        self.finding(Verdict::Should, found.into(), Some(remedy.into()))
    }

    pub(super) fn fine(self, found: impl Into<String>) -> Finding {
        self.finding(Verdict::Fine, found.into(), None)
    }

    /// `what` could not be read, as in many containers and on virtual machines.
    pub(super) fn unknown(self, what: impl AsRef<str>) -> Finding {
        self.finding(Verdict::Unknown, format!("not readable here: {}", what.as_ref()), None)
    }

    fn finding(self, verdict: Verdict, found: String, remedy: Option<String>) -> Finding {
        Finding {
            check: self.0,
            verdict,
            found,
            remedy,
        }
    }
}
