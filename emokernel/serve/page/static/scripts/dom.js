/** Elements by their id, and new ones. All texts are set as text: nothing becomes markup. */

import { sentence } from "./words.js";

export const byId = (id) => document.getElementById(id);

/** An HTML element. `attributes`: null and false are left out; `on...`: listeners. */
export const make = (tag, attributes, ...children) =>
  filled(document.createElement(tag), attributes, children);

/** The same of SVG. */
export const draw = (tag, attributes, ...children) =>
  filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((each) => each !== null && each !== undefined));
  return element;
}

/** Shows `message` in `element`, or hides it if there is none. */
export function tell(element, message) {
  element.textContent = message ? sentence(message) : "";
  element.hidden = !message;
}
