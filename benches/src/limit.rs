//! The bare limit of fan-out on this machine: seal with AES-128-GCM into an arena, one key for each
//! listener, and send with `sendmmsg`, segmented (GSO) where a listener gets more than one packet.
//! No session, no ring, no rewriting: what is left cannot be saved.
#![expect(unsafe_code, reason = "sendmmsg and the UDP_SEGMENT control message")]

use std::{io, mem, net::SocketAddr, net::UdpSocket, os::fd::AsRawFd};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::measure::thread_cpu_ns;

const MESSAGES: usize = 64;
const HEADER: usize = 12;
const TAG: usize = 16;

/// Keys and addresses of all listeners, and an arena for as many packets as leave with one system call.
pub struct Limit {
    keys: Vec<LessSafeKey>,
    names: Vec<libc::sockaddr_in>,
    arena: Vec<u8>,
    index: u64,
    /// CPU time spent on sending alone, nanoseconds.
    pub sending_ns: u64,
}

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 32]);

impl Limit {
    /// For these listeners.
    pub fn new(addresses: &[SocketAddr]) -> Limit {
        let key = |number: usize| {
            let mut octets = [7; 16];
            octets[..8].copy_from_slice(&(number as u64).to_be_bytes());
            LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &octets).expect("16 octets"))
        };
        Limit {
            keys: (0..addresses.len()).map(key).collect(),
            names: addresses.iter().map(name).collect(),
            arena: vec![0; MESSAGES * 8 * 1500],
            index: 0,
            sending_ns: 0,
        }
    }

    /// Sends a burst of packets of `len` octets, before sealing, to each listener.
    pub fn forward(&mut self, socket: &UdpSocket, packet: &[u8], burst: usize) {
        let sealed = packet.len() + TAG;
        for first in (0..self.keys.len()).step_by(MESSAGES) {
            let keys = &self.keys[first..(first + MESSAGES).min(self.keys.len())];
            for (listener, key) in keys.iter().enumerate() {
                for number in 0..burst {
                    let start = (listener * burst + number) * sealed;
                    let out = &mut self.arena[start..start + sealed];
                    seal(key, packet, self.index + number as u64, out);
                }
            }
            let begin = thread_cpu_ns();
            send(socket, &mut self.names[first..first + keys.len()], &self.arena, sealed, burst);
            self.sending_ns += thread_cpu_ns() - begin;
        }
        self.index += burst as u64;
    }
}

fn seal(key: &LessSafeKey, packet: &[u8], index: u64, out: &mut [u8]) {
    let (plain, tag) = out.split_at_mut(packet.len());
    plain.copy_from_slice(packet);
    plain[2..4].copy_from_slice(&(index as u16).to_be_bytes());
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&index.to_be_bytes());
    let (header, payload) = plain.split_at_mut(HEADER);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let sealed = key.seal_in_place_separate_tag(nonce, Aad::from(&*header), payload);
    tag.copy_from_slice(sealed.expect("a datagram is far below the limit of GCM").as_ref());
}

fn send(socket: &UdpSocket, names: &mut [libc::sockaddr_in], arena: &[u8], sealed: usize, burst: usize) {
    // SAFETY: all zeros is a valid iovec and a valid mmsghdr.
    let (mut parts, mut messages): ([libc::iovec; MESSAGES], [libc::mmsghdr; MESSAGES]) =
        unsafe { (mem::zeroed(), mem::zeroed()) };
    let mut controls = [Control([0; 32]); MESSAGES];
    for (index, name) in names.iter_mut().enumerate() {
        let octets = &arena[index * burst * sealed..][..burst * sealed];
        parts[index] = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
        let header = &mut messages[index].msg_hdr;
        header.msg_name = (name as *mut libc::sockaddr_in).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        header.msg_iov = &raw mut parts[index];
        header.msg_iovlen = 1;
        if burst > 1 {
            header.msg_control = controls[index].0.as_mut_ptr().cast();
            // SAFETY: the control buffer is 8-aligned and longer than CMSG_SPACE(2).
            unsafe {
                header.msg_controllen = libc::CMSG_SPACE(2) as usize;
                let control = libc::CMSG_FIRSTHDR(header);
                (*control).cmsg_level = libc::SOL_UDP;
                (*control).cmsg_type = libc::UDP_SEGMENT;
                (*control).cmsg_len = libc::CMSG_LEN(2) as usize;
                libc::CMSG_DATA(control).cast::<u16>().write_unaligned(sealed as u16);
            }
        }
    }
    let mut done = 0;
    while done < names.len() {
        let left = &mut messages[done..names.len()];
        // SAFETY: the headers point to names, parts, controls and an arena that outlive the call.
        let count =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), left.as_mut_ptr(), left.len() as libc::c_uint, 0) };
        match usize::try_from(count) {
            Ok(count) => done += count,
            Err(_) => panic!("loopback takes datagrams: {}", io::Error::last_os_error()),
        }
    }
}

fn name(address: &SocketAddr) -> libc::sockaddr_in {
    let SocketAddr::V4(address) = address else { panic!("the bench runs on 127.0.0.1") };
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}
