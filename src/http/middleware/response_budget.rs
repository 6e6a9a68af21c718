//! Bounds the memory of large responses that their clients have not read yet.
//!
//! A response counts as unread from its rendering until its last part has been handed to the connection.
//! A slow or silent client thus holds memory for as long as the write timeout permits. Each enterprise
//! may hold a quarter of the budget, so its slow clients do not make the server refuse the requests of
//! others.
//!
//! Small responses are not counted: over HTTP/1 the buffer of a connection is as large, and over HTTP/2 the
//! memory of open requests counts them. A read whose response has
//! no room is refused. A change is refused before anything is done if the enterprise has used up its
//! share; the response to a change that is done is counted in any case.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};

use super::request_context::RequestContext;
use super::timeout::NoResponse;
use crate::domain::Buin;
use crate::metrics::{Metrics, ResponseStats};

/// The maximum size of a response that is not counted, in bytes.
const MAX_UNCOUNTED_RESPONSE: usize = 16 * 1024;
/// The size of the parts in which a counted response is handed to its connection, in bytes.
const PART: usize = 32 * 1024;
/// The part of the budget that one enterprise may use.
const SHARES: usize = 4;

/// The memory of the large responses of all threads.
pub struct ResponseBudget {
    max_bytes: usize,
    unread: Mutex<UnreadBytes>,
    /// [`UnreadBytes::total`], for a read without the lock.
    total: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// The bytes of responses that are not read yet.
#[derive(Default)]
struct UnreadBytes {
    total: usize,
    /// The enterprises that have any.
    by_enterprise: HashMap<Buin, usize>,
}

/// A part of the budget, in use until it is dropped.
pub(crate) struct UnreadResponse {
    budget: Arc<ResponseBudget>,
    buin: Buin,
    bytes: usize,
}

/// The body of a large response. The response is handed over part by part, because the framework
/// would copy it whole into the buffer of its connection, and drop it before it is sent.
struct PartedBody {
    rest: Bytes,
    /// `None` if the response is the same for all callers: it exists once for all clients.
    _unread: Option<UnreadResponse>,
}

impl ResponseBudget {
    /// A budget of `max_bytes` for all enterprises together.
    #[must_use]
    pub fn new(max_bytes: usize, metrics: Arc<Metrics>) -> Self {
        Self { max_bytes, unread: Mutex::default(), total: AtomicUsize::new(0), metrics }
    }

    /// Whether an enterprise uses its whole share, or has unread responses while the budget is used up.
    fn is_used_up(&self, buin: Buin) -> bool {
        let share = self.max_bytes / SHARES;
        // The usual case: less is unread than by any enterprise that has used up its share.
        if self.total.load(Ordering::Relaxed) < share {
            return false;
        }
        let unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        let own = unread.by_enterprise.get(&buin).copied().unwrap_or_default();
        own >= share || (own > 0 && unread.total >= self.max_bytes)
    }

    fn stats(&self) -> &ResponseStats {
        &self.metrics.responses
    }

