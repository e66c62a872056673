// The minimal body of each POST, a PATCH of one field of each resource, each row as GET gives it in a PUT, and what the
// types must refuse. A directive without an error in the next line is an error itself.
import createClient from "openapi-fetch";
import type { components, paths } from "./cooee.ts";

const api = createClient<paths>();
declare const row: { [Name in keyof components["schemas"]]: components["schemas"][Name] };
const time = "2026-11-26T09:00:00Z";
const phone = "0491 570 006";
const contact = { params: { path: { contact_id: 1 } } };
const group = { params: { path: { group_id: 1 } } };
const template = { params: { path: { template_id: 1 } } };
const schedule = { params: { path: { schedule_id: 1 } } };
const batch = { params: { path: { group_schedule_id: 1 } } };
const config = { params: { path: { config_id: 1 } } };

api.POST("/api/contacts/", { body: { phone } });
api.POST("/api/groups/", { body: { name: "G" } });
api.POST("/api/groups/{group_id}/members/", { ...group, body: { contact_ids: [1] } });
api.POST("/api/templates/", { body: { name: "T", text: "x" } });
api.POST("/api/schedules/", { body: { text: "x", phone, scheduled_time: time } });
api.POST("/api/schedules/", { body: { template: 1, contact: 1, scheduled_time: time } });
api.POST("/api/group-schedules/", { body: { name: "B", group_id: 1, text: "x", scheduled_time: time } });
api.POST("/api/sms/send/", { body: { message: "x", recipient: phone } });
api.POST("/api/sms/send-mms/", { body: { media_url: "https://example.com/a.png", recipient: phone } });
api.POST("/api/sms/send-to-group/", { body: { message: "x", group_id: 1 } });
api.POST("/api/sms/preview/", { body: { message: "x" } });
api.POST("/api/configs/", { body: { name: "sms_limit", value: "1" } });

api.PATCH("/api/contacts/{contact_id}/", { ...contact, body: { opt_out: true } });
api.PATCH("/api/groups/{group_id}/", { ...group, body: { name: "G" } });
api.PATCH("/api/templates/{template_id}/", { ...template, body: { is_active: true } });
api.PATCH("/api/schedules/{schedule_id}/", { ...schedule, body: { status: "cancelled" } });
api.PATCH("/api/group-schedules/{group_schedule_id}/", { ...batch, body: { text: "x" } });
api.PATCH("/api/configs/{config_id}/", { ...config, body: { value: "1" } });

api.PUT("/api/contacts/{contact_id}/", { ...contact, body: row.ContactOut });
api.PUT("/api/groups/{group_id}/", { ...group, body: row.GroupDetail });
api.PUT("/api/templates/{template_id}/", { ...template, body: row.TemplateOut });
api.PUT("/api/schedules/{schedule_id}/", { ...schedule, body: row.ScheduleOut });
api.PUT("/api/group-schedules/{group_schedule_id}/", { ...batch, body: row.GroupScheduleDetail });
api.PUT("/api/configs/{config_id}/", { ...config, body: row.ConfigOut });

// @ts-expect-error: a contact needs a phone
api.POST("/api/contacts/", { body: { first_name: "Ana" } });
// @ts-expect-error: pages are numbers
api.GET("/api/contacts/", { params: { query: { page: "1" } } });
// @ts-expect-error: ids are numbers
api.GET("/api/contacts/", { params: { query: { exclude_group_id: "1" } } });
// @ts-expect-error: this is a boolean
api.POST("/api/schedules/{schedule_id}/retry/", { params: { ...schedule.params, query: { include_unknown: "true" } } });
// @ts-expect-error: there is no such status
api.GET("/api/messages/", { params: { query: { status: ["lost"] } } });
// @ts-expect-error: there is no such direction
api.GET("/api/messages/", { params: { query: { direction: "up" } } });
// @ts-expect-error: there is no such format
api.POST("/api/schedules/", { body: { text: "x", phone, scheduled_time: time, format: "fax" } });
// @ts-expect-error: no schedule has this status
row.ScheduleOut.status === "lost";
// @ts-expect-error: no error has this code
row.Error.code === "lost";
