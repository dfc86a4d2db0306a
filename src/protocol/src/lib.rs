//! Frames, status numbers and wire types of the binary protocol.
