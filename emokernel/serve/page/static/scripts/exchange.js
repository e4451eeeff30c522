/** One writing of several texts: what the server sends goes to the answers, whole sentences further. */

import { NOWHERE } from "./affect.js";
import { isAbort } from "./server.js";
import { Sentences } from "./sentences.js";

export class Exchange {
  #writer;
  #abort = new AbortController();
  #answers;
  #places;
  #sentences;
  #hooks;
  #last = 0; // step
  #isSettled = true; // the mood that was asked for last is one to stay
  hasBegun = false;

  /**
   * `begin(signal)`: its writer, see writer.js. `answers`: one for each feeling, meant for `places`.
   * `hooks`: began(), asked(side, step, place), wrote(side, step), sentence(side, {text, step,
   * place}), ended(side).
   */
  constructor(begin, answers, places, hooks = {}) {
    [this.#answers, this.#places, this.#hooks] = [answers, places, hooks];
    /** All that is needed to show it once more; `broken`: why it was broken off. */
    this.record = { places: [...places], events: [], broken: null };
    this.#sentences = answers.map(() => new Sentences());
    this.#writer = begin(this.#abort.signal);
    answers.forEach((answer, side) => answer.ask(places[side]));
  }

  /** Until all have ended, or `stop`; throws what a server refuses before the first word. */
  async run() {
    try {
      for await (const event of this.#writer.events) {
        if (!this.hasBegun) this.#hooks.began?.();
        this.hasBegun = true;
        // A model without a cache reads its text again for a mood that is only passed through, too.
        if (event.type === "changed") event.again &&= this.#isSettled;
        this.record.events.push(event);
        this.#take(event);
      }
    } catch (error) {
      const open = this.#answers.filter(({ isOpen }) => isOpen);
      if (isAbort(error) || this.#abort.signal.aborted) open.forEach((answer) => answer.stop());
      else {
        this.record.broken = error.message;
        open.forEach((answer) => answer.fail(error.message));
        if (!this.hasBegun) throw error;
      }
    } finally {
      this.#answers.forEach((_, side) => this.#finish(side));
    }
  }

  stop() {
    this.#abort.abort();
  }

  get canChange() {
    return this.#writer.change !== null;
  }

  /**
   * Other moods from the next token on; a promise that fails if the server will not. `again`: the
   * model reads its text so far under them, which is felt more, and takes longer.
   */
  change(feelings, again) {
    this.#isSettled = again;
    return this.#writer.change(feelings, again);
  }

  #take(event) {
    const { type, side, step } = event;
    if (type === "start" || type === "changed") {
      event.emotions.forEach((told, each) => {
        // Only a batch is told its places; a request of its own has what it was meant for.
        if (type === "changed" || told?.place) this.#places[each] = told && (told.place ?? NOWHERE);
        if (this.#answers[each].isOpen) this.#ask(each, step ?? 0, event.again);
      });
    } else if (type === "text") {
      this.#answers[side].write(event.text);
      this.#last = Math.max(this.#last, step);
      this.#tell(side, this.#sentences[side].push(event.text, step, this.#places[side]));
      this.#hooks.wrote?.(side, step);
    } else if (type === "end") {
      this.#answers[side].end(event.reason, event.tokens, event.at);
      this.#finish(side);
    }
  }

  #ask(side, step, isSettled) {
    this.#answers[side].ask(this.#places[side], isSettled);
    this.#hooks.asked?.(side, step, this.#places[side]);
  }

  #finish(side) {
    this.#tell(side, this.#sentences[side].end());
    this.#hooks.ended?.(side);
  }

  #tell(side, sentences) {
    for (const sentence of sentences) this.#hooks.sentence?.(side, sentence);
  }
}
