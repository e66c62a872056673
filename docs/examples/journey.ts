// A frontend's journey with a generated client: contacts, a group, a template, a batch, a send, the list of messages.
//
// Make the types and install the client, then run this file with Node 24:
//   npx openapi-typescript http://127.0.0.1:8080/api/schema/ -o cooee.ts
//   npm install openapi-fetch
//   COOEE_URL=http://127.0.0.1:8080 COOEE_TOKEN=$(make -s token) node journey.ts
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./cooee.ts";

type Schemas = components["schemas"];

const { COOEE_URL, COOEE_TOKEN } = process.env;
assert(COOEE_URL && COOEE_TOKEN, "set COOEE_URL and COOEE_TOKEN");
const api = createClient<paths>({ baseUrl: COOEE_URL, headers: { Authorization: `Bearer ${COOEE_TOKEN}` } });

// One sentence for each error that is about no field. TypeScript checks that no code is missing.
const SENTENCES: Record<Schemas["Error"]["code"], string> = {
  invalid: "Please check what you entered.",
  parse_error: "Please check what you entered.",
  no_recipients: "Nobody in this group can get messages.",
  schedule_not_pending: "This message was sent already.",
  not_authenticated: "Please sign in.",
  authentication_failed: "Please sign in again.",
  permission_denied: "Only admins may do this.",
  not_found: "This does not exist any more.",
  method_not_allowed: "This cannot be done.",
  in_progress: "Please wait a moment.",
  request_timeout: "The connection is too slow. Please try again.",
  too_large: "This file is too large.",
  unsupported_media_type: "This kind of file cannot be used.",
  idempotency_mismatch: "Please start again.",
  throttled: "Too many requests. Please wait a moment.",
  headers_too_large: "Please sign in again.",
  unavailable: "Please try again in a minute.",
  error: "Something went wrong.",
};

// 1. A contact: only the phone is needed.
const created = await api.POST("/api/contacts/", { body: { phone: "0491 570 006", first_name: "Ana" } });
assert(created.data, JSON.stringify(created.error));
const ana: Schemas["ContactOut"] = created.data;
const byId = { path: { contact_id: ana.id } };

// 2. PATCH one field. The others stay.
const patched = await api.PATCH("/api/contacts/{contact_id}/", { params: byId, body: { company: "Pigeon Post" } });
assert.equal(patched.data?.company, "Pigeon Post");
assert.equal(patched.data?.first_name, "Ana");

// 3. PUT what GET gave.
const read = await api.GET("/api/contacts/{contact_id}/", { params: byId });
assert(read.data);
const put = await api.PUT("/api/contacts/{contact_id}/", { params: byId, body: read.data });
assert(put.data);
assert.deepEqual({ ...put.data, updated_at: "" }, { ...read.data, updated_at: "" });

// 4. A 400 has messages for its fields, and their names are those of the request.
const wrong = await api.POST("/api/contacts/", { body: { phone: "12", email: "nobody" } });
assert(wrong.error);
assert(!("detail" in wrong.error));
assert.equal(wrong.error.code satisfies "invalid" | "opted_out", "invalid");
assert.match(wrong.error.phone?.[0] ?? "", /Australian mobile/);
assert.match(wrong.error.email?.[0] ?? "", /email/);

// 5. A 404 has a detail.
const missing = await api.GET("/api/contacts/{contact_id}/", { params: { path: { contact_id: 999_999_999 } } });
assert(missing.error && "detail" in missing.error);
assert.equal(missing.error.code, "not_found");
assert.equal(SENTENCES[missing.error.code], "This does not exist any more.");

// 6. A group with its members, and a template. Each as GET gave it is a valid PUT.
const group = (await api.POST("/api/groups/", { body: { name: "Customers" } })).data;
assert(group);
const inGroup = { path: { group_id: group.id } };
const added = await api.POST("/api/groups/{group_id}/members/", { params: inGroup, body: { contact_ids: [ana.id] } });
assert.equal(added.data?.member_count, 1);
const detail = (await api.GET("/api/groups/{group_id}/", { params: { ...inGroup, query: { page: 1, limit: 10 } } })).data;
assert(detail);
assert.equal((await api.PUT("/api/groups/{group_id}/", { params: inGroup, body: detail })).data?.member_count, 1);
const template = (await api.POST("/api/templates/", { body: { name: "Reminder", text: "Hi {{first_name}}" } })).data;
assert(template);
const inTemplate = { path: { template_id: template.id } };
assert((await api.PUT("/api/templates/{template_id}/", { params: inTemplate, body: template })).data);

