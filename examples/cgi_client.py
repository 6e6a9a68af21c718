#!/usr/bin/env python3
"""A client of the /cgi protocol: sealed messages, access tokens, errors.

    pip install cryptography
    python3 cgi_client.py data/first-app.json

The file holds "url", "buin", "appId" and "aesKey". Muster writes such a file for its first app;
`muster app create --json` prints the last three for any other app.

Copy the class `CgiClient` into your program. It needs Python 3.9 and the package "cryptography".
"""

import base64
import json
import os
import sys
import threading
import time
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

# Muster's own errcodes that a caller usually wants to handle.
TOKEN_INVALID, TOKEN_EXPIRED = 100001, 100002
SESSION_NOT_FOUND, VERSION_CONFLICT = 400003, 400009


class CgiError(Exception):
    """An answer whose errcode is not 0."""

    def __init__(self, errcode, errmsg, status, retry_after=None):
        super().__init__(f"errcode {errcode} (HTTP {status}): {errmsg}")
        self.errcode = errcode
        self.errmsg = errmsg
        self.status = status
        # Seconds to wait before the request may be repeated, if the server names them.
        self.retry_after = retry_after


class Seal:
    """Seals and opens messages with the AES key of one app."""

    def __init__(self, app_id, aes_key):
        self.app_id = app_id.encode()
        key = base64.b64decode(aes_key)
        self.cipher = Cipher(algorithms.AES(key), modes.CBC(key[:16]))

    def seal(self, message):
        """Random bytes, the length of the message, the message, the app id, padding: encrypted."""
        message = message.encode()
        plain = os.urandom(16) + len(message).to_bytes(4, "big") + message + self.app_id
        # PKCS#7 with blocks of 32 bytes, although AES has blocks of 16: always 1 to 32 bytes.
        padding = 32 - len(plain) % 32
        encryptor = self.cipher.encryptor()
        sealed = encryptor.update(plain + bytes([padding]) * padding) + encryptor.finalize()
        return base64.b64encode(sealed).decode()

    def open(self, text):
        """The message in a sealed text. Raises ValueError if it was not sealed for this app."""
        decryptor = self.cipher.decryptor()
        plain = decryptor.update(base64.b64decode(text)) + decryptor.finalize()
        if not plain or not 1 <= plain[-1] <= 32:
            raise ValueError("not sealed with this key")
        end = 20 + int.from_bytes(plain[16:20], "big")
        if plain[end : -plain[-1]] != self.app_id:
            raise ValueError("not sealed for this app")
        return plain[20:end].decode()


class CgiClient:
    """Calls /cgi for one app. Threads may share it."""

    def __init__(self, url, buin, app_id, aes_key, timeout=15):
        self.url = url.rstrip("/")
        self.buin = buin
        self.app_id = app_id
        self.envelope = Seal(app_id, aes_key)
        self.timeout = timeout
        self.token = None
        self.token_expires_at = 0.0
        self.lock = threading.Lock()

    def create_session(self, creator, title, members):
        return self._call_with_token("session/create", {"title": title, "creator": creator, "member": members})

    def get_session(self, session_id):
        return self._call_with_token("session/get", sessionId=session_id)

    def update_session(self, session_id, operator, **changes):
        """Changes a session. `changes`: title, addMember, delMember, version."""
        return self._call_with_token("session/update", {"sessionId": session_id, "opUser": operator, **changes})

    def access_token(self):
        """A token that is valid for at least another minute."""
        with self.lock:
            if self.token is None or time.monotonic() > self.token_expires_at - 60:
                # The clock of this machine may differ from the server's by token.max_clock_skew.
                answer = self._call("gettoken", str(int(time.time())))
                self.token = answer["accessToken"]
                self.token_expires_at = time.monotonic() + answer["expireIn"]
            return self.token

    def _call_with_token(self, path, message=None, **query):
        body = None if message is None else json.dumps(message)
        token = self.access_token()
        try:
            return self._call(path, body, accessToken=token, **query)
        except CgiError as error:
            # A rotated key ends all tokens of the app. A request whose token is refused has no
            # effect, so it may be sent again.
            if error.errcode not in (TOKEN_INVALID, TOKEN_EXPIRED):
                raise
            with self.lock:
                if self.token == token:
                    self.token = None
        return self._call(path, body, accessToken=self.access_token(), **query)

    def _call(self, path, message=None, **query):
        """POSTs a sealed message, or GETs without a message, and opens the answer."""
        body = None
        if message is not None:
            sealed = self.envelope.seal(message)
            body = json.dumps({"buin": self.buin, "appId": self.app_id, "encrypt": sealed}).encode()
        url = f"{self.url}/cgi/{path}?{urlencode(query)}"
        try:
            with urlopen(url, body, timeout=self.timeout) as response:
                answer, status, headers = json.load(response), response.status, response.headers
        except HTTPError as response:
            with response:
                text = response.read()
            # The answer of a proxy may have another form than JSON.
            answer = json.loads(text) if text.startswith(b"{") else {"errcode": -1, "errmsg": response.reason}
            status, headers = response.code, response.headers
        if answer["errcode"] != 0:
            wait = headers.get("Retry-After")
            raise CgiError(answer["errcode"], answer["errmsg"], status, int(wait) if wait else None)
        return json.loads(self.envelope.open(answer["encrypt"]))


def main():
    with open(sys.argv[1] if len(sys.argv) > 1 else "data/first-app.json") as file:
        app = json.load(file)
    client = CgiClient(app["url"], app["buin"], app["appId"], app["aesKey"])

    session = client.create_session("alice", "Release", ["bob", "carol"])
    print("created", json.dumps(session))
    session_id = session["sessionId"]

    session = client.update_session(session_id, "bob", title="Release 2.0", addMember=["dave"])
    print("updated", json.dumps(session))

    # With "version" a change is made only if the session was not changed in between.
    try:
        client.update_session(session_id, "bob", title="Too late", version=1)
    except CgiError as error:
        if error.errcode != VERSION_CONFLICT:
            raise
        print("refused", error)

    print("read", json.dumps(client.get_session(session_id)))


if __name__ == "__main__":
    main()
