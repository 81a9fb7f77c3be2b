//! The SSRCs and RIDs that an m-line announces (RFC 5576, RFC 8851), paired with their repair
//! streams. Both are hints: packets may come under other SSRCs and be known by mid, rid or payload
//! type instead.

use super::error::SdpError;

/// What an m-line says of the packets it will send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sources {
    ssrcs: Vec<u32>,
    /// (media, retransmission)
    repairs: Vec<(u32, u32)>,
    /// Second members of FEC groups: never media.
    fec: Vec<u32>,
    pub(super) rids: Vec<Rid>,
    /// A RID that stands there twice.
    pub(super) twice: Option<String>,
}

/// An encoding of simulcast that the offerer sends (RFC 8851).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rid {
    /// Its name.
    pub id: String,
    /// What it is bounded by, if that is said: width, height, bit rate.
    most: [u64; 3],
}

impl Rid {
    /// The best encoding: the one that is bounded least, else the one that its name calls best, else the first.
    /// Browsers put the first one anywhere, the smallest included.
    pub(super) fn best<'r>(rids: impl DoubleEndedIterator<Item = &'r Rid>) -> Option<&'r Rid> {
        // of equals the last is the greatest, and the first is wanted
        rids.rev().max_by_key(|rid| (rid.most, rid.rank()))
    }

    /// As people call their encodings.
    fn rank(&self) -> u8 {
        match self.id.to_ascii_lowercase().as_str() {
            "f" | "full" | "fhd" | "hi" | "high" | "orig" | "original" | "source" | "top" => 3,
            // high; beside f it is half
            "h" | "hd" => 2,
            "l" | "lo" | "low" | "q" | "quarter" | "s" | "sd" | "small" | "m" | "mid" | "med" | "medium"
            | "half" => 0,
            _ => 1,
        }
    }
}

impl Sources {
    /// Takes in the value of `a=ssrc`.
    pub(super) fn ssrc(&mut self, value: &str) -> Result<(), SdpError> {
        let word = value.split_ascii_whitespace().next().unwrap_or_default();
        // a hint that cannot be read is none
        let Ok(ssrc) = word.parse::<u32>() else { return Ok(()) };
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
            && rid.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        {
            if self.rids.iter().any(|known| known.id == rid) {
                self.twice.get_or_insert_with(|| rid.to_owned());
                return Ok(());
            }
            bounded(self.rids.len(), "RIDs on one m-line")?;
            let restrictions: String = words.collect();
            let most = ["max-width", "max-height", "max-br"].map(|name| {
                let mut all = restrictions.split(';').filter_map(|one| one.split_once('='));
                all.find(|(key, _)| *key == name).and_then(|(_, most)| most.parse().ok()).unwrap_or(u64::MAX)
            });
            self.rids.push(Rid { id: rid.to_owned(), most });
        }
        Ok(())
    }

    /// The encodings that a value of `a=simulcast` says will be sent (RFC 8853 section 5.1), in its order. Of
    /// alternatives the first that is known counts, and a paused one counts too.
    pub(super) fn simulcast(&self, value: &str) -> Vec<&Rid> {
        let mut words = value.split_ascii_whitespace();
        let list = words.by_ref().find(|word| *word == "send").and_then(|_| words.next());
        let known = |name: &str| {
            let name = name.strip_prefix('~').unwrap_or(name);
            self.rids.iter().find(|rid| rid.id == name)
        };
        let streams = list.into_iter().flat_map(|list| list.split(';'));
        streams.filter_map(|alternatives| alternatives.split(',').find_map(known)).collect()
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

/// Four encodings with RTX and FEC are 12 SSRCs.
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
        let ids: Vec<_> = sources.rids.iter().map(|rid| rid.id.as_str()).collect();
        assert_eq!(ids, ["h", "l"]);
        assert_eq!(sources.twice.as_deref(), Some("h"));
    }

    #[test]
    fn encodings_come_in_the_order_of_the_offer_and_of_alternatives_the_first_that_is_known() {
        let mut sources = Sources::default();
        for line in ["a send", "b send", "c send", "d recv"] {
            sources.rid(line).unwrap();
        }
        for (value, expected) in [
            ("send c;a;b", "cab"),
            ("recv d send a;~b", "ab"),
            ("send x,b;~c,a recv d", "bc"),
            ("send a;x;d;b", "ab"),
            ("send a;b;a", "aba"),
            ("send", ""),
            ("recv a;b", ""),
            ("send ;,;~", ""),
            ("", ""),
        ] {
            let ids: String = sources.simulcast(value).iter().map(|rid| rid.id.as_str()).collect();
            assert_eq!(ids, expected, "{value}");
        }
    }

    #[test]
    fn the_best_encoding_is_found_wherever_it_stands() {
        for (lines, best) in [
            (&["l send", "m send", "h send"] as &[&str], "h"),
            (&["h send", "m send", "l send"], "h"),
            (&["q send", "h send", "f send"], "f"),
            (&["low send", "medium send", "high send"], "high"),
            (&["0 send", "1 send", "2 send"], "0"),
            (&["a send max-width=320", "b send max-width=1280;max-height=720", "c send max-width=640"], "b"),
            (&["f send pt=96;max-br=100000", "l send pt=96;max-br=900000"], "l"),
            (&["f send max-width=320", "l send"], "l"),
            (&["one send"], "one"),
        ] {
            let mut sources = Sources::default();
            for line in lines {
                sources.rid(line).unwrap();
            }
            assert_eq!(Rid::best(sources.rids.iter()).map(|rid| rid.id.as_str()), Some(best), "{lines:?}");
        }
        assert_eq!(Rid::best([].iter()), None);
    }
}
