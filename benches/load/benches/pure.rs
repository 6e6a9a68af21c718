//! The pure parts, one by one: the cost of a request without network and database.
//!
//! `cargo bench --manifest-path benches/load/Cargo.toml`

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use muster::clock::Clock;
use muster::domain::{
    Account, Action, Attributes, Buin, NewSession, RemovePolicy, Request, Rules, Session,
    SessionId, Title, Update,
};
use muster::wire::{AesKey, CallbackEvent, Envelope, JsonObject, Message};
use uuid::Uuid;

/// The members of a small session, a large one, and the largest.
const SIZES: [usize; 3] = [5, 100, 2_000];

fn accounts(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("user-{number:06}")).collect()
}

/// The JSON of a new session, as in creates and callbacks.
fn message(members: &[String]) -> String {
    Message {
        from_user: "user-000000",
        create_time: 1_795_441_339,
        package_id: "01a208a4-ad10-79ad-bc6b-1fa6e7ee97bf.1.yd0123456789",
        session_id: "{01A208A4-AD10-79AD-BC6B-1FA6E7EE97BF}",
        version: 1,
        event: CallbackEvent::Created { title: "Release", member: members },
    }
    .to_json()
}

fn session(members: &[String], rules: &Rules) -> Session {
    let accounts: Vec<Account> = members.iter().map(|text| Account::new(text).unwrap()).collect();
    let new = NewSession {
        title: Title::new("Release").unwrap(),
        creator: accounts[0].clone(),
        members: accounts,
        attributes: Attributes::default(),
        reason: None,
    };
    let id = SessionId::new(Uuid::from_u128(1));
    Session::create(id, Buin::new(1).unwrap(), new, rules, Clock::system().now()).unwrap()
}

fn envelope(criterion: &mut Criterion) {
    let envelope = Envelope::new(&AesKey::new([7; 32]), "yd0123456789");
    let mut group = criterion.benchmark_group("envelope");
    for size in SIZES {
        let message = message(&accounts(size));
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_with_input(BenchmarkId::new("seal", size), &message, |bench, message| {
            bench.iter(|| envelope.seal(black_box(message.as_bytes())));
        });
        let sealed = envelope.seal(message.as_bytes());
        group.bench_with_input(BenchmarkId::new("open", size), &sealed, |bench, sealed| {
            bench.iter(|| envelope.open(black_box(sealed)));
        });
    }
}

fn json(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("json");
    for size in SIZES {
        let members = accounts(size);
        let text = serde_json::json!({"title": "Release", "creator": "a", "member": members});
        let text = text.to_string();
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::new("parse", size), &text, |bench, text| {
            let fields = ["title", "creator", "type", "member"];
            bench.iter(|| JsonObject::parse(black_box(text.as_bytes()), &fields).is_ok());
        });
        group.bench_with_input(BenchmarkId::new("serialise", size), &members, |bench, members| {
            bench.iter(|| message(black_box(members)));
        });
    }
}

/// One member in and one out, as the load does; and all members.
fn decide(criterion: &mut Criterion) {
    let rules = Rules {
        min_members: 3,
        min_remaining: 3,
        max_members: 2_000,
        remove_members: RemovePolicy::Owner,
    };
    let account = |text: &str| Account::new(text).unwrap();
    let mut group = criterion.benchmark_group("decide");
    for size in SIZES {
        let members = accounts(size);
        let session = session(&members, &rules);
        let removed = account(&members[size - 1]);
        let (operator, added) = (account(&members[0]), account("newcomer"));
        let update = Update::for_members(vec![added], vec![removed]).unwrap();
        let request = Request::for_member(operator, Action::Update(update));
        let at = session.updated_at;
        group.bench_function(BenchmarkId::new("update", size), |bench| {
            bench.iter(|| black_box(&session).decide(black_box(&request), &rules, at));
        });
        // The largest possible update: all but the owner leave, and as many are added.
        let removed = members[1..].iter().map(|text| account(text)).collect();
        let added = (1..size).map(|n| account(&format!("added-{n:06}"))).collect();
        let update = Update::for_members(added, removed).unwrap();
        let request = Request::for_member(account(&members[0]), Action::Update(update));
        group.bench_function(BenchmarkId::new("exchange", size), |bench| {
            bench.iter(|| black_box(&session).decide(black_box(&request), &rules, at));
        });
    }
}

criterion_group!(benches, envelope, json, decide);
criterion_main!(benches);
