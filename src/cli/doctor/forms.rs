//! The check of the apps: which forms of messages they may use. The seal has no authentication of its
//! own, so an operator should know which apps depend on it.

use super::super::explain::explain;
use super::report::{Check, with_causes};
use crate::domain::AllowedForms;
use crate::service::admin::AdminContext;
use crate::service::admin::apps;

pub(super) const NAME: &str = "forms";

pub(super) async fn check(admin: &AdminContext) -> Check {
    let apps = match apps::list(admin).await.map_err(explain) {
        Ok(apps) => apps,
        Err(error) => {
            return Check::fail(NAME, with_causes(error), "see the check of secrets");
        }
    };
    let enabled: Vec<AllowedForms> =
        apps.iter().filter(|stored| !stored.app.disabled).map(|stored| stored.app.forms).collect();
    let counts = AllowedForms::ALL.map(|forms| {
        let count = enabled.iter().filter(|allowed| **allowed == forms).count();
        format!("{count} {}", forms.name())
    });
    Check::ok(NAME, format!("enabled apps by the forms they may use: {}", counts.join(", ")))
}