    /// Counts a response. `None` if the budget or the share of the enterprise has no room for it. A
    /// response that `must_be_sent` is counted in any case, and so is the only one of an enterprise.
    fn reserve(
        self: Arc<Self>,
        buin: Buin,
        bytes: usize,
        must_be_sent: bool,
    ) -> Option<UnreadResponse> {
        {
            // No code panics while it holds the lock.
            let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
            let own = unread.by_enterprise.get(&buin).copied().unwrap_or_default();
            let fits = own.saturating_add(bytes) <= self.max_bytes / SHARES
                && unread.total.saturating_add(bytes) <= self.max_bytes;
            if !(fits || must_be_sent || own == 0) {
                self.stats().rejected.inc();
                return None;
            }
            unread.total = unread.total.saturating_add(bytes);
            self.total.store(unread.total, Ordering::Relaxed);
            unread.by_enterprise.insert(buin, own.saturating_add(bytes));
        }
        self.stats().unread_bytes.add(signed(bytes));
        Some(UnreadResponse { budget: self, buin, bytes })
    }
}

impl Drop for UnreadResponse {
    fn drop(&mut self) {
        let Self { budget, buin, bytes } = self;
        let mut unread = budget.unread.lock().unwrap_or_else(PoisonError::into_inner);
        unread.total = unread.total.saturating_sub(*bytes);
        budget.total.store(unread.total, Ordering::Relaxed);
        let own =
            unread.by_enterprise.get(buin).copied().unwrap_or_default().saturating_sub(*bytes);
        match own {
            0 => _ = unread.by_enterprise.remove(buin),
            own => _ = unread.by_enterprise.insert(*buin, own),
        }
        drop(unread);
        budget.stats().unread_bytes.add(-signed(*bytes));
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Checks that the enterprise of a request may make a change, whose response is sent in any case.
///
/// # Errors
/// [`NoResponse::TooManyUnread`] if the clients of the enterprise have too many responses to read.
pub(crate) fn check_room(request: &HttpRequest, buin: Buin) -> Result<(), NoResponse> {
    match request.app_data::<web::Data<ResponseBudget>>() {
        Some(budget) if budget.is_used_up(buin) => {
            budget.stats().rejected.inc();
            Err(NoResponse::TooManyUnread)
        }
        _ => Ok(()),
    }
}

/// Counts the memory of a response that is made while it is sent: the most that it holds at a time. The
/// response is a read.
///
/// # Errors
/// [`NoResponse::TooManyUnread`] if the clients of the enterprise have too many responses to read.
pub(crate) fn reserve(
    request: &HttpRequest,
    max_bytes: usize,
) -> Result<Option<UnreadResponse>, NoResponse> {
    let buin = RequestContext::from_request(request).and_then(|context| context.enterprise());
    match (buin, request.app_data::<web::Data<ResponseBudget>>()) {
        (Some(buin), Some(budget)) => {
            let unread = budget.clone().into_inner().reserve(buin, max_bytes, false);
            unread.ok_or(NoResponse::TooManyUnread).map(Some)
        }
        _ => Ok(None),
    }
}

/// Counts the body of a response until it is sent. `is_read`: nothing was changed, so the response may
/// be refused.
///
/// # Errors
/// [`NoResponse::TooManyUnread`] if the clients of the enterprise have too many responses to read.
pub(crate) fn count(
    request: &HttpRequest,
    response: HttpResponse,
    is_read: bool,
) -> Result<HttpResponse, NoResponse> {
    let is_large =
        |size| matches!(size, BodySize::Sized(size) if size > MAX_UNCOUNTED_RESPONSE as u64);
    if !is_large(response.body().size()) {
        return Ok(response);
    }
    let buin = RequestContext::from_request(request).and_then(|context| context.enterprise());
    let budget = request.app_data::<web::Data<ResponseBudget>>();
    let (response, body) = response.into_parts();
    let rest = match body.try_into_bytes() {
        Ok(bytes) => bytes,
        Err(body) => return Ok(response.set_body(body)),
    };
    let unread = match (buin, budget) {
        (Some(buin), Some(budget)) => {
            let unread = budget.clone().into_inner().reserve(buin, rest.len(), !is_read);
            Some(unread.ok_or(NoResponse::TooManyUnread)?)
        }
        _ => None,
    };
    Ok(response.set_body(BoxBody::new(PartedBody { rest, _unread: unread })))
}

impl MessageBody for PartedBody {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PART);
        Poll::Ready(Some(Ok(self.rest.split_to(length))))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::HttpMessage as _;
    use actix_web::test::TestRequest;
    use futures_util::future::poll_fn;

    use super::*;

    const KIB: usize = 1024;

    fn buin(number: i64) -> Buin {
        Buin::new(number).unwrap()
    }

    fn budget(max_bytes: usize) -> Arc<ResponseBudget> {
        Arc::new(ResponseBudget::new(max_bytes, Arc::default()))
    }

    /// A response of `length` bytes to the enterprise `number`, after it was counted.
    fn counted(
        budget: &Arc<ResponseBudget>,
        number: i64,
        length: usize,
        is_read: bool,
    ) -> Result<HttpResponse, NoResponse> {
        let request = TestRequest::get().app_data(web::Data::from(budget.clone()));
        let request = request.to_http_request();
        let context = RequestContext::for_tests("id");
        context.set_enterprise(buin(number));
        request.extensions_mut().insert(context);
        count(&request, HttpResponse::Ok().body(vec![b'x'; length]), is_read)
    }

    fn unread(budget: &ResponseBudget) -> (usize, Vec<(Buin, usize)>) {
        let unread = budget.unread.lock().unwrap();
        let mut shares: Vec<_> =
            unread.by_enterprise.iter().map(|(buin, own)| (*buin, *own)).collect();
        shares.sort_unstable();
        assert_eq!(budget.metrics.responses.unread_bytes.value(), signed(unread.total));
        (unread.total, shares)
    }

    #[test]
    fn an_enterprise_holds_a_quarter_and_all_together_the_whole() {
        let budget = budget(400 * KIB);
        let mut responses = Vec::new();
        for number in 1..=4 {
            for _ in 0..2 {
                responses.push(counted(&budget, number, 50 * KIB, true).unwrap());
            }
            let refused = counted(&budget, number, 50 * KIB, true);
            assert_eq!(refused.unwrap_err(), NoResponse::TooManyUnread);
        }
        // Another enterprise may always have one response.
        responses.push(counted(&budget, 5, 50 * KIB, true).unwrap());
        assert!(counted(&budget, 5, 50 * KIB, true).is_err());
        // A change that is done gets its response. The next change is refused before it begins.
        responses.push(counted(&budget, 5, 50 * KIB, false).unwrap());
        assert_eq!(unread(&budget).0, 500 * KIB);
        let is_used_up = |numbers: [i64; 3]| numbers.map(|number| budget.is_used_up(buin(number)));
        assert_eq!(is_used_up([1, 5, 6]), [true, true, false]);
        // Small responses are not counted.
        counted(&budget, 5, MAX_UNCOUNTED_RESPONSE, true).unwrap();
        responses.truncate(2);
        assert_eq!(unread(&budget), (100 * KIB, vec![(buin(1), 100 * KIB)]));
        assert_eq!(is_used_up([1, 5, 6]), [true, false, false]);
        responses.pop();
        assert_eq!(is_used_up([1, 5, 6]), [false; 3]);
        drop(responses);
        assert_eq!(unread(&budget), (0, vec![]));
    }

    #[tokio::test]
    async fn a_response_is_counted_until_its_last_part_is_taken() {
        let budget = budget(1024 * KIB);
        let response = counted(&budget, 1, 80 * KIB, true).unwrap();
        let mut body = response.into_body();
        assert_eq!(body.size(), BodySize::Sized(80 * 1024));
        let mut parts = Vec::new();
        while let Some(part) = poll_fn(|cx| Pin::new(&mut body).poll_next(cx)).await {
            parts.push(part.unwrap().len() / KIB);
            assert_eq!(unread(&budget).0, 80 * KIB);
        }
        assert_eq!(parts, [32, 32, 16]);
        drop(body);
        assert_eq!(unread(&budget).0, 0);
    }
}
