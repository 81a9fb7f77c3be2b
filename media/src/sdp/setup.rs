//! Which end says hello in DTLS, as offered and answered (RFC 5763 section 5).

/// The DTLS role in `a=setup` (RFC 5763 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// The end that says so is the DTLS client.
    Active,
    /// The end that says so is the DTLS server.
    Passive,
    /// Either, at the choice of the other end.
    ActPass,
}

impl Setup {
    /// Our role for the role offered: server where we may choose, so that the client's first
    /// flight also shows that its path works.
    pub fn answer(self) -> Setup {
        match self {
            Setup::Active | Setup::ActPass => Setup::Passive,
            Setup::Passive => Setup::Active,
        }
    }

    /// The value of `a=setup`.
    pub fn name(self) -> &'static str {
        match self {
            Setup::Active => "active",
            Setup::Passive => "passive",
            Setup::ActPass => "actpass",
        }
    }
}
