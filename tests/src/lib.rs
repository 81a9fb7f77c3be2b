//! The test harness: festival topologies of real processes, browsers, peers.
