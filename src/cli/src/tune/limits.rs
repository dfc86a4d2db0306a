//! From where on something of a host counts as off.

/// Older kernels are not supported.
pub(super) const KERNEL_VERSION_MIN: (u32, u32) = (5, 11);
/// Fewer connections for each core are too few for a server: clients hold several each.
pub(super) const CONNECTION_COUNT_ADVISED_PER_CORE: usize = 1024;
/// An interrupt that came so often since the start to the executors' processors belongs to a device at work.
pub(super) const INTERRUPT_COUNT_MIN: u64 = 10_000;
/// The kernel's own value is 60; up to this one it takes pages of programs only when little else is left.
pub(super) const SWAPPINESS_MAX: u64 = 10;
