/** One text while it is written: each stretch in the colour of the mood that it was written under. */

import { isNeutral, word } from "./affect.js";
import { copy } from "./copy.js";
import { paint } from "./colour.js";
import { make } from "./dom.js";

const SLOW_MS = 1500; // after which a person is told how long it has been
const SETTLED = 3; // pieces of one mood, after which its name stands in the text

export class Answer {
  text = "";
  #said = make("p", { class: "text" });
  #state = make("span", { class: "told" });
  #mood = make("span", { class: "asked" });
  #swatch = make("span", { class: "swatch mood" });
  #error = make("p", { class: "error", role: "alert", hidden: true });
  #copy = make("button", { type: "button", class: "plain", hidden: true,
    onclick: () => copy(this.text, this.#copy) }, "Copy");
  #beside;
  #place = null;
  #stretch = null;
  #run = null; // of pieces of like mood: {word, place, pieces, first}
  #named = null; // the word of the mood that was named last
  #begun = performance.now();
  #clock;

  /** `side`: "steered" or "plain"; `heading`: what stands above it, with `beside`, unless that is the mood. */
  constructor(side, heading, beside = null) {
    this.#beside = beside;
    this.element = make("section", { class: "answer mood", "data-side": side, "data-state": "waiting" },
      make("header", {}, this.#swatch, make("h3", {}, heading), this.#mood),
      this.#said, this.#error, make("footer", {}, this.#state, this.#copy));
    this.#clock = setInterval(() => this.#wait(), 1000);
  }

  /** The mood from here on, null for none. */
  ask(place) {
    [this.#place, this.#stretch] = [place, null];
    paint(this.#swatch, place);
    paint(this.element, place);
    this.#mood.textContent = this.#beside ?? (place ? word(place) : "");
  }

  write(text) {
    this.element.dataset.state = "writing";
    clearInterval(this.#clock);
    this.#state.textContent = "";
    this.#stretch ??= this.#begin();
    this.#stretch.firstChild.appendData(text);
    this.#name();
    this.text += text;
    this.#copy.hidden = false;
  }

  end(reason, tokens, seconds) {
    const pace = seconds > 0 ? `, ${(tokens / seconds).toFixed(1)}/s` : "";
    const why = reason === "length" ? " (the longest)" : "";
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

  #begin() {
    const isColoured = this.#place && !isNeutral(this.#place);
    const stretch = make("span", { class: isColoured ? "stretch mood" : "stretch" }, new Text());
    paint(stretch, this.#place);
    this.#said.append(stretch);
    const now = this.#place ? word(this.#place) : "plain";
    if (this.#run?.word !== now) {
      this.#run = { word: now, place: this.#place, pieces: 0, first: stretch };
    }
    return stretch;
  }

  /** Puts the name of a mood where it began, once it has lasted: a drag passes many. */
  #name() {
    const { word: now, place, pieces, first } = this.#run;
    this.#run.pieces = pieces + 1;
    if (this.#named === null) this.#named = now;
    if (this.#named === now || this.#run.pieces < SETTLED) return;
    this.#named = now;
    const flag = make("span", { class: "flag mood", "data-word": now, "aria-hidden": "true" });
    paint(flag, place);
    first.before(flag);
  }
}
