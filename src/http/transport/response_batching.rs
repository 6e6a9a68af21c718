//! Sends the responses of one thread that are ready at about the same time close together.
//!
//! A response waits for two turns of its thread before it is sent. In the first turn the thread
//! answers the requests that have arrived, in the second those that arrived meanwhile. A client
//! that awaits several responses is then woken once and not for each. If the thread has nothing
//! else to do, a turn is one poll of the sockets.
//!
//! The framework's `apply_fn` keeps the future of the application inside its own: nothing is
//! allocated for it.

use actix_http::Request;
use actix_service::{Service, apply_fn};
use actix_web::Error;
use actix_web::dev::ServiceResponse;

/// Turns of its thread for which a response waits.
const YIELDS_BEFORE_SEND: usize = 2;

/// Marks a response that is sent at once. After a broken body the connection ends, so the response
/// cannot wait.
pub(crate) struct SendAtOnce;

/// An application whose responses wait for their turns, unless they are marked.
pub(super) fn batch_responses<S, B>(
    app: S,
) -> impl Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: 'static,
{
    apply_fn(app, |request: Request, app: &S| {
        let answering = app.call(request);
        async move {
            let response = answering.await?;
            let is_marked = response.response().extensions().contains::<SendAtOnce>();
            for _ in 0..if is_marked { 0 } else { YIELDS_BEFORE_SEND } {
                tokio::task::yield_now().await;
            }
            Ok(response)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use actix_service::fn_service;
    use actix_web::HttpResponse;
    use actix_web::test::TestRequest;
    use futures_util::poll;

    use super::*;

    /// The number of polls until a response is sent.
    async fn polls(is_marked: bool) -> usize {
        let app = batch_responses(fn_service(move |request: Request| async move {
            let mut response = HttpResponse::Ok().finish();
            if is_marked {
                response.extensions_mut().insert(SendAtOnce);
            }
            let request = TestRequest::with_uri(request.path()).to_http_request();
            Ok::<_, Error>(ServiceResponse::new(request, response))
        }));
        let mut sending = pin!(app.call(TestRequest::default().to_request()));
        let mut polls = 1;
        while poll!(&mut sending).is_pending() {
            polls += 1;
        }
        polls
    }

    #[tokio::test]
    async fn a_response_waits_for_its_turns_unless_it_is_marked() {
        assert_eq!(polls(false).await, 1 + YIELDS_BEFORE_SEND);
        assert_eq!(polls(true).await, 1);
    }
}
