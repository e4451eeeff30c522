/** One message under twelve moods around the circle, as the rows of one batch. */

import { angle, signed, word } from "./affect.js";
import { Answer, whole } from "./answer.js";
import { paint } from "./colour.js";
import { byId, make, tell } from "./dom.js";
import { Exchange } from "./exchange.js";
import { Judge } from "./judge.js";
import { Steering } from "./steering.js";
import { contextOf, write } from "./writer.js";

export class Twelve {
  label = "Send";
  canRepeat = false;
  isFixed = false;
  marks = { read: [], trail: [] };
  #page;
  #exchange = null;
  #steering = null;
  #run = 0;

  constructor(page) {
    this.#page = page;
    this.judge = new Judge(page.server);
  }

  get isBusy() {
    return this.#exchange !== null;
  }

  /** Twelve places without a text. */
  show() {
    if (this.#run || this.isBusy) return;
    byId("states").replaceChildren(...this.#states().map((state) => {
      const swatch = make("span", { class: "swatch mood" });
      paint(swatch, state);
      return make("div", { class: "state empty" }, swatch, word(state), ` ${degrees(state)}`);
    }));
  }

  #states() {
    return [...this.#page.known.circumplex.states].sort((a, b) => angle(a) - angle(b));
  }

  async run(said) {
    const { server, settings, known } = this.#page;
    this.#page.mayWrite();
    const states = this.#states();
    const answers = states.map((state) => new Answer("steered", word(state), degrees(state)));
    const context = contextOf(known, settings.values.system, [], said);
    const feelings = this.#feelings(states);
    const job = { context, feelings, sampling: settings.sampling() };
    const before = [...byId("states").children];
    byId("states").replaceChildren(...states.map((state, index) => make("div",
      { class: "state", "data-angle": Math.round(angle(state)) }, answers[index].element)));
    const run = this.#run + 1;
    this.#exchange = new Exchange((signal) => write(server, known, job, signal), answers, [...states], {
      began: () => {
        this.#run = run;
        this.marks = { read: [], trail: [] };
        this.judge.forget();
        this.#page.showMarks(this);
      },
      ended: (side) => this.#judge(run, states[side], answers[side], side),
    });
    this.#steering = new Steering(this.#exchange, feelings);
    this.states = states;
    this.#page.changed();
    try {
      await this.#exchange.run();
      this.#page.say(whole(answers) ? "The twelve have ended." : "The twelve answers are not whole.");
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
    this.#steering.change(this.#feelings(this.states), isSettled)
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

const degrees = (place) => `${Math.round(angle(place))}°`;
