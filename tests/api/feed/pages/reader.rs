//! A reader that follows a filtered stream and proves that no change is missing.

use serde_json::Value;

use super::{Caller, events, next, seq};

/// The position of a reader in the stream of a filter.
pub struct Reader {
    pub caller: Caller,
    /// The parameters of the filter, each with `&` before it.
    pub filter: String,
    /// The `after` of the next page.
    pub after: String,
    /// The number of the last change that was read.
    pub last: Option<i64>,
}

impl Reader {
    pub fn new(caller: &Caller, filter: &str, after: &str) -> Self {
        let (filter, after) = (filter.to_owned(), after.to_owned());
        Self { caller: caller.clone(), filter, after, last: None }
    }

    /// Reads the next page of at most `limit` changes.
    pub async fn page(&mut self, limit: usize) -> Value {
        let Self { filter, after, .. } = self;
        let page = self.caller.page(&format!("after={after}&limit={limit}{filter}")).await;
        assert!(events(&page).len() <= limit, "{page}");
        for event in events(&page) {
            let prev = event["prevSeq"].as_i64().unwrap();
            assert!(prev < seq(event), "{event}");
            if let Some(last) = self.last {
                assert_eq!(prev, last, "a change is missing before {event}");
            }
            assert!(seq(event) <= page["headSeq"].as_i64().unwrap(), "{page}");
            self.last = Some(seq(event));
        }
        self.after = next(&page);
        page
    }

    /// Reads all pages, and returns the changes.
    pub async fn rest(&mut self, limit: usize) -> Vec<Value> {
        let mut found = Vec::new();
        loop {
            let page = self.page(limit).await;
            found.extend(events(&page).iter().cloned());
            if page["caughtUp"] == true {
                assert_eq!(page["lagMs"], 0, "{page}");
                return found;
            }
        }
    }
}
