//! The cryptography behind TLS: the server, callbacks and traces use ring.

/// Makes ring the provider of this process. Only the first call has an effect.
pub(super) fn install_crypto_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
