//! The story of what goes outside the mesh: what judges it where it comes from, and where it goes.

use std::net::SocketAddr;

use super::way::{End, Way};
use crate::{
    hop::{Hop, admit_outside, judging_outside, trial_outside},
    model::{Decider, ExternalService, Resolution, Workload},
};

impl Way<'_> {
    /// What let a connection go outside without a waypoint.
    pub(super) fn judged_outside(&mut self, at: &str, source: &Workload, addressed: SocketAddr, next: &Hop) {
        for (judging, asked) in judging_outside(self.snapshot, source, addressed, next) {
            if let Some(by) = trial_outside(judging, source, asked) {
                self.step(at, "dry run", format!("{by} would deny it, were it enforced"), Some(by));
            }
            let by = admit_outside(judging, source, asked).ok().flatten();
            let answer = by.as_ref().map_or_else(
                || {
                    format!(
                        "allowed: no policy restricts port {} of ExternalService {}",
                        asked.port(),
                        judging.key
                    )
                },
                |by| format!("allowed by {by}"),
            );
            self.step(at, "verdict", answer, by);
        }
    }

    /// To an address of an ExternalService.
    pub(super) fn outside(&mut self, at: &str, service: &ExternalService, to: SocketAddr) -> End {
        let known = format!("ExternalService {}, known as {}", service.key, service.hosts.join(", "));
        let answer = format!("plain TCP to {to}, of {known}");
        self.step(at, "hop", answer, Some(described(service)));
        End::Arrives(format!("plain TCP goes to {to}, outside the mesh"))
    }

    /// To what a name of an ExternalService resolves to.
    pub(super) fn resolved(&mut self, at: &str, service: &ExternalService, host: &str, port: u16) -> End {
        let answer = format!(
            "{host} is resolved, then plain TCP to port {port} there, of ExternalService {}",
            service.key
        );
        self.step(at, "hop", answer, Some(described(service)));
        End::Arrives(format!("plain TCP goes to port {port} of what {host} resolves to"))
    }
}

/// What says where connections to an ExternalService go.
fn described(service: &ExternalService) -> Decider {
    Decider {
        object: service.object(),
        field: match service.resolution {
            Resolution::None => "spec.addresses".into(),
            Resolution::Static | Resolution::Dns => "spec.endpoints".into(),
        },
    }
}
