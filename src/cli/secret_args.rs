//! Secrets as arguments: as text, from a file, or from standard input. Every user of the machine can
//! see the arguments of a process, so only the last two keep a secret.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use zeroize::Zeroizing;

use super::misconfigured::Misconfigured;
use crate::wire::AesKey;

/// The argument that stands for standard input.
const STANDARD_INPUT: &str = "-";
/// The longest secret, in bytes.
const MAX_LEN: u64 = 64 * 1024;

/// The AES key of an app.
#[derive(Args, Clone)]
#[group(id = "aes_key_source", multiple = false)]
pub(super) struct AesKeyArgs {
    /// The AES key (EncodingAESKey): 32 bytes in base64; random by default. `-` reads it from standard
    /// input. Other users of this machine can see an argument, but not a file or standard input
    #[arg(long, value_name = "BASE64", value_parser = given::<AesKey>)]
    aes_key: Option<Given<AesKey>>,
    /// A file with the AES key; `-` is standard input
    #[arg(long, value_name = "FILE")]
    aes_key_file: Option<PathBuf>,
}

/// The secret that signs the callbacks of an app.
#[derive(Args, Clone)]
#[group(id = "callback_token_source", multiple = false)]
pub(super) struct CallbackTokenArgs {
    /// The secret that signs the callbacks; needs a callback URL. `-` reads it from standard input.
    /// Other users of this machine can see an argument, but not a file or standard input
    #[arg(long, value_name = "TEXT", value_parser = given::<CallbackToken>)]
    callback_token: Option<Given<CallbackToken>>,
    /// A file with the secret that signs the callbacks; `-` is standard input
    #[arg(long, value_name = "FILE")]
    callback_token_file: Option<PathBuf>,
}

/// A secret as an argument. The parser of the arguments accepts any text, because its error would show
/// the text.
#[derive(Clone)]
enum Given<T> {
    Text(Zeroizing<String>),
    StandardInput,
    Value(T),
}

/// A secret that can be read from text.
trait Secret: Clone + Sized {
    fn read(text: &str) -> Result<Self, String>;
}

impl Secret for AesKey {
    fn read(text: &str) -> Result<Self, String> {
        Self::from_base64(text.trim()).map_err(|error| error.to_string())
    }
}

#[derive(Clone)]
struct CallbackToken(String);

impl Secret for CallbackToken {
    fn read(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("must not be empty: every client can sign a callback with an empty token"
                .to_owned());
        }
        if text.contains(['\n', '\r', '\0']) {
            return Err("must be one line".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of a parser of arguments")]
fn given<T: Secret>(text: &str) -> Result<Given<T>, Infallible> {
    Ok(match text {
        STANDARD_INPUT => Given::StandardInput,
        text => Given::Text(Zeroizing::new(text.to_owned())),
    })
}

impl AesKeyArgs {
    /// Reads the key if it is in a file or on standard input.
    ///
    /// # Errors
    /// The key cannot be read, or is not valid.
    pub(super) fn read(&mut self) -> anyhow::Result<()> {
        read_secret("--aes-key", &mut self.aes_key, self.aes_key_file.take())
    }

    /// Whether the key is on standard input, before [`Self::read`].
    pub(super) fn is_standard_input(&self) -> bool {
        is_standard_input(self.aes_key.as_ref(), self.aes_key_file.as_deref())
    }

    /// The key, after [`Self::read`].
    pub(super) fn into_key(self) -> Option<AesKey> {
        self.aes_key.and_then(Given::into_value)
    }
}

impl CallbackTokenArgs {
    /// Reads the token if it is in a file or on standard input.
    ///
    /// # Errors
    /// The token cannot be read, or is not valid.
    pub(super) fn read(&mut self) -> anyhow::Result<()> {
        read_secret("--callback-token", &mut self.callback_token, self.callback_token_file.take())
    }

    /// Whether the token is on standard input, before [`Self::read`].
    pub(super) fn is_standard_input(&self) -> bool {
        is_standard_input(self.callback_token.as_ref(), self.callback_token_file.as_deref())
    }

    /// Whether a token is given, read or not.
    pub(super) fn is_given(&self) -> bool {
        self.callback_token.is_some() || self.callback_token_file.is_some()
    }

    /// The token, after [`Self::read`].
    pub(super) fn into_token(self) -> Option<String> {
        self.callback_token.and_then(Given::into_value).map(|token| token.0)
    }
}

impl<T> Given<T> {
    fn into_value(self) -> Option<T> {
        match self {
            Self::Value(secret) => Some(secret),
            Self::Text(_) | Self::StandardInput => None,
        }
    }
}

/// A text that may be given as `-`.
///
/// # Errors
/// Standard input cannot be read.
pub(super) fn text_or_standard_input(name: &str, given: String) -> anyhow::Result<String> {
    if given != STANDARD_INPUT {
        return Ok(given);
    }
    Ok(standard_input(name)?.trim().to_owned())
}

fn read_secret<T: Secret>(
    name: &str,
    given: &mut Option<Given<T>>,
    file: Option<PathBuf>,
) -> anyhow::Result<()> {
    let (name, text) = match (given.take(), file) {
        (None, None) => return Ok(()),
        (value @ Some(Given::Value(_)), _) => {
            *given = value;
            return Ok(());
        }
        (Some(Given::Text(text)), _) => (name.to_owned(), text),
        (None, Some(path)) if path != Path::new(STANDARD_INPUT) => {
            let name = format!("{name}-file {}", path.display());
            let text = File::open(&path).and_then(read_line);
            let text = text.with_context(|| Misconfigured(format!("{name}: cannot be read")))?;
            (name, text)
        }
        _ => (format!("{name} from standard input"), standard_input(name)?),
    };
    let secret = T::read(&text).map_err(|error| Misconfigured(format!("{name}: {error}")))?;
    *given = Some(Given::Value(secret));
    Ok(())
}

fn standard_input(name: &str) -> anyhow::Result<Zeroizing<String>> {
    read_line(io::stdin())
        .with_context(|| Misconfigured(format!("{name}: cannot read standard input")))
}

fn is_standard_input<T>(given: Option<&Given<T>>, file: Option<&Path>) -> bool {
    matches!(given, Some(Given::StandardInput)) || file == Some(Path::new(STANDARD_INPUT))
}

/// Reads a secret, without the newline that editors add at its end.
fn read_line(source: impl Read) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    source.take(MAX_LEN).read_to_string(&mut text)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
