//! Pinned executors, sockets, dispatch and shutdown.
