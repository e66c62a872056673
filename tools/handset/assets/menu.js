// The menu "⋯" of a message on small screens. The page has one menu, which opens at the button that was pressed.

import { element, find } from "./elements.js";

const GAP = 4; // pixels between the menu and its button
const MARGIN = 8; // pixels between the menu and the edge of the window

const menu = find("menu");
let opener = null; // the button whose menu is open
let choose = null;

export function fillMenu(texts) {
  menu.replaceChildren(...texts.map((text, index) => {
    const item = element("button", "", text);
    item.type = "button";
    item.role = "menuitem";
    item.tabIndex = -1; // the arrow keys move between the items, Tab leaves the menu
    item.addEventListener("click", () => {
      const chosen = choose;
      closeMenu(true);
      chosen(index);
    });
    return item;
  }));
}

export function toggleMenu(button, onChoice) {
  const wasOpen = opener === button;
  closeMenu(wasOpen);
  if (wasOpen) return;
  [opener, choose] = [button, onChoice];
  button.setAttribute("aria-expanded", "true");
  menu.hidden = false;
  place();
  menu.scrollTop = 0;
  menu.firstElementChild.focus({ preventScroll: true });
}

export function closeMenu(withFocus) {
  if (!opener) return;
  const button = opener;
  opener = choose = null;
  button.setAttribute("aria-expanded", "false");
  if (withFocus) button.focus({ preventScroll: true });
  menu.hidden = true;
}

// Place the menu below its button, or above it, or where it has room.
function place() {
  if (!opener) return;
  const { top, bottom, right } = opener.getBoundingClientRect();
  const { offsetHeight: height, offsetWidth: width } = menu;
  const [above, below] = [top - GAP - height, bottom + GAP];
  const lowest = innerHeight - MARGIN - height;
  const wanted = below <= lowest || above < MARGIN ? Math.min(below, lowest) : above;
  menu.style.top = `${Math.max(MARGIN, wanted)}px`;
  menu.style.left = `${Math.max(MARGIN, Math.min(right - width, innerWidth - MARGIN - width))}px`;
}

menu.addEventListener("keydown", (event) => {
  const items = [...menu.children];
  const at = items.indexOf(document.activeElement);
  const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
  if (next !== undefined) {
    event.preventDefault();
    items.at(next % items.length).focus();
  }
  if (event.key === "Tab") closeMenu(true); // the browser then moves on from the button
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !opener) return;
  event.preventDefault(); // Escape closes the menu and not the conversation
  closeMenu(true);
});
document.addEventListener("click", ({ target }) => {
  if (opener && !menu.contains(target) && !opener.contains(target)) closeMenu();
}, { capture: true });
document.addEventListener("scroll", ({ target }) => { if (target !== menu) place(); }, { capture: true });
addEventListener("resize", () => closeMenu());
