//! Seeds, simulated disk and clock, and the checkers that hold Plimsoll's promises.
