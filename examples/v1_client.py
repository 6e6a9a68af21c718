#!/usr/bin/env python3
"""A client of the REST API under /v1: API key, versions as ETag, safe retries, pages.

    python3 v1_client.py data/first-app.json

The file holds "url" and "apiKey". Muster writes such a file for its first app;
`muster key create` prints a key for any other app.

Copy the class `MusterClient` into your program. It needs Python 3.9 and no package.
"""

import json
import random
import sys
import time
import uuid
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

# The same request may be sent again after these statuses: too many requests, a database that is not
# available (nothing was done), and no answer in time (the outcome is unknown). After 504 only the
# Idempotency-Key makes it safe.
RETRIABLE = (429, 503, 504)


class Problem(Exception):
    """An error in the form of RFC 9457. `code` is stable, texts are not."""

    def __init__(self, status, problem, retry_after=None):
        self.status = status
        self.code = problem.get("code")
        self.problem = problem
        self.retry_after = retry_after
        super().__init__(f"HTTP {status} {self.code}: {problem.get('detail') or problem.get('title')}")


class MusterClient:
    def __init__(self, url, api_key, timeout=15, tries=4):
        self.url = url.rstrip("/") + "/v1"
        self.api_key = api_key
        self.timeout = timeout
        self.tries = tries

    def create_session(self, operator, title, members, **fields):
        body = {"operator": operator, "title": title, "member": members, **fields}
        return self._change("POST", "/sessions", body)

    def get_session(self, session_id):
        return self._send("GET", f"/sessions/{quote(session_id)}")

    def update_session(self, session_id, operator, if_version=None, **changes):
        """Changes a session. `changes`: title, owner, addMember, delMember, attributes."""
        body = {"operator": operator, **changes}
        return self._change("PATCH", f"/sessions/{quote(session_id)}", body, if_version)

    def find_sessions(self, **query):
        """Every session that fits. `query`: member, owner, title, state, updatedSince, sort."""
        return self._pages("/sessions", query)

    def events(self, session_id):
        """Every change of a session, oldest first."""
        return self._pages(f"/sessions/{quote(session_id)}/events", {})

    def _change(self, method, path, body, if_version=None):
        # One key for one change: all attempts send the same key.
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        if if_version is not None:
            headers["If-Match"] = f'"{if_version}"'
        return self._send(method, path, body, headers)

    def _pages(self, path, query):
        cursor = None
        while True:
            parts = {**query, "cursor": cursor} if cursor else query
            page = self._send("GET", f"{path}?{urlencode(parts)}")
            # A page may be empty and still have a successor: only the last page has no cursor.
            yield from page["items"]
            cursor = page["nextCursor"]
            if cursor is None:
                return

    def _send(self, method, path, body=None, headers=None):
        for attempt in range(1, self.tries + 1):
            try:
                return self._send_once(method, path, body, headers or {})
            except Problem as problem:
                if problem.status not in RETRIABLE or attempt == self.tries:
                    raise
                wait = problem.retry_after or 2**attempt / 4
            except (URLError, TimeoutError):
                if attempt == self.tries:
                    raise
                wait = 2**attempt / 4
            # The random factor spreads clients that failed at the same time.
            time.sleep(wait * random.uniform(1.0, 1.5))

    def _send_once(self, method, path, body, headers):
        request = Request(self.url + path, method=method)
        request.add_header("Authorization", f"Bearer {self.api_key}")
        for name, value in headers.items():
            request.add_header(name, value)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urlopen(request, timeout=self.timeout) as response:
                return json.load(response)
        except HTTPError as response:
            with response:
                text = response.read()
            # The answer of a proxy may have another form than JSON.
            problem = json.loads(text) if text.startswith(b"{") else {"title": response.reason}
            wait = response.headers.get("Retry-After")
            raise Problem(response.code, problem, int(wait) if wait else None) from None


def main():
    with open(sys.argv[1] if len(sys.argv) > 1 else "data/first-app.json") as file:
        app = json.load(file)
    client = MusterClient(app["url"], app["apiKey"])

    session = client.create_session("alice", "Release", ["bob", "carol"], attributes={"ticket": 4711})
    session_id = session["sessionId"].strip("{}")
    print("created", json.dumps(session))

    session = client.update_session(
        session_id, "bob", if_version=session["version"], title="Release 2.0", addMember=["dave"]
    )
    print("updated", json.dumps(session))

    # The session has version 2 now, so a change that expects version 1 is refused.
    try:
        client.update_session(session_id, "bob", if_version=1, title="Too late")
    except Problem as problem:
        if problem.status != 412:
            raise
        print("refused", problem)

    for event in client.events(session_id):
        print("event", json.dumps(event))
    for found in client.find_sessions(member="dave", title="release"):
        print("found", found["sessionId"], found["title"])


if __name__ == "__main__":
    main()
