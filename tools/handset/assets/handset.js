// The page of the handset. It uses the API under /api/ (tools/handset/own_api.py). Texts of messages are never markup.

const PHONES_SHOWN = 200;
const STATUS_TEXTS = {
  accepted: "accepted", sent: "sent", delivered: "delivered", undelivered: "not delivered",
  unknown_number: "no such subscriber", expired: "expired", blocked: "blocked by the carrier",
  filtered: "filtered as spam", opted_out: "opted out",
};
const TOO_LATE = "The receipt was sent, but a delivered message stays delivered. Switch automatic receipts off to let a message fail.";
// The menu of a message: texts, and bodies of requests.
const RECEIPTS = [
  ["Sent", { status: "sent" }],
  ["Expired", { status: "expired" }],
  ["No such subscriber", { status: "unknown_number" }],
  ["Blocked by the carrier", { status: "blocked" }],
  ["Filtered as spam", { status: "filtered" }],
  ["Last part failed", { status: "part_failed" }],
  ["Delivered, three times", { status: "delivered", times: 3 }],
  ["Delivered, with changed ids", { status: "delivered", mangled: true }],
  ["Failed, with a wrong signature", { status: "undelivered", forged: true }],
];
const PROVIDERS = await call("GET", "/api/providers/"); // provider → the name that is shown
const find = (id) => document.getElementById(id);
const clone = (id) => find(id).content.firstElementChild.cloneNode(true);

const phones = new Map(); // phone → its summary
const rows = new Map(); // phone → its row in the list
const unread = new Set();
let total = 0;
let thread = null; // the open conversation; its `rows` map an id to a row

