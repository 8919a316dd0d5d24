//! Reads a packet capture as it is written (pcap, the format of `tcpdump -w`), and judges each TCP stream in it:
//! which port, is it nothing but TLS records, does a marker occur.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

/// What a link carried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Packets.
    pub packets: u64,
    /// Bytes of the packets.
    pub bytes: u64,
    /// By the server's port: what went over it.
    pub ports: BTreeMap<u16, PortSeen>,
    /// Protocols other than TCP, by IP protocol number (17 is UDP, 58 ICMPv6).
    pub others: BTreeSet<u8>,
    /// Markers that occurred: on which port, in how many packets.
    pub markers: BTreeMap<String, BTreeMap<u16, u64>>,
    /// Why the capture itself cannot be read on, if so.
    pub broken: Option<String>,
}

/// What went over one port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortSeen {
    /// Connections seen from their first packet.
    pub connections: u64,
    /// Bytes of payload.
    pub payload: u64,
    /// Streams (one direction of a connection) that hold something other than whole TLS records.
    pub not_tls: u64,
    /// Streams that cannot be judged: not seen from the beginning, or with a gap.
    pub unjudged: u64,
}

/// Reads a capture piece by piece.
#[derive(Debug)]
pub struct Reader {
    markers: Vec<String>,
    pending: Vec<u8>,
    header_seen: bool,
    streams: HashMap<StreamKey, Stream>,
    seen: Seen,
}

type StreamKey = (IpAddr, u16, IpAddr, u16);

/// One direction of a connection.
#[derive(Debug, Default)]
struct Stream {
    server_port: u16,
    next: Option<u32>,
    /// Bytes of the current TLS record that are still to come.
    record_left: usize,
    record_head: Vec<u8>,
    judged: Judged,
    /// The end of what was seen, so that a marker across two packets is found.
    tail: Vec<u8>,
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum Judged {
    #[default]
    Tls,
    NotTls,
    Unjudged,
}

/// Streams kept apart at once; those beyond are unjudged.
const MOST_STREAMS: usize = 100_000;
/// Longest packet that is believed.
const LONGEST: usize = 1 << 20;

struct Segment<'a> {
    from: (IpAddr, u16),
    to: (IpAddr, u16),
    sequence: u32,
    syn: bool,
    end: bool,
    payload: &'a [u8],
}

impl Reader {
    /// A reader that looks for these markers.
    pub fn new(markers: &[&str]) -> Self {
        Self {
            markers: markers.iter().map(ToString::to_string).collect(),
            pending: Vec::new(),
            header_seen: false,
            streams: HashMap::new(),
            seen: Seen::default(),
        }
    }

    /// Looks for one more marker from now on.
    pub fn look_for(&mut self, marker: &str) {
        self.markers.push(marker.to_owned());
    }

    /// What was seen so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.seen.broken.is_some() {
            return;
        }
        self.pending.extend_from_slice(bytes);
        let mut pending = std::mem::take(&mut self.pending);
        let mut used = 0;
        while let Some(rest) = pending.get(used..) {
            match self.step(rest) {
                Ok(0) => break,
                Ok(step) => used += step,
                Err(why) => {
                    self.seen.broken = Some(why);
                    return;
                }
            }
        }
        pending.drain(..used);
        self.pending = pending;
    }

    /// Reads the header or one packet, if it is there as a whole, and answers how many bytes it took.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, String> {
        if !self.header_seen {
            let Some(header) = bytes.get(..24) else { return Ok(0) };
            // Little-endian with micro- or nanoseconds, link type Ethernet: what tcpdump writes here.
            if !matches!(
                header.get(..4),
                Some([0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1])
            ) {
                return Err("it does not begin as a pcap file does".into());
            }
            if little_endian(header, 20) != Some(1) {
                return Err("its link type is not Ethernet".into());
            }
            self.header_seen = true;
            return Ok(24);
        }
        let (Some(captured), Some(length)) = (little_endian(bytes, 8), little_endian(bytes, 12)) else {
            return Ok(0);
        };
        let (captured, length) = (captured as usize, length as usize);
        if captured > LONGEST || captured > length {
            return Err(format!("it has a packet of {captured} bytes out of {length}"));
        }
        let Some(packet) = bytes.get(16..16 + captured) else {
            return Ok(0);
        };
        self.packet(packet);
        Ok(16 + captured)
    }

    fn packet(&mut self, packet: &[u8]) {
        self.seen.packets += 1;
        self.seen.bytes += packet.len() as u64;
        match ip(packet) {
            Ip::Tcp(segment) => self.segment(&segment),
            Ip::Other(protocol) => {
                self.seen.others.insert(protocol);
                self.look_for_markers(packet, 0);
            }
            Ip::Not => self.look_for_markers(packet, 0),
        }
    }

    fn segment(&mut self, segment: &Segment<'_>) {
        let key = (segment.from.0, segment.from.1, segment.to.0, segment.to.1);
        let reverse = (key.2, key.3, key.0, key.1);
        // The side that is asked first is the server; without a beginning, the lower port is.
        let server_port = match self.streams.get(&key).or_else(|| self.streams.get(&reverse)) {
            Some(stream) if !segment.syn => stream.server_port,
            Some(stream) if self.streams.contains_key(&reverse) && !self.streams.contains_key(&key) => {
                stream.server_port
            }
            _ if segment.syn => segment.to.1,
            _ => segment.from.1.min(segment.to.1),
        };
        let port = self.seen.ports.entry(server_port).or_default();
        port.payload += segment.payload.len() as u64;
        if segment.syn {
            port.connections += u64::from(server_port == segment.to.1);
            if self.streams.len() < MOST_STREAMS {
                self.streams.insert(key, Stream::begin(server_port, segment.sequence));
            }
        }
        let mut stream = self.streams.remove(&key).unwrap_or_else(|| {
            port.unjudged += u64::from(!segment.payload.is_empty());
            Stream {
                server_port,
                judged: Judged::Unjudged,
                ..Stream::default()
            }
        });
        let before = stream.judged;
        let fresh = stream.fresh(segment);
        stream.judge(fresh);
        match (before, stream.judged) {
            (Judged::Tls, Judged::NotTls) => port.not_tls += 1,
            (Judged::Tls, Judged::Unjudged) => port.unjudged += 1,
            _ => {}
        }
        let mut text = std::mem::take(&mut stream.tail);
        text.extend_from_slice(fresh);
        self.look_for_markers(&text, server_port);
        let longest = self
            .markers
            .iter()
            .map(String::len)
            .max()
            .unwrap_or(0)
            .saturating_sub(1);
        text.drain(..text.len().saturating_sub(longest));
        stream.tail = text;
        if !segment.end && self.streams.len() < MOST_STREAMS {
            self.streams.insert(key, stream);
        }
    }

    fn look_for_markers(&mut self, bytes: &[u8], port: u16) {
        for marker in &self.markers {
            let found = bytes
                .windows(marker.len().max(1))
                .any(|window| window == marker.as_bytes());
            if found {
                *self
                    .seen
                    .markers
                    .entry(marker.clone())
                    .or_default()
                    .entry(port)
                    .or_default() += 1;
            }
        }
    }
}

