"""Bodies with a JSON object in each line, for schemathesis: a schema of OpenAPI describes no lines."""

import json

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
