//! The bits of a record's detail.

use plimsoll_domain::limits::{HOLD_SECONDS_MAX, REFERENCE_SIZE_MAX};

/// Bits 0 to 16 of a reserved record: seconds until the hold expires; 0: confirmed at once.
pub(crate) const HOLD_SECONDS_MASK: u32 = (1 << 17) - 1;
/// Bits 17 to 23 of a reserved record: size of the reference in bytes; 0: none.
pub(crate) const REFERENCE_SIZE_SHIFT: u32 = 17;
pub(crate) const REFERENCE_SIZE_MASK: u32 = (1 << 7) - 1;
/// Bit 24 of a reserved record: enforcement would have refused it.
pub(crate) const WOULD_REFUSE: u32 = 1 << 24;
/// Every bit of a reserved record that has a meaning.
pub(crate) const RESERVED_BITS: u32 = (1 << 25) - 1;

/// Bits 0 to 7 of a released record: the cause. Of these only bit 0 has a meaning so far; causes to come are unknown bits
/// until then.
pub(crate) const RELEASE_CAUSE_MASK: u32 = 1;
pub(crate) const RELEASE_ASKED: u32 = 0;
pub(crate) const RELEASE_RESET: u32 = 1;
/// Bit 8 of a released record: it was confirmed, not only held.
pub(crate) const WAS_CONFIRMED: u32 = 1 << 8;
/// Every bit of a released record that has a meaning.
pub(crate) const RELEASED_BITS: u32 = WAS_CONFIRMED | RELEASE_CAUSE_MASK;

/// Bits 0 to 7 of a resized record: the cause.
pub(crate) const CAUSE_MASK: u32 = (1 << 8) - 1;
pub(crate) const CAUSE_ASKED: u32 = 0;
pub(crate) const CAUSE_DOWNTIME: u32 = 1;
/// Bits 8 to 23 of a resized record: the version from now on. Bit 24 is that of a reserved record.
pub(crate) const VERSION_SHIFT: u32 = 8;
pub(crate) const VERSION_MASK: u32 = (1 << 16) - 1;
/// Every bit of a resized record that has a meaning.
pub(crate) const RESIZED_BITS: u32 = (1 << 25) - 1;

const _: () = assert!(HOLD_SECONDS_MAX <= HOLD_SECONDS_MASK);
const _: () = assert!(REFERENCE_SIZE_MAX as u32 <= REFERENCE_SIZE_MASK);
const _: () = assert!(WOULD_REFUSE | REFERENCE_SIZE_MASK << REFERENCE_SIZE_SHIFT | HOLD_SECONDS_MASK == RESERVED_BITS);