// 7. A message for tomorrow, and a batch. Change one field, and replace each by itself.
const tomorrow = new Date(Date.now() + 86_400_000).toISOString();
const schedule = (await api.POST("/api/schedules/", { body: { contact: ana.id, text: "Hello", scheduled_time: tomorrow } })).data;
assert(schedule);
const inSchedule = { path: { schedule_id: schedule.id } };
const renamed = await api.PATCH("/api/schedules/{schedule_id}/", { params: inSchedule, body: { name: "Greeting" } });
assert.equal(renamed.data?.text, "Hello");
assert((await api.PUT("/api/schedules/{schedule_id}/", { params: inSchedule, body: renamed.data })).data);
assert((await api.DELETE("/api/schedules/{schedule_id}/", { params: inSchedule })).response.status === 204);
const again = await api.DELETE("/api/schedules/{schedule_id}/", { params: inSchedule });
assert(again.error && "detail" in again.error && again.error.code === "schedule_not_pending");
const batch = (
  await api.POST("/api/group-schedules/", {
    body: { name: "Reminders", group_id: group.id, template_id: template.id, scheduled_time: tomorrow },
  })
).data;
assert(batch);
assert.equal(batch.schedules[0]?.text, "Hi Ana");
const inBatch = { path: { group_schedule_id: batch.id } };
const shown = (await api.GET("/api/group-schedules/{group_schedule_id}/", { params: inBatch })).data;
assert(shown);
assert.equal(shown.counts["pending"], 1);
assert((await api.PUT("/api/group-schedules/{group_schedule_id}/", { params: inBatch, body: shown })).data);

// 8. Send now. The key is made once for each click, and is the same when the request is repeated.
const key = crypto.randomUUID();
const send = () =>
  api.POST("/api/sms/send/", {
    params: { header: { "Idempotency-Key": key, Prefer: "wait=20" } },
    body: { message: "Hello {{first_name}}", recipient: ana.phone, contact_id: ana.id },
  });
const sent = await send();
assert(sent.data, JSON.stringify(sent.error));
assert.equal((await send()).data?.schedule_id, sent.data.schedule_id);

// A send can fail in four ways, and each has its own type.
function explain(error: NonNullable<Awaited<ReturnType<typeof send>>["error"]>): string {
  if ("schedule_id" in error) return `${error.error} (${error.failure_category})`;
  if (!("detail" in error)) return error.recipient?.[0] ?? error.message?.[0] ?? "Please check what you entered.";
  return error.code === "limit_exceeded" ? `${error.remaining} messages are left this month.` : SENTENCES[error.code];
}
const refused = await api.POST("/api/sms/send/", { body: { message: "Hello", recipient: "nobody" } });
assert(refused.error);
assert.match(explain(refused.error), /Australian mobile/);

// 9. Lists: filters are numbers, booleans and names, and times are of this century.
const query = { status: ["sent" as const, "processing" as const, "delivered" as const], limit: 20 };
const messages = (await api.GET("/api/messages/", { params: { query: { ...query, direction: "outbound" } } })).data;
assert(messages);
const [message] = messages.results;
assert(message);
assert.equal(message.schedule, sent.data.schedule_id);
assert.equal(message.text, "Hello Ana");
assert.equal(message.format satisfies "sms" | "mms", "sms");
assert(Date.parse(message.time) > Date.parse("2026-01-01"));
const today = new Date().toISOString().slice(0, 10);
const schedules = await api.GET("/api/schedules/", { params: { query: { date_from: today, status: ["cancelled"] } } });
assert.deepEqual(schedules.data?.results.map((row) => row.id), [schedule.id]);
const wrongPage = await api.GET("/api/schedules/", { params: { query: { page: 0 } } });
assert(wrongPage.error && !("detail" in wrongPage.error));
assert.equal(wrongPage.error.page?.[0], "Enter a whole number of at least 1.");
console.log("The journey is complete.");
