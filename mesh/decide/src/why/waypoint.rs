//! The story at a waypoint: bound, route, verdict, pick, and on.

use std::{net::SocketAddr, sync::Arc};

use super::{
    asked,
    way::{End, FIRST, Way},
    words::{full_name, listed, shares},
};
use crate::{
    forward::{Asked, Onward, forward},
    hop::{Bound, bound, source_address},
    model::{Decider, Refusal, Waypoint, Workload},
    route::{Route, attached, route},
    verdict::Client,
};

/// A request that leads from waypoint to waypoint more often than this goes in a circle.
const MOST_WAYPOINTS: u32 = 4;

/// Who is asked for what, at a waypoint.
pub(super) struct AtWaypoint<'a> {
    pub(super) waypoint: &'a Arc<Waypoint>,
    pub(super) pod: &'a str,
    pub(super) authority: SocketAddr,
    pub(super) caller: &'a Workload,
}

impl Way<'_> {
    /// At a waypoint.
    pub(super) fn through(&mut self, asked: &AtWaypoint<'_>) -> End {
        let at = format!("waypoint {}", asked.waypoint.key);
        self.waypoints += 1;
        if self.waypoints > MOST_WAYPOINTS {
            let sentence = format!("{at} was passed on the way already: the routes lead in a circle");
            self.tell(&at, "hop", sentence.clone());
            return End::Refused(sentence);
        }
        self.tell(
            &at,
            "verify",
            format!("the client must prove to be {}", asked.caller.identity),
        );
        let bound = match bound(
            self.snapshot,
            &asked.waypoint.key,
            asked.caller.identity.namespace(),
            asked.authority,
        ) {
            Ok(bound) => bound,
            Err(refusal) => return self.refuse(&at, "bound", &refusal, "refuses before it dials"),
        };
        let what = match &bound {
            Bound::Service(service, port) => format!("Service {} port {port}", service.key),
            Bound::Workload(workload, port) => format!("pod {} port {port}", full_name(workload)),
            Bound::External(service, port) => format!("ExternalService {} port {port}", service.key),
        };
        self.tell(
            &at,
            "bound",
            format!("{} is {what}, which is bound to this waypoint", asked.authority),
        );
        let route = match self.routed(&at, &bound, asked.caller) {
            Ok(route) => route,
            Err(end) => return end,
        };
        match self.judged(&at, asked, &bound, &route) {
            Ok(onward) => self.onward(&at, asked, &onward),
            Err(end) => end,
        }
    }

    fn routed(&mut self, at: &str, bound: &Bound, caller: &Workload) -> Result<Route, End> {
        let Bound::Service(service, port) = bound else {
            return Ok(Route::Unrouted);
        };
        let namespace = Some(caller.identity.namespace());
        let mut routes = attached(service, *port, namespace).peekable();
        let Some(request) = self.request else {
            return match routes.next() {
                None => Ok(Route::Unrouted),
                Some(first) => {
                    let by = Decider {
                        object: first.object.clone(),
                        field: "spec.rules".into(),
                    };
                    Err(self.depends(at, "route", by))
                }
            };
        };
        let found = route(service, *port, namespace, &request.head(), 0);
        match &found {
            Route::Unrouted => {
                self.tell(
                    at,
                    "route",
                    format!("no HTTPRoute is attached to port {port}: to the Service itself"),
                );
            }
            Route::Refused(refusal) => {
                let how = format!("answers {}", refusal.status());
                return Err(self.refuse(at, "route", refusal, &how));
            }
            Route::Rule { route, rule, backend } => {
                let backends = route.rules.get(*rule).map_or(&[][..], |rule| &rule.backends);
                let by = Decider {
                    object: route.object.clone(),
                    field: format!("spec.rules[{rule}]").into(),
                };
                self.step(at, "route", shares(backends, *backend), Some(by));
            }
        }
        Ok(found)
    }

    fn judged(&mut self, at: &str, asked: &AtWaypoint<'_>, bound: &Bound, route: &Route) -> Result<Onward, End> {
        let request = self.request;
        let question = Asked {
            waypoint: &asked.waypoint.key,
            authority: asked.authority,
            bound,
            client: Client::Known {
                peer: Some(&asked.caller.identity),
                address: source_address(asked.caller, asked.authority.ip()),
            },
            request: request.map(asked::Request::head),
        };
        match forward(self.snapshot, &question, route) {
            Ok(onward) => {
                let answer = match &onward.by {
                    Some(by) => format!("allowed by {by}"),
                    None => "allowed: no policy restricts this".into(),
                };
                self.step(at, "verdict", answer, onward.by.clone());
                Ok(onward)
            }
            Err(Refusal::WaypointRequired(by)) if request.is_none() => Err(self.depends(at, "verdict", by)),
            Err(refusal) => {
                let how = format!("answers {}", refusal.status());
                Err(self.refuse(at, "verdict", &refusal, &how))
            }
        }
    }

    fn onward(&mut self, at: &str, asked: &AtWaypoint<'_>, onward: &Onward) -> End {
        let Some(pod) = self.snapshot.workload(asked.pod) else {
            return self.refuse(
                at,
                "hop",
                &Refusal::WaypointUnavailable(asked.waypoint.key.clone()),
                "has no pod that is known",
            );
        };
        if let (Some((service, _)), Some(first)) = (&onward.service, onward.candidates.first()) {
            let ready = match onward.candidates.len() {
                1 => "the endpoint that may serve it".to_owned(),
                count => format!("one of {count} endpoints that may serve it"),
            };
            let sentence = format!(
                "{ready}, of Service {}: {}",
                service.key,
                listed(&onward.candidates, first.address)
            );
            self.tell(at, "pick", sentence);
        }
        let next = onward.hop(self.snapshot, pod, &FIRST);
        let picked = onward.candidates.first().map_or(asked.authority, |first| first.address);
        self.follow(pod, picked, next)
    }

    fn depends(&mut self, at: &str, decision: &str, by: Decider) -> End {
        self.step(
            at,
            decision,
            format!("depends on the request: {by} needs HTTP to decide"),
            Some(by),
        );
        End::Refused("depends on the request: give METHOD PATH".into())
    }
}
