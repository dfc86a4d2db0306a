//! Mistakes that the model can be told to make, to see that the comparison would notice them.

/// A mistake of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    AllowanceOverlooked,
    ClosingTimeStillSells,
    KeyForgottenOneMicrosecondEarly,
    HoldNotCompared,
    EndedStillCounts,
    GenerationStays,
    DeadlineStillConfirms,
    RetryAfterResizeRefused,
    RetiredPoolStillFound,
    GrowthNotChecked,
    ShrinkingNeedsAnOpenPool,
    UnchangedTakenAsZero,
    ResizeKeepsVersion,
    ExtensionCountsVersion,
    GrowthLosesFlag,
    ExpiryWithinTheBucket,
    HeldPoolRetires,
    RetirementOverlooksEvents,
    RefusalsKeepAPool,
    SweepFreesLivePools,
    SweepLeavesEnded,
    FreeSlotsOldestFirst,
    OneReservationTooMany,
    OnePoolTooMany,
}

impl Fault {
    pub(crate) const ALL: [Fault; 24] = [
        Fault::AllowanceOverlooked,
        Fault::ClosingTimeStillSells,
        Fault::KeyForgottenOneMicrosecondEarly,
        Fault::HoldNotCompared,
        Fault::EndedStillCounts,
        Fault::GenerationStays,
        Fault::DeadlineStillConfirms,
        Fault::RetryAfterResizeRefused,
        Fault::RetiredPoolStillFound,
        Fault::GrowthNotChecked,
        Fault::ShrinkingNeedsAnOpenPool,
        Fault::UnchangedTakenAsZero,
        Fault::ResizeKeepsVersion,
        Fault::ExtensionCountsVersion,
        Fault::GrowthLosesFlag,
        Fault::ExpiryWithinTheBucket,
        Fault::HeldPoolRetires,
        Fault::RetirementOverlooksEvents,
        Fault::RefusalsKeepAPool,
        Fault::SweepFreesLivePools,
        Fault::SweepLeavesEnded,
        Fault::FreeSlotsOldestFirst,
        Fault::OneReservationTooMany,
        Fault::OnePoolTooMany,
    ];
}
