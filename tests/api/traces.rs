//! Traces: the exported spans, the `traceparent` of callers and receivers, and the behaviour
//! without a collector.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use actix_web::{App, HttpResponse, HttpServer, web};
use muster::config::{OtlpEndpoint, Settings};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use serde_json::{Value, json};

use crate::callbacks::receiver::Receiver;
use crate::callbacks::subscribe;
use crate::harness::process::{Home, http, wait_for};
use crate::harness::{TestApp, spawn_app_with, store};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
const TITLE: &str = "Zeppelin";

/// A collector that keeps the spans that it receives.
struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    fn start() -> Self {
        let spans = Arc::new(Mutex::new(Vec::new()));
        let kept = spans.clone();
        let server = HttpServer::new(move || {
            let kept = web::Data::from(kept.clone());
            App::new().app_data(kept).route("/v1/traces", web::post().to(take))
        });
        let server = server.workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
        let address = server.addrs()[0];
        tokio::spawn(server.run());
        Self { address, spans }
    }

    fn trace(&self, settings: &mut Settings) {
        let endpoint = format!("http://{}", self.address);
        settings.tracing.otlp_endpoint = OtlpEndpoint::parse(&endpoint);
    }

    /// Stops the server, which exports its spans, and waits until `number` spans have this name.
    fn spans(&self, app: &TestApp, name: &str, number: usize) -> Spans {
        app.stopper.stop();
        wait_for(name, || {
            let spans = Spans(self.spans.lock().unwrap().clone());
            (spans.named(name).len() >= number).then_some(spans)
        })
    }
}

async fn take(body: web::Bytes, kept: web::Data<Mutex<Vec<Span>>>) -> HttpResponse {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.unwrap().attributes;
        assert!(resource.iter().any(|one| one.key == "service.name"), "{resource:?}");
        kept.lock().unwrap().extend(of_resource.scope_spans.into_iter().flat_map(|of| of.spans));
    }
    HttpResponse::Ok().body(Vec::new())
}

struct Spans(Vec<Span>);

impl Spans {
    fn named(&self, name: &str) -> Vec<&Span> {
        self.0.iter().filter(|span| span.name == name).collect()
    }

    #[track_caller]
    fn one(&self, name: &str) -> &Span {
        let named = self.named(name);
        assert_eq!(named.len(), 1, "{name} in {:#?}", self.0);
        named[0]
    }
}

