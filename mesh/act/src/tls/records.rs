//! The record layer of a finished handshake (RFC 8446 5), in place: what was read from a socket becomes plaintext
//! where it lies, and what is to be sent is encrypted where it is collected. Keys, and their successors, come from
//! rustls; nothing here negotiates.

use std::{fmt, ops::Range};

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, Error, ExtractedSecrets, SupportedCipherSuite,
    client::ClientConnectionData, kernel::KernelConnection, server::ServerConnectionData,
};

use super::shape::{self, HEADER, LARGEST};

/// Bytes of an AES-GCM tag.
const TAG: usize = 16;
/// Longest ciphertext of one record (RFC 8446 5.2).
const LONGEST: usize = LARGEST + 256;
/// Longest record on the wire.
pub(crate) const RECORD: usize = HEADER + LONGEST;
/// Longest message after the handshake that we read: a session ticket.
const MESSAGE: usize = 64 * 1024;
/// Records in a row that carry no bytes for us, after which the peer is only wasting our time.
const EMPTY: u32 = 64;

/// The type that every encrypted record shows (RFC 8446 5.2), and that of bytes for us.
pub(super) const DATA: u8 = 23;

/// Types of records (RFC 8446 5.1).
mod content {
    pub(super) const ALERT: u8 = 21;
    pub(super) const HANDSHAKE: u8 = 22;
    pub(super) const DATA: u8 = super::DATA;
}

/// Types of messages after the handshake (RFC 8446 4).
mod message {
    pub(super) const NEW_SESSION_TICKET: u8 = 4;
    pub(super) const KEY_UPDATE: u8 = 24;
}

/// Why the peer's records cannot be read on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum RecordError {
    /// Not encrypted by the peer's key: forged, or damaged.
    #[error("a record does not decrypt")]
    BadRecord,
    /// What TLS 1.3 does not allow here.
    #[error("the peer breaks TLS: {0}")]
    Unlawful(&'static str),
    /// The peer ended with an error of its own.
    #[error("the peer ends the connection: {0:?}")]
    Alert(AlertDescription),
    /// rustls has no further key.
    #[error("no further key: {0}")]
    Key(Error),
}

/// What an opening brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Bytes read from the front; the rest is the beginning of a record.
    pub(crate) read: usize,
    /// The peer has ended its direction in order (close_notify).
    pub(crate) ended: bool,
}

/// Both directions of a connection after its handshake.
pub(crate) struct Records {
    sealing: Way,
    opening: Way,
    kernel: Kernel,
    /// The beginning of a message after the handshake.
    message: Vec<u8>,
    /// Records without bytes for us, in a row.
    empty: u32,
    /// The peer asked for an update of our key (RFC 8446 4.6.3).
    owes_update: bool,
}

/// One direction: a key, and how often it was used.
struct Way {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
    /// Records after which the key is to be replaced (RFC 8446 5.5).
    limit: u64,
}

/// Where further keys come from.
pub(super) enum Kernel {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl Kernel {
    fn suite(&self) -> SupportedCipherSuite {
        match self {
            Self::Client(kernel) => kernel.negotiated_cipher_suite(),
            Self::Server(kernel) => kernel.negotiated_cipher_suite(),
        }
    }

    fn next_sealing(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Client(kernel) => kernel.update_tx_secret(),
            Self::Server(kernel) => kernel.update_tx_secret(),
        }
    }

    fn next_opening(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Client(kernel) => kernel.update_rx_secret(),
            Self::Server(kernel) => kernel.update_rx_secret(),
        }
    }
}

