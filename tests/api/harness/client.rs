//! A client of the wire protocol, written from its description and not from Muster's code, because
//! tests with shared code would not notice a shared mistake.

use std::net::SocketAddr;

use aes::Aes256;
use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::clock::Clock;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use super::process::plain_http;
use super::store::StoredApp;

/// A client of one app.
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
        Self {
            base: format!("http://{address}"),
            buin: stored.app.buin.get(),
            app_id: stored.app.app_id.to_string(),
            key: *stored.aes_key.bytes(),
            clock,
            http: plain_http().build().unwrap(),
        }
    }

    /// The same app at another instance.
    pub fn at(&self, address: SocketAddr) -> Self {
        Self { base: format!("http://{address}"), ..self.clone() }
    }

    /// A request to which a test adds headers or a body.
    pub fn request(&self, method: reqwest::Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(reqwest::Method::GET, path).send().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Response {
        self.request(reqwest::Method::POST, path).body(body).send().await.unwrap()
    }

    /// Seals with the IV from the key, as most clients do.
    pub fn seal(&self, message: &str) -> String {
        self.seal_with(message.as_bytes(), self.iv())
    }

    /// Seals with any IV.
    pub fn seal_with(&self, message: &[u8], iv: [u8; 16]) -> String {
        let length = u32::try_from(message.len()).unwrap();
        let mut plain: Vec<u8> = rand::random::<[u8; 16]>().to_vec();
        plain.extend(length.to_be_bytes());
        plain.extend(message);
        plain.extend(self.app_id.as_bytes());
        self.encrypt(&pad(plain), iv)
    }

    /// Encrypts whole blocks of plaintext without padding.
    pub fn encrypt(&self, plain: &[u8], iv: [u8; 16]) -> String {
        let mut plain = plain.to_vec();
        let length = plain.len();
        let encryptor = cbc::Encryptor::<Aes256>::new(&self.key.into(), &iv.into());
        STANDARD.encode(encryptor.encrypt_padded::<NoPadding>(&mut plain, length).unwrap())
    }

    /// The IV from the key.
    pub fn iv(&self) -> [u8; 16] {
        self.key[..16].try_into().unwrap()
    }

    /// Opens with the checks of the strictest client.
    pub fn open(&self, text: &str) -> String {
        self.open_with(text, self.iv())
    }

    /// Opens with any IV. The blanks at the end are not part of the JSON.
    pub fn open_with(&self, text: &str, iv: [u8; 16]) -> String {
        let plain = self.decrypt_with(text, iv);
        let padding = usize::from(*plain.last().unwrap());
        assert!((1..=32).contains(&padding), "padding {padding}");
        let (plain, end) = plain.split_at(plain.len() - padding);
        assert!(end.iter().all(|byte| usize::from(*byte) == padding), "padding {end:?}");
        let length = u32::from_be_bytes(plain[16..20].try_into().unwrap()) as usize;
        let (message, tail) = plain[20..].split_at(length);
        assert_eq!(tail, self.app_id.as_bytes(), "the tail is not the app id");
        let message = std::str::from_utf8(message).unwrap();
        message.trim_end_matches([' ', '\t', '\n', '\r']).to_owned()
    }

    /// Decrypts whole blocks with the IV from the key, without a check.
    pub fn decrypt(&self, text: &str) -> Vec<u8> {
        self.decrypt_with(text, self.iv())
    }

    fn decrypt_with(&self, text: &str, iv: [u8; 16]) -> Vec<u8> {
        let mut cipher = STANDARD.decode(text).unwrap();
        assert_eq!(cipher.len() % 32, 0, "the length is no multiple of 32");
        let decryptor = cbc::Decryptor::<Aes256>::new(&self.key.into(), &iv.into());
        decryptor.decrypt_padded::<NoPadding>(&mut cipher).unwrap().to_vec()
    }

    /// The envelope of a message.
    pub fn envelope(&self, message: &str) -> Value {
        json!({ "buin": self.buin, "appId": self.app_id, "encrypt": self.seal(message) })
    }

    /// Checks that a response has the shape on which every client relies, and opens it. Returns
    /// errcode, errmsg and the sealed fields.
    pub async fn open_response(&self, response: Response) -> Value {
        let mut answer = read_response(response).await;
        let fields = answer.as_object_mut().unwrap();
        if let Some(encrypt) = fields.remove("encrypt") {
            assert_eq!(fields.len(), 2, "a sealed response has no plain fields: {fields:?}");
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

    /// `/cgi/gettoken` with any text as the time.
    pub async fn gettoken_at(&self, time: &str) -> Value {
        self.open_response(self.post("/cgi/gettoken", self.envelope(time).to_string()).await).await
    }

    /// A new access token.
    pub async fn token(&self) -> String {
        let answer = self.gettoken().await;
        answer["accessToken"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// `POST` of a sealed message with a token.
    pub async fn post_sealed(&self, token: &str, path: &str, message: &Value) -> Value {
        let body = self.envelope(&message.to_string()).to_string();
        self.open_response(self.post(&format!("{path}?accessToken={token}"), body).await).await
    }

    /// `/cgi/session/get` with its response opened.
    pub async fn get_session(&self, token: &str, session_id: &str) -> Value {
        let session_id: String = form_urlencoded::byte_serialize(session_id.as_bytes()).collect();
        let path = format!("/cgi/session/get?sessionId={session_id}&accessToken={token}");
        self.open_response(self.get(&path).await).await
    }
}

/// Pads a plaintext to whole blocks of 32 bytes.
pub fn pad(mut plain: Vec<u8>) -> Vec<u8> {
    let padding = 32 - plain.len() % 32;
    plain.extend(std::iter::repeat_n(u8::try_from(padding).unwrap(), padding));
    plain
}

/// The JSON of a response that has the shape on which every client relies.
pub async fn read_response(response: Response) -> Value {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    let answer: Value = response.json().await.unwrap();
    assert!(answer["errcode"].is_i64(), "{answer}");
    assert!(answer["errmsg"].is_string(), "{answer}");
    answer
}

/// The whole response of a refused request.
pub fn refusal(errcode: i32, errmsg: &str) -> Value {
    json!({ "errcode": errcode, "errmsg": errmsg })
}