/// The attributes of a span.
fn notes(span: &Span) -> Value {
    let noted = span.attributes.iter().map(|one| {
        let value = match one.value.clone().unwrap().value.unwrap() {
            AnyValue::StringValue(text) => json!(text),
            AnyValue::IntValue(number) => json!(number),
            other => panic!("{other:?}"),
        };
        (one.key.clone(), value)
    });
    Value::Object(noted.collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn has_failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

/// A plain create with these headers.
async fn create(app: &TestApp, traceparents: &[&str]) -> Value {
    let path = format!("/cgi/session/create?accessToken={}", app.api_key);
    let mut request = app.client.request(reqwest::Method::POST, &path);
    for traceparent in traceparents {
        request = request.header("traceparent", *traceparent);
    }
    let body = json!({ "title": TITLE, "creator": "alice", "member": ["bob", "carol"] });
    let created: Value = request.body(body.to_string()).send().await.unwrap().json().await.unwrap();
    assert_eq!(created["errcode"], 0, "{created}");
    created
}

/// The `traceparent` of the first callback that arrives.
fn traceparent_of(receiver: &Receiver) -> Option<String> {
    let calls = wait_for("a callback", || Some(receiver.take()).filter(|calls| !calls.is_empty()));
    calls[0].headers.get("traceparent").cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_its_statement_and_its_callback_are_one_trace() {
    let (collector, receiver) = (Collector::start(), Receiver::start().await);
    let app = spawn_app_with(|settings| collector.trace(settings)).await;
    let stored = subscribe(&app, &receiver).await;
    create(&app, &[&traceparent("01")]).await;
    let sent = traceparent_of(&receiver).unwrap();

    let spans = collector.spans(&app, "callback", 1);
    assert_eq!(spans.0.len(), 3, "{:#?}", spans.0);
    assert!(spans.0.iter().all(|span| hex(&span.trace_id) == TRACE && !has_failed(span)));
    let request = spans.one("POST /cgi/session/create");
    assert_eq!(hex(&request.parent_span_id), CALLER);
    assert_eq!(
        notes(request),
        json!({
            "http.request.method": "POST",
            "http.route": "/cgi/session/create",
            "http.response.status_code": 200,
            "muster.errcode": 0,
            "muster.app_id": app.client.app_id,
        })
    );
    let statement = spans.one("sessions.insert");
    assert_eq!(statement.parent_span_id, request.span_id);
    assert_eq!(
        notes(statement),
        json!({ "db.system.name": "postgresql", "db.operation.batch.size": 1 })
    );
    let callback = spans.one("callback");
    assert_eq!(callback.parent_span_id, request.span_id);
    assert_eq!(sent, format!("00-{TRACE}-{}-01", hex(&callback.span_id)));
    let noted = notes(callback);
    assert_eq!(noted["http.response.status_code"], 200);
    assert_eq!(noted["muster.app_id"], stored.app.app_id.as_str());
    let all = format!("{:?}", spans.0);
    for secret in [&app.api_key, "accessToken", TITLE, "alice", "bob", "signature"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn update_is_traced_with_its_statements_and_callback() {
    let (collector, receiver) = (Collector::start(), Receiver::start().await);
    let app = spawn_app_with(|settings| {
        collector.trace(settings);
        settings.cache.enabled = false;
    })
    .await;
    let session = app.session(&["a", "b", "c"]).await;
    subscribe(&app, &receiver).await;
    app.change(&session, "a", json!({ "title": "after" })).await;
    app.change(&session, "nobody", json!({ "title": "never" })).await;
    let sent = traceparent_of(&receiver).unwrap();

    let spans = collector.spans(&app, "callback", 1);
    let update = spans.one("sessions.update");
    let request = spans.0.iter().find(|span| span.span_id == update.parent_span_id).unwrap();
    assert_eq!(request.name, "POST /cgi/session/update");
    assert!(request.parent_span_id.is_empty());
    let callback = spans.one("callback");
    assert_eq!(
        (&callback.trace_id, &callback.parent_span_id),
        (&request.trace_id, &request.span_id)
    );
    assert!(sent.contains(&hex(&request.trace_id)), "{sent}");
    let reads = spans.named("sessions.find");
    assert!(reads.iter().any(|read| read.parent_span_id == request.span_id));
    let refused = spans.named("POST /cgi/session/update");
    let refused = refused.iter().find(|span| span.span_id != request.span_id).unwrap();
    assert_eq!(notes(refused)["muster.errcode"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_share_a_statement_are_all_linked_to_it() {
    const REQUESTS: usize = 30;
    let collector = Collector::start();
    let app = spawn_app_with(|settings| collector.trace(settings)).await;
    let holding = store::lock_sessions(&app).await;
    let app = Arc::new(app);
    let creating: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move { create(&app, &[]).await })
        })
        .collect();
    // Some requests hold the statements that wait for the lock. Later requests share the next
    // statement.
    store::wait_for_blocked_statement(&mut store::connect(&app).await).await;
    drop(holding);
    for one in creating {
        one.await.unwrap();
    }

    let spans = collector.spans(&app, "POST /cgi/session/create", REQUESTS);
    let mut named: HashMap<&[u8], usize> = HashMap::new();
    let mut items = 0;
    for statement in spans.named("sessions.insert") {
        items += notes(statement)["db.operation.batch.size"].as_u64().unwrap();
        *named.entry(&statement.parent_span_id).or_default() += 1;
        for link in &statement.links {
            *named.entry(&link.span_id).or_default() += 1;
        }
    }
    assert_eq!(items, REQUESTS as u64);
    let requests = spans.named("POST /cgi/session/create");
    assert_eq!(requests.len(), REQUESTS);
    assert!(requests.iter().all(|span| named.remove(&*span.span_id) == Some(1)));
    assert!(named.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sampling_follows_the_caller_or_the_ratio() {
    let (collector, receiver) = (Collector::start(), Receiver::start().await);
    let app = spawn_app_with(|settings| {
        collector.trace(settings);
        settings.tracing.sample_one_in = 1_000_000;
    })
    .await;
    subscribe(&app, &receiver).await;
    create(&app, &[]).await;
    traceparent_of(&receiver);
    create(&app, &[&traceparent("00")]).await;
    let unseen = traceparent_of(&receiver).unwrap();
    assert!(unseen.starts_with(&format!("00-{TRACE}-")) && unseen.ends_with("-00"), "{unseen}");
    create(&app, &[&traceparent("01")]).await;
    traceparent_of(&receiver);
    let spans = collector.spans(&app, "callback", 1);
    assert_eq!(spans.0.len(), 3, "{:#?}", spans.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_trace_is_propagated_without_a_collector() {
    let receiver = Receiver::start().await;
    let app = spawn_app_with(|_| {}).await;
    subscribe(&app, &receiver).await;
    let good = traceparent("01");
    let other = good.replace(CALLER, "00f067aa0ba902b7");
    let bad = good.to_uppercase();
    create(&app, &[&good]).await;
    assert_eq!(traceparent_of(&receiver).as_deref(), Some(&*good));
    let without: [&[&str]; 3] = [&[], &[&bad], &[&good, &other]];
    for traceparents in without {
        create(&app, traceparents).await;
        assert_eq!(traceparent_of(&receiver), None, "{traceparents:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unavailable_collector_loses_only_spans() {
    // One collector accepts connections and does not answer, and one does not exist.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [silent.local_addr().unwrap(), closed.local_addr().unwrap()];
    drop(closed);
    for (address, logged) in addresses.into_iter().zip([false, true]) {
        let mut home = Home::lived_in();
        home.set("MUSTER__TRACING__OTLP_ENDPOINT", &format!("http://{address}"));
        home.set("MUSTER__LOG__FORMAT", "json");
        let server = home.serve();
        let url = server.url("/cgi/session/create");
        let body = json!({ "title": TITLE, "creator": "a", "member": ["b", "c"] });
        let request = http().post(&url).query(&[("accessToken", home.api_key())]);
        let request = request.header("traceparent", traceparent("01")).body(body.to_string());
        let created: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(created["errcode"], 0, "{created}");

        // The server stops without waiting for the silent collector.
        let output = server.stop();
        let warning = "the collector takes no traces";
        assert_eq!(
            output.stderr.matches(warning).count(),
            usize::from(logged),
            "{}",
            output.stderr
        );
        let lines = output.stderr.lines().filter_map(|line| serde_json::from_str(line).ok());
        let line = lines.into_iter().find(|line: &Value| line["message"] == "request").unwrap();
        assert_eq!(line["trace_id"], TRACE, "{line}");
    }
}
