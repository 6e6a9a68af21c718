//! What is learnt of a request while it is served, for all who tell of it: its log line, the
//! metrics, its span, an answer that names its id.
//!
//! It lies on the request from the first to the last. An error does not know its request: what it
//! says went wrong lies on the answer, as an [`Outcome`].

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use actix_web::http::header::HeaderValue;
use actix_web::{HttpMessage as _, HttpRequest};
use tokio::time::Instant;

use super::client_ip::Peer;
use crate::domain::{AppId, SessionId};

/// What is learnt of a request.
#[derive(Debug)]
pub(crate) struct Noted {
    id: HeaderValue,
    peer: Peer,
    began: Instant,
    read_at: Cell<Option<Instant>>,
    app_id: OnceCell<AppId>,
    session_id: Cell<Option<SessionId>>,
    succeeded: Cell<bool>,
}

/// What an answer says, and what it does not say.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) answered: Answered,
    /// What failed in here, for operators only.
    pub(crate) cause: Option<String>,
}

/// What an answer says, as the API that gave it calls it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answered {
    /// Of `/cgi`; 0 for success.
    Errcode(i32),
    /// Of a problem of `/v1`; a success has none.
    Code(&'static str),
}

impl Noted {
    /// Of a request with this id, which must be text, that begins now.
    pub(crate) fn new(id: HeaderValue, peer: Peer) -> Rc<Self> {
        Rc::new(Self {
            id,
            peer,
            began: Instant::now(),
            read_at: Cell::default(),
            app_id: OnceCell::new(),
            session_id: Cell::default(),
            succeeded: Cell::default(),
        })
    }

    /// What is known of `request`, if it came through the log.
    pub(crate) fn of(request: &HttpRequest) -> Option<Rc<Self>> {
        request.extensions().get::<Rc<Self>>().cloned()
    }

    /// Adds to what is known of `request`.
    pub(crate) fn on(request: &HttpRequest, note: impl FnOnce(&Self)) {
        if let Some(noted) = request.extensions().get::<Rc<Self>>() {
            note(noted);
        }
    }

    /// Its id.
    pub(crate) fn id(&self) -> &HeaderValue {
        &self.id
    }

    /// The same.
    pub(crate) fn id_as_text(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// Where it comes from.
    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    /// When its head was there.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// When all of it had been read, if it has.
    pub(crate) fn read_at(&self) -> Option<Instant> {
        self.read_at.get()
    }

    /// All of it has been read.
    pub(crate) fn is_read(&self, at: Instant) {
        self.read_at.set(Some(at));
    }

    /// Who asks.
    pub(crate) fn app_id(&self) -> Option<&AppId> {
        self.app_id.get()
    }

    /// An app asks, that was let in.
    pub(crate) fn comes_from(&self, app_id: &AppId) {
        self.app_id.get_or_init(|| app_id.clone());
    }

    /// Which session it is about, if it is about one.
    pub(crate) fn session_id(&self) -> Option<SessionId> {
        self.session_id.get()
    }

    /// It is about a session.
    pub(crate) fn is_about(&self, id: SessionId) {
        self.session_id.set(Some(id));
    }

    /// It was answered with a result, by an API that says so in the answer.
    pub(crate) fn succeeded(&self) {
        self.succeeded.set(true);
    }

    /// What its answer said, which went wrong like that or did not.
    pub(crate) fn answered(&self, outcome: Option<&Outcome>) -> Option<Answered> {
        let success = self.succeeded.get().then_some(Answered::Errcode(0));
        outcome.map(|outcome| outcome.answered).or(success)
    }
}

impl Answered {
    pub(crate) fn errcode(self) -> Option<i32> {
        match self {
            Self::Errcode(errcode) => Some(errcode),
            Self::Code(_) => None,
        }
    }

    pub(crate) fn code(self) -> Option<&'static str> {
        match self {
            Self::Errcode(_) => None,
            Self::Code(code) => Some(code),
        }
    }
}
