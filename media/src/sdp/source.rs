//! The SSRCs and RIDs that an m-line announces (RFC 5576, RFC 8851), paired with their repair
//! streams. Both are hints: packets may come under other SSRCs and be known by mid, rid or payload
//! type instead.

use super::SdpError;

/// What an m-line says of the packets it will send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sources {
    ssrcs: Vec<u32>,
    /// (media, retransmission)
    repairs: Vec<(u32, u32)>,
    /// Second members of FEC groups: never media.
    fec: Vec<u32>,
    pub(super) rids: Vec<String>,
}

impl Sources {
    /// Takes in the value of `a=ssrc`.
    pub(super) fn ssrc(&mut self, value: &str) -> Result<(), SdpError> {
        let word = value.split_ascii_whitespace().next().unwrap_or_default();
        let ssrc: u32 = word.parse().map_err(|_| SdpError::Malformed {
            attribute: "ssrc",
            reason: "it starts with a 32-bit number",
        })?;
        if self.ssrcs.last() != Some(&ssrc) && !self.ssrcs.contains(&ssrc) {
            bounded(self.ssrcs.len(), "SSRCs on one m-line")?;
            self.ssrcs.push(ssrc);
        }
        Ok(())
    }

    /// Takes in the value of `a=ssrc-group`. Groups other than pairs of FID and FEC-FR say nothing
    /// we use.
    pub(super) fn group(&mut self, value: &str) -> Result<(), SdpError> {
        let mut words = value.split_ascii_whitespace();
        let semantics = words.next().unwrap_or_default();
        let (Some(Ok(first)), Some(Ok(second)), None) =
            (words.next().map(str::parse), words.next().map(str::parse), words.next())
        else {
            return Ok(());
        };
        bounded(self.repairs.len() + self.fec.len(), "SSRC groups on one m-line")?;
        match semantics {
            "FID" => self.repairs.push((first, second)),
            "FEC-FR" => self.fec.push(second),
            _ => {}
        }
        Ok(())
    }

    /// Takes in the value of `a=rid`; only those the offerer sends count.
    pub(super) fn rid(&mut self, value: &str) -> Result<(), SdpError> {
        let mut words = value.split_ascii_whitespace();
        if let (Some(rid), Some("send")) = (words.next(), words.next())
            && rid.len() <= 32
            && !self.rids.iter().any(|known| known == rid)
        {
            bounded(self.rids.len(), "RIDs on one m-line")?;
            self.rids.push(rid.to_owned());
        }
        Ok(())
    }

    /// The media SSRCs in the order announced, each with its retransmission SSRC.
    pub(super) fn media(&self) -> Vec<(u32, Option<u32>)> {
        let repair_of =
            |ssrc| self.repairs.iter().find(|(media, _)| *media == ssrc).map(|(_, repair)| *repair);
        self.ssrcs
            .iter()
            .filter(|ssrc| {
                !self.fec.contains(ssrc) && !self.repairs.iter().any(|(_, repair)| repair == *ssrc)
            })
            .map(|ssrc| (*ssrc, repair_of(*ssrc)))
            .collect()
    }

    /// Every SSRC that is taken.
    pub(super) fn taken(&self) -> impl Iterator<Item = u32> + '_ {
        self.ssrcs.iter().copied()
    }
}

/// Three simulcast layers with RTX and FEC are 9 SSRCs.
const MOST: usize = 32;

fn bounded(have: usize, what: &'static str) -> Result<(), SdpError> {
    if have < MOST { Ok(()) } else { Err(SdpError::TooMany { what, most: MOST }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retransmission_ssrcs_are_paired_and_not_media() {
        let mut sources = Sources::default();
        sources.group("FID 10 20").unwrap();
        sources.group("FEC-FR 10 30").unwrap();
        sources.group("SIM 10 11 12").unwrap();
        for line in ["10 cname:a", "10 msid:a b", "20 cname:a", "30 cname:a", "11"] {
            sources.ssrc(line).unwrap();
        }
        assert_eq!(sources.media(), [(10, Some(20)), (11, None)]);
    }

    #[test]
    fn too_many_ssrcs_are_refused() {
        let mut sources = Sources::default();
        let refused = (0..100).find_map(|ssrc| sources.ssrc(&ssrc.to_string()).err());
        assert_eq!(refused.unwrap().status(), 400);
    }

    #[test]
    fn only_rids_that_are_sent_count() {
        let mut sources = Sources::default();
        for line in ["h send", "h send", "l send pt=96;max-width=320", "x recv", ""] {
            sources.rid(line).unwrap();
        }
        assert_eq!(sources.rids, ["h", "l"]);
    }
}
