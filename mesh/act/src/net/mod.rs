//! Sockets as the mesh needs them: marked, transparent, in another network namespace, with their original
//! destination, and bounded accept loops that survive EMFILE. Never: TLS, HTTP, decisions.

mod accept;
mod dial;
mod listen;
mod netns;
mod options;

pub use accept::{Acceptor, original_destination};
pub use dial::Dialer;
pub use listen::{Listen, listen};
pub use netns::{Netns, stranded};
pub use options::{SocketOptions, reset};
