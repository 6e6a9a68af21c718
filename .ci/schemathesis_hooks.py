"""Changes of generated requests, for schemathesis.

- Bodies with a JSON object in each line: a schema of OpenAPI describes no lines.
- No waits: a request may wait a minute for a change, which no other request makes meanwhile.
"""

import json
import re

import schemathesis
from hypothesis import strategies as st

line = st.fixed_dictionaries(
    {"sessionId": st.uuids().map(str), "version": st.integers(min_value=1, max_value=2**63 - 1)}
)


def body(lines):
    # The parameter `missing` demands this order.
    return "".join(json.dumps(line) + "\n" for line in sorted(lines, key=lambda line: line["sessionId"])).encode()


lines = st.lists(line, max_size=5, unique_by=lambda line: line["sessionId"])
schemathesis.openapi.media_type("application/x-ndjson", lines.map(body))


def is_wait(value):
    return isinstance(value, str) and re.fullmatch("[0-9]{1,2}s", value) and 1 <= int(value[:-1]) <= 60


@schemathesis.hook
def before_call(_, case, __):
    """An invalid wait stays: it must be refused."""
    for part in (case.query, case.body):
        if isinstance(part, dict) and is_wait(part.get("wait")):
            del part["wait"]
