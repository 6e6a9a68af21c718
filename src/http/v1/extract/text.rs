//! Text with rules: titles, accounts, reasons. The patterns repeat the checks of the domain for the
//! API's description. Only the domain decides.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::domain::{Account, Reason, Title};
use crate::http::v1::problem::{Code, Problem};

/// An account: 1 to 64 Unicode characters, no control characters. Muster has no list of accounts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(
    as = Account, min_length = 1, max_length = 64, example = "alice",
    pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$"
)]
pub(crate) struct AccountText(String);

/// The title of a session: 1 to 64 Unicode characters, not blank, no control characters.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(
    as = Title, min_length = 1, max_length = 64, example = "Release",
    pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\u0000-\u001f\u007f-\u009f]*$"
)]
pub(crate) struct TitleText(String);

/// A reason, for the history: 1 to 256 Unicode characters, not blank, no control characters.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(
    as = Reason, min_length = 1, max_length = 256, example = "asked for by the team",
    pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\u0000-\u001f\u007f-\u009f]*$"
)]
pub(crate) struct ReasonText(String);

macro_rules! impl_read {
    ($($text:ident => $type:ident),+) => {$(
        impl $text {
            /// Reads the value of a field; `code` is for an invalid value.
            pub(crate) fn read(&self, code: Code, field: &str) -> Result<$type, Problem> {
                $type::new(&self.0).map_err(|error| Problem::invalid(code, field, &error))
            }
        }
    )+};
}

impl_read!(AccountText => Account, TitleText => Title, ReasonText => Reason);

/// The operator of a change, and its reason.
#[derive(Clone, Debug)]
pub(crate) struct ActorFields {
    pub(crate) operator: Account,
    pub(crate) reason: Option<Reason>,
}

impl ActorFields {
    /// Reads `operator` and `reason` of a body or a query; `code` is for an invalid value.
    pub(crate) fn read(
        code: Code,
        operator: &AccountText,
        reason: Option<&ReasonText>,
    ) -> Result<Self, Problem> {
        let operator = operator.read(code, "operator")?;
        let reason = reason.map(|reason| reason.read(code, "reason")).transpose()?;
        Ok(Self { operator, reason })
    }
}

/// The accounts in a list of a body.
pub(crate) fn accounts(field: &str, list: &[AccountText]) -> Result<Vec<Account>, Problem> {
    list.iter()
        .enumerate()
        .map(|(index, text)| text.read(Code::InvalidField, &format!("{field}[{index}]")))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use utoipa::PartialSchema as _;

    use super::*;

    #[test]
    fn description_states_the_limits_of_the_domain() {
        for (schema, max) in [
            (AccountText::schema(), Account::MAX),
            (TitleText::schema(), Title::MAX),
            (ReasonText::schema(), Reason::MAX),
        ] {
            let schema = json!(schema);
            assert_eq!((&schema["minLength"], &schema["maxLength"]), (&json!(1), &json!(max)));
            assert!(schema["pattern"].as_str().unwrap().contains(r"\u0000"), "{schema}");
        }
    }

    #[test]
    fn errors_name_the_index() {
        let list = [AccountText("a".to_owned()), AccountText(String::new())];
        let problem = accounts("member", &list).unwrap_err();
        assert_eq!(problem.to_string(), "invalid_field member[1]: at least 1 character, got 0");
        let bob = AccountText("bob".to_owned());
        let blank = ReasonText(" ".to_owned());
        let problem = ActorFields::read(Code::InvalidParameter, &bob, Some(&blank)).unwrap_err();
        assert_eq!(problem.to_string(), "invalid_parameter reason: must not be blank");
    }
}
