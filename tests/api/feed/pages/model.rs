//! Random histories, and the copy of a reader that applies each change.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{Caller, id_of, seq};

pub const ACCOUNTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Creates sessions and changes its own and shared ones at random. A rejected change is allowed.
pub async fn write(caller: Caller, rng_seed: u64, shared: Vec<String>, changes: usize) {
    let mut rng = StdRng::seed_from_u64(rng_seed);
    let mut ids = shared;
    for number in 0..changes {
        if rng.random_bool(0.15) {
            let mut members = ACCOUNTS.to_vec();
            members.rotate_left(rng.random_range(0..6));
            members.truncate(rng.random_range(3..=6));
            ids.push(caller.create(&members).await);
            continue;
        }
        let id = ids.choose(&mut rng).unwrap();
        let path = format!("/v1/sessions/{id}");
        let session = caller.send(Method::GET, &path, &Value::Null).await;
        let session = crate::v1::result(session).await;
        let owner = session["owner"].as_str().unwrap().to_owned();
        let account = *ACCOUNTS.choose(&mut rng).unwrap();
        let by = |fields: Value| {
            let mut fields = fields;
            fields["operator"] = json!(owner);
            fields
        };
        let (method, call, body) = match rng.random_range(0..9) {
            0 => (Method::PATCH, "", by(json!({ "title": format!("{rng_seed} {number}") }))),
            1 | 2 => (Method::PATCH, "", by(json!({ "addMember": [account] }))),
            3 | 4 => (Method::PATCH, "", by(json!({ "delMember": [account] }))),
            5 => (Method::PATCH, "", by(json!({ "owner": account }))),
            6 => (Method::PATCH, "", by(json!({ "attributes": { account: number } }))),
            7 if session["state"] == "dissolved" => (Method::POST, "/restore", by(json!({}))),
            7 if rng.random_bool(0.3) => {
                let path = format!("{path}?operator={owner}");
                let request = caller.client.request(Method::DELETE, &path);
                request.bearer_auth(&caller.key).send().await.unwrap();
                continue;
            }
            _ => {
                let version = rng.random_range(1..=session["version"].as_i64().unwrap());
                (Method::POST, "/revert", by(json!({ "version": version })))
            }
        };
        caller.send(method, &format!("{path}{call}"), &body).await;
    }
}

/// A session as the applied changes make it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelSession {
    pub version: i64,
    title: Value,
    pub owner: String,
    pub members: Vec<String>,
    attributes: Map<String, Value>,
    state: Value,
}

impl ModelSession {
    /// The same facts of a session in a response.
    pub fn from_json(session: &Value) -> Self {
        Self {
            version: session["version"].as_i64().unwrap(),
            title: session["title"].clone(),
            owner: session["owner"].as_str().unwrap().to_owned(),
            members: texts(&session["member"]),
            attributes: session["attributes"].as_object().unwrap().clone(),
            state: session["state"].clone(),
        }
    }

    /// Applies the next change of the session.
    pub fn apply(&mut self, event: &Value) {
        assert_eq!(event["version"], self.version + 1, "{event}");
        self.version += 1;
        let changes = &event["changes"];
        if !changes["title"].is_null() {
            self.title = changes["title"].clone();
        }
        if let Some(owner) = changes["owner"].as_str() {
            owner.clone_into(&mut self.owner);
        }
        if changes["member"].is_null() {
            let removed = texts(&changes["delMember"]);
            self.members.retain(|member| !removed.contains(member));
            self.members.extend(texts(&changes["addMember"]));
        } else {
            self.members = texts(&changes["member"]);
        }
        for (name, value) in changes["attributes"].as_object().into_iter().flatten() {
            if value.is_null() {
                self.attributes.remove(name);
            } else {
                self.attributes.insert(name.clone(), value.clone());
            }
        }
        if !changes["state"].is_null() {
            self.state = changes["state"].clone();
        }
    }
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// A change, and its session before and after it.
pub struct Step {
    pub event: Value,
    pub before: Option<ModelSession>,
    pub after: ModelSession,
}

/// All changes of an enterprise in their order.
pub struct History(pub Vec<Step>);

/// The sessions by id.
pub type Table = BTreeMap<String, ModelSession>;

impl History {
    /// Applies all changes, of which each comes with its session.
    pub fn from_changes(changes: &[Value]) -> Self {
        let mut table = Table::new();
        let mut steps = Vec::new();
        for (event, number) in changes.iter().zip(1..) {
            assert_eq!(seq(event), number, "the numbers have no gaps");
            let before = table.get(&id_of(event)).cloned();
            let mut after = before.clone().unwrap_or_default();
            after.apply(event);
            assert_eq!(ModelSession::from_json(&event["session"]), after, "{event}");
            table.insert(id_of(event), after.clone());
            let mut event = event.clone();
            event.as_object_mut().unwrap().remove("session");
            steps.push(Step { event, before, after });
        }
        Self(steps)
    }

    /// The sessions after the change `seq`.
    pub fn table_at(&self, seq: i64) -> Table {
        let steps = self.0.iter().take(usize::try_from(seq).unwrap());
        steps.map(|step| (id_of(&step.event), step.after.clone())).collect()
    }

    /// The session at a version.
    pub fn session_at(&self, id: &str, version: i64) -> &ModelSession {
        let is_version = |step: &&Step| id_of(&step.event) == id && step.after.version == version;
        &self.0.iter().find(is_version).unwrap().after
    }

    /// The changes that match a filter.
    pub fn matching(&self, filter: &Filter) -> Vec<&Value> {
        let matches = |step: &&Step| filter.matches(&step.event, step.before.as_ref(), &step.after);
        self.0.iter().filter(matches).map(|step| &step.event).collect()
    }
}

/// A filter of the test: name and value of each parameter.
#[derive(Clone, Debug)]
pub struct Filter(pub Vec<(&'static str, String)>);

impl Filter {
    /// The parameters, each with `&` before it.
    pub fn query(&self) -> String {
        self.0.iter().map(|(name, value)| format!("&{name}={value}")).collect()
    }

    /// Whether a change matches, after and before which the session is this one.
    pub fn matches(
        &self,
        event: &Value,
        before: Option<&ModelSession>,
        after: &ModelSession,
    ) -> bool {
        let any =
            |matches: &dyn Fn(&ModelSession) -> bool| before.is_some_and(matches) || matches(after);
        self.0.iter().all(|(name, value)| match *name {
            "member" => any(&|session| session.members.contains(value)),
            "owner" => any(&|session| session.owner == *value),
            name => event[name] == **value,
        })
    }
}
