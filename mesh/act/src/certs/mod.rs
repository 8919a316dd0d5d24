//! Who we are: keys born here, leaves asked for once per identity however many wait, renewed at half life,
//! verified as a peer would before they are published, the old one served to its end (design 20).
//!
//! Comes in: holds of identities, and an [`Authority`] that signs. Goes out: [`Leaf`]s. Never: a key, and
//! never a leaf that a peer would refuse.
//!
//! ```text
//! hold -> renewal: key, CSR -> Authority -> verify as a peer would -> publish -> leaf(), current(), list()
//! ```

mod authority;
mod certificates;
mod issuer;
mod leaf;
pub mod local;
mod pem;
mod renewal;

pub use authority::{Authority, BoxFuture, CertError, Signed};
pub use certificates::{Certificates, Hold, Settings};
pub use issuer::{Issued, Issuer, Name, SigningError, Validity};
pub(crate) use leaf::Facts;
pub use leaf::Leaf;
pub use pem::{NotPem, certificates_of, pem};
pub use renewal::{Clock, Random};
