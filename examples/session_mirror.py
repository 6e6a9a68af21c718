#!/usr/bin/env python3
"""Keeps a copy of all sessions in a SQLite file, and survives a kill at any moment.

    python3 session_mirror.py data/first-app.json sessions.db [--once] [--pause SECONDS]

The first file holds "url" and "apiKey". Muster writes such a file for its first app;
`muster key create` prints a key for any other app. The program needs Python 3.9 and no package.

The place in the feed is stored in the same transaction as the sessions of a page. So after a kill, the
program asks again for the page that it had not stored, and for nothing else.
"""

import argparse
import json
import sqlite3
import time
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

SCHEMA = """
    create table if not exists session (id text primary key, version integer not null, body text not null);
    create table if not exists place (
        only_one integer primary key check (only_one = 1),
        -- The `after` of the next page, and the last change of the stream that was stored, if there is one.
        cursor text not null,
        last_seq integer
    );
"""


class MissingChange(Exception):
    """A change is not the direct successor of the one before it. This must never happen."""


class Mirror:
    def __init__(self, app, path):
        self.url, self.api_key = app["url"].rstrip("/"), app["apiKey"]
        self.database = sqlite3.connect(path)
        self.database.executescript(SCHEMA)

    def step(self):
        """Reads the next page and stores it. Returns the page."""
        cursor, last_seq = self._place()
        query = {"after": cursor} if cursor else {"snapshot": "true"}
        try:
            page = self._get("/v1/events", {**query, "limit": 200, "include": "session"})
        except HTTPError as error:
            with error:
                if error.code != 410:
                    raise
            # The database was restored from a backup: the copy may have changes that are lost.
            with self.database:
                self.database.execute("delete from session")
                self.database.execute("delete from place")
            return self.step()
        with self.database:
            for session in page.get("sessions", []):
                self._keep(session)
            for event in page["events"]:
                if last_seq is not None and event["prevSeq"] != last_seq:
                    raise MissingChange(f"after {last_seq} came {event['seq']}")
                last_seq = event["seq"]
                self._keep(event["session"])
            self.database.execute(
                "insert or replace into place (only_one, cursor, last_seq) values (1, ?, ?)",
                (page["nextCursor"], last_seq),
            )
        return page

    def count(self):
        return self.database.execute("select count(*) from session").fetchone()[0]

    def _place(self):
        row = self.database.execute("select cursor, last_seq from place").fetchone()
        return row if row else (None, None)

    def _keep(self, session):
        # A session that changed during the snapshot may come again in an older version.
        self.database.execute(
            "insert into session (id, version, body) values (?, ?, ?) on conflict (id) do update set"
            " version = excluded.version, body = excluded.body where excluded.version > session.version",
            (session["sessionId"], session["version"], json.dumps(session)),
        )

    def _get(self, path, query):
        request = Request(f"{self.url}{path}?{urlencode(query)}")
        request.add_header("Authorization", f"Bearer {self.api_key}")
        with urlopen(request, timeout=30) as response:
            return json.load(response)


def main():
    parser = argparse.ArgumentParser(description="Keeps a copy of all sessions in a SQLite file.")
    parser.add_argument("app", help="the file with url and apiKey")
    parser.add_argument("database", help="the SQLite file")
    parser.add_argument("--once", action="store_true", help="ends when the copy is complete")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two looks")
    arguments = parser.parse_args()
    with open(arguments.app) as file:
        mirror = Mirror(json.load(file), arguments.database)
    while True:
        try:
            page = mirror.step()
        except (HTTPError, URLError, TimeoutError) as error:
            print("failed", error, flush=True)
            time.sleep(arguments.pause)
            continue
        if not page["caughtUp"]:
            continue
        if page["events"] or page.get("sessions") or arguments.once:
            print("mirrored", json.dumps({"sessions": mirror.count(), "seq": page["headSeq"]}), flush=True)
        if arguments.once:
            return
        time.sleep(arguments.pause)


if __name__ == "__main__":
    main()
