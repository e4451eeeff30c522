/** One text while it is written: each stretch in the colour of the mood that it was written under. */

import { isNeutral, word } from "./affect.js";
import { copy } from "./copy.js";
import { paint } from "./colour.js";
import { make, tell } from "./dom.js";

const SLOW_MS = 1500; // after which a person is told how long it has been

/** Whether all of them have come to their own end. */
export const whole = (answers) => answers.every(({ element }) => element.dataset.state === "ended");

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
  #isSettled = false; // the mood is one to stay, not one on the way to it
  #named = null; // the word of the mood that was named last
  #written = null; // the place of the stretch that was begun last
  #begun = performance.now();
  #clock;

  /** `side`: "steered" or "plain"; `heading`: what stands above it, with `beside`, unless that is the mood. */
  constructor(side, heading, beside = null) {
    this.#beside = beside;
    this.element = make("section", { class: "answer mood", "data-side": side, "data-state": "waiting",
      "aria-label": heading },
      make("header", {}, this.#swatch, make("h2", {}, heading), this.#mood),
      this.#said, this.#error, make("footer", {}, this.#state, this.#copy));
    this.#clock = setInterval(() => this.#wait(), 1000);
  }

  /** The mood from here on, null for none; its name is put there if it is to stay. */
  ask(place, isSettled = false) {
    [this.#place, this.#stretch, this.#isSettled] = [place, null, isSettled];
    this.#head(place);
  }

  write(text) {
    this.element.dataset.state = "writing";
    clearInterval(this.#clock);
    this.#state.textContent = "";
    const before = this.#stretch ? "" : this.#begin(text);
    this.#stretch.firstChild.appendData(text.slice(before.length));
    this.text += text;
    this.#copy.hidden = false;
  }

  end(reason, tokens, seconds) {
    const pace = seconds > 0 ? `, ${(tokens / seconds).toFixed(1)} a second` : "";
    const why = reason === "length" ? " (the limit)" : "";
    this.#settle("ended", `${tokens} token${tokens === 1 ? "" : "s"}${why}${pace}`);
  }

  stop() {
    this.#settle("stopped", this.text ? "stopped" : "stopped before its first word");
  }

  fail(message) {
    this.#settle("failed", this.text ? "broken off" : "");
    tell(this.#error, message);
  }

  get isOpen() {
    return ["waiting", "writing"].includes(this.element.dataset.state);
  }

  #settle(state, told) {
    if (!this.isOpen) return;
    this.element.dataset.state = state;
    clearInterval(this.#clock);
    this.#state.textContent = told;
    // A mood that came too late for a word has no word.
    if (!this.#stretch && this.text) this.#head(this.#written);
  }

  #head(place) {
    paint(this.#swatch, place);
    paint(this.element, place);
    this.#mood.textContent = this.#beside ?? (place ? word(place) : "");
  }

  #wait() {
    const waited = performance.now() - this.#begun;
    if (waited < SLOW_MS) return;
    this.#state.textContent = `waiting, ${Math.round(waited / 1000)} s`;
  }

  /**
   * A stretch of one colour, with its name before it where a mood begins that is to stay; gives the
   * space at the beginning of `text` that stands before that name.
   */
  #begin(text) {
    const isColoured = this.#place && !isNeutral(this.#place);
    this.#stretch = make("span", { class: isColoured ? "stretch mood" : "stretch" }, new Text());
    this.#written = this.#place;
    paint(this.#stretch, this.#place);
    const now = this.#place ? word(this.#place) : "plain";
    this.#named ??= now;
    let space = "";
    if (this.#isSettled && this.#named !== now) {
      this.#named = now;
      [space] = text.match(/^\s*/);
      const flag = make("span", { class: "flag mood", "data-word": now, "aria-hidden": "true" });
      paint(flag, this.#place);
      this.#said.append(space, flag);
    }
    this.#said.append(this.#stretch);
    return space;
  }
}
