//! Connections towards the pod that came as plaintext.

use act::{
    hbone::relay_plain,
    net::reset,
    telemetry::{Connection, FlowLabels},
};
use tokio::net::TcpStream;

use super::{Direction, Traffic, pod::refuse};

impl Traffic {
    /// The whole life of a plaintext connection towards the pod.
    pub async fn plaintext(&self, socket: TcpStream) {
        let Some((client, to)) = self.ends(&socket) else {
            return reset(socket);
        };
        let _place = match self.place(to) {
            Ok(place) => place,
            Err(refusal) => return refuse(socket, self.arrival(None, client, to, None), &refusal),
        };
        let tracked = self.registry().track(Direction::Plaintext, client, to, None);
        let admitted = match Box::pin(self.admit(&tracked, client, to)).await {
            Ok(admitted) => admitted,
            Err(rejected) => return refuse(socket, self.arrival(None, client, to, rejected.own), &rejected.refusal),
        };
        let mut connection = Connection::open(FlowLabels {
            allowed_by: admitted.allowed_by.map(Box::new),
            ..self.arrival(None, client, to, Some(admitted.own))
        });
        let patience = self.patience();
        let mut count = |sent, received| connection.count(sent, received);
        // Boxed, so that those in tunnels, which live in the same tasks, keep no room for these.
        let outcome = Box::pin(relay_plain(socket, admitted.app, patience, tracked.cut(), &mut count)).await;
        connection.finish(&outcome);
    }
}
