#!/usr/bin/env python3
"""A receiver of callbacks: verifies the signature, opens the message, drops repeated callbacks.

    pip install cryptography
    MUSTER_APP_ID=… MUSTER_AES_KEY=… MUSTER_CALLBACK_TOKEN=… python3 callback_receiver.py

Then set the URL of the receiver in Muster:

    muster app update --buin N --app-id ID --callback-url http://127.0.0.1:7090/ --callback-token TOKEN
    muster app test-callback --buin N --app-id ID

Callbacks come at least once and, for one session, in the order of versions. A replayed callback may
come late. So the receiver stores the newest version of each session and ignores older versions. It
uses the version of the sealed message. Headers such as X-Muster-Version are not signed.
It needs Python 3.9 and the package "cryptography".
"""

import base64
import hashlib
import hmac
import json
import os
import signal
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

# Seconds. Each attempt is signed with the current time, so an old signature is a replay.
MAX_AGE = 300
MAX_BODY = 4 * 1024 * 1024


class Rejected(Exception):
    """A request that does not come from Muster, or is not for this app."""


class Opener:
    """Verifies and opens callbacks of one app."""

    def __init__(self, app_id, aes_key, token):
        self.app_id = app_id
        self.token = token
        key = base64.b64decode(aes_key)
        self.cipher = Cipher(algorithms.AES(key), modes.CBC(key[:16]))

    def open(self, query, body):
        """The message of a callback. `query` has one value for each name."""
        try:
            encrypt = json.loads(body)["encrypt"]
            signature, timestamp, nonce = (query[name] for name in ("msg_signature", "timestamp", "nonce"))
            parts = sorted(part.encode() for part in (self.token, timestamp, nonce, encrypt))
            expected = hashlib.sha1(b"".join(parts)).hexdigest()
            # Compares in constant time: the duration must not help an attacker to guess.
            if not hmac.compare_digest(expected.encode(), signature.encode()):
                raise Rejected("wrong signature")
            if abs(time.time() - int(timestamp)) > MAX_AGE:
                raise Rejected("too old")
            return json.loads(self._unseal(encrypt))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Rejected(f"malformed: {error!r}") from None

    def _unseal(self, text):
        decryptor = self.cipher.decryptor()
        plain = decryptor.update(base64.b64decode(text)) + decryptor.finalize()
        if not plain or not 1 <= plain[-1] <= 32:
            raise Rejected("sealed with another key")
        # 16 random bytes, the length of the message, the message, the app id, padding.
        end = 20 + int.from_bytes(plain[16:20], "big")
        if plain[end : -plain[-1]] != self.app_id.encode():
            raise Rejected("sealed for another app")
        return plain[20:end].decode()


class Sessions:
    """The newest version of each session that this receiver has processed, in SQLite."""

    def __init__(self, path):
        self.lock = threading.Lock()
        self.database = sqlite3.connect(path, check_same_thread=False)
        self.database.execute("create table if not exists seen (session text primary key, version integer not null)")

    def process(self, message):
        """Does the work of a callback once and returns a text for the log.

        The version is recorded in the same transaction as the work. A crash undoes both, and
        Muster sends the callback again.
        """
        session, version = message["sessionId"], message["version"]
        with self.lock, self.database:
            row = self.database.execute("select version from seen where session = ?", (session,)).fetchone()
            last = row[0] if row else 0
            if version <= last:
                return f"ignored, already at version {last}"
            # Your own work belongs here, in this transaction. Keep it short: an attempt has 15 s
            # (delivery.attempt_timeout). For longer work, only store the message here.
            self.database.execute("insert or replace into seen values (?, ?)", (session, version))
            if version > last + 1:
                # Muster gave up versions in between, or this receiver joined late. The message
                # contains only the last change: read the session to get the complete state.
                return f"processed after a gap, was at version {last}"
            return "processed"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Seconds that a client may be silent.
    timeout = 20
    opener = None
    sessions = None

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            self.close_connection = True
            return self.answer(413, "too large")
        body = self.rfile.read(int(length))
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        try:
            message = self.opener.open(query, body)
        except Rejected as reason:
            print(f"rejected: {reason}", flush=True)
            return self.answer(403, "rejected")
        kind = message["msgType"]
        if kind == "muster_test":
            print("test", flush=True)
            return self.answer(200, "ok")
        try:
            outcome = self.sessions.process(message)
        except sqlite3.Error as error:
            # Muster tries again after any status but 200.
            print(f"failed: {error}", flush=True)
            return self.answer(503, "try again")
        print(f"{message['sessionId']} version {message['version']} {kind}: {outcome}", flush=True)
        # The receiver acknowledges only after the commit of its work. The text message["packageId"]
        # would acknowledge the callback as well.
        self.answer(200, "ok")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        """Prints no access log, because the query contains signatures."""


def main():
    address, port = os.environ.get("LISTEN", "127.0.0.1:7090").rsplit(":", 1)
    Handler.opener = Opener(*(os.environ[f"MUSTER_{name}"] for name in ("APP_ID", "AES_KEY", "CALLBACK_TOKEN")))
    Handler.sessions = Sessions(os.environ.get("DATABASE", "callbacks.sqlite"))
    server = ThreadingHTTPServer((address, int(port)), Handler)
    # In another thread, because `shutdown` waits for the loop that this signal interrupts.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listening on http://{address}:{server.server_address[1]}/", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
