//! Access tokens and API keys: without the key, no token can be made or altered.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster::domain::AppId;
use muster::wire::{AesKey, ApiKey, MasterKeyId, TOKEN_GRACE, TokenClaims, TokenError, TokenKey};

pub fn token(data: &[u8]) {
    let key = TokenKey::derive(&AesKey::new([7; 32]));
    if let Ok(text) = std::str::from_utf8(data) {
        check_forged(&key, text);
        check_keys(text);
    }
    check_forged(&key, &URL_SAFE_NO_PAD.encode(data));
    check_issued(&key, data);
}

/// A text that was not made with the key is never accepted.
fn check_forged(key: &TokenKey, text: &str) {
    let Some(claims) = TokenClaims::decode(text) else { return };
    for now in [i64::MIN, 0, i64::MAX] {
        assert_eq!(key.check(&claims, now), Err(TokenError::Forged));
    }
}

/// The bytes determine the app, the expiry, and the bit that is flipped.
fn check_issued(key: &TokenKey, data: &[u8]) {
    let Some((buin, rest)) = data.split_first_chunk() else { return };
    let Some((expires_at, rest)) = rest.split_first_chunk() else { return };
    let Some((bit, app_id)) = rest.split_first() else { return };
    let (buin, expires_at) = (i64::from_be_bytes(*buin), i64::from_be_bytes(*expires_at));
    let Some(app_id) = std::str::from_utf8(app_id).ok().and_then(|text| text.parse::<AppId>().ok())
    else {
        return;
    };
    let token = key.issue(buin, app_id.as_str(), expires_at);
    assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    let claims = TokenClaims::decode(&token).unwrap();
    assert_eq!((claims.buin, claims.expires_at), (buin, expires_at));
    assert_eq!(claims.app_id, app_id.as_str());
    if let Some(after) = expires_at.checked_add(TOKEN_GRACE + 1) {
        assert_eq!(key.check(&claims, after), Err(TokenError::Expired));
    }
    if let Some(before) = expires_at.checked_sub(1) {
        assert_eq!(key.check(&claims, before), Ok(()));
    }
    let other = TokenKey::derive(&AesKey::new([8; 32]));
    assert_eq!(other.check(&claims, i64::MIN), Err(TokenError::Forged));

    let mut bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
    let index = usize::from(*bit) % bytes.len();
    bytes[index] ^= 1 << (bit % 8);
    check_forged(key, &URL_SAFE_NO_PAD.encode(bytes));
}

fn check_keys(text: &str) {
    match ApiKey::parse(text) {
        Some(key) => assert!(text.starts_with(ApiKey::PREFIX) && key.reveal() == text),
        None => assert!(!text.starts_with(ApiKey::PREFIX)),
    }
    if let Ok(key) = AesKey::from_base64(text) {
        assert!(AesKey::from_base64(&key.to_base64()) == Ok(key));
    }
    if let Some(id) = MasterKeyId::parse(text) {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
    }
}
