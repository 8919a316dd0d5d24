//! Sockets as the mesh needs them: marked, transparent, in another network namespace, with their original
//! destination, and bounded accept loops that survive EMFILE. Never: TLS, HTTP, decisions.

mod netns;

pub use netns::Netns;
