//! Load that counts exactly: HTTP/1.1 clients that run inside a pod, as a process of their own, and tell once in a
//! tenth of a second what became of each request.

mod client;
mod echo;
mod pace;
mod report;
mod serve;
mod steady;

pub use client::{LoadOptions, Mode, generate, unix_milliseconds};
pub use echo::{EchoOptions, echo};
pub use pace::{PaceOptions, Paced, pace};
pub use report::{Load, Report, Tick};
pub use serve::{ServeOptions, serve};
