//! MeshConfig: settings of the whole mesh, over those each process was started with.

use std::sync::Arc;

use decide::model::{Datagrams, Identity, MeshSettings, OutboundPolicy, SameNode};
use ipnet::IpNet;

use super::written::{Field, shown};
use crate::config::objects::{FieldError, Written};

/// Name of the one that counts.
pub(super) const SINGLETON: &str = "default";

const KEPT: &str = "the settings stay as they were";
const FIELDS: &[&str] = &[
    "trustDomain",
    "rootNamespace",
    "outbound",
    "sameNode",
    "datagrams",
    "podCidrs",
    "serviceCidrs",
];

/// The settings a MeshConfig amounts to.
///
/// # Errors
/// Everything that cannot be read: then none of it counts.
pub(super) fn settings(defaults: &MeshSettings, written: &Written) -> Result<MeshSettings, Vec<FieldError>> {
    let spec = Field::spec(&written.spec);
    let mut settings = defaults.clone();
    let mut found: Vec<FieldError> = spec
        .unknown(FIELDS)
        .into_iter()
        .map(|(field, meant)| field.unknown_error(meant, KEPT))
        .collect();
    let mut take = |key: &str, set: &mut dyn FnMut(&Field<'_>) -> Result<(), &'static str>| {
        if let Some(field) = spec.some(key)
            && let Err(remedy) = set(&field)
        {
            let written = field.text().map_or_else(|| field.value.to_string(), str::to_owned);
            found.push(field.error(format!("{} cannot be taken; {KEPT}.", shown(&written)), remedy));
        }
    };
    take("trustDomain", &mut |field| {
        settings.trust_domain = trust_domain(field).ok_or("Write a name in lower case, such as cluster.local.")?;
        Ok(())
    });
    take("rootNamespace", &mut |field| {
        let name = field.text().filter(|name| !name.is_empty() && name.len() <= 63);
        settings.root_namespace = name.ok_or("Write the name of a namespace.")?.into();
        Ok(())
    });
    take("outbound", &mut |field| {
        settings.outbound = match field.text() {
            Some("AllowAny") => OutboundPolicy::AllowAny,
            Some("RegistryOnly") => OutboundPolicy::RegistryOnly,
            _ => return Err("Write AllowAny or RegistryOnly."),
        };
        Ok(())
    });
    take("sameNode", &mut |field| {
        settings.same_node = match field.text() {
            Some("Auto") => SameNode::Auto,
            Some("Wire") => SameNode::Wire,
            _ => return Err("Write Auto or Wire."),
        };
        Ok(())
    });
    take("datagrams", &mut |field| {
        settings.datagrams = match field.text() {
            Some("Protect") => Datagrams::Protect,
            Some("Allow") => Datagrams::Allow,
            _ => return Err("Write Protect or Allow."),
        };
        Ok(())
    });
    take("podCidrs", &mut |field| {
        settings.pod_ranges = networks(field).ok_or("Write a list of networks such as 10.244.0.0/16.")?;
        Ok(())
    });
    take("serviceCidrs", &mut |field| {
        settings.service_ranges = networks(field).ok_or("Write a list of networks such as 10.96.0.0/12.")?;
        Ok(())
    });
    if found.is_empty() { Ok(settings) } else { Err(found) }
}

fn trust_domain(field: &Field<'_>) -> Option<Arc<str>> {
    let name = field.text()?;
    Identity::new(name, "namespace", "account").ok()?;
    Some(name.into())
}

fn networks(field: &Field<'_>) -> Option<Vec<IpNet>> {
    let items = field.items()?;
    items
        .iter()
        .map(|item| item.text()?.parse::<IpNet>().ok().map(|network| network.trunc()))
        .collect()
}