impl Stream {
    fn begin(server_port: u16, sequence: u32) -> Self {
        Self {
            server_port,
            next: Some(sequence.wrapping_add(1)),
            ..Self::default()
        }
    }

    /// What of a segment was not seen before. A gap makes the stream unjudged.
    fn fresh<'a>(&mut self, segment: &Segment<'a>) -> &'a [u8] {
        let payload = segment.payload;
        if payload.is_empty() {
            return payload;
        }
        let Some(next) = self.next else { return payload };
        let behind = next.wrapping_sub(segment.sequence);
        if behind >= 1 << 31 {
            if self.judged == Judged::Tls {
                self.judged = Judged::Unjudged;
            }
            self.next = Some(segment.sequence.wrapping_add(length(payload)));
            return payload;
        }
        let fresh = payload.get(behind as usize..).unwrap_or(&[]);
        self.next = Some(next.wrapping_add(length(fresh)));
        fresh
    }

    /// Follows TLS records (RFC 8446 5.1): type 20 to 23, version 3.x, at most 2^14 + 256 bytes.
    fn judge(&mut self, mut bytes: &[u8]) {
        while self.judged == Judged::Tls && !bytes.is_empty() {
            let skipped = self.record_left.min(bytes.len());
            self.record_left -= skipped;
            bytes = bytes.get(skipped..).unwrap_or(&[]);
            let wanted = (5 - self.record_head.len()).min(bytes.len());
            self.record_head.extend(bytes.iter().take(wanted));
            bytes = bytes.get(wanted..).unwrap_or(&[]);
            if let [kind, major, _, high, low] = self.record_head[..] {
                let length = usize::from(u16::from_be_bytes([high, low]));
                if (20..=23).contains(&kind) && major == 3 && length <= (1 << 14) + 256 {
                    self.record_left = length;
                } else {
                    self.judged = Judged::NotTls;
                }
                self.record_head.clear();
            }
        }
    }
}

enum Ip<'a> {
    Tcp(Segment<'a>),
    Other(u8),
    Not,
}

fn ip(packet: &[u8]) -> Ip<'_> {
    let read = || {
        let ether_type = big_endian(packet, 12)?;
        let packet = packet.get(14..)?;
        let address4 = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
        let address6 = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
        let (protocol, from, to, body) = match ether_type {
            0x0800 => {
                let header = usize::from(packet.first()? & 15) * 4;
                // Longer than it says only by Ethernet's padding; says 0 when segmented by the card.
                let total = usize::from(big_endian(packet, 2)?);
                let end = if total == 0 {
                    packet.len()
                } else {
                    total.min(packet.len())
                };
                (*packet.get(9)?, address4(12)?, address4(16)?, packet.get(header..end)?)
            }
            0x86dd => (*packet.get(6)?, address6(8)?, address6(24)?, packet.get(40..)?),
            _ => return None,
        };
        Some(if protocol == 6 {
            tcp(from, to, body).map_or(Ip::Other(6), Ip::Tcp)
        } else {
            Ip::Other(protocol)
        })
    };
    read().unwrap_or(Ip::Not)
}

fn tcp(from: IpAddr, to: IpAddr, body: &[u8]) -> Option<Segment<'_>> {
    let header = usize::from(body.get(12)? >> 4) * 4;
    let flags = *body.get(13)?;
    let sequence = u32::from(big_endian(body, 4)?) << 16 | u32::from(big_endian(body, 6)?);
    Some(Segment {
        from: (from, big_endian(body, 0)?),
        to: (to, big_endian(body, 2)?),
        sequence,
        syn: flags & 2 != 0,
        end: flags & 4 != 0,
        payload: body.get(header..)?,
    })
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn big_endian(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn little_endian(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
#[path = "pcap_tests.rs"]
mod tests;
