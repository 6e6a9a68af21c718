//! The place at which the titles of a search begin.
//!
//! The index of titles has no order, and a search for the newest of many titles would read all sessions that
//! are newer. So each entry of the index belongs to parts of the history: an id begins with the time of its
//! creation, and a part is the ids that begin with some hexadecimal digits. A seek asks which parts of 2.2
//! years have titles, then which smaller parts of the first one, down to 3.1 days. The surprise: a part can
//! have all pairs of the searched text in one title, but not the text; the list then continues after it.

use uuid::Uuid;

use super::request::ListRequest;
use crate::domain::Buin;
use crate::repository::Error;
use crate::repository::Pool;
use crate::repository::sessions::titles;

/// The number of digits of the largest and of the smallest parts. The index has them.
const LARGEST: u32 = 3;
const SMALLEST: u32 = 5;
/// The bits of a digit and of an id.
const DIGIT_BITS: u32 = 4;
const ID_BITS: u32 = 128;

/// The ids that begin with the same digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HistoryPart {
    /// The digits as a number.
    prefix: u128,
    /// Their number.
    digits: u32,
}

impl HistoryPart {
    const fn containing(id: Uuid, digits: u32) -> Self {
        Self { prefix: id.as_u128() >> (ID_BITS - DIGIT_BITS * digits), digits }
    }

    /// The lowest id.
    const fn first(self) -> u128 {
        self.prefix << (ID_BITS - DIGIT_BITS * self.digits)
    }

    /// The highest id.
    const fn last(self) -> u128 {
        self.first() | (u128::MAX >> (DIGIT_BITS * self.digits))
    }

    const fn contains(self, id: Uuid) -> bool {
        self.first() <= id.as_u128() && id.as_u128() <= self.last()
    }

    /// The entry of the index.
    fn key(self, buin: Buin) -> String {
        let digits = self.digits as usize;
        format!("{}:{:0digits$x}", buin.get(), self.prefix)
    }

    /// Its parts with one digit more, in order.
    fn children(self) -> impl DoubleEndedIterator<Item = Self> {
        let digits = self.digits + 1;
        (0..1 << DIGIT_BITS)
            .map(move |digit| Self { prefix: (self.prefix << DIGIT_BITS) | digit, digits })
    }
}

/// A search for the first titles of a list by creation.
struct TitleSeek<'a> {
    pool: &'a Pool,
    buin: Buin,
    pairs: Vec<&'a str>,
    newest_first: bool,
    /// The position after which the list begins.
    start: Uuid,
}

/// The position after which the first titles of a list by creation stand, not before the start of the
/// request. `None` if no title can match.
///
/// # Errors
/// When the database fails.
pub(super) async fn first_titles(
    pool: &Pool,
    request: &ListRequest<'_>,
    folded: &str,
) -> Result<Option<Uuid>, Error> {
    let (newest_first, start) = (request.sort.newest_first, request.start_id());
    let seek =
        TitleSeek { pool, buin: request.buin, pairs: titles::pairs(folded), newest_first, start };
    let Some((lowest, highest)) = seek.extent().await? else { return Ok(None) };
    let (low, high) = match newest_first {
        true => (lowest, highest.min(start)),
        false => (lowest.max(start), highest),
    };
    let largest = |id| HistoryPart::containing(id, LARGEST).prefix;
    let parts = largest(low)..=largest(high);
    let parts = parts.map(|prefix| HistoryPart { prefix, digits: LARGEST }).collect();
    // The parts of each size that are left; the next one is the last.
    let mut levels = vec![seek.with_titles(parts).await?];
    while let Some(level) = levels.last_mut() {
        let Some(part) = level.pop() else {
            levels.pop();
            continue;
        };
        if part.digits == SMALLEST {
            return Ok(Some(seek.edge(part)));
        }
        let children = part.children();
        let children = children
            .filter(|child| child.first() <= high.as_u128() && low.as_u128() <= child.last());
        levels.push(seek.with_titles(children.collect()).await?);
    }
    Ok(None)
}

