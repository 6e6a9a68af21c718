"""A Muster server for the scripts in this directory. It is stopped when its `with` block ends."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

# The server is on this machine, so a proxy cannot reach it.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# In seconds. A first start may download PostgreSQL.
START_TIMEOUT = 900
STOP_TIMEOUT = 60


def environment(**settings):
    """The variables of this process, with `settings` and without settings for another server."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("MUSTER")}
    return kept | {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"} | settings


def python_with_cryptography(home):
    """A Python interpreter that has the package `cryptography`: this one, or one made in `home`."""
    if subprocess.run([sys.executable, "-c", "import cryptography"], capture_output=True).returncode == 0:
        return sys.executable
    directory = Path(home, "venv")
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    python = directory / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "cryptography"], check=True)
    return str(python)


class Failed(Exception):
    """A check that failed. The second argument, if present, is printed below the first."""


class Server:
    """A running server with the data directory `home`/data.

    `url` is the address of the server; without `url`, the server prints it on its standard output.
    """

    def __init__(self, program, home, variables, url=None):
        if url is not None and answers(url):
            raise Failed(f"another server already listens on {url}")
        self.url = url
        self.stopped_within = None
        self.stdout, self.stderr = Path(home, "stdout"), Path(home, "stderr")
        with self.stdout.open("w") as stdout, self.stderr.open("w") as stderr:
            self.process = subprocess.Popen(
                [program], cwd=home, env=variables, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
            )

    def __enter__(self):
        try:
            started = time.monotonic()
            while not self._is_ready():
                if self.process.poll() is not None or time.monotonic() > started + START_TIMEOUT:
                    raise Failed("the server did not start", self.stderr.read_text())
                time.sleep(0.05)
            print(f"ready {time.monotonic() - started:.1f} s after the first start")
            return self
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    def _is_ready(self):
        if self.url is None:
            said = re.search(r"listens on (http\S+)", self.stdout.read_text())
            if said is None:
                return False
            self.url = said[1]
        return answers(self.url)

    def welcome(self):
        """The output of the server when it listens, possibly a moment after it is ready."""
        deadline = time.monotonic() + 5
        while "curl" not in self.stdout.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.stdout.read_text()

    def __exit__(self, kind, error, _):
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = f"missing after {STOP_TIMEOUT} s"
        self.stopped_within = time.monotonic() - started
        if kind is not None:
            print(self.stderr.read_text(), file=sys.stderr)
        elif code != 0:
            raise Failed(f"the server's exit code was {code}", self.stderr.read_text())


def answers(url):
    """Whether a server on `url` is ready."""
    try:
        with DIRECT.open(f"{url}/readyz", timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def run(name, main):
    """Runs a script's `main` and exits with 1 if a check failed."""
    # The server is stopped too if the script receives SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except Failed as failure:
        message, *details = failure.args
        print(f"{name}: {message}", *details, sep="\n", file=sys.stderr)
        sys.exit(1)
