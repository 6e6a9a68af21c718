//! Attacks on the sealed form by an attacker who has no key: only an access token and the id of a
//! session, which both stand in URLs.
//!
//! CBC without a MAC is malleable: with `C` as the first block, the second one decrypts to anything
//! that the attacker knows already, XOR anything that it chooses. So the attacker can put new
//! messages together from the blocks of sealed responses. The tests check that the service tells
//! nothing about them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::domain::Permission;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::envelope::visible_response;
use crate::harness::client::{Client, read_response};
use crate::harness::{BUIN, TestApp, refusal, spawn_app, spawn_app_with};
use crate::metrics::{scrape, spawn_with};

const CALLS: [&str; 2] = ["session/create", "session/update"];
const CANNOT_OPEN: &str = "encrypt: cannot be opened with this app's key, or is not a JSON object";
/// The secret that the attacker wants: a title that fills several blocks.
const TITLE: &str = "closing the branch in Hamburg, two hundred people";

type Block = [u8; 16];

fn xor(left: &[u8], right: &[u8]) -> Block {
    std::array::from_fn(|at| left[at] ^ right[at])
}

/// The attacker, and its knowledge.
struct Attacker<'a> {
    client: &'a Client,
    token: String,
    /// The blocks of a sealed response with the session.
    blocks: Vec<Block>,
    /// The part of the message in the response that the attacker knows: `{"sessionId":"{…}","title":"`.
    known: String,
    /// The length of the message in the response. The attacker can try the few possible ones.
    length: usize,
    seen: BTreeSet<(u16, Vec<String>, String)>,
}

