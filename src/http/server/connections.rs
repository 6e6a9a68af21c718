//! What serves a connection, from its opening to its end: one of these on each thread.
//!
//! The framework's own server would do, had it limits for more than the first head of a connection.
//! So its parts are put together here, around a stream that is watched.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, KeepAlive, Protocol};
use actix_service::{
    IntoServiceFactory as _, Service as _, ServiceFactory, ServiceFactoryExt as _, fn_factory,
    fn_service, map_config,
};
use actix_web::dev::AppConfig;
use actix_web::middleware::from_fn;
use actix_web::{App, Error, web};
use tokio::net::TcpStream;

use super::super::drain::Drain;
use super::super::request_log;
use super::progress::{Patience, Progress};
use super::watched::Watched;
use super::{Options, Services, router};

/// How long a connection stays open behind an answer that did not wait for the request's body.
const LINGER: Duration = Duration::from_secs(1);

/// What a thread serves connections with.
pub(super) fn service(
    services: Services,
    options: Options,
    drain: Arc<Drain>,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = (), InitError = ()> {
    fn_factory(move || {
        let sessions = services.sessions.on_this_thread();
        let services = Services { sessions, ..services.clone() };
        let http = http1(&services, options, drain.clone()).new_service(());
        async move {
            let http = Rc::new(http.await?);
            Ok(fn_service(move |stream: TcpStream| {
                let http = http.clone();
                async move {
                    let address = stream.peer_addr().ok();
                    let patience = Patience {
                        head: options.head_timeout,
                        write: options.write_timeout,
                        idle: options.keep_alive,
                    };
                    let stream = Watched::new(stream, Progress::new(patience, true));
                    http.call((stream, Protocol::Http1, address)).await.map_err(drop)
                }
            }))
        }
    })
}

/// HTTP/1, on streams that are open.
fn http1(
    services: &Services,
    options: Options,
    drain: Arc<Drain>,
) -> impl ServiceFactory<
    (Watched<TcpStream>, Protocol, Option<SocketAddr>),
    Config = (),
    Response = (),
    Error = DispatchError,
    InitError = (),
> + use<> {
    let app = App::new()
        .app_data(web::Data::from(drain))
        .wrap(from_fn(request_log::log))
        .configure(|app| router(app, services, options))
        .into_factory()
        .map_err(|error: Error| error.error_response());
    HttpService::build()
        // Progress knows when one that is not used any more ends.
        .keep_alive(KeepAlive::Os)
        .client_request_timeout(options.head_timeout)
        .client_disconnect_timeout(LINGER)
        .on_connect_ext(|io: &Watched<TcpStream>, data| {
            data.insert(io.progress().clone());
        })
        .finish(map_config(app, |()| AppConfig::default()))
}
