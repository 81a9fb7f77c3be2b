//! The mesh as a core without I/O: link-state, routes, media trees, logs.