async function call(method, path, body) {
  const answer = await fetch(path, {
    method,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.status === 202 || answer.status === 204 ? null : answer.json();
}

// --- texts

function readable(phone) {
  const digits = phone.startsWith("+614") ? "0" + phone.slice(3) : "";
  return digits.length === 10 ? `${digits.slice(0, 4)} ${digits.slice(4, 7)} ${digits.slice(7)}` : phone;
}

function international(sender) {
  return /^614[0-9]{8}$/.test(sender) ? "+" + sender : sender;
}

function moment(seconds, withDay) {
  const date = new Date(seconds * 1000);
  const isToday = date.toDateString() === new Date().toDateString();
  if (withDay && !isToday) return date.toLocaleDateString("en-AU", { day: "numeric", month: "short" });
  return date.toLocaleTimeString("en-AU", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

function setTime(element, seconds, withDay) {
  element.dateTime = new Date(seconds * 1000).toISOString();
  element.textContent = moment(seconds, withDay);
}

function setTick(element, status, isReply, isShort) {
  const kind = isReply ? "reply" : status;
  element.dataset.kind = ["accepted", "sent", "delivered", "reply"].includes(kind) ? kind : "failed";
  const text = isReply ? "replied" : STATUS_TEXTS[status] ?? status;
  element.title = text;
  element.replaceChildren(isShort ? hidden(text) : text);
}

function hidden(text) {
  const element = document.createElement("span");
  element.className = "hidden";
  element.textContent = text;
  return element;
}

function announce(text) {
  find("announcer").textContent = text;
}

// --- the list

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
  const more = find("phones-more");
  const isSearch = find("search").value.trim() !== "";
  more.hidden = isSearch ? wanted.length > 0 : total <= wanted.length;
  more.textContent = isSearch ? "No phone has this number." : `The newest ${wanted.length} of ${total} phones. Search for the others.`;
  const isEmpty = total === 0;
  find("empty-title").textContent = isEmpty ? "No messages yet" : "No phone is selected";
  find("empty-text").textContent = isEmpty
    ? "Messages to every mobile number arrive here. Send one with POST /api/sms/send/."
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
  if (thread?.phone === phone) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
  return row;
}

async function loadPhones() {
  const search = find("search").value.trim();
  const found = await call("GET", `/api/phones/?search=${encodeURIComponent(search)}`);
  if (search !== find("search").value.trim()) return; // the search has changed
  phones.clear();
  for (const summary of found.phones) phones.set(summary.phone, summary);
  total = found.total;
  showPhones();
}

// --- the conversation

async function open() {
  const phone = decodeURIComponent(location.hash.slice(1));
  document.body.classList.toggle("open", phone !== "");
  find("empty").hidden = phone !== "";
  find("thread").hidden = phone === "";
  thread = phone ? { phone, rows: new Map(), before: null } : null;
  find("entries").replaceChildren();
  find("nothing").hidden = true;
  find("error").textContent = "";
  unread.delete(phone);
  showPhones();
  if (!phone) return;
  find("number").textContent = readable(phone);
  document.title = `${readable(phone)} – Handset`;
  await loadThread();
  find("scroll").scrollTop = find("scroll").scrollHeight;
}

async function loadThread(before) {
  const { phone } = thread;
  const query = before ? `?before=${before}` : "";
  const page = await call("GET", `/api/phones/${encodeURIComponent(phone)}/${query}`);
  if (thread?.phone !== phone) return;
  const scroll = find("scroll");
  const isAtEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 60;
  const height = scroll.scrollHeight;
  if (before || thread.rows.size === 0) thread.before = page.before;
  showEntries(page.entries, Boolean(before));
  find("earlier").hidden = thread.before === null;
  find("nothing").hidden = thread.rows.size > 0;
  if (before) scroll.scrollTop += scroll.scrollHeight - height;
  else if (isAtEnd) scroll.scrollTop = scroll.scrollHeight;
  showAbout(page);
}

function showAbout({ scenario, stopped, replies_to: repliesTo }) {
  const facts = [];
  if (scenario) facts.push(`Scenario: ${scenario}`);
  if (stopped.length) facts.push(`Opted out with STOP at ${stopped.map((name) => PROVIDERS[name]).join(", ")}`);
  find("number-about").textContent = facts.join(" · ");
  const last = [...thread.rows.values()].at(-1)?.entry;
  const why = last ? "The sender ID is a name. Only numbers can receive replies." : "There is no message to reply to";
  find("text").placeholder = repliesTo ? `Reply to ${readable(international(repliesTo))}` : why;
  find("text-label").textContent = repliesTo ? `Reply to ${readable(international(repliesTo))}` : why;
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
    if (day !== last) row.before(dayRow(day));
    last = day;
  }
}

function dayRow(text) {
  const row = document.createElement("li");
  row.className = "day";
  row.textContent = text;
  return row;
}

function messageRow(entry) {
  const row = clone("message-row");
  const chip = document.createElement("span");
  chip.className = "chip";
  chip.textContent = PROVIDERS[entry.provider] ?? entry.provider;
  row.querySelector(".from").append(entry.from ? readable(international(entry.from)) : "(no sender ID)", chip);
  row.querySelector(".subject").textContent = entry.subject ?? "";
  row.querySelector(".text").textContent = entry.text;
  row.querySelector(".media").append(...entry.media_urls.map(medium));
  setTime(row.querySelector("time"), entry.at);
  const parts = entry.parts === 1 ? "1 part" : `${entry.parts} parts`;
  row.querySelector(".size").textContent = entry.encoding === "MMS" ? "MMS" : `${parts}, ${entry.encoding}`;
  const menu = row.querySelector("select");
  menu.append(new Option("More …", ""), ...RECEIPTS.map(([text], index) => new Option(text, index)));
  menu.addEventListener("change", () => {
    sendReceipt(entry.id, RECEIPTS[menu.value][1]);
    menu.value = "";
  });
  for (const button of row.querySelectorAll("button")) {
    const { status, after } = button.dataset;
    button.addEventListener("click", () => sendReceipt(entry.id, { status, after_s: Number(after ?? 0) }));
  }
  return row;
}

function medium(address) {
  const link = document.createElement("a");
  const url = URL.canParse(address) ? new URL(address) : null;
  if (url?.protocol !== "http:" && url?.protocol !== "https:") {
    link.textContent = address; // s3://… cannot be shown, javascript:… must not be followed
    return link;
  }
  link.href = url.href;
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  const image = document.createElement("img");
  image.src = url.href;
  image.alt = "Picture " + url.pathname.split("/").at(-1);
  image.loading = "lazy";
  link.append(image);
  return link;
}

function updateMessage(row, entry) {
  setTick(row.querySelector(".tick"), entry.status);
  row.querySelector(".raw").textContent = entry.raw_status === STATUS_TEXTS[entry.status] ? "" : entry.raw_status ?? "";
  const webhook = row.querySelector(".webhook");
  const answer = entry.webhook_status;
  webhook.textContent = answer === null ? "" : answer === 0 ? "webhook: no answer" : `webhook ${answer}`;
  webhook.toggleAttribute("data-bad", answer !== null && (answer < 200 || answer > 299));
}

function replyRow(entry) {
  const row = clone("reply-row");
  row.querySelector(".text").textContent = entry.text;
  setTime(row.querySelector("time"), entry.at);
  const effects = { stop: "the provider blocks further messages", start: "the provider sends again", help: "the provider answers" };
  row.querySelector(".size").textContent = effects[entry.keyword] ?? "";
  return row;
}

async function sendReceipt(id, body) {
  try {
    await call("POST", `/api/messages/${encodeURIComponent(id)}/receipts/`, body);
    announce(body.after_s ? `The receipt is sent in ${body.after_s} seconds` : `Receipt sent: ${STATUS_TEXTS[body.status] ?? body.status}`);
    const isTooLate = thread?.rows.get(id)?.entry.status === "delivered" && body.status !== "delivered" && !body.forged;
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
    find("scroll").scrollTop = find("scroll").scrollHeight;
  } catch (error) {
    find("error").textContent = error.message;
  }
}

// --- new messages

function listen() {
  const events = new EventSource("/api/events/");
  const showState = (state, text) => {
    find("live").dataset.state = state;
    find("live-text").textContent = text;
  };
  events.addEventListener("open", () => {
    showState("on", "live");
    loadPhones(); // changes may have been missed
    if (thread) loadThread();
  });
  events.addEventListener("error", () => showState("off", "the handset is not running"));
  events.addEventListener("message", ({ data }) => applyChanges(JSON.parse(data)));
}

function applyChanges(changes) {
  total = changes.total;
  if (changes.forgotten) {
    phones.clear();
    rows.clear();
    unread.clear();
    if (thread) open();
  }
  const arrived = changes.phones.filter(({ phone, count }) => count > (phones.get(phone)?.count ?? 0));
  const isSearch = find("search").value.trim() !== "";
  for (const summary of changes.phones) {
    if (!isSearch || phones.has(summary.phone)) phones.set(summary.phone, summary);
  }
  for (const { phone, is_reply: isReply } of arrived) if (phone !== thread?.phone && !isReply) unread.add(phone);
  const messages = arrived.filter((summary) => !summary.is_reply);
  if (messages.length === 1) announce(`Message for ${readable(messages[0].phone)}: ${messages[0].text}`);
  else if (messages.length > 1) announce(`Messages for ${messages.length} phones`);
  showPhones();
  if (changes.phones.some(({ phone }) => phone === thread?.phone)) loadThread();
}

// --- the scenario numbers, and the switch

async function loadScenarios() {
  const { scenarios } = await call("GET", "/api/scenarios/");
  find("scenario-list").replaceChildren(...scenarios.map(({ phone, does }) => {
    const row = document.createElement("li");
    const [number, text, button] = ["b", "span", "button"].map((name) => document.createElement(name));
    number.textContent = readable(phone);
    text.textContent = does;
    button.type = "button";
    button.className = "plain";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${readable(phone)}`);
    button.addEventListener("click", () => copy(readable(phone).replaceAll(" ", ""), number, button));
    row.append(number, text, button);
    return row;
  }));
}

async function copy(text, shown, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    announce("Copied");
  } catch { // an insecure page has no clipboard, so the number is selected for copying by hand
    getSelection().selectAllChildren(shown);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

function showReceipts({ receipts }) {
  find("receipts").setAttribute("aria-checked", receipts === "on");
}

// --- keys and clicks

find("receipts").addEventListener("click", async () => {
  const isOn = find("receipts").getAttribute("aria-checked") === "true";
  showReceipts(await call("PATCH", "/api/settings/", { receipts: isOn ? "off" : "on" }));
});
find("open-scenarios").addEventListener("click", () => find("scenarios").showModal());
find("scenarios").addEventListener("click", ({ target }) => { if (target === find("scenarios")) target.close(); });
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
find("phones").addEventListener("click", ({ target, detail }) => {
  // Enter on a row moves the focus to the conversation. A click leaves the focus where it is.
  if (target.closest("a") && detail === 0) setTimeout(() => find(find("text").disabled ? "number" : "text").focus(), 150);
});
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
find("earlier").addEventListener("click", () => loadThread(thread.before));
addEventListener("keydown", (event) => {
  const isTyping = event.target.matches?.("input, textarea, select");
  if (event.key === "/" && !isTyping && !find("scenarios").open) {
    event.preventDefault();
    find("search").focus();
  }
  if (event.key === "Escape" && thread && !find("scenarios").open) location.hash = "";
});
addEventListener("hashchange", open);

function moveFocus(event, row, instead) {
  event.preventDefault();
  (row?.firstElementChild ?? instead)?.focus();
}

call("GET", "/api/settings/").then(showReceipts);
loadScenarios();
loadPhones().then(open);
listen();
