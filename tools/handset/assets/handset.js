// The page of the handset: new messages, the scenario numbers, the switch and the keys.

import { loadThread, open, openPhone } from "./conversation.js";
import { announce, element, find, readable } from "./elements.js";
import { applySummaries, loadPhones } from "./phones.js";
import { call } from "./requests.js";

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
    if (openPhone()) loadThread();
  });
  events.addEventListener("error", () => showState("off", "no connection"));
  events.addEventListener("message", ({ data }) => applyChanges(JSON.parse(data)));
}

function applyChanges(changes) {
  applySummaries(changes);
  if (changes.forgotten && openPhone()) open();
  else if (changes.phones.some(({ phone }) => phone === openPhone())) loadThread();
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
find("phones").addEventListener("click", ({ target, detail }) => {
  // Enter on a row moves the focus to the conversation. A click leaves the focus where it is.
  if (target.closest("a") && detail === 0) setTimeout(() => find(find("text").disabled ? "number" : "text").focus(), 150);
});
addEventListener("keydown", (event) => {
  const isTyping = event.target.matches?.("input, textarea, select");
  if (event.defaultPrevented || find("scenarios").open) return;
  if (event.key === "/" && !isTyping) {
    event.preventDefault();
    find("search").focus();
  }
  if (event.key === "Escape" && openPhone()) location.hash = "";
});
addEventListener("hashchange", open);

call("GET", "/api/settings/").then(showReceipts);
loadScenarios();
loadPhones().then(open);
listen();
