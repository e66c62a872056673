// The list of phones, and the search.

import { announce, clone, find, readable, setTick, setTime } from "./elements.js";
import { call } from "./requests.js";

const PHONES_SHOWN = 200;
const phones = new Map(); // phone → its summary
const rows = new Map(); // phone → its row in the list
const unread = new Set();
let total = 0;
let current = ""; // the phone whose conversation is open
let loads = 0; // loads of the list that have begun
let applied = 0; // changes that were applied

export async function loadPhones() {
  const search = find("search").value.trim();
  const [load, before] = [++loads, applied];
  const found = await call("GET", `/api/phones/?search=${encodeURIComponent(search)}`);
  if (search !== find("search").value.trim()) return; // the search has changed
  if (load !== loads) return; // a later load has begun
  if (before !== applied) return loadPhones(); // the answer may be older than the changes
  phones.clear();
  for (const summary of found.phones) phones.set(summary.phone, summary);
  total = found.total;
  showPhones();
}

export function markOpen(phone) {
  current = phone;
  unread.delete(phone);
  showPhones();
}

export function applySummaries(changes) {
  applied += 1;
  total = changes.total;
  if (changes.forgotten) for (const known of [phones, rows, unread]) known.clear();
  const arrived = changes.phones.filter(({ phone, count }) => count > (phones.get(phone)?.count ?? 0));
  const isSearch = find("search").value.trim() !== "";
  for (const summary of changes.phones) {
    if (!isSearch || phones.has(summary.phone)) phones.set(summary.phone, summary);
  }
  const messages = arrived.filter((summary) => !summary.is_reply);
  for (const { phone } of messages) if (phone !== current) unread.add(phone);
  if (messages.length === 1) announce(`Message for ${readable(messages[0].phone)}: ${messages[0].text}`);
  else if (messages.length > 1) announce(`Messages for ${messages.length} phones`);
  showPhones();
}

function showPhones() {
  const focused = document.activeElement;
  const newest = [...phones.values()].sort((a, b) => b.at - a.at);
  for (const { phone } of newest.splice(PHONES_SHOWN)) {
    phones.delete(phone);
    rows.delete(phone);
  }
  const wanted = newest.map(showPhone);
  const list = find("phones");
  if (wanted.length !== list.children.length || wanted.some((row, index) => list.children[index] !== row)) {
    list.replaceChildren(...wanted);
    if (list.contains(focused)) focused.focus({ preventScroll: true }); // a moved row loses the focus
  }
  showNotes(wanted.length);
}

function showNotes(count) {
  const isSearch = find("search").value.trim() !== "";
  find("no-result").textContent = isSearch && count === 0 ? "No result. No phone has this number." : "";
  find("phones-more").hidden = isSearch || total <= count;
  find("phones-more").textContent = `The newest ${count} of ${total} phones. Search for the others.`;
  const isEmpty = total === 0;
  document.body.classList.toggle("blank", isEmpty);
  find("empty-title").textContent = isEmpty ? "No messages yet" : "No phone is selected";
  find("empty-text").textContent = isEmpty
    ? "Messages to every mobile number arrive here. Send one with POST\u00a0/api/sms/send/."
    : "Choose a phone from the list to read its messages and to reply.";
}

function showPhone(summary) {
  const { phone } = summary;
  let row = rows.get(phone);
  if (!row) {
    row = clone("phone-row");
    row.firstElementChild.href = "#" + phone;
    row.querySelector(".number").textContent = readable(phone);
    const avatar = row.querySelector(".avatar");
    avatar.textContent = phone.slice(-2);
    avatar.style.setProperty("--hue", (Number(phone.slice(-4)) * 47) % 360 || 160);
    rows.set(phone, row);
  }
  if (row.summary !== summary) {
    row.summary = summary;
    setTime(row.querySelector("time"), summary.at, true);
    row.querySelector(".snippet").textContent = summary.text || "(media)";
    setTick(row.querySelector(".tick"), summary.status, summary.is_reply, true);
  }
  const link = row.firstElementChild;
  link.classList.toggle("new", unread.has(phone));
  if (current === phone) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
  return row;
}

function moveFocus(event, row, instead) {
  event.preventDefault();
  (row?.firstElementChild ?? instead)?.focus();
}

find("search").addEventListener("input", loadPhones);
find("search").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown") moveFocus(event, find("phones").firstElementChild);
});
find("phones").addEventListener("keydown", (event) => {
  const row = event.target.closest("li");
  if (event.key === "ArrowDown") moveFocus(event, row.nextElementSibling);
  if (event.key === "ArrowUp") moveFocus(event, row.previousElementSibling, find("search"));
  if (event.key === "Home") moveFocus(event, find("phones").firstElementChild);
  if (event.key === "End") moveFocus(event, find("phones").lastElementChild);
});
