//! What a network namespace's `/proc/net/tcp` and `tcp6` say, as far as capturing needs it. Pure.

use std::{collections::BTreeSet, io::BufRead};

use decide::model::ports;

/// The TCP sockets of a namespace, in short.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sockets {
    /// Ports listened on by others than us.
    pub listening: BTreeSet<u16>,
    /// Listening sockets of ours: 15001, 15006, 15008.
    pub our_listeners: usize,
    /// Connections accepted by them, until both sides have closed.
    pub our_connections: usize,
}

const TIME_WAIT: u8 = 0x06;
const CLOSED: u8 = 0x07;
const LISTEN: u8 = 0x0A;

impl Sockets {
    /// Whether nothing of ours is left.
    pub fn ours_are_gone(&self) -> bool {
        self.our_listeners == 0 && self.our_connections == 0
    }

    /// Adds the sockets of one table. A line that cannot be understood counts as a connection of ours: what we do
    /// not know keeps the rules in place.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn add(&mut self, table: impl BufRead) -> std::io::Result<()> {
        for line in table.lines().skip(1) {
            match socket(&line?) {
                Some((port, LISTEN)) if ports::is_ours(port) => self.our_listeners += 1,
                Some((port, LISTEN)) => drop(self.listening.insert(port)),
                Some((_, TIME_WAIT | CLOSED)) => {}
                Some((port, _)) => self.our_connections += usize::from(ports::is_ours(port)),
                None => self.our_connections += 1,
            }
        }
        Ok(())
    }
}

/// Local port and state of a line: `sl local_address rem_address st …`, addresses as `hex:port`.
fn socket(line: &str) -> Option<(u16, u8)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (_, port) = fields.next()?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    Some((u16::from_str_radix(port, 16).ok()?, u8::from_str_radix(state, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn sockets(lines: &[(u16, u16, u8)]) -> Sockets {
        let mut sockets = Sockets::default();
        for (family, address) in [(4, "0100007F"), (6, "00000000000000000000000001000000")] {
            let mut table = HEAD.to_owned();
            for (index, (local, remote, state)) in lines
                .iter()
                .enumerate()
                .filter(|(at, _)| (at % 2 == 0) == (family == 4))
            {
                table += &format!(
                    "  {index:2}: {address}:{local:04X} {address}:{remote:04X} {state:02X} 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100\n"
                );
            }
            sockets.add(table.as_bytes()).unwrap();
        }
        sockets
    }

    #[test]
    fn listeners_and_accepted_connections_of_ours_are_counted_in_both_families() {
        let found = sockets(&[
            (15001, 0, LISTEN),
            (15008, 0, LISTEN),
            (8080, 0, LISTEN),
            (15006, 40000, 0x01),
            (15008, 40000, 0x08),
            (40000, 15008, 0x01),
            (15001, 40001, TIME_WAIT),
        ]);
        assert_eq!(
            found,
            Sockets {
                listening: BTreeSet::from([8080]),
                our_listeners: 2,
                our_connections: 2,
            }
        );
        assert!(!found.ours_are_gone());
        assert!(sockets(&[(8080, 0, LISTEN), (15006, 40000, TIME_WAIT), (50000, 80, 0x01)]).ours_are_gone());
    }

    #[test]
    fn what_cannot_be_understood_counts_as_ours() {
        let mut found = Sockets::default();
        found.add(format!("{HEAD}   0: what\n").as_bytes()).unwrap();
        assert!(!found.ours_are_gone());
    }

    proptest! {
        #[test]
        fn no_table_panics(table in ".{0,300}") {
            let _ = Sockets::default().add(table.as_bytes());
        }
    }
}
