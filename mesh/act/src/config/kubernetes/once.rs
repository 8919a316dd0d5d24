//! Everything a scope names, listed once: for a command that answers and ends. Nothing is watched, and a server that
//! does not tell everything is an error and not waited for, because half of the objects would explain wrongly.

use decide::model::MeshSettings;
use kube::Client;

use super::{
    KubernetesError,
    gather::Gather,
    read::read,
    scope::{Kind, Scope},
    trouble::Trouble,
    watch::News,
    wire::{Page, Target},
};
use crate::config::{Feed, Reader};

/// Reads what the scope names, as it is now. A kind that the server does not serve has no objects.
///
/// # Errors
/// The first list that fails, and why.
pub async fn read_once(client: &Client, defaults: MeshSettings, scope: &Scope) -> Result<Reader, KubernetesError> {
    let (mut feed, reader) = Feed::new(defaults);
    let mut gather = Gather::new(scope.kinds());
    let mut changes = Vec::new();
    for (index, kind) in scope.kinds().iter().enumerate() {
        let mut take = |news| gather.take(index, news, &mut changes);
        match objects(client, scope, kind).await {
            Ok(objects) => {
                take(News::Listing);
                for object in objects {
                    take(News::Put(Box::new(read(kind, object))));
                }
                take(News::Listed);
            }
            Err(Trouble::NotServed) if kind.may_be_missing() => take(News::NotServed),
            Err(trouble @ Trouble::Forbidden(_)) if kind.may_be_unread() => take(News::Trouble(trouble)),
            Err(trouble) => return Err(KubernetesError::NotRead(kind.full_name(), trouble.to_string())),
        }
    }
    feed.apply(changes);
    Ok(reader)
}

/// Every object of one kind, in the newest version that the server has.
async fn objects(client: &Client, scope: &Scope, kind: &'static Kind) -> Result<Vec<serde_json::Value>, Trouble> {
    let mut outcome = Err(Trouble::NotServed);
    for version in kind.versions {
        let target = Target {
            kind,
            version,
            fields: scope.fields(kind),
        };
        outcome = pages(client, &target).await;
        if !matches!(outcome, Err(Trouble::NotServed)) {
            break;
        }
    }
    outcome
}

async fn pages(client: &Client, target: &Target) -> Result<Vec<serde_json::Value>, Trouble> {
    let mut all = Vec::new();
    let mut next = None;
    loop {
        let page: Page = target.list(client, next).await?;
        all.extend(page.objects);
        next = page.next;
        if next.is_none() {
            return Ok(all);
        }
    }
}
