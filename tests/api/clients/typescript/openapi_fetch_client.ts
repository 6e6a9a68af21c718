// A client with the types of openapi-typescript, which sends its requests with openapi-fetch.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./generated/schema.js";

type Schemas = components["schemas"];

const url = process.env["MUSTER_URL"];
const key = process.env["MUSTER_API_KEY"];
assert(url && key);
const client = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${key}` } });

const mark = `openapi-fetch ${Date.now()}`;
const body: Schemas["NewSession"] = {
  operator: "alice",
  title: mark,
  member: ["bob", "carol"],
  attributes: { ticket: 4711, labels: ["a", "b"], customer: { id: 7 } },
};

// @ts-expect-error: a title is text.
const wrong: Schemas["NewSession"] = { operator: "alice", title: 5, member: [] };
assert.equal(wrong.title, 5);

// Create, and replay the create.
const header = { "Idempotency-Key": mark.replaceAll(" ", "-") };
const created = await client.POST("/v1/sessions", { params: { header }, body });
assert.equal(created.response.status, 201);
const session = created.data;
assert(session);
assert.equal(created.response.headers.get("location"), `/v1/sessions/${plain(session.sessionId)}`);
assert.deepEqual(session.attributes, body.attributes);
const ticket: unknown = session.attributes["ticket"];
assert.equal(ticket, 4711);
const replayed = await client.POST("/v1/sessions", { params: { header }, body });
assert.equal(replayed.response.status, 201);
assert.equal(replayed.response.headers.get("idempotency-replayed"), "true");
assert.equal(replayed.data?.sessionId, session.sessionId);

// Change with If-Match: once with the right version, once with an old one.
const path = { sessionId: session.sessionId };
const change = {
  params: { path, header: { "If-Match": '"1"' } },
  body: { operator: "alice", addMember: ["dave", 10232], attributes: { ticket: null, done: true } },
};
const updated = await client.PATCH("/v1/sessions/{sessionId}", change);
assert.equal(updated.data?.version, 2);
assert.deepEqual(updated.data.member, ["alice", "bob", "carol", "dave", "10232"]);
assert.deepEqual(updated.data.attributes, { labels: ["a", "b"], customer: { id: 7 }, done: true });
const outdated = await client.PATCH("/v1/sessions/{sessionId}", change);
assert.equal(outdated.response.status, 412);
const conflict: Schemas["Problem"] | undefined = outdated.error;
assert.equal(conflict?.code, "version_conflict");
assert.equal(conflict.currentVersion, 2);

// Not modified.
const known = { "If-None-Match": updated.response.headers.get("etag") ?? "" };
const unmodified = await client.GET("/v1/sessions/{sessionId}", { params: { path, header: known } });
assert.equal(unmodified.response.status, 304);

// A batch, with an item that fails.
const batch = await client.POST("/v1/sessions/batch", {
  body: {
    items: [
      { create: { ...body, title: `${mark} 2` } },
      { create: { ...body, title: `${mark} 3` } },
      { update: { ...path, version: 2, operator: "alice", title: `${mark} 1` } },
      { update: { ...path, version: 1, operator: "alice", title: "too late" } },
    ],
  },
});
assert.deepEqual(batch.data?.items.map((item) => item.status), [201, 201, 200, 412]);
assert.equal(batch.data.items[2]?.session?.title, `${mark} 1`);
assert.equal(batch.data.items[3]?.error?.code, "version_conflict");

// A copy with an old version. The body is text with an object in each line.
const compared = await client.POST("/v1/sessions/compare", {
  headers: { "Content-Type": "application/x-ndjson" },
  body: `${JSON.stringify({ ...path, version: 2 })}\n`,
  bodySerializer: (lines) => lines,
  parseAs: "text",
});
const lines = compared.data?.trim().split("\n").map((line): unknown => JSON.parse(line));
const changed = { sessionId: session.sessionId, state: "changed", version: 3 };
assert.deepEqual(lines, [changed, { compared: 1, differing: 1 }]);
const seen = { params: { path, header: { "Muster-Min-Version": "4" } } };
const ahead = await client.GET("/v1/sessions/{sessionId}", seen);
assert.equal(ahead.response.status, 412);
assert.equal(ahead.error?.code, "version_not_reached");

// All pages of a list.
const found: string[] = [];
let cursor: string | null = null;
do {
  const query: paths["/v1/sessions"]["get"]["parameters"]["query"] = {
    title: mark,
    sort: "-createdAt",
    limit: 1,
    ...(cursor === null ? {} : { cursor }),
  };
  const page: { data?: Schemas["SessionPage"] } = await client.GET("/v1/sessions", { params: { query } });
  assert(page.data);
  found.push(...page.data.items.map((item) => item.title));
  cursor = page.data.nextCursor;
} while (cursor !== null);
assert.deepEqual(found.sort(), [`${mark} 1`, `${mark} 2`, `${mark} 3`]);

// The history.
const events = await client.GET("/v1/sessions/{sessionId}/events", {
  params: { path, query: { order: "desc" } },
});
assert.deepEqual(events.data?.items.map((event) => event.version), [3, 2, 1]);
assert.equal(events.data.items[1]?.changes.attributes?.["done"], true);
const diff = await client.GET("/v1/sessions/{sessionId}/diff", {
  params: { path, query: { from: 1, to: 3 } },
});
assert.deepEqual(diff.data?.title, { from: mark, to: `${mark} 1` });
assert.deepEqual(diff.data.attributes, { ticket: null, done: true });

// Gone.
const dissolved = await client.DELETE("/v1/sessions/{sessionId}", {
  params: { path, query: { operator: "alice" } },
});
assert.equal(dissolved.data?.state, "dissolved");
const gone = await client.PUT("/v1/sessions/{sessionId}/members/{account}", {
  params: { path: { ...path, account: "erin" } },
  body: { operator: "alice" },
});
assert.equal(gone.response.status, 410);
assert.equal(gone.error?.code, "session_dissolved");

// Callbacks have types as well.
const message: Schemas["CallbackMessage"] = {
  fromUser: "alice",
  createTime: 1718000010,
  packageId: "1",
  sessionId: session.sessionId,
  version: 2,
  msgType: "session_update",
  session_update: { owner: "alice", title: mark, addMember: ["dave"], delMember: [] },
};
assert.equal(message.msgType, "session_update");

console.log("openapi-typescript: all calls were answered as described");

function plain(sessionId: string): string {
  return sessionId.slice(1, -1).toLowerCase();
}
