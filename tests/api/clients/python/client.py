"""A client that openapi-python-client generates, as the package `muster_client`."""

import io
import json
import os
import time
from http import HTTPStatus

from muster_client import AuthenticatedClient
from muster_client.api.history import diff_session, list_events
from muster_client.api.members import add_member
from muster_client.api.service import get_limits
from muster_client.api.sessions import (
    batch_sessions,
    compare_sessions,
    create_session,
    dissolve_session,
    get_session,
    list_sessions,
    update_session,
)
from muster_client.models import (
    Actor,
    Attributes,
    Batch,
    BatchItem,
    BatchResult,
    BatchUpdate,
    Code,
    EventPage,
    ListEventsOrder,
    ListSessionsSort,
    NewSession,
    Problem,
    Session,
    SessionDiff,
    SessionLimits,
    SessionPage,
    SessionPatch,
    SessionState,
)
from muster_client.types import UNSET, File, Unset

CLIENT = AuthenticatedClient(base_url=os.environ["MUSTER_URL"], token=os.environ["MUSTER_API_KEY"])
MARK = f"openapi-python-client {time.time_ns()}"


def main() -> None:
    limits = get_limits.sync(client=CLIENT)
    assert isinstance(limits, SessionLimits) and limits.max_title_length == 64

    session = create_and_replay()
    change(session)
    batch(session)
    compare(session)
    pages()
    history(session)
    gone(session)
    print("openapi-python-client: all calls were answered as described")


def new_session(title: str) -> NewSession:
    attributes = Attributes.from_dict({"ticket": 4711, "labels": ["a", "b"], "customer": {"id": 7}})
    return NewSession(operator="alice", title=title, member=["bob", "carol"], attributes=attributes)


def create_and_replay() -> Session:
    key = MARK.replace(" ", "-")
    created = create_session.sync_detailed(client=CLIENT, body=new_session(MARK), idempotency_key=key)
    session = created.parsed
    assert created.status_code == HTTPStatus.CREATED and isinstance(session, Session)
    assert session.attributes.additional_properties["ticket"] == 4711
    assert session.attributes["customer"] == {"id": 7}
    replayed = create_session.sync_detailed(client=CLIENT, body=new_session(MARK), idempotency_key=key)
    assert replayed.headers["Idempotency-Replayed"] == "true"
    assert isinstance(replayed.parsed, Session) and replayed.parsed.session_id == session.session_id
    return session


def change(session: Session) -> None:
    patch = SessionPatch(
        operator="alice", title=f"{MARK} 1", add_member=["dave", 10232],
        attributes=Attributes.from_dict({"ticket": None, "done": True}),
    )
    updated = update_session.sync_detailed(session.session_id, client=CLIENT, body=patch, if_match='"1"')
    assert isinstance(updated.parsed, Session) and updated.parsed.version == 2
    assert updated.parsed.member == ["alice", "bob", "carol", "dave", "10232"]
    assert updated.parsed.attributes.to_dict() == {"labels": ["a", "b"], "customer": {"id": 7}, "done": True}

    outdated = update_session.sync_detailed(session.session_id, client=CLIENT, body=patch, if_match='"1"')
    assert outdated.status_code == HTTPStatus.PRECONDITION_FAILED
    assert isinstance(outdated.parsed, Problem)
    assert outdated.parsed.code == Code.VERSION_CONFLICT and outdated.parsed.current_version == 2

    known = updated.headers["ETag"]
    unmodified = get_session.sync_detailed(session.session_id, client=CLIENT, if_none_match=known)
    assert unmodified.status_code == HTTPStatus.NOT_MODIFIED and unmodified.parsed is None


def batch(session: Session) -> None:
    late = BatchUpdate(session_id=session.session_id, version=1, operator="alice", title="too late")
    items = [BatchItem(create=new_session(f"{MARK} 2")), BatchItem(update=late)]
    outcome = batch_sessions.sync(client=CLIENT, body=Batch(items=items))
    assert isinstance(outcome, BatchResult)
    assert [item.status for item in outcome.items] == [201, 412]
    error = outcome.items[1].error
    assert isinstance(error, Problem) and error.code == Code.VERSION_CONFLICT


def compare(session: Session) -> None:
    copy = json.dumps({"sessionId": session.session_id, "version": 1}) + "\n"
    answer = compare_sessions.sync(client=CLIENT, body=File(payload=io.BytesIO(copy.encode())))
    assert isinstance(answer, File)
    lines = [json.loads(line) for line in answer.payload]
    changed = {"sessionId": session.session_id, "state": "changed", "version": 2}
    assert lines == [changed, {"compared": 1, "differing": 1}], lines
    seen = get_session.sync(session.session_id, client=CLIENT, muster_min_version="2")
    assert isinstance(seen, Session) and seen.version == 2
    ahead = get_session.sync(session.session_id, client=CLIENT, muster_min_version="3")
    assert isinstance(ahead, Problem) and ahead.code == Code.VERSION_NOT_REACHED


def pages() -> None:
    titles = []
    cursor: str | Unset = UNSET
    while True:
        page = list_sessions.sync(
            client=CLIENT, title=MARK, sort=ListSessionsSort.CREATED_AT_DESCENDING, limit=1, cursor=cursor
        )
        assert isinstance(page, SessionPage)
        titles += [session.title for session in page.items]
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
    assert titles == [f"{MARK} 2", f"{MARK} 1"], titles


def history(session: Session) -> None:
    events = list_events.sync(session.session_id, client=CLIENT, order=ListEventsOrder.DESC)
    assert isinstance(events, EventPage)
    assert [event.version for event in events.items] == [2, 1]
    attributes = events.items[0].changes.attributes
    assert isinstance(attributes, Attributes) and attributes["done"] is True
    diff = diff_session.sync(session.session_id, client=CLIENT, from_=1, to=2)
    assert isinstance(diff, SessionDiff) and diff.title is not None and diff.title.to == f"{MARK} 1"
    assert diff.add_member == ["dave", "10232"] and diff.owner is None


def gone(session: Session) -> None:
    dissolved = dissolve_session.sync(session.session_id, client=CLIENT, operator="alice")
    assert isinstance(dissolved, Session) and dissolved.state is SessionState.DISSOLVED
    refused = add_member.sync_detailed(session.session_id, "erin", client=CLIENT, body=Actor(operator="alice"))
    assert refused.status_code == HTTPStatus.GONE
    assert isinstance(refused.parsed, Problem) and refused.parsed.code == Code.SESSION_DISSOLVED


main()
