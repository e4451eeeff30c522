/** One message under twelve moods around the circle, as the rows of one batch. */

import { angle, signed, word } from "./affect.js";
import { Answer } from "./answer.js";
import { byId, make, tell } from "./dom.js";
import { Exchange } from "./exchange.js";
import { Judge } from "./judge.js";
import { contextOf } from "./writer.js";

export class Twelve {
  label = "Send";
  canRepeat = false;
  isFixed = false;
  marks = { read: [], trail: [] };
  #page;
  #exchange = null;
  #run = 0;

  constructor(page) {
    this.#page = page;
    this.judge = new Judge(page.server);
  }

  get isBusy() {
    return this.#exchange !== null;
  }

  async run(said) {
    const { server, settings, known } = this.#page;
    const states = [...known.circumplex.states].sort((a, b) => angle(a) - angle(b));
    const answers = states.map((state) => new Answer("steered", word(state), `${Math.round(angle(state))}°`));
    const context = contextOf(known, settings.values.system, [], said);
    const job = { context, feelings: this.#feelings(states), sampling: settings.sampling() };
    const before = [...byId("states").children];
    byId("states").replaceChildren(...states.map((state, index) => make("div",
      { class: "state", "data-angle": Math.round(angle(state)) }, answers[index].element)));
    this.marks = { read: [], trail: [] };
    const run = ++this.#run;
    this.judge.forget();
    this.#exchange = new Exchange(server, known, job, answers, [...states], {
      ended: (side) => this.#judge(run, states[side], answers[side], side),
    });
    this.states = states;
    this.#page.changed();
    try {
      await this.#exchange.run();
    } catch (error) {
      byId("states").replaceChildren(...before);
      throw error;
    } finally {
      this.#exchange = null;
      this.#page.changed();
    }
  }

  get hasText() {
    return this.#run > 0;
  }

  stop() {
    this.#exchange?.stop();
  }

  /** Strength and law are another now. */
  moved(isSettled) {
    if (!this.#exchange?.canChange) return;
    this.#exchange.change(this.#feelings(this.states), isSettled)
      .catch((error) => tell(byId("mood-error"), error.message));
  }

  #feelings(states) {
    return states.map((state) => this.#page.settings.feelingAt(state));
  }

  #judge(run, state, answer, side) {
    const { known } = this.#page;
    if (known.abilities.judge === null || !answer.text.trim() || answer.isRead) return;
    answer.isRead = true;
    this.judge.read(answer.text, ({ label, place }) => {
      if (run !== this.#run) return;
      answer.element.querySelector("footer").prepend(make("span", { class: "label" }, `reads as ${label}`));
      if (!place) return;
      const title = `${word(state)} reads as ${label} (valence ${signed(place.valence)}, arousal ${signed(place.arousal)})`;
      this.marks.read.push({ side: "steered", place, asked: state, number: side + 1, title });
      this.#page.showMarks(this);
    });
  }
}
