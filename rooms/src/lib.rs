//! Rooms as a core without I/O: chat, presence, history.
