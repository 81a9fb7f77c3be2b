use bytes::BytesMut;
use proptest::prelude::*;
use rtc_srtp::{context::Context, protection_profile::ProtectionProfile};

use super::cipher::derive;
use super::replay::MAX_SOURCES;
use super::*;

const PROFILES: [(SrtpProfile, ProtectionProfile); 2] = [
    (SrtpProfile::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
    (SrtpProfile::Aes128CmSha1_80, ProtectionProfile::Aes128CmHmacSha1_80),
];
const KEY: [u8; 16] = [3; 16];

fn salt(profile: SrtpProfile) -> Vec<u8> {
    (0..profile.salt_len() as u8).collect()
}

fn packet(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 111, 0, 0, 0, 0, 0, 9, 0xde, 0xad, 0xbe, 0xef];
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet.extend((0..300).map(|i| i as u8));
    packet
}

fn seal(sealer: &Sealer, sequence: u16, index: u64) -> Vec<u8> {
    let mut buffer = packet(sequence);
    let len = buffer.len();
    buffer.resize(len + 16, 0);
    let sealed = sealer.seal_rtp(&mut buffer, 12, len, 0xdead_beef, index);
    buffer.truncate(sealed);
    buffer
}

fn open(opener: &mut Opener, sealed: &[u8]) -> Result<Vec<u8>, SrtpError> {
    let header = Header::parse(sealed).expect("an RTP header");
    let mut out = BytesMut::new();
    opener.open_rtp(sealed, &header, &mut out).map(|()| out.to_vec())
}

#[test]
fn key_derivation_agrees_with_rfc_3711_appendix_b3() {
    let key = hex::decode("E1F97A0D3E018BE0D64FA32C06DE4139").expect("hex");
    let salt = hex::decode("0EC675AD498AFEEBB6960B3AABE6").expect("hex");
    let mut out = [0; 16];
    derive(&key, &salt, 0, &mut out).expect("derives");
    assert_eq!(hex::encode_upper(out), "C61E7A93744F39EE10734AFE3FF7A087");
    let mut out = [0; 14];
    derive(&key, &salt, 2, &mut out).expect("derives");
    assert_eq!(hex::encode_upper(out), "30CBBC08863D8C85D49DB34A9AE1");
}

#[test]
fn both_profiles_agree_with_an_independent_implementation() {
    let provider = rtc_crypto::default_provider().expect("a crypto provider");
    for (profile, theirs) in PROFILES {
        let salt = salt(profile);
        let context = || Context::new(&KEY, &salt, theirs, None, None, provider.crypto()).expect("a context");
        let (mut their_sender, mut their_receiver) = (context(), context());
        let mut sealer = Sealer::new(profile, &KEY, &salt).expect("keys");
        let mut opener = Opener::new(profile, &KEY, &salt).expect("keys");
        // across the rollover of the sequence number
        for (index, sequence) in (65_530_u64..65_545).map(|index| (index, index as u16)) {
            let plain = packet(sequence);
            let sealed = their_sender.encrypt_rtp(&plain).expect("they seal");
            assert_eq!(open(&mut opener, &sealed).expect("we open"), plain[12..], "{profile:?}");
            let sealed = seal(&sealer, sequence, index);
            assert_eq!(their_receiver.decrypt_rtp(&sealed).expect("they open"), plain, "{profile:?}");
        }
        let report = [0x80, 201, 0, 1, 1, 2, 3, 4, 0x81, 202, 0, 2, 1, 2, 3, 4, 1, 1, b'x', 0];
        let sealed = their_sender.encrypt_rtcp(&report).expect("they seal");
        assert_eq!(opener.open_rtcp(&sealed).expect("we open"), report);
        let sealed = sealer.seal_rtcp(&report);
        assert_eq!(their_receiver.decrypt_rtcp(&sealed).expect("they open")[..], report);
    }
}

