// Elements of the page, and the texts in them. Texts of messages are never markup.

export const STATUS_TEXTS = {
  accepted: "accepted", sent: "sent", delivered: "delivered", undelivered: "not delivered",
  unknown_number: "no such subscriber", expired: "expired", blocked: "blocked by the carrier",
  filtered: "filtered as spam", opted_out: "opted out",
};

export const find = (id) => document.getElementById(id);
export const clone = (id) => find(id).content.firstElementChild.cloneNode(true);

export function element(name, className, ...content) {
  const created = document.createElement(name);
  created.className = className;
  created.append(...content);
  return created;
}

export function announce(text) {
  find("announcer").textContent = text;
}

export function readable(phone) {
  const digits = phone.startsWith("+614") ? "0" + phone.slice(3) : "";
  return digits.length === 10 ? `${digits.slice(0, 4)} ${digits.slice(4, 7)} ${digits.slice(7)}` : phone;
}

export function international(sender) {
  return /^614[0-9]{8}$/.test(sender) ? "+" + sender : sender;
}

function moment(seconds, withDay) {
  const date = new Date(seconds * 1000);
  const isToday = date.toDateString() === new Date().toDateString();
  if (withDay && !isToday) return date.toLocaleDateString("en-AU", { day: "numeric", month: "short" });
  return date.toLocaleTimeString("en-AU", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

export function setTime(time, seconds, withDay) {
  time.dateTime = new Date(seconds * 1000).toISOString();
  time.textContent = moment(seconds, withDay);
}

// Show a status as a sign with words. With `isShort` the words are only for screen readers and the tooltip.
export function setTick(tick, status, isReply, isShort) {
  const kind = isReply ? "reply" : status;
  tick.dataset.kind = ["accepted", "sent", "delivered", "reply"].includes(kind) ? kind : "failed";
  const text = isReply ? "replied" : STATUS_TEXTS[status] ?? status;
  if (isShort) tick.title = text;
  tick.replaceChildren(isShort ? element("span", "hidden", text) : text);
}
