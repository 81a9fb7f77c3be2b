//! Who sends: the direction of an m-line or of a header extension (RFC 8866 section 6.7, RFC 8285 section 5).

/// Who sends on an m-line, seen from the offerer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Both.
    SendRecv,
    /// The offerer.
    SendOnly,
    /// We.
    RecvOnly,
    /// Nobody.
    Inactive,
}

impl Direction {
    /// The direction with this attribute name.
    pub(super) fn parse(name: &str) -> Option<Direction> {
        match name {
            "sendrecv" => Some(Direction::SendRecv),
            "sendonly" => Some(Direction::SendOnly),
            "recvonly" => Some(Direction::RecvOnly),
            "inactive" => Some(Direction::Inactive),
            _ => None,
        }
    }

    /// Its attribute name.
    pub fn name(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    /// Whether packets may flow in the one direction `flow`.
    pub(super) fn allows(self, flow: Direction) -> bool {
        self == Direction::SendRecv || self == flow
    }
}
