use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose as Eku, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::*;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
/// The moment the tests verify at, in seconds since 1970; every certificate lives from an hour before to an
/// hour after it unless the test says otherwise.
const NOW: u64 = 1_700_000_000;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn root(name: &str) -> Self {
        let params = ca_params(name);
        Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
        }
    }

    fn intermediate(&self) -> Self {
        let params = ca_params("intermediate");
        Self {
            issuer: CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.issuer).unwrap(),
        }
    }

    fn sign(&self, params: &CertificateParams) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &self.issuer).unwrap().der().clone()
    }

    fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = lasting(CertificateParams::default());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn lasting(mut params: CertificateParams) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(NOW - 3600);
    params.not_after = epoch + Duration::from_secs(NOW + 3600);
    params
}

fn leaf(names: &[SanType]) -> CertificateParams {
    let mut params = lasting(CertificateParams::default());
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = names.to_vec();
    params.extended_key_usages = vec![Eku::ClientAuth, Eku::ServerAuth];
    params
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn verify_at(
    chain: &[CertificateDer<'static>],
    root: &Authority,
    usage: Usage,
    seconds: u64,
) -> Result<Identity, NotVerified> {
    let der = root.der();
    let anchor = webpki::anchor_from_trusted_cert(&der).unwrap();
    verify(chain, &[anchor], "cluster.local", usage, at(seconds))
}

fn verify_now(chain: &[CertificateDer<'static>], root: &Authority) -> Result<Identity, NotVerified> {
    verify_at(chain, root, Usage::Client, NOW)
}

#[test]
fn a_chain_to_our_root_proves_its_identity() {
    let root = Authority::root("root");
    let intermediate = root.intermediate();
    let direct = [root.sign(&leaf(&[uri(WEB)]))];
    let through = [intermediate.sign(&leaf(&[uri(WEB)])), intermediate.der()];
    for chain in [&direct[..], &through[..]] {
        for usage in [Usage::Client, Usage::Server] {
            assert_eq!(verify_at(chain, &root, usage, NOW).unwrap().to_string(), WEB);
        }
    }
}

#[test]
fn a_dns_name_beside_the_identity_does_not_hurt() {
    let root = Authority::root("root");
    let dns = SanType::DnsName("web.shop.svc".try_into().unwrap());
    assert!(verify_now(&[root.sign(&leaf(&[dns, uri(WEB)]))], &root).is_ok());
}

#[test]
fn nothing_presented_proves_nothing() {
    assert_eq!(verify_now(&[], &Authority::root("root")), Err(NotVerified::Missing));
}

#[test]
fn a_chain_holds_only_while_it_is_valid() {
    let root = Authority::root("root");
    let chain = [root.sign(&leaf(&[uri(WEB)]))];
    for (seconds, holds) in [
        (NOW - 3601, false),
        (NOW - 3600, true),
        (NOW + 3600, true),
        (NOW + 3601, false),
    ] {
        let answer = verify_at(&chain, &root, Usage::Client, seconds);
        assert_eq!(answer.is_ok(), holds, "{seconds}: {answer:?}");
        assert!(holds || matches!(answer, Err(NotVerified::Chain(_))));
    }
}

#[test]
fn a_leaf_proves_only_the_usage_it_is_for() {
    let root = Authority::root("root");
    for (written, usage, holds) in [
        (vec![Eku::ServerAuth], Usage::Client, false),
        (vec![Eku::ClientAuth], Usage::Server, false),
        (vec![Eku::ClientAuth], Usage::Client, true),
        (vec![Eku::CodeSigning], Usage::Client, false),
        (vec![], Usage::Server, true),
    ] {
        let mut params = leaf(&[uri(WEB)]);
        params.extended_key_usages = written.clone();
        let answer = verify_at(&[root.sign(&params)], &root, usage, NOW);
        assert_eq!(answer.is_ok(), holds, "{written:?} for {usage:?}: {answer:?}");
    }
}

#[test]
fn a_foreign_root_proves_nothing() {
    let (ours, foreign) = (Authority::root("root"), Authority::root("root"));
    let chain = [foreign.sign(&leaf(&[uri(WEB)])), foreign.der()];
    assert!(matches!(verify_now(&chain, &ours), Err(NotVerified::Chain(_))));
}

#[test]
fn a_leaf_must_name_exactly_one_identity() {
    let root = Authority::root("root");
    let dns = SanType::DnsName("web.shop.svc".try_into().unwrap());
    for names in [
        vec![],
        vec![dns],
        vec![uri(WEB), uri("spiffe://cluster.local/ns/shop/sa/db")],
        vec![uri(WEB), uri("https://example.org/")],
        vec![uri("https://example.org/")],
        vec![uri("spiffe://cluster.local/ns/shop/sa/")],
    ] {
        let answer = verify_now(&[root.sign(&leaf(&names))], &root);
        assert_eq!(answer, Err(NotVerified::NoIdentity), "{names:?}");
    }
}

#[test]
fn a_foreign_trust_domain_is_refused() {
    let root = Authority::root("root");
    let foreign = "spiffe://elsewhere.org/ns/shop/sa/web";
    assert_eq!(
        verify_now(&[root.sign(&leaf(&[uri(foreign)]))], &root),
        Err(NotVerified::ForeignTrustDomain(foreign.parse().unwrap()))
    );
}

#[test]
fn a_leaf_signs_nobody_and_an_authority_is_nobody() {
    let root = Authority::root("root");
    let key = KeyPair::generate().unwrap();
    let params = leaf(&[uri(WEB)]);
    let middle = params.signed_by(&key, &root.issuer).unwrap().der().clone();
    let below = leaf(&[uri("spiffe://cluster.local/ns/shop/sa/admin")])
        .signed_by(
            &KeyPair::generate().unwrap(),
            &rcgen::Issuer::from_params(&params, &key),
        )
        .unwrap();
    let forged = [below.der().clone(), middle];
    assert!(matches!(verify_now(&forged, &root), Err(NotVerified::Chain(_))));

    let mut params = ca_params("web");
    params.subject_alt_names = vec![uri(WEB)];
    let authority = [root.sign(&params)];
    assert!(matches!(verify_now(&authority, &root), Err(NotVerified::Chain(_))));
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    let root = Authority::root("root");
    for bytes in [&b""[..], b"\x30", b"hello", &[0xff; 4096]] {
        let chain = [CertificateDer::from(bytes.to_vec())];
        assert!(matches!(verify_now(&chain, &root), Err(NotVerified::Chain(_))));
    }
}
