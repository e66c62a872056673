// The open conversation: its entries, the receipts that a person sends, and the box for replies.

import { STATUS_TEXTS, announce, element, find, international, readable } from "./elements.js";
import { closeMenu, fillMenu, toggleMenu } from "./menu.js";
import { RECEIPTS, messageRow, replyRow, updateMessage } from "./message.js";
import { markOpen } from "./phones.js";
import { PROVIDERS, call } from "./requests.js";

const TOO_LATE = "The receipt was sent, but a delivered message stays delivered. Switch automatic receipts off to let a message fail.";
const AT_END = 60; // pixels from the end that still count as the end
let thread = null; // the open conversation; its `rows` map an id to a row

export const openPhone = () => thread?.phone;

export async function open() {
  const phone = decodeURIComponent(location.hash.slice(1));
  closeMenu();
  document.body.classList.toggle("open", phone !== "");
  find("empty").hidden = phone !== "";
  find("thread").hidden = phone === "";
  thread = phone ? { phone, rows: new Map(), before: null } : null;
  find("entries").replaceChildren();
  find("nothing").hidden = true;
  find("error").textContent = "";
  markOpen(phone);
  document.title = phone ? `${readable(phone)} – Handset` : "Handset";
  if (!phone) return;
  find("number").textContent = readable(phone);
  await loadThread();
  scrollToEnd();
}

export async function loadThread(before) {
  const { phone } = thread;
  const query = before ? `?before=${before}` : "";
  const page = await call("GET", `/api/phones/${encodeURIComponent(phone)}/${query}`);
  if (thread?.phone !== phone) return;
  const scroll = find("scroll");
  const isAtEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < AT_END;
  const height = scroll.scrollHeight;
  if (before || thread.rows.size === 0) thread.before = page.before;
  showEntries(page.entries, Boolean(before));
  find("earlier").hidden = thread.before === null;
  find("nothing").hidden = thread.rows.size > 0;
  showAbout(page);
  if (before) scroll.scrollTop += scroll.scrollHeight - height;
  else if (isAtEnd) scrollToEnd();
}

function scrollToEnd() {
  find("scroll").scrollTop = find("scroll").scrollHeight;
}

function showAbout({ scenario, stopped, replies_to: repliesTo }) {
  const facts = [];
  if (scenario) facts.push(`Scenario: ${scenario}`);
  if (stopped.length) facts.push(`Opted out with STOP at ${stopped.map((name) => PROVIDERS[name]).join(", ")}`);
  find("number-about").textContent = facts.join(" · ");
  const last = [...thread.rows.values()].at(-1)?.entry;
  const why = last ? "The sender ID is a name. Only numbers can receive replies." : "There is no message to reply to";
  find("text").placeholder = repliesTo ? `Reply to ${readable(international(repliesTo))}` : why;
  find("text-label").textContent = find("text").placeholder;
  for (const control of find("composer").elements) control.disabled = !repliesTo;
}

function showEntries(entries, isEarlier) {
  const list = find("entries");
  const added = [];
  for (const entry of entries) {
    let row = thread.rows.get(entry.id);
    if (!row) {
      row = entry.kind === "reply" ? replyRow(entry) : messageRow(entry);
      thread.rows.set(entry.id, row);
      added.push(row);
    }
    row.entry = entry;
    if (entry.kind === "message") updateMessage(row, entry);
  }
  if (isEarlier) list.prepend(...added);
  else list.append(...added);
  for (const day of list.querySelectorAll(".day")) day.remove();
  let last = "";
  for (const row of [...list.children]) {
    const day = new Date(row.entry.at * 1000).toLocaleDateString("en-AU", { weekday: "long", day: "numeric", month: "long" });
    if (day !== last) row.before(element("li", "day", day));
    last = day;
  }
}

async function sendReceipt(row, body) {
  const { id } = row.entry;
  try {
    await call("POST", `/api/messages/${encodeURIComponent(id)}/receipts/`, body);
    announce(body.after_s ? `The receipt is sent in ${body.after_s} seconds` : `Receipt sent: ${STATUS_TEXTS[body.status] ?? body.status}`);
    const isTooLate = row.entry.status === "delivered" && body.status !== "delivered" && !body.forged;
    find("error").textContent = isTooLate ? TOO_LATE : "";
  } catch (error) {
    find("error").textContent = error.message;
  }
}

async function send(text) {
  if (!text.trim() || !thread) return;
  try {
    await call("POST", `/api/phones/${encodeURIComponent(thread.phone)}/replies/`, { text });
    find("error").textContent = "";
    find("text").value = "";
    await loadThread();
    scrollToEnd();
  } catch (error) {
    find("error").textContent = error.message;
  }
}

fillMenu(RECEIPTS.map(([text]) => text));
find("entries").addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  const row = target.closest(".entry");
  if (button?.dataset.receipt) sendReceipt(row, RECEIPTS[button.dataset.receipt][1]);
  else if (button) toggleMenu(button, (index) => sendReceipt(row, RECEIPTS[index][1]));
});
find("entries").addEventListener("change", ({ target }) => {
  sendReceipt(target.closest(".entry"), RECEIPTS[target.value][1]);
  target.value = "";
});
find("entries").addEventListener("toggle", ({ target }) => {
  if (target.open) target.closest(".foot").scrollIntoView({ block: "nearest" }); // the details of the last message open below the window
}, { capture: true });
find("earlier").addEventListener("click", () => loadThread(thread.before));
find("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send(find("text").value);
});
find("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send(find("text").value);
  }
});
find("keywords").addEventListener("click", ({ target }) => { if (target.tagName === "BUTTON") send(target.textContent); });