#[test]
fn a_replayed_or_damaged_packet_is_refused() {
    for (profile, _) in PROFILES {
        let salt = salt(profile);
        let mut sealer = Sealer::new(profile, &KEY, &salt).expect("keys");
        let mut opener = Opener::new(profile, &KEY, &salt).expect("keys");
        let sealed = seal(&sealer, 7, 7);
        let mut damaged = sealed.clone();
        damaged[40] ^= 1;
        assert_eq!(open(&mut opener, &damaged), Err(SrtpError::Authentication));
        assert!(open(&mut opener, &sealed).is_ok());
        assert_eq!(open(&mut opener, &sealed), Err(SrtpError::Replay));
        assert!(open(&mut opener, &seal(&sealer, 5, 5)).is_ok(), "late but new");
        assert!(open(&mut opener, &seal(&sealer, 200, 200)).is_ok());
        assert_eq!(open(&mut opener, &seal(&sealer, 6, 6)), Err(SrtpError::Behind), "too old to tell");
        let report = sealer.seal_rtcp(&[0x80, 201, 0, 1, 1, 2, 3, 4]);
        assert!(opener.open_rtcp(&report).is_ok());
        assert_eq!(opener.open_rtcp(&report), Err(SrtpError::Replay));
    }
}

fn seal_of(sealer: &Sealer, ssrc: u32, index: u64) -> Vec<u8> {
    let mut buffer = packet(index as u16);
    buffer[8..12].copy_from_slice(&ssrc.to_be_bytes());
    let len = buffer.len();
    buffer.resize(len + 16, 0);
    let sealed = sealer.seal_rtp(&mut buffer, 12, len, ssrc, index);
    buffer.truncate(sealed);
    buffer
}

#[test]
fn sources_without_number_are_heard_and_none_of_them_can_be_replayed() {
    for (profile, _) in PROFILES {
        let salt = salt(profile);
        let sealer = Sealer::new(profile, &KEY, &salt).expect("keys");
        let mut opener = Opener::new(profile, &KEY, &salt).expect("keys");
        let sent: Vec<Vec<u8>> = (0..1000).map(|ssrc| seal_of(&sealer, ssrc, 70_000)).collect();
        // An index above 65,535 cannot be the first of a source: begin each before that.
        for ssrc in 0..1000 {
            assert!(open(&mut opener, &seal_of(&sealer, ssrc, 65_000)).is_ok(), "source {ssrc}");
            assert!(open(&mut opener, &sent[ssrc as usize]).is_ok(), "source {ssrc}");
        }
        for (ssrc, packet) in (0..).zip(&sent) {
            assert!(open(&mut opener, packet).is_err(), "replayed {ssrc}");
            assert!(open(&mut opener, &seal_of(&sealer, ssrc, 69_990)).is_err() || ssrc >= 968, "{ssrc}");
        }
        assert!(open(&mut opener, &seal_of(&sealer, 3, 70_001)).is_ok(), "it comes back and goes on");
    }
}

#[test]
fn a_listener_has_few_sources() {
    let (profile, _) = PROFILES[0];
    let salt = salt(profile);
    let mut sealer = Sealer::new(profile, &KEY, &salt).expect("keys");
    let mut opener = Opener::for_listener(profile, &KEY, &salt).expect("keys");
    let mut report = |ssrc: u32| {
        let [a, b, c, d] = ssrc.to_be_bytes();
        sealer.seal_rtcp(&[0x80, 201, 0, 1, a, b, c, d])
    };
    let taken = (0..1000).filter(|ssrc| opener.open_rtcp(&report(*ssrc)).is_ok()).count();
    assert_eq!(taken, MAX_SOURCES + MAX_FORMER_OF_LISTENER);
}

#[test]
fn numbers_that_jumped_back_are_told_from_forgeries() {
    for (profile, _) in PROFILES {
        let salt = salt(profile);
        let sealer = Sealer::new(profile, &KEY, &salt).expect("keys");
        let mut opener = Opener::new(profile, &KEY, &salt).expect("keys");
        assert!(open(&mut opener, &seal_of(&sealer, 7, 60_000)).is_ok());
        for back in [200, 9000, 40_000, 59_999] {
            let mut behind = seal_of(&sealer, 7, 60_000 - back);
            assert_eq!(open(&mut opener, &behind), Err(SrtpError::Behind), "{back}");
            behind[40] ^= 1;
            assert_eq!(open(&mut opener, &behind), Err(SrtpError::Authentication), "{back}");
        }
        assert!(open(&mut opener, &seal_of(&sealer, 7, 60_001)).is_ok());
    }
}

proptest! {
    #[test]
    fn opening_junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..200)) {
        for (profile, _) in PROFILES {
            let mut opener = Opener::new(profile, &KEY, &salt(profile)).expect("keys");
            if let Ok(header) = Header::parse(&junk) {
                prop_assert!(opener.open_rtp(&junk, &header, &mut BytesMut::new()).is_err());
            }
            prop_assert!(opener.open_rtcp(&junk).is_err());
        }
    }
}