impl TitleSeek<'_> {
    /// The lowest and the highest id of the enterprise; `None` if it has no session.
    async fn extent(&self) -> Result<Option<(Uuid, Uuid)>, Error> {
        let rows = sqlx::query!(
            r#"
            select low.session_id as "low!", high.session_id as "high!"
            from unnest(array['active', 'dissolved']) as known_state (name)
            cross join lateral (
                select session_id
                from session
                where buin = $1 and state = known_state.name
                order by buin, state, session_id
                limit 1
            ) as low
            cross join lateral (
                select session_id
                from session
                where buin = $1 and state = known_state.name
                order by buin desc, state desc, session_id desc
                limit 1
            ) as high
            "#,
            self.buin.get(),
        )
        .fetch_all(self.pool)
        .await?;
        let lowest = rows.iter().map(|row| row.low).min();
        Ok(lowest.zip(rows.iter().map(|row| row.high).max()))
    }

    /// Those of the parts that have titles after the start, or may have some; the next one is the last.
    async fn with_titles(&self, parts: Vec<HistoryPart>) -> Result<Vec<HistoryPart>, Error> {
        // A large part around the start has many titles before it. Only its small parts tell.
        let is_asked = |part: &HistoryPart| part.digits == SMALLEST || !part.contains(self.start);
        let asked = parts.iter().filter(|part| is_asked(part));
        let keys: Vec<String> = asked.map(|part| part.key(self.buin)).collect();
        let found = sqlx::query_scalar!(
            r#"
            select key as "key!"
            from unnest($1::text[]) as part (key)
            where exists (
                select from session_title
                where (array[
                          buin::text || ':',
                          buin::text || ':' || left(session_id::text, 3),
                          buin::text || ':' || left(session_id::text, 4),
                          buin::text || ':' || left(session_id::text, 5)
                      ] collate "C") @> array[part.key]
                  and ((
                          string_to_array(
                              regexp_replace(folded, '(.)(.)', '\1\2' || chr(1), 'g') || chr(1)
                                  || regexp_replace(substr(folded, 2), '(.)(.)', '\1\2' || chr(1), 'g'),
                              chr(1)
                          ) || string_to_array(folded, null)
                      ) collate "C") @> (select $2::text[])
                  and case when $4::bool then session_id < $3::uuid else session_id > $3 end
                offset 0
            )
            "#,
            &keys,
            &self.pairs as &[&str],
            self.start,
            self.newest_first,
        )
        .fetch_all(self.pool)
        .await?;
        let is_left = |part: &HistoryPart| !is_asked(part) || found.contains(&part.key(self.buin));
        let mut left: Vec<HistoryPart> = parts.into_iter().filter(is_left).collect();
        left.sort_unstable_by_key(|part| part.first());
        if !self.newest_first {
            left.reverse();
        }
        Ok(left)
    }

    /// The position before the sessions of a part, not before the start.
    fn edge(&self, part: HistoryPart) -> Uuid {
        let edge = match self.newest_first {
            true => part.last().checked_add(1).map(|after| self.start.min(Uuid::from_u128(after))),
            false => {
                part.first().checked_sub(1).map(|before| self.start.max(Uuid::from_u128(before)))
            }
        };
        edge.unwrap_or(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_divide_the_ids() {
        let id = Uuid::from_u128(0x0197_a2b3_c4d5_7000_8000_0000_0000_0001);
        let part = HistoryPart::containing(id, LARGEST);
        assert_eq!(part.key(Buin::new(7).unwrap()), "7:019");
        assert_eq!(HistoryPart::containing(id, SMALLEST).key(Buin::new(7).unwrap()), "7:0197a");
        let children: Vec<_> = part.children().collect();
        assert_eq!(children.len(), 16);
        assert_eq!((children[0].first(), children[15].last()), (part.first(), part.last()));
        for (child, next) in children.iter().zip(&children[1..]) {
            assert_eq!(child.last() + 1, next.first());
        }
        let of_id: Vec<_> = children.iter().filter(|child| child.contains(id)).collect();
        assert_eq!(of_id, [&HistoryPart::containing(id, LARGEST + 1)]);
    }
}
