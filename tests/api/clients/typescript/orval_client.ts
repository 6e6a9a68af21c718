// A client that orval generates, for `fetch`.

import assert from "node:assert/strict";
import {
  batchGetSessions,
  batchSessions,
  createSession,
  dissolveSession,
  getSession,
  listSessions,
  ListSessionsSort,
  updateSession,
} from "./generated/orval.js";
import type { NewSession, SessionPatch } from "./generated/orval.js";

const key = process.env["MUSTER_API_KEY"];
assert(key);
const options = { headers: { Authorization: `Bearer ${key}` } };

const mark = `orval ${Date.now()}`;
const body: NewSession = {
  operator: "alice",
  title: mark,
  member: ["bob", "carol"],
  attributes: { ticket: 4711, labels: ["a", "b"], customer: { id: 7 } },
};

// Create, and replay the create.
const header = { "Idempotency-Key": mark.replaceAll(" ", "-") };
const created = await createSession(body, {}, header, options);
assert(created.status === 201);
const session = created.data;
assert.deepEqual(session.attributes, body.attributes);
assert.equal(session.attributes["ticket"], 4711);
const replayed = await createSession(body, {}, header, options);
assert(replayed.status === 201);
assert.equal(replayed.headers.get("idempotency-replayed"), "true");
assert.equal(replayed.data.sessionId, session.sessionId);

// Change with If-Match: once with the right version, once with an old one.
const id = session.sessionId;
const patch: SessionPatch = { operator: "alice", title: `${mark} 1`, attributes: { ticket: null } };
const updated = await updateSession(id, patch, {}, { "If-Match": '"1"' }, options);
assert(updated.status === 200);
assert.equal(updated.data.version, 2);
const outdated = await updateSession(id, patch, {}, { "If-Match": '"1"' }, options);
assert(outdated.status === 412);
assert.equal(outdated.data.code, "version_conflict");
assert.equal(outdated.data.currentVersion, 2);

// Not modified.
const known = { "If-None-Match": updated.headers.get("etag") ?? "" };
const unmodified = await getSession(id, {}, known, options);
assert.equal(unmodified.status, 304);

// Batches.
const batch = await batchSessions(
  {
    items: [
      { create: { ...body, title: `${mark} 2` } },
      { update: { sessionId: id, version: 1, operator: "alice", title: "too late" } },
    ],
  },
  {},
  options,
);
assert(batch.status === 200);
assert.deepEqual(batch.data.items.map((item) => item.status), [201, 412]);
const many = await batchGetSessions({ ids: [id] }, {}, options);
assert(many.status === 200);
assert.deepEqual(many.data.items.map((item) => item.title), [`${mark} 1`]);

// All pages of a list.
const found: string[] = [];
let cursor: string | null = null;
do {
  const query = { title: mark, sort: ListSessionsSort.CreatedAtDescending, limit: 1 };
  const page: Awaited<ReturnType<typeof listSessions>> = await listSessions(
    cursor === null ? query : { ...query, cursor },
    {},
    options,
  );
  assert(page.status === 200);
  found.push(...page.data.items.map((item) => item.title));
  cursor = page.data.nextCursor;
} while (cursor !== null);
assert.deepEqual(found.sort(), [`${mark} 1`, `${mark} 2`]);

// Gone.
const dissolved = await dissolveSession(id, { operator: "alice" }, {}, options);
assert(dissolved.status === 200);
assert.equal(dissolved.data.state, "dissolved");
const gone = await updateSession(id, patch, {}, {}, options);
assert(gone.status === 410);
assert.equal(gone.data.code, "session_dissolved");

console.log("orval: all calls were answered as described");
