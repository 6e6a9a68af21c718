//! The TLS certificate, which can change while connections are open.
//!
//! Files are not read here, and clients are not asked for certificates.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

/// The ALPN name of HTTP/2.
pub(super) const ALPN_H2: &[u8] = b"h2";

/// The TLS settings: versions 1.2 and 1.3, for HTTP/2 and HTTP/1.1.
pub struct Tls {
    resolver: Arc<CertResolver>,
    acceptor: TlsAcceptor,
}

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The text with the certificates is not PEM.
    #[error("the certificate is not PEM")]
    Certificate(#[source] pem::Error),
    /// The PEM text has no certificate.
    #[error("the file has no certificate")]
    NoCertificate,
    /// The text with the key is not PEM, or has no key.
    #[error("the file has no private key (PKCS#8, PKCS#1 or SEC1, not encrypted)")]
    Key(#[source] pem::Error),
    /// The certificate cannot be read, the key is of an unknown kind, or they do not match.
    #[error("the certificate and the key cannot be used together")]
    Pair(#[source] rustls::Error),
}

#[derive(Debug)]
struct CertResolver(ArcSwap<CertifiedKey>);

impl Tls {
    /// Uses the first certificate of `cert`, and sends the others with it. Both texts are PEM.
    ///
    /// # Errors
    /// If a text is not PEM, or the certificate and the key do not match.
    pub fn new(cert: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let resolver = Arc::new(CertResolver(ArcSwap::from_pointee(load_certified_key(
            cert, key, &provider,
        )?)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?
            .with_no_client_auth()
            .with_cert_resolver(resolver.clone());
        config.alpn_protocols = vec![ALPN_H2.to_vec(), b"http/1.1".to_vec()];
        Ok(Self { resolver, acceptor: Arc::new(config).into() })
    }

    /// Uses another certificate from now on; open connections keep theirs.
    ///
    /// # Errors
    /// As [`Tls::new`]; the old certificate stays in use.
    pub fn replace(&self, cert: &[u8], key: &[u8]) -> Result<(), TlsError> {
        self.resolver.0.store(Arc::new(load_certified_key(cert, key, &ring::default_provider())?));
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }
}

impl ResolvesServerCert for CertResolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn load_certified_key(
    cert: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let certs: Vec<_> = CertificateDer::pem_slice_iter(cert)
        .collect::<Result<_, _>>()
        .map_err(TlsError::Certificate)?;
    if certs.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::Key)?;
    CertifiedKey::from_der(certs, key, provider).map_err(TlsError::Pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate_and_key() -> (String, String) {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (certified.cert.pem(), certified.signing_key.serialize_pem())
    }

    fn error(cert: &str, key: &str) -> TlsError {
        Tls::new(cert.as_bytes(), key.as_bytes()).err().unwrap()
    }

    #[test]
    fn certificate_must_match_its_key() {
        let (cert, key) = certificate_and_key();
        let (other, _) = certificate_and_key();
        assert!(matches!(error("", &key), TlsError::NoCertificate));
        assert!(matches!(error(&key, &key), TlsError::NoCertificate));
        assert!(matches!(error(&cert[..100], &key), TlsError::Certificate(_)));
        assert!(matches!(error(&cert, ""), TlsError::Key(_)));
        assert!(matches!(error(&cert, &cert), TlsError::Key(_)));
        assert!(matches!(error(&other, &key), TlsError::Pair(_)));

        let tls = Tls::new(cert.as_bytes(), key.as_bytes()).unwrap();
        let current = tls.resolver.0.load_full();
        assert!(tls.replace(other.as_bytes(), key.as_bytes()).is_err());
        assert!(Arc::ptr_eq(&current, &tls.resolver.0.load_full()), "the old one stays");
        let (cert, key) = certificate_and_key();
        tls.replace(cert.as_bytes(), key.as_bytes()).unwrap();
        assert!(!Arc::ptr_eq(&current, &tls.resolver.0.load_full()));
    }
}
