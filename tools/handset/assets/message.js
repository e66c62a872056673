// The rows of a conversation: messages with their pictures and details, and replies.

import { clone, element, international, readable, setTick, setTime } from "./elements.js";
import { PROVIDERS } from "./requests.js";

// The receipts that a person can send: texts, and bodies of requests. Wide screens have buttons for the first ones.
export const RECEIPTS = [
  ["Deliver", { status: "delivered" }],
  ["Fail", { status: "undelivered" }],
  ["Delay 30 s", { status: "delivered", after_s: 30 }],
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
const BUTTONS = 3;
const LOOPBACK = ["127.0.0.1", "localhost"];
const KEYWORD_EFFECTS = { stop: "the provider blocks further messages", start: "the provider sends again", help: "the provider answers" };

export function messageRow(entry) {
  const row = clone("message-row");
  const sender = entry.from ? readable(international(entry.from)) : "(no sender ID)";
  row.querySelector(".from").append(sender, element("span", "chip", PROVIDERS[entry.provider] ?? entry.provider));
  row.querySelector(".subject").textContent = entry.subject ?? "";
  row.querySelector(".text").textContent = entry.text;
  row.querySelector(".media").append(...entry.media_urls.map(picture));
  setTime(row.querySelector("time"), entry.at);
  const parts = entry.parts === 1 ? "1 part" : `${entry.parts} parts`;
  row.querySelector(".size").textContent = entry.encoding === "MMS" ? "MMS" : `${parts}, ${entry.encoding}`;
  const actions = row.querySelector(".actions");
  actions.prepend(...RECEIPTS.slice(0, BUTTONS).map(([text], index) => {
    const button = element("button", "", text);
    button.type = "button";
    button.dataset.receipt = index;
    return button;
  }));
  const others = RECEIPTS.slice(BUTTONS).map(([text], index) => new Option(text, index + BUTTONS));
  actions.querySelector("select").append(new Option("More …", ""), ...others);
  return row;
}

export function updateMessage(row, entry) {
  setTick(row.querySelector(".tick"), entry.status);
  const answer = entry.webhook_status;
  const isBad = answer !== null && (answer < 200 || answer > 299);
  const result = answer === 0 ? "no answer" : String(answer);
  row.querySelector(".webhook").textContent = isBad ? `webhook: ${result}` : "";
  const details = [
    ["Provider's status", entry.raw_status],
    ["Cooee's webhook", answer === null ? null : result],
    ["Reference", entry.reference],
    ["Provider's id", entry.id],
  ];
  const shown = details.filter(([, value]) => value).flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)]);
  row.querySelector("dl").replaceChildren(...shown);
}

export function replyRow(entry) {
  const row = clone("reply-row");
  row.querySelector(".text").textContent = entry.text;
  setTime(row.querySelector("time"), entry.at);
  row.querySelector(".size").textContent = KEYWORD_EFFECTS[entry.keyword] ?? "";
  return row;
}

// Every picture has a box of the same size, so that the conversation does not move when the pictures arrive.
function picture(address) {
  const url = URL.canParse(address) ? new URL(address) : null;
  if (url?.protocol !== "http:" && url?.protocol !== "https:") { // s3://… is not on the web, javascript:… must not run
    return element("span", "picture", ...placeholder("No web address", address));
  }
  const link = element("a", "picture");
  link.href = url.href;
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  if (!isOnThisHost(url)) {
    link.append(...placeholder("Picture on another host", `Open ${url.host}`));
    return link;
  }
  const name = url.pathname.split("/").at(-1) || url.host;
  const image = element("img", "");
  image.addEventListener("error", () => link.replaceChildren(...placeholder("This picture cannot be shown", name)));
  image.alt = `Picture ${name}`;
  image.loading = "lazy";
  image.src = url.href;
  link.append(image);
  return link;
}

function placeholder(words, detail) {
  return [element("span", "sign"), element("b", "", words), element("span", "name", detail)];
}

// The sender of a message must not learn who reads this page, so no other host is asked for pictures. The
// Content-Security-Policy in server.py has the same rule.
function isOnThisHost({ hostname }) {
  return hostname === location.hostname || [hostname, location.hostname].every((name) => LOOPBACK.includes(name));
}
