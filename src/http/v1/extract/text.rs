//! Text with rules: titles, accounts, reasons. The patterns repeat the checks of the domain for the
//! API's description. Only the domain decides.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::{Account, Reason, Title};
use crate::http::v1::problem::{Code, Problem};
use crate::wire::{AccountTexts, TooManyAccounts, whole_number};

/// An account: 1 to 64 Unicode characters, no control characters. Muster has no list of accounts.
#[derive(ToSchema)]
#[schema(
    as = Account, min_length = 1, max_length = 64, examples("alice"),
    pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$"
)]
#[expect(dead_code, reason = "only describes accounts in responses and in URLs")]
pub(crate) struct AccountText(String);

/// An account in a body: text, or a whole number, which counts as its decimal digits. The rule is
/// that of `/cgi`.
#[derive(Debug)]
pub(crate) struct AccountInput(String);

/// The accounts in a list of a body.
#[derive(Debug)]
pub(crate) struct AccountList(AccountTexts);

/// The title of a session: 1 to 64 Unicode characters, not blank, no control characters.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(
    as = Title, min_length = 1, max_length = 64, examples("Release"),
    pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\u0000-\u001f\u007f-\u009f]*$"
)]
pub(crate) struct TitleText(String);

/// A reason, for the history: 1 to 256 Unicode characters, not blank, no control characters.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(
    as = Reason, min_length = 1, max_length = 256, examples("asked for by the team"),
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

impl_read!(AccountInput => Account, TitleText => Title, ReasonText => Reason);

/// The operator of a change, and its reason.
#[derive(Clone, Debug)]
pub(crate) struct ActorFields {
    pub(crate) operator: Account,
    pub(crate) reason: Option<Reason>,
}

impl<'de> Deserialize<'de> for AccountInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut account = String::new();
        let take = |text: &str| text.clone_into(&mut account);
        deserializer.deserialize_any(AccountVisitor(take))?;
        Ok(Self(account))
    }
}

/// Reads an account as owned text.
struct AccountVisitor<F>(F);

impl<F: FnOnce(&str)> AccountVisitor<F> {
    fn give<E>(self, text: &str) -> Result<(), E> {
        (self.0)(text);
        Ok(())
    }
}

impl<F: FnOnce(&str)> Visitor<'_> for AccountVisitor<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text or a whole number")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.give(text)
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.give(&number.to_string())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.give(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        match whole_number(number) {
            Some(number) => self.give(&number.to_string()),
            None => Err(E::invalid_value(Unexpected::Float(number), &self)),
        }
    }
}

/// Reads an account, and appends it to a list.
struct PushAccount<'t>(&'t mut AccountTexts);

impl<'de> DeserializeSeed<'de> for PushAccount<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(AccountVisitor(|text: &str| self.0.push(text)))
    }
}

impl<'de> Deserialize<'de> for AccountList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AccountsVisitor;

        impl<'de> Visitor<'de> for AccountsVisitor {
            type Value = AccountTexts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<AccountTexts, A::Error> {
                let mut texts = AccountTexts::default();
                while let Some(()) = items.next_element_seed(PushAccount(&mut texts))? {}
                Ok(texts)
            }
        }

        deserializer.deserialize_seq(AccountsVisitor).map(Self)
    }
}

impl AccountList {
    /// The accounts in the field `field`. There may be `max` different ones, and one more: see
    /// [`AccountTexts::read`].
    pub(crate) fn read(&self, field: &str, max: usize) -> Result<Vec<Account>, Problem> {
        let convert = |index: usize, text: &str| {
            let invalid =
                |error| Problem::invalid(Code::InvalidField, format!("{field}[{index}]"), &error);
            Account::new(text).map_err(invalid)
        };
        let too_many = |error: TooManyAccounts| {
            Problem::for_field(Code::TooManyMembers, field, error).with_limit(error.max, error.got)
        };
        self.0.read(max, convert, too_many)
    }
}

impl PartialSchema for AccountInput {
    fn schema() -> RefOr<Schema> {
        let description = "An account: text of 1 to 64 Unicode characters without control \
                           characters, or a whole number, which counts as its decimal digits.";
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Integer]))
            .description(Some(description))
            .min_length(Some(1))
            .max_length(Some(Account::MAX))
            .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]+$"))
            .minimum(Some(isize::MIN))
            .maximum(Some(usize::MAX))
            .examples(["alice"])
            .into()
    }
}

impl ToSchema for AccountInput {
    fn name() -> Cow<'static, str> {
        "AccountInput".into()
    }
}

impl ActorFields {
    /// Reads `operator` and `reason` of a body or a query; `code` is for an invalid value.
    pub(crate) fn read(
        code: Code,
        operator: &AccountInput,
        reason: Option<&ReasonText>,
    ) -> Result<Self, Problem> {
        let operator = operator.read(code, "operator")?;
        let reason = reason.map(|reason| reason.read(code, "reason")).transpose()?;
        Ok(Self { operator, reason })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn description_states_the_limits_of_the_domain() {
        for (schema, max) in [
            (AccountText::schema(), Account::MAX),
            (AccountInput::schema(), Account::MAX),
            (TitleText::schema(), Title::MAX),
            (ReasonText::schema(), Reason::MAX),
        ] {
            let schema = json!(schema);
            assert_eq!((&schema["minLength"], &schema["maxLength"]), (&json!(1), &json!(max)));
            assert!(schema["pattern"].as_str().unwrap().contains(r"\u0000"), "{schema}");
        }
    }

    #[test]
    fn whole_number_is_an_account() {
        let read = |json: &str| serde_json::from_str(json).map(|AccountInput(text)| text);
        for (json, account) in [
            ("\"alice\"", "alice"),
            ("\"\\u0061\"", "a"),
            ("10232", "10232"),
            ("-7", "-7"),
            ("10232.0", "10232"),
            ("1e3", "1000"),
            ("18446744073709551615", "18446744073709551615"),
        ] {
            assert_eq!(read(json).unwrap(), account, "{json}");
        }
        for json in ["1.5", "-0", "18446744073709551616", "true", "null", "[]", "{}"] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    #[test]
    fn errors_name_the_index() {
        let list: AccountList = serde_json::from_str(r#"["a",""]"#).unwrap();
        let problem = list.read("member", 9).unwrap_err();
        assert_eq!(problem.to_string(), "invalid_field member[1]: at least 1 character, got 0");
        let bob = AccountInput("bob".to_owned());
        let blank = ReasonText(" ".to_owned());
        let problem = ActorFields::read(Code::InvalidParameter, &bob, Some(&blank)).unwrap_err();
        assert_eq!(problem.to_string(), "invalid_parameter reason: must not be blank");
    }
}
