//! A client of the wire protocol, written from its description and not from Muster's code: the
//! tests would not notice a mistake that both sides share.

use std::net::SocketAddr;

use aes::Aes256;
use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::clock::Clock;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use super::store::StoredApp;

/// Speaks for one app.
#[derive(Clone)]
pub struct Client {
    pub base: String,
    pub buin: i64,
    pub app_id: String,
    pub key: [u8; 32],
    pub clock: Clock,
    pub http: reqwest::Client,
}

impl Client {
    pub fn new(address: SocketAddr, stored: &StoredApp, clock: Clock) -> Self {
        // Only the first call does anything.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            base: format!("http://{address}"),
            buin: stored.app.buin.get(),
            app_id: stored.app.app_id.to_string(),
            key: *stored.aes_key.bytes(),
            clock,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    /// The same app, talking to another instance.
    pub fn at(&self, address: SocketAddr) -> Self {
        Self { base: format!("http://{address}"), ..self.clone() }
    }

    /// A request that a test shapes further.
    pub fn request(&self, method: reqwest::Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(reqwest::Method::GET, path).send().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Response {
        self.request(reqwest::Method::POST, path).body(body).send().await.unwrap()
    }

    /// Seals under the key's own IV, as most clients do.
    pub fn seal(&self, message: &str) -> String {
        self.seal_with(message.as_bytes(), self.iv())
    }

    /// Seals under any IV.
    pub fn seal_with(&self, message: &[u8], iv: [u8; 16]) -> String {
        let length = u32::try_from(message.len()).unwrap();
        let mut plain: Vec<u8> = rand::random::<[u8; 16]>().to_vec();
        plain.extend(length.to_be_bytes());
        plain.extend(message);
        plain.extend(self.app_id.as_bytes());
        self.encrypt(&padded(plain), iv)
    }

    /// Encrypts a plaintext of whole blocks as it stands.
    pub fn encrypt(&self, plain: &[u8], iv: [u8; 16]) -> String {
        let mut plain = plain.to_vec();
        let length = plain.len();
        let encryptor = cbc::Encryptor::<Aes256>::new(&self.key.into(), &iv.into());
        STANDARD.encode(encryptor.encrypt_padded::<NoPadding>(&mut plain, length).unwrap())
    }

    /// The key's own IV.
    pub fn iv(&self) -> [u8; 16] {
        self.key[..16].try_into().unwrap()
    }

    /// Opens as strictly as the strictest client does.
    pub fn open(&self, text: &str) -> String {
        self.open_with(text, self.iv())
    }

    /// Opens under any IV.
    pub fn open_with(&self, text: &str, iv: [u8; 16]) -> String {
        let mut cipher = STANDARD.decode(text).unwrap();
        assert_eq!(cipher.len() % 32, 0, "the length is no multiple of 32");
        let decryptor = cbc::Decryptor::<Aes256>::new(&self.key.into(), &iv.into());
        let plain = decryptor.decrypt_padded::<NoPadding>(&mut cipher).unwrap();
        let padding = usize::from(*plain.last().unwrap());
        assert!((1..=32).contains(&padding), "padding {padding}");
        let (plain, end) = plain.split_at(plain.len() - padding);
        assert!(end.iter().all(|byte| usize::from(*byte) == padding), "padding {end:?}");
        let length = u32::from_be_bytes(plain[16..20].try_into().unwrap()) as usize;
        let (message, tail) = plain[20..].split_at(length);
        assert_eq!(tail, self.app_id.as_bytes(), "the tail is not the app id");
        String::from_utf8(message.to_vec()).unwrap()
    }

    /// The envelope of a message.
    pub fn envelope(&self, message: &str) -> Value {
        json!({ "buin": self.buin, "appId": self.app_id, "encrypt": self.seal(message) })
    }

    /// Checks that an answer has the shape that every client relies on, and opens it: errcode,
    /// errmsg and the fields of what was sealed.
    pub async fn opened(&self, response: Response) -> Value {
        let mut answer = read_response(response).await;
        let fields = answer.as_object_mut().unwrap();
        if let Some(encrypt) = fields.remove("encrypt") {
            assert_eq!(fields.len(), 2, "nothing stands beside what is sealed: {fields:?}");
            let message = self.open(encrypt.as_str().unwrap());
            let message: Value = serde_json::from_str(&message).unwrap();
            fields.extend(message.as_object().unwrap().clone());
        } else {
            assert_ne!(fields["errcode"], 0, "{fields:?}");
        }
        answer
    }

    /// `/cgi/gettoken` with the time of the test's clock.
    pub async fn gettoken(&self) -> Value {
        self.gettoken_at(&self.clock.now().timestamp().to_string()).await
    }

    /// `/cgi/gettoken` with any text for the time.
    pub async fn gettoken_at(&self, time: &str) -> Value {
        self.opened(self.post("/cgi/gettoken", self.envelope(time).to_string()).await).await
    }

    /// A fresh access token.
    pub async fn token(&self) -> String {
        let answer = self.gettoken().await;
        answer["accessToken"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// `POST` of a sealed message with a token.
    pub async fn post_sealed(&self, token: &str, path: &str, message: &Value) -> Value {
        let body = self.envelope(&message.to_string()).to_string();
        self.opened(self.post(&format!("{path}?accessToken={token}"), body).await).await
    }

    /// `/cgi/session/get`, its answer opened.
    pub async fn get_session(&self, token: &str, session_id: &str) -> Value {
        let session_id: String = form_urlencoded::byte_serialize(session_id.as_bytes()).collect();
        let path = format!("/cgi/session/get?sessionId={session_id}&accessToken={token}");
        self.opened(self.get(&path).await).await
    }
}

/// Pads a plaintext to whole blocks of 32.
pub fn padded(mut plain: Vec<u8>) -> Vec<u8> {
    let padding = 32 - plain.len() % 32;
    plain.extend(std::iter::repeat_n(u8::try_from(padding).unwrap(), padding));
    plain
}

/// An answer as it came, if it has the shape that every client relies on.
pub async fn read_response(response: Response) -> Value {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    let answer: Value = response.json().await.unwrap();
    assert!(answer["errcode"].is_i64(), "{answer}");
    assert!(answer["errmsg"].is_string(), "{answer}");
    answer
}

/// The whole of an answer without a result.
pub fn refusal(errcode: i32, errmsg: &str) -> Value {
    json!({ "errcode": errcode, "errmsg": errmsg })
}
