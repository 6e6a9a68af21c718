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

/// A collector that stores the spans that it receives.
struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    fn start() -> Self {
        let spans = Arc::new(Mutex::new(Vec::new()));
        let received = spans.clone();
        let server = HttpServer::new(move || {
            let received = web::Data::from(received.clone());
            App::new().app_data(received).route("/v1/traces", web::post().to(receive_spans))
        });
        let server = server.workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
        let address = server.addrs()[0];
        tokio::spawn(server.run());
        Self { address, spans }
    }

    fn configure(&self, settings: &mut Settings) {
        let endpoint = format!("http://{}", self.address);
        settings.tracing.otlp_endpoint = OtlpEndpoint::parse(&endpoint);
    }

    /// Stops the server, which exports its spans, and waits until `number` spans have this name.
    fn spans(&self, app: &TestApp, name: &str, number: usize) -> Spans {
        app.shutdown_signal.stop();
        wait_for(name, || {
            let spans = Spans(self.spans.lock().unwrap().clone());
            (spans.named(name).len() >= number).then_some(spans)
        })
    }
}

async fn receive_spans(body: web::Bytes, received: web::Data<Mutex<Vec<Span>>>) -> HttpResponse {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for resource_spans in request.resource_spans {
        let resource = resource_spans.resource.unwrap().attributes;
        assert!(resource.iter().any(|attribute| attribute.key == "service.name"), "{resource:?}");
        received
            .lock()
            .unwrap()
            .extend(resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    HttpResponse::Ok().body(Vec::new())
}

struct Spans(Vec<Span>);

impl Spans {
    fn named(&self, name: &str) -> Vec<&Span> {
        self.0.iter().filter(|span| span.name == name).collect()
    }

    #[track_caller]
    fn single(&self, name: &str) -> &Span {
        let named = self.named(name);
        assert_eq!(named.len(), 1, "{name} in {:#?}", self.0);
        named[0]
    }
}

/// The attributes of a span.
fn attributes(span: &Span) -> Value {
    let attributes = span.attributes.iter().map(|attribute| {
        let value = match attribute.value.clone().unwrap().value.unwrap() {
            AnyValue::StringValue(text) => json!(text),
            AnyValue::IntValue(number) => json!(number),
            other => panic!("{other:?}"),
        };
        (attribute.key.clone(), value)
    });
    Value::Object(attributes.collect())
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
async fn create_statement_and_callback_share_a_trace() {
    let (collector, receiver) = (Collector::start(), Receiver::start().await);
    let app = spawn_app_with(|settings| collector.configure(settings)).await;
    let stored = subscribe(&app, &receiver).await;
    create(&app, &[&traceparent("01")]).await;
    let sent = traceparent_of(&receiver).unwrap();

    let spans = collector.spans(&app, "callback", 1);
    assert_eq!(spans.0.len(), 3, "{:#?}", spans.0);
    assert!(spans.0.iter().all(|span| hex(&span.trace_id) == TRACE && !has_failed(span)));
    let request = spans.single("POST /cgi/session/create");
    assert_eq!(hex(&request.parent_span_id), CALLER);
    assert_eq!(
        attributes(request),
        json!({
            "http.request.method": "POST",
            "http.route": "/cgi/session/create",
            "http.response.status_code": 200,
            "muster.errcode": 0,
            "muster.app_id": app.client.app_id,
        })
    );
    let statement = spans.single("sessions.insert");
    assert_eq!(statement.parent_span_id, request.span_id);
    assert_eq!(
        attributes(statement),
        json!({ "db.system.name": "postgresql", "db.operation.batch.size": 1 })
    );
    let callback = spans.single("callback");
    assert_eq!(callback.parent_span_id, request.span_id);
    assert_eq!(sent, format!("00-{TRACE}-{}-01", hex(&callback.span_id)));
    let attributes = attributes(callback);
    assert_eq!(attributes["http.response.status_code"], 200);
    assert_eq!(attributes["muster.app_id"], stored.app.app_id.as_str());
    let all = format!("{:?}", spans.0);
    for secret in [&app.api_key, "accessToken", TITLE, "alice", "bob", "signature"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn update_is_traced_with_its_statements_and_callback() {
    let (collector, receiver) = (Collector::start(), Receiver::start().await);
    let app = spawn_app_with(|settings| {
        collector.configure(settings);
        settings.cache.enabled = false;
    })
    .await;
    let session = app.session(&["a", "b", "c"]).await;
    subscribe(&app, &receiver).await;
    app.change(&session, "a", json!({ "title": "after" })).await;
    app.change(&session, "nobody", json!({ "title": "never" })).await;
    let sent = traceparent_of(&receiver).unwrap();

    let spans = collector.spans(&app, "callback", 1);
    let update = spans.single("sessions.update");
    let request = spans.0.iter().find(|span| span.span_id == update.parent_span_id).unwrap();
    assert_eq!(request.name, "POST /cgi/session/update");
    assert!(request.parent_span_id.is_empty());
    let callback = spans.single("callback");
    assert_eq!(
        (&callback.trace_id, &callback.parent_span_id),
        (&request.trace_id, &request.span_id)
    );
    assert!(sent.contains(&hex(&request.trace_id)), "{sent}");
    let reads = spans.named("sessions.find");
    assert!(reads.iter().any(|read| read.parent_span_id == request.span_id));
    let refused = spans.named("POST /cgi/session/update");
    let refused = refused.iter().find(|span| span.span_id != request.span_id).unwrap();
    assert_eq!(attributes(refused)["muster.errcode"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_statement_is_linked_to_all_its_requests() {
    const REQUESTS: usize = 30;
    let collector = Collector::start();
    let app = spawn_app_with(|settings| collector.configure(settings)).await;
    let locked = store::lock_sessions(&app).await;
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
    drop(locked);
    for create in creating {
        create.await.unwrap();
    }

    let spans = collector.spans(&app, "POST /cgi/session/create", REQUESTS);
    let mut span_counts: HashMap<&[u8], usize> = HashMap::new();
    let mut items = 0;
    for statement in spans.named("sessions.insert") {
        items += attributes(statement)["db.operation.batch.size"].as_u64().unwrap();
        *span_counts.entry(&statement.parent_span_id).or_default() += 1;
        for link in &statement.links {
            *span_counts.entry(&link.span_id).or_default() += 1;
        }
    }
    assert_eq!(items, REQUESTS as u64);
    let requests = spans.named("POST /cgi/session/create");
    assert_eq!(requests.len(), REQUESTS);
    assert!(requests.iter().all(|span| span_counts.remove(&*span.span_id) == Some(1)));
    assert!(span_counts.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sampling_follows_the_caller_or_the_ratio() {
    let (collector, receiver) = (Collector::start(), Receiver::start().await);
    let app = spawn_app_with(|settings| {
        collector.configure(settings);
        settings.tracing.sample_one_in = 1_000_000;
    })
    .await;
    subscribe(&app, &receiver).await;
    create(&app, &[]).await;
    traceparent_of(&receiver);
    create(&app, &[&traceparent("00")]).await;
    let unsampled = traceparent_of(&receiver).unwrap();
    assert!(
        unsampled.starts_with(&format!("00-{TRACE}-")) && unsampled.ends_with("-00"),
        "{unsampled}"
    );
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
    let valid = traceparent("01");
    let other = valid.replace(CALLER, "00f067aa0ba902b7");
    let invalid = valid.to_uppercase();
    create(&app, &[&valid]).await;
    assert_eq!(traceparent_of(&receiver).as_deref(), Some(&*valid));
    let without: [&[&str]; 3] = [&[], &[&invalid], &[&valid, &other]];
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
        let mut home = Home::with_database();
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