impl Way {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets), limit: u64) -> Result<Self, Error> {
        let unknown = || Error::General("a cipher suite that the mesh does not speak".into());
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            _ => return Err(unknown()),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| unknown())?;
        Ok(Self {
            key: LessSafeKey::new(key),
            iv: iv.as_ref().try_into().map_err(|_| unknown())?,
            sequence,
            limit,
        })
    }

    /// The nonce of the next record (RFC 8446 5.3).
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, count) in nonce.iter_mut().skip(4).zip(self.sequence.to_be_bytes()) {
            *byte ^= count;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

impl Records {
    pub(super) fn new(secrets: ExtractedSecrets, kernel: Kernel) -> Result<Self, Error> {
        let limit = match kernel.suite() {
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
            #[allow(unreachable_patterns)]
            _ => return Err(Error::General("not TLS 1.3".into())),
        };
        Ok(Self {
            sealing: Way::new(secrets.tx, limit)?,
            opening: Way::new(secrets.rx, limit)?,
            kernel,
            message: Vec::new(),
            empty: 0,
            owes_update: false,
        })
    }

    /// Whether something is to be sent though nobody writes: a key update that the peer asked for.
    pub(crate) fn owes(&self) -> bool {
        self.owes_update
    }

    /// Decrypts every whole record in `wire`, in place; where its bytes lie is added to `plain`.
    ///
    /// # Errors
    /// Why the connection is over; what was added to `plain` before is good.
    pub(crate) fn open(&mut self, wire: &mut [u8], plain: &mut Vec<Range<usize>>) -> Result<Opened, RecordError> {
        let mut read = 0;
        loop {
            let rest = wire.get_mut(read..).unwrap_or_default();
            let Some((header, rest)) = rest.split_first_chunk_mut::<HEADER>() else {
                return Ok(Opened { read, ended: false });
            };
            let [kind, _, _, high, low] = *header;
            let length = usize::from(u16::from_be_bytes([high, low]));
            if kind != content::DATA {
                return Err(RecordError::Unlawful("a record in the clear"));
            }
            if length > LONGEST {
                return Err(RecordError::Unlawful("a record longer than there may be"));
            }
            let Some(body) = rest.get_mut(..length) else {
                return Ok(Opened { read, ended: false });
            };
            let nonce = self.opening.nonce();
            let text = self
                .opening
                .key
                .open_in_place(nonce, Aad::from(*header), body)
                .map_err(|_| RecordError::BadRecord)?;
            // The type stands behind the bytes, and zeroes may pad it (RFC 8446 5.4).
            let end = text.iter().rposition(|byte| *byte != 0);
            let Some((kind, text)) = end.and_then(|end| text.get(..=end)?.split_last()) else {
                return Err(RecordError::Unlawful("a record without a type"));
            };
            if text.len() > LARGEST {
                return Err(RecordError::Unlawful("more plaintext than a record may hold"));
            }
            let start = read + HEADER;
            read = start + length;
            if *kind == content::DATA && !text.is_empty() {
                self.empty = 0;
                plain.push(start..start + text.len());
                continue;
            }
            self.empty += 1;
            if self.empty > EMPTY {
                return Err(RecordError::Unlawful("too many records in a row that carry nothing"));
            }
            match *kind {
                content::DATA => {}
                content::ALERT => return alert(text, read),
                content::HANDSHAKE => self.after_handshake(text)?,
                _ => return Err(RecordError::Unlawful("a record of an unknown type")),
            }
        }
    }

    /// A piece of the messages that may follow a handshake (RFC 8446 4.6).
    fn after_handshake(&mut self, piece: &[u8]) -> Result<(), RecordError> {
        self.message.extend_from_slice(piece);
        while let Some([kind, a, b, c]) = self.message.first_chunk().copied() {
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if length > MESSAGE {
                return Err(RecordError::Unlawful("a message longer than any we want"));
            }
            let Some(body) = self.message.get(4..4 + length) else {
                return Ok(());
            };
            match (kind, body) {
                // We resume no session.
                (message::NEW_SESSION_TICKET, _) if matches!(self.kernel, Kernel::Client(_)) => {}
                (message::KEY_UPDATE, [asks @ (0 | 1)]) if self.message.len() == 5 => {
                    self.owes_update |= *asks == 1;
                    let next = self.kernel.next_opening().map_err(RecordError::Key)?;
                    self.opening = Way::new(next, self.opening.limit).map_err(RecordError::Key)?;
                }
                _ => return Err(RecordError::Unlawful("a message that does not belong here")),
            }
            self.message.drain(..4 + length);
        }
        self.message.shrink_to_fit();
        Ok(())
    }

    /// Encrypts records in place, which lie as [`shape`] says. What is answered goes before them: a key update that is
    /// due, or nothing.
    ///
    /// # Errors
    /// When there is no further key; nothing may be sent then.
    pub(crate) fn seal(&mut self, records: &mut [u8]) -> Result<Vec<u8>, RecordError> {
        let mut before = Vec::new();
        let count = shape::records(records).count() as u64;
        if std::mem::take(&mut self.owes_update) || self.sealing.sequence + count > self.sealing.limit {
            self.update(&mut before)?;
        }
        let mut rest = records;
        while let Some((header, after)) = rest.split_first_chunk_mut::<HEADER>() {
            let Some((text, after)) = after.split_at_mut_checked(shape::length(*header) + 1) else {
                break;
            };
            let Some((tag, after)) = after.split_first_chunk_mut::<TAG>() else {
                break;
            };
            if let Some(kind) = text.last_mut() {
                *kind = content::DATA;
            }
            self.encrypt(*header, text, tag)?;
            rest = after;
        }
        Ok(before)
    }

    fn encrypt(&mut self, header: [u8; HEADER], text: &mut [u8], tag: &mut [u8; TAG]) -> Result<(), RecordError> {
        let nonce = self.sealing.nonce();
        let made = self
            .sealing
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(header), text)
            .map_err(|_| RecordError::Key(Error::EncryptError))?;
        tag.copy_from_slice(made.as_ref());
        Ok(())
    }

    /// Says that we send nothing more (RFC 8446 6.1).
    ///
    /// # Errors
    /// As [`Records::seal`].
    pub(crate) fn close(&mut self, wire: &mut Vec<u8>) -> Result<(), RecordError> {
        const WARNING: u8 = 1;
        const CLOSE_NOTIFY: u8 = 0;
        self.record(content::ALERT, &[WARNING, CLOSE_NOTIFY], wire)
    }

    /// Says why nothing more is read (RFC 8446 6.2).
    pub(crate) fn abort(&mut self, error: &RecordError, wire: &mut Vec<u8>) {
        const FATAL: u8 = 2;
        let description = match error {
            RecordError::BadRecord => AlertDescription::BadRecordMac,
            RecordError::Unlawful(_) => AlertDescription::UnexpectedMessage,
            RecordError::Key(_) => AlertDescription::InternalError,
            RecordError::Alert(_) => return,
        };
        // Without a key, nothing can be said.
        let _ = self.record(content::ALERT, &[FATAL, description.into()], wire);
    }

    /// Replaces our key, and says so with the last record of the old one (RFC 8446 4.6.3).
    fn update(&mut self, wire: &mut Vec<u8>) -> Result<(), RecordError> {
        self.record(content::HANDSHAKE, &[message::KEY_UPDATE, 0, 0, 1, 0], wire)?;
        let next = self.kernel.next_sealing().map_err(RecordError::Key)?;
        self.sealing = Way::new(next, self.sealing.limit).map_err(RecordError::Key)?;
        Ok(())
    }

    /// Adds a record that carries no bytes of ours.
    pub(super) fn record(&mut self, kind: u8, text: &[u8], wire: &mut Vec<u8>) -> Result<(), RecordError> {
        let header = shape::header(text.len());
        let mut body = [text, &[kind]].concat();
        let mut tag = [0; TAG];
        self.encrypt(header, &mut body, &mut tag)?;
        wire.extend_from_slice(&header);
        wire.extend_from_slice(&body);
        wire.extend_from_slice(&tag);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn sealed(&mut self, plain: &[u8]) -> Vec<u8> {
        let shaped = plain
            .chunks(LARGEST)
            .map(|piece| [&shape::header(piece.len())[..], piece, &[0; shape::TRAILER]].concat());
        let mut records = shaped.collect::<Vec<_>>().concat();
        let mut wire = self.seal(&mut records).expect("a key");
        wire.append(&mut records);
        wire
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Records").finish_non_exhaustive()
    }
}

/// The peer ends: in order, or not.
fn alert(text: &[u8], read: usize) -> Result<Opened, RecordError> {
    match text {
        [_, description] => match AlertDescription::from(*description) {
            AlertDescription::CloseNotify => Ok(Opened { read, ended: true }),
            description => Err(RecordError::Alert(description)),
        },
        _ => Err(RecordError::Unlawful("an alert of a broken length")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use decide::model::Identity;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
        time::timeout,
    };
    use tokio_rustls::{TlsAcceptor, server::TlsStream};

    use super::*;
    use crate::{
        certs::local::LocalAuthority,
        tls::{Channel, accept, configs, connect},
    };

    const LONG: Duration = Duration::from_secs(60);

    fn identity(account: &str) -> Identity {
        Identity::new("cluster.local", "shop", account).unwrap()
    }

    /// Two ends of ours.
    async fn ours() -> (Channel<DuplexStream>, Channel<DuplexStream>) {
        let authority = LocalAuthority::new().unwrap();
        let (web, db) = (
            authority.leaf(&identity("web")).unwrap(),
            authority.leaf(&identity("db")).unwrap(),
        );
        let (near, far) = tokio::io::duplex(1 << 20);
        let expected = identity("db");
        let (client, server) = tokio::join!(connect(&web, near, &expected), accept(&db, far));
        (client.unwrap().0, server.unwrap().0)
    }

    /// An end of ours, and one of rustls' own.
    async fn with_rustls() -> (Channel<DuplexStream>, TlsStream<DuplexStream>) {
        let authority = LocalAuthority::new().unwrap();
        let (web, db) = (
            authority.leaf(&identity("web")).unwrap(),
            authority.leaf(&identity("db")).unwrap(),
        );
        let (near, far) = tokio::io::duplex(1 << 20);
        let expected = identity("db");
        let acceptor = TlsAcceptor::from(configs::server(&db).unwrap());
        let (client, server) = tokio::join!(connect(&web, near, &expected), acceptor.accept(far));
        (client.unwrap().0, server.unwrap())
    }

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    impl Channel<DuplexStream> {
        async fn say(&mut self, plain: &[u8]) {
            let wire = self.records.sealed(plain);
            self.socket.write_all(&wire).await.unwrap();
        }

        /// So many bytes, or what there was before the end; and whether it was the end.
        async fn hear(&mut self, bytes: usize) -> Result<(Vec<u8>, bool), RecordError> {
            let mut heard = Vec::new();
            loop {
                let mut plain = Vec::new();
                let opened = self.records.open(&mut self.rest, &mut plain)?;
                plain
                    .into_iter()
                    .for_each(|range| heard.extend_from_slice(&self.rest[range]));
                self.rest.drain(..opened.read);
                if opened.ended || heard.len() >= bytes {
                    return Ok((heard, opened.ended));
                }
                timeout(LONG, self.socket.read_buf(&mut self.rest))
                    .await
                    .unwrap()
                    .unwrap();
            }
        }
    }

    #[tokio::test]
    async fn rustls_reads_what_we_write_and_writes_what_we_read_whatever_its_length() {
        let (mut near, mut far) = with_rustls().await;
        for length in [1, 100, LARGEST - 1, LARGEST, LARGEST + 1, 3 * LARGEST + 7, 300_000] {
            let said = text(length);
            near.say(&said).await;
            let mut heard = vec![0; length];
            timeout(LONG, far.read_exact(&mut heard)).await.unwrap().unwrap();
            assert!(heard == said, "{length}");
            far.write_all(&said).await.unwrap();
            far.flush().await.unwrap();
            assert!(near.hear(length).await.unwrap().0 == said, "{length}");
        }
    }

    #[tokio::test]
    async fn keys_are_updated_when_the_peer_asks_and_when_ours_are_used_up() {
        let (mut near, mut far) = with_rustls().await;
        near.records.sealing.limit = 3;
        for _ in 0..5 {
            let said = text(5 * LARGEST);
            near.say(&said).await;
            let mut heard = vec![0; said.len()];
            timeout(LONG, far.read_exact(&mut heard)).await.unwrap().unwrap();
            assert!(heard == said);
            assert!(near.records.sealing.sequence <= 5, "a used-up key is replaced");
            far.get_mut().1.refresh_traffic_keys().unwrap();
            far.write_all(&said).await.unwrap();
            far.flush().await.unwrap();
            assert!(near.hear(said.len()).await.unwrap().0 == said);
            assert!(near.records.owes(), "rustls asks for ours, too");
        }
    }

    #[tokio::test]
    async fn each_side_learns_of_the_others_orderly_end() {
        let (mut near, mut far) = with_rustls().await;
        let mut wire = Vec::new();
        near.records.close(&mut wire).unwrap();
        near.socket.write_all(&wire).await.unwrap();
        let mut heard = Vec::new();
        timeout(LONG, far.read_to_end(&mut heard)).await.unwrap().unwrap();
        far.write_all(b"bye").await.unwrap();
        far.shutdown().await.unwrap();
        assert_eq!(near.hear(usize::MAX).await, Ok((b"bye".to_vec(), true)));
    }

    #[tokio::test]
    async fn forged_damaged_repeated_and_cut_records_bring_no_bytes() {
        let (mut near, mut far) = ours().await;
        let record = near.records.sealed(b"hello");
        let open = |records: &mut Records, wire: &[u8]| {
            let mut plain = Vec::new();
            let opened = records.open(&mut wire.to_vec(), &mut plain);
            assert!(plain.is_empty());
            opened
        };
        for length in 0..record.len() {
            let nothing = Opened { read: 0, ended: false };
            assert_eq!(open(&mut far.records, &record[..length]), Ok(nothing));
        }
        let mut plain = Vec::new();
        far.records.open(&mut record.clone(), &mut plain).unwrap();
        assert_eq!(plain.len(), 1);
        assert_eq!(open(&mut far.records, &record), Err(RecordError::BadRecord), "repeated");
        for at in HEADER..record.len() {
            let mut damaged = record.clone();
            damaged[at] ^= 1;
            assert_eq!(
                open(&mut far.records, &damaged),
                Err(RecordError::BadRecord),
                "byte {at}"
            );
        }
        let clear = [22, 3, 3, 0, 1, 0];
        assert!(matches!(open(&mut far.records, &clear), Err(RecordError::Unlawful(_))));
        let endless = [23, 3, 3, 0xff, 0xff];
        assert!(matches!(
            open(&mut far.records, &endless),
            Err(RecordError::Unlawful(_))
        ));
    }

    #[tokio::test]
    async fn what_tls_does_not_allow_after_the_handshake_ends_the_connection() {
        let table: [(u8, &[u8], bool); 8] = [
            (content::HANDSHAKE, &[message::KEY_UPDATE, 0, 0, 1, 2], false),
            (content::HANDSHAKE, &[message::KEY_UPDATE, 0, 0, 2, 0, 0], false),
            // A key update with something behind it (RFC 8446 5.1).
            (
                content::HANDSHAKE,
                &[message::KEY_UPDATE, 0, 0, 1, 0, 4, 0, 0, 0],
                false,
            ),
            // A ticket from a client; a client hello.
            (content::HANDSHAKE, &[message::NEW_SESSION_TICKET, 0, 0, 0], false),
            (content::HANDSHAKE, &[1, 0, 0, 0], false),
            (content::HANDSHAKE, &[message::NEW_SESSION_TICKET, 0xff, 0, 0], false),
            (content::ALERT, &[2, 20], false),
            (99, &[0], false),
        ];
        for (kind, body, lawful) in table {
            let (mut near, mut far) = ours().await;
            let mut wire = Vec::new();
            near.records.record(kind, body, &mut wire).unwrap();
            let opened = far.records.open(&mut wire, &mut Vec::new());
            assert_eq!(opened.is_ok(), lawful, "{kind} {body:?}");
        }
        let (mut near, mut far) = ours().await;
        let ticket = [&[message::NEW_SESSION_TICKET, 0, 0, 3][..], b"abc"].concat();
        let mut wire = Vec::new();
        for piece in ticket.chunks(2) {
            far.records.record(content::HANDSHAKE, piece, &mut wire).unwrap();
        }
        near.records
            .open(&mut wire, &mut Vec::new())
            .expect("a server may send tickets, which are left");
    }

    #[tokio::test]
    async fn records_that_carry_nothing_are_not_borne_for_ever() {
        let (mut near, mut far) = ours().await;
        let mut ended = None;
        for turn in 0..1000 {
            let mut wire = Vec::new();
            near.records.record(content::DATA, &[], &mut wire).unwrap();
            if far.records.open(&mut wire, &mut Vec::new()).is_err() {
                ended = Some(turn);
                break;
            }
        }
        assert_eq!(ended, Some(EMPTY));
    }

    #[tokio::test]
    async fn padding_is_taken_off() {
        let (mut near, mut far) = ours().await;
        let mut wire = Vec::new();
        let padded = [&b"hello"[..], &[content::DATA], &[0; 100]].concat();
        let nonce = near.records.sealing.nonce();
        let header = [content::DATA, 3, 3, 0, (padded.len() + TAG) as u8];
        wire.extend_from_slice(&header);
        let mut body = padded;
        let tag = near
            .records
            .sealing
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(header), &mut body)
            .unwrap();
        wire.extend_from_slice(&body);
        wire.extend_from_slice(tag.as_ref());
        let mut plain = Vec::new();
        far.records.open(&mut wire, &mut plain).unwrap();
        assert_eq!(&wire[plain.remove(0)], b"hello");
    }
}
