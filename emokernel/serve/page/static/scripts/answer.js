/** One text while it is written: each stretch in the colour of the mood that it was written under. */

import { isNeutral, word } from "./affect.js";
import { copy } from "./copy.js";
import { paint } from "./colour.js";
import { make } from "./dom.js";

const SLOW_MS = 1500; // after which a person is told how long it has been

export class Answer {
  text = "";
  #said = make("p", { class: "text" });
  #state = make("span", { class: "told" });
  #mood = make("span", { class: "asked" });
  #swatch = make("span", { class: "swatch mood" });
  #error = make("p", { class: "error", role: "alert", hidden: true });
  #copy = make("button", { type: "button", class: "plain", hidden: true,
    onclick: () => copy(this.text, this.#copy) }, "Copy");
  #place = null;
  #stretch = null;
  #word = null; // of the last mood that was named in the text
  #begun = performance.now();
  #clock;

  /** `side`: "steered" or "plain", or null for one of many; `heading`: what stands above it. */
  constructor(side, heading) {
    this.element = make("section", { class: "answer", "data-side": side, "data-state": "waiting" },
      make("header", {}, this.#swatch, make("h3", {}, heading), this.#mood),
      this.#said, this.#error, make("footer", {}, this.#state, this.#copy));
    this.#clock = setInterval(() => this.#wait(), 1000);
  }

  /** The mood from here on, null for none. */
  ask(place) {
    [this.#place, this.#stretch] = [place, null];
    paint(this.#swatch, place);
    paint(this.element, place);
    this.#mood.textContent = place ? word(place) : "";
  }

  write(text) {
    this.element.dataset.state = "writing";
    clearInterval(this.#clock);
    this.#state.textContent = "";
    this.#stretch ??= this.#begin();
    this.#stretch.append(text);
    this.#stretch.normalize();
    this.text += text;
    this.#copy.hidden = false;
  }

  end(reason, tokens, seconds) {
    const pace = seconds > 0 ? `, ${(tokens / seconds).toFixed(1)} a second` : "";
    const why = reason === "length" ? " (as long as it may be)" : "";
    this.#settle("ended", `${tokens} token${tokens === 1 ? "" : "s"}${why}${pace}`);
  }

  stop() {
    this.#settle("stopped", this.text ? "stopped" : "stopped before its first word");
  }

  fail(message) {
    this.#settle("failed", this.text ? "not whole" : "");
    this.#error.textContent = message;
    this.#error.hidden = false;
  }

  get isOpen() {
    return ["waiting", "writing"].includes(this.element.dataset.state);
  }

  #settle(state, told) {
    if (!this.isOpen) return;
    this.element.dataset.state = state;
    clearInterval(this.#clock);
    this.#state.textContent = told;
  }

  #wait() {
    const waited = performance.now() - this.#begun;
    if (waited < SLOW_MS) return;
    this.#state.textContent = `reading, ${Math.round(waited / 1000)} s`;
  }

  /** A stretch of one colour; it bears a name where another mood begins. */
  #begin() {
    const stretch = make("span", { class: this.#place && !isNeutral(this.#place) ? "stretch mood" : "stretch" });
    paint(stretch, this.#place);
    const named = this.#place ? word(this.#place) : "plain";
    if (this.text && this.#word !== null && named !== this.#word) {
      const flag = make("span", { class: "flag mood", "data-word": named, "aria-hidden": "true" });
      paint(flag, this.#place);
      this.#said.append(flag);
    }
    this.#word = named;
    this.#said.append(stretch);
    return stretch;
  }
}