impl<'a> Attacker<'a> {
    async fn new(app: &'a TestApp) -> Self {
        let body = json!({ "title": TITLE, "creator": "hr", "member": ["boss", "lawyer"] });
        let session = app.create(&body).await;
        let id = session["sessionId"].as_str().unwrap();
        let token = app.client.token().await;
        let path = format!("/cgi/session/get?accessToken={token}&sessionId={}", &id[1..37]);
        let response = read_response(app.client.get(&path).await).await;
        let sealed = STANDARD.decode(response["encrypt"].as_str().unwrap()).unwrap();
        let blocks = sealed.chunks(16).map(|block| block.try_into().unwrap()).collect();
        // The harness knows the length. The attacker would try each one in turn.
        let plain = app.client.decrypt(response["encrypt"].as_str().unwrap());
        let length = u32::from_be_bytes(plain[16..20].try_into().unwrap()) as usize;
        let known = format!(r#"{{"sessionId":"{id}","title":""#);
        Self { client: &app.client, token, blocks, known, length, seen: BTreeSet::new() }
    }

    /// The plaintext of a block, as far as it is known; zeros elsewhere.
    fn plain(&self, index: usize) -> Block {
        let length = u32::try_from(self.length).unwrap().to_be_bytes();
        let text = [&[0; 16][..], &length, self.known.as_bytes()].concat();
        std::array::from_fn(|at| text.get(index * 16 + at).copied().unwrap_or_default())
    }

    /// The response, cut before the block `index`, with a first block that makes of this block the
    /// length of the rest and `start`, if its plaintext is `guess`.
    fn cut(&self, index: usize, guess: Block, start: &str) -> String {
        let dropped = (index - 1) * 16;
        let length = u32::try_from(self.length - dropped).unwrap();
        let wanted = [&length.to_be_bytes(), start.as_bytes()].concat();
        let first = xor(&xor(&guess, &self.blocks[index - 1]), &wanted);
        // The service requires a multiple of 32 bytes, so an even number of blocks can be dropped.
        assert_eq!(index % 2, 1);
        STANDARD.encode([&[first][..], &self.blocks[index..]].concat().concat())
    }

    async fn send(&mut self, call: &str, encrypt: &str) {
        let response = send(self.client, call, &self.token, encrypt).await;
        self.seen.insert(visible_response(response).await);
    }
}

async fn send(client: &Client, call: &str, token: &str, encrypt: &str) -> Response {
    let body = json!({ "buin": client.buin, "appId": client.app_id, "encrypt": encrypt });
    client.post(&format!("/cgi/{call}?accessToken={token}"), body.to_string()).await
}

/// Text that any attacker can send: noise of the right form.
fn noise() -> String {
    STANDARD.encode([rand::random::<[u8; 32]>(), rand::random()].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn token_and_session_id_decrypt_no_message() {
    // The throttle is off, so the attacker has all the attempts that it wants.
    let app = spawn_app().await;
    let mut attacker = Attacker::new(&app).await;
    for call in CALLS {
        attacker.send(call, &noise()).await;
        // The length of the message: all lengths but one fail to open.
        let length = attacker.length;
        for candidate in length - 40..length + 40 {
            attacker.length = candidate;
            let known = attacker.plain(3);
            let text = attacker.cut(3, known, "aaaaaaaaaaaa");
            attacker.send(call, &text).await;
        }
        attacker.length = length;
        // With the key it can be seen that the attack works: the right text would open.
        let text = attacker.cut(3, attacker.plain(3), "aaaaaaaaaaaa");
        assert!(attacker.client.open(&text).starts_with("aaaaaaaaaaaa"));
        // Every beginning of a message, before every known block: JSON objects, halves of them, and
        // fields that would take the secret as their value.
        for index in [1, 3] {
            let known = attacker.plain(index);
            for start in [
                "aaaaaaaaaaaa",
                "            ",
                "{}          ",
                r#"{"creator":""#,
                r#"{"title":"aa"#,
                r#"{"type":"aaa"#,
                r#"{"opUser":"a"#,
                r#"{"sessionId""#,
                r#"{"version":1"#,
                r#"{"member":[""#,
                r#"{"aaaaaaaaa""#,
                r#"[{"a":1},{"a"#,
            ] {
                let text = attacker.cut(index, known, start);
                attacker.send(call, &text).await;
            }
        }
        // The first character of the title: one of the guesses is right, so that the message opens.
        let index = (20 + attacker.known.len()) / 16;
        for guess in 0..=255 {
            let mut block = attacker.plain(index);
            block[(20 + attacker.known.len()) % 16] = guess;
            let text = attacker.cut(index, block, "aaaaaaaaaaaa");
            let length = &attacker.client.decrypt(&text)[16..20];
            let opens =
                length == u32::try_from(attacker.length - (index - 1) * 16).unwrap().to_be_bytes();
            assert_eq!(opens, guess == TITLE.as_bytes()[0]);
            for start in ["aaaaaaaaaaaa", r#"{"title":"aa"#] {
                let text = attacker.cut(index, block, start);
                attacker.send(call, &text).await;
            }
        }
    }
    let seen: Vec<_> = attacker.seen.iter().collect();
    assert_eq!(seen.len(), 1, "{seen:#?}");
    let body: Value = serde_json::from_str(&seen[0].2).unwrap();
    assert_eq!((seen[0].0, body), (200, refusal(100_006, CANNOT_OPEN)));
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_responses_cannot_become_token_requests() {
    let app = spawn_app().await;
    let mut attacker = Attacker::new(&app).await;
    let time = app.clock.now().timestamp().to_string();
    // The attacker knows the app id, so it knows the last blocks, and makes them say the time.
    let plain = app.client.decrypt(&STANDARD.encode(attacker.blocks.concat()));
    for index in (1..attacker.blocks.len()).step_by(2) {
        let known: Block = plain[index * 16..][..16].try_into().unwrap();
        for end in 4..=12 {
            let start = format!("{time:<12}");
            attacker.length = (index - 1) * 16 + end;
            let text = attacker.cut(index, known, &start);
            attacker.send("gettoken", &text).await;
        }
    }
    attacker.send("gettoken", &noise()).await;
    assert_eq!(attacker.seen.len(), 1, "{:#?}", attacker.seen);
    assert!(attacker.seen.first().unwrap().2.contains("100006"));
}

/// A token request that is valid if the recorded message ends with `guess`. The app id must begin two
/// bytes before the end of a block.
fn guess_as_token_request(app: &TestApp, recorded: &str, guess: &str) -> String {
    let sealed = STANDARD.decode(recorded).unwrap();
    let blocks: Vec<Block> = sealed.chunks(16).map(|block| block.try_into().unwrap()).collect();
    let plain = app.client.decrypt(recorded);
    let suffix = plain.len() - usize::from(*plain.last().unwrap()) - app.client.app_id.len();
    let index = suffix / 16;
    assert_eq!((suffix % 16, index % 2), (14, 1));
    let known = [guess.as_bytes(), &plain[suffix..suffix + 2]].concat();
    let time = app.clock.now().timestamp().to_string();
    let wanted = [&10_u32.to_be_bytes(), time.as_bytes(), &plain[suffix..suffix + 2]].concat();
    let first = xor(&xor(&known, &blocks[index - 1]), &wanted);
    STANDARD.encode([&[first][..], &blocks[index..]].concat().concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_request_allows_one_guess_of_its_end() {
    let app = spawn_app().await;
    // Its end fills the block before the app id up to two bytes.
    let record = || app.client.seal(r#"{"creator":"hr",         "title":"salary"}"#);
    let gettoken = async |text: &str| {
        let body = json!({ "buin": BUIN, "appId": app.client.app_id, "encrypt": text });
        let response = app.client.post("/cgi/gettoken", body.to_string()).await;
        app.client.open_response(response).await["errcode"].clone()
    };
    let guess = |recorded: &str, word: &str| {
        guess_as_token_request(&app, recorded, &format!(r#"tle":"{word}"}}"#))
    };
    // The protocol cannot refuse the first guess. This one shows that the attack works.
    assert_eq!(gettoken(&guess(&record(), "salary")).await, 0);
    let recorded = record();
    assert_eq!(gettoken(&guess(&recorded, "merger")).await, 100_006);
    for word in ["dismis", "salary"] {
        assert_eq!(gettoken(&guess(&recorded, word)).await, 100_006, "{word}");
    }
}

/// A creation that is a JSON object if `guess` is the block with this number of the recorded message.
fn guess_as_creation(app: &TestApp, recorded: &str, index: usize, guess: &[u8]) -> String {
    let sealed = STANDARD.decode(recorded).unwrap();
    let blocks: Vec<Block> = sealed.chunks(16).map(|block| block.try_into().unwrap()).collect();
    let plain = app.client.decrypt(recorded);
    let end = plain.len() - usize::from(*plain.last().unwrap()) - app.client.app_id.len();
    let length = u32::try_from(end - 16 * (index + 1) + 12).unwrap();
    let wanted = [&length.to_be_bytes()[..], br#"{"a":1,"q":""#].concat();
    let first = xor(&xor(guess, &blocks[index - 1]), &wanted);
    STANDARD.encode([&[first][..], &blocks[index..]].concat().concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_remembered_write_confirm_no_guess() {
    for refuse in [false, true] {
        let app = spawn_with(|settings| settings.policy.refuse_replayed_writes = refuse).await;
        let token = app.client.token().await;
        let message = json!({ "title": "x".repeat(60), "creator": "hr", "member": ["a", "b"] });
        let recorded = app.client.seal(&message.to_string());
        let errcode = async |text: &str| {
            let response = send(&app.client, "session/create", &token, text).await;
            app.client.open_response(response).await["errcode"].clone()
        };
        assert_eq!(errcode(&recorded).await, 0);
        let plain = app.client.decrypt(&recorded);
        // The objects that follow a right guess have no title. The attack works without the setting.
        let expected = if refuse { 100_006 } else { 100_003 };
        for index in [3, 5] {
            let right = &plain[16 * index..][..16];
            let guess = guess_as_creation(&app, &recorded, index, right);
            assert_eq!(errcode(&guess).await, expected, "{index}");
            let guess = guess_as_creation(&app, &recorded, index, b"a wrong guess 16");
            assert_eq!(errcode(&guess).await, 100_006, "{index}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_muster_are_not_accepted_as_requests() {
    let app = spawn_app().await;
    let token = app.client.token().await;
    let message = json!({ "title": "t", "creator": "a", "member": ["b", "c"] });
    let body = app.client.envelope(&message.to_string()).to_string();
    let path = format!("/cgi/session/create?accessToken={token}");
    let sealed = read_response(app.client.post(&path, body).await).await["encrypt"].clone();
    let opened: Value = serde_json::from_str(&app.client.open(sealed.as_str().unwrap())).unwrap();
    assert_eq!(opened["title"], "t");
    for call in CALLS {
        let got = send(&app.client, call, &token, sealed.as_str().unwrap()).await;
        assert_eq!(read_response(got).await, refusal(100_006, CANNOT_OPEN));
    }
}

/// A server on which ten texts may fail, and which takes addresses from a header.
async fn guarded() -> TestApp {
    spawn_with(|settings| {
        settings.limits.max_failed_attempts = 10;
        settings.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await
}

async fn send_from(
    app: &TestApp,
    address: &str,
    client: &Client,
    token: &str,
    encrypt: &str,
) -> Response {
    let body = json!({ "buin": client.buin, "appId": client.app_id, "encrypt": encrypt });
    let path = format!("/cgi/session/create?accessToken={token}");
    let request = app.client.request(Method::POST, &path).header("X-Forwarded-For", address);
    request.body(body.to_string()).send().await.unwrap()
}

fn creation() -> String {
    json!({ "title": "t", "creator": "a", "member": ["b", "c"] }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_form_is_throttled_after_ten_failures() {
    const HERE: &str = "192.0.2.1";
    let app = guarded().await;
    let (client, token) = (&app.client, app.client.token().await);
    let (other, _) = app.another_app(BUIN, &[Permission::SessionsWrite]).await;
    let other_token = other.token().await;
    // Texts that do not open and texts that are no object count alike.
    for text in [noise(), client.seal("x"), client.seal(""), client.seal("[]"), client.seal("{} x")]
    {
        for text in [&text, &text] {
            let got = read_response(send_from(&app, HERE, client, &token, text).await).await;
            assert_eq!(got, refusal(100_006, CANNOT_OPEN));
        }
    }
    let mut throttled = 0;
    for wait in ["1", "2", "4", "8"] {
        for text in [noise(), client.seal("x"), client.seal(&creation())] {
            let got = send_from(&app, HERE, client, &token, &text).await;
            assert_eq!(got.status(), 429);
            assert_eq!(got.headers()["retry-after"], wait);
            let errmsg = "encrypt: at most 10 texts that cannot be opened from an address without a \
                          wait, got more";
            assert_eq!(got.json::<Value>().await.unwrap(), refusal(-1, errmsg));
            throttled += 1;
        }
        // Only the sealed form of this app is throttled, and only for this address.
        for (address, client, token) in
            [("192.0.2.2", client, &token), (HERE, &other, &other_token)]
        {
            let got = send_from(&app, address, client, token, &client.seal(&creation())).await;
            assert_eq!(client.open_response(got).await["errcode"], 0, "{address}");
        }
        let path = format!("/cgi/session/create?accessToken={}", app.api_key);
        let plain = app.client.request(Method::POST, &path).header("X-Forwarded-For", HERE);
        let plain = read_response(plain.body(creation()).send().await.unwrap()).await;
        assert_eq!(plain["errcode"], 0, "{plain}");
        // A success does not forgive: an attacker can have as many as it wants.
        app.clock.advance(Duration::from_secs(wait.parse().unwrap()));
        let got = send_from(&app, HERE, client, &token, &client.seal(&creation())).await;
        assert_eq!(client.open_response(got).await["errcode"], 0);
        let got = read_response(send_from(&app, HERE, client, &token, &noise()).await).await;
        assert_eq!(got, refusal(100_006, CANNOT_OPEN));
    }
    let metrics = scrape(&app).await;
    let count =
        |reason| metrics.has(&format!("muster_sealed_texts_rejected_total{{reason=\"{reason}\"}}"));
    assert_eq!((count("unopened"), count("throttled")), (14.0, f64::from(throttled)));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_failures_get_no_more_attempts() {
    let app = guarded().await;
    let token = app.client.token().await;
    let text = app.client.seal("x");
    let tries = (0..100).map(|_| send(&app.client, CALLS[0], &token, &text));
    let replies = futures_util::future::join_all(tries).await;
    let answered = replies.iter().filter(|reply| reply.status() == 200).count();
    assert_eq!(answered, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_clients_are_never_throttled() {
    let app = spawn_app_with(|settings| settings.limits.max_failed_attempts = 1).await;
    let token = app.client.token().await;
    // Mistakes in a message are no failure to open it.
    for (message, errcode) in [
        (json!({}), 100_003),
        (json!({ "title": " ", "creator": "a", "member": ["b", "c"] }), 100_003),
        (json!({ "title": "t", "creator": "a", "member": "b" }), 100_003),
        (json!({ "title": "t", "creator": "a", "member": [] }), 400_004),
        (json!({ "title": "t", "creator": "a", "member": ["b", "c"] }), 0),
    ] {
        for _ in 0..5 {
            let got = app.client.post_sealed(&token, "/cgi/session/create", &message).await;
            assert_eq!(got["errcode"], errcode, "{got}");
        }
    }
}

/// A word that stands in every message, and in no response to a sealed one.
const SECRET: &str = "s3cr3t";

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_sealed_form_echo_nothing() {
    let app = spawn_app_with(|settings| settings.limits.max_members = 5).await;
    let token = app.client.token().await;
    let session = app.session(&[SECRET, "b", "c"]).await;
    let long = SECRET.repeat(12);
    let control = format!("{SECRET}\u{7}");
    let create = |fields: Value| {
        ("create", json!({ "title": "t", "creator": "a", "member": ["b", "c"] }), fields)
    };
    let update = |fields: Value| {
        ("update", json!({ "sessionId": session["sessionId"], "opUser": SECRET }), fields)
    };
    for (call, mut message, fields) in [
        create(json!({ "title": long })),
        create(json!({ "title": control })),
        create(json!({ "title": { SECRET: 1 } })),
        create(json!({ "title": " " })),
        create(json!({ "creator": long })),
        create(json!({ "creator": [SECRET] })),
        create(json!({ "type": SECRET })),
        create(json!({ "member": [SECRET, long] })),
        create(json!({ "member": [SECRET, control] })),
        create(json!({ "member": [SECRET, "b", { SECRET: 1 }] })),
        create(json!({ "member": SECRET })),
        create(json!({ "member": [] })),
        create(json!({ "member": [SECRET, 1, 2, 3, 4, 5] })),
        update(json!({ "sessionId": SECRET })),
        update(json!({ "sessionId": [SECRET] })),
        update(json!({ "opUser": format!("{SECRET}2") })),
        update(json!({ "opUser": "b", "delMember": [SECRET] })),
        update(json!({ "addMember": [SECRET], "delMember": [SECRET] })),
        update(json!({ "addMember": [1, 2, 3, 4, 5] })),
        update(json!({ "delMember": [SECRET] })),
        update(json!({ "version": 7777 })),
        update(json!({ "version": -7777 })),
        update(json!({ "version": 18_446_744_073_709_551_615_u64 })),
        update(json!({ "version": SECRET })),
    ] {
        message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let path = format!("/cgi/session/{call}");
        let plain = app.post_plain(&path, message.to_string()).await;
        let sealed = app.client.post_sealed(&token, &path, &message).await;
        assert_ne!(sealed["errcode"], 0, "{message}");
        assert_eq!(sealed["errcode"], plain["errcode"], "{message}");
        let errmsg = sealed["errmsg"].as_str().unwrap();
        let (field, why) = errmsg.split_once(": ").unwrap();
        assert!(message.get(field).is_some() || field == "member", "names its field: {errmsg}");
        for value in [SECRET, "7777", "1844674407", "got", "[", "U+"] {
            assert!(!why.contains(value) && !field.contains(value), "{errmsg}");
        }
    }
    // The plain form has the details.
    let plain = app.create(&json!({ "title": "t", "creator": "a", "type": SECRET })).await;
    assert!(plain["errmsg"].as_str().unwrap().contains(SECRET), "{plain}");
}

/// A kind of refused texts: its name, and a function that makes such a text.
type RefusedKind<'a> = (&'static str, Box<dyn Fn() -> String + 'a>);

/// Texts of the same length that are refused for different reasons. `half` is a message without its end.
fn refused_kinds<'a>(client: &'a Client, half: &'a str) -> [RefusedKind<'a>; 8] {
    let mut wrong_key = client.clone();
    wrong_key.key[0] ^= 1;
    let again = wrong_key.clone();
    let mut other_app = client.clone();
    other_app.app_id.replace_range(..1, "_");
    [
        ("another key", Box::new(move || wrong_key.seal(half))),
        ("another key, again", Box::new(move || again.seal(half))),
        ("another app", Box::new(move || other_app.seal(half))),
        (
            "noise",
            Box::new(|| {
                let length = STANDARD.decode(client.seal(half)).unwrap().len();
                STANDARD.encode((0..length).map(|_| rand::random()).collect::<Vec<u8>>())
            }),
        ),
        ("no JSON, from the first byte", Box::new(|| client.seal(&"x".repeat(half.len())))),
        ("no JSON, at the last byte", Box::new(|| client.seal(half))),
        ("an array", Box::new(|| client.seal(&format!("[{}1]", "1,".repeat(half.len() / 2 - 1))))),
        (
            "a byte after the object",
            Box::new(|| client.seal(&format!("{}}}x", &half[..half.len() - 1]))),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_every_kind_wait_for_the_same_time() {
    let app = spawn_app_with(|settings| settings.limits.max_failed_attempts = 0).await;
    let token = app.client.token().await;
    for call in CALLS {
        for (kind, text) in refused_kinds(&app.client, r#"{"title":"t","creator":"a""#) {
            let began = Instant::now();
            let response = send(&app.client, call, &token, &text()).await;
            assert!(began.elapsed() >= Duration::from_millis(2), "{call}: {kind}");
            assert_eq!(read_response(response).await["errmsg"], CANNOT_OPEN, "{call}: {kind}");
        }
    }
    // The proof of a token request.
    let began = Instant::now();
    let mut wrong_key = app.client.clone();
    wrong_key.key[0] ^= 1;
    assert_ne!(wrong_key.gettoken().await["errcode"], 0);
    assert!(began.elapsed() >= Duration::from_millis(2));
}

/// The interquartile range, and the noise of the median that follows from it: about the 95 % interval
/// of a median of this number of samples.
fn spread(sorted: &[Duration]) -> (Duration, Duration) {
    let at = |part: usize| sorted[sorted.len() * part / 100];
    let range = at(75) - at(25);
    (range, range.mul_f64(1.57 / (sorted.len() as f64).sqrt()))
}

/// Not a test: a tool that prints how long refused texts take, by their kind. The medians should not
/// differ by more than the noise of the machine; a person must judge that. The first two kinds are
/// the same, so that their difference shows the noise, too.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a tool, which checks nothing"]
async fn print_durations_of_refused_texts() {
    const SAMPLES: usize = 10_000;
    let app = spawn_app().await;
    let token = app.client.token().await;
    let message =
        json!({ "title": TITLE, "creator": "hr", "member": ["boss", "lawyer"] }).to_string();
    let half = message[..message.len() - 1].to_owned();
    // The kinds have the same length.
    let kinds = refused_kinds(&app.client, &half);
    let mut durations: [Vec<Duration>; 8] = Default::default();
    for round in 0..SAMPLES {
        // The kinds alternate, and begin with another one each time, so that a busy moment of the
        // machine and the order hit all of them.
        for place in 0..kinds.len() {
            let kind = (round + place) % kinds.len();
            let text = kinds[kind].1();
            let began = Instant::now();
            let response = send(&app.client, CALLS[0], &token, &text).await;
            durations[kind].push(began.elapsed());
            assert_eq!(response.status(), 200);
        }
    }
    durations.iter_mut().for_each(|durations| durations.sort());
    let median = |kind: usize| durations[kind][SAMPLES / 2].as_secs_f64() * 1e6;
    println!(
        "{:30} {:>10} {:>10} {:>10} {:>10}",
        "µs", "median", "quartiles", "difference", "noise"
    );
    for (kind, (name, _)) in kinds.iter().enumerate() {
        let (range, noise) = spread(&durations[kind]);
        let (_, noise_of_first) = spread(&durations[0]);
        println!(
            "{name:30} {:>10.2} {:>10.2} {:>+10.2} {:>10.2}",
            median(kind),
            range.as_secs_f64() * 1e6,
            median(kind) - median(0),
            noise.as_secs_f64().hypot(noise_of_first.as_secs_f64()) * 1e6,
        );
    }
}
