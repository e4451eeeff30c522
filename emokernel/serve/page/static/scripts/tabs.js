/** A list of tabs: the chosen one is in the order of the Tab key, arrows go to the others. */

import { byId } from "./dom.js";

/** `chosen(name)`: after a person has chosen; gives a function that shows one. */
export function tabs(names, chosen) {
  const all = names.map((name) => byId(`tab-${name}`));
  const show = (name) => {
    for (const tab of all) {
      const isIt = tab.id === `tab-${name}`;
      tab.setAttribute("aria-selected", String(isIt));
      tab.tabIndex = isIt ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = !isIt;
    }
  };
  all.forEach((tab, index) => {
    tab.addEventListener("click", () => chosen(names[index]));
    tab.addEventListener("keydown", (event) => {
      const able = all.filter(({ disabled }) => !disabled);
      const to = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const ends = { Home: able[0], End: able.at(-1) };
      const next = to ? able.at((able.indexOf(tab) + to) % able.length) : ends[event.key];
      if (!next) return;
      event.preventDefault();
      chosen(names[all.indexOf(next)]);
      next.focus();
    });
  });
  return show;
}
