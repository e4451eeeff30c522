/** A talk of several turns: each message is answered twice, steered and plain. */

import { NOWHERE, signed, word } from "./affect.js";
import { Answer, whole } from "./answer.js";
import { byId, make, tell } from "./dom.js";
import { Exchange } from "./exchange.js";
import { Judge } from "./judge.js";
import { keepTurns, keptTurns, replayed } from "./past.js";
import { Steering } from "./steering.js";
import { contextOf, write } from "./writer.js";

const SIDES = ["steered", "plain"];

export class Talk {
  label = "Send";
  #page;
  #turns = [];
  #exchange = null;
  #steering = null;
  marks = { read: [], trail: [] };

  /** `page`: what all views share, see main.js. */
  constructor(page) {
    this.#page = page;
    this.judge = new Judge(page.server);
  }

  get isBusy() {
    return this.#exchange !== null;
  }

  get canRepeat() {
    return this.#turns.length > 0;
  }

  /** Answers a message; throws what the server refuses, and leaves the talk as it was then. */
  async run(said) {
    const { server, settings, known } = this.#page;
    this.#page.mayWrite();
    const turn = this.#turnOf(said);
    const context = contextOf(known, settings.values.system, this.#past(), said);
    const feelings = [settings.feeling(), null];
    const job = { context, feelings, sampling: settings.sampling() };
    const places = [feelings[0] && (settings.place() ?? NOWHERE), null];
    const exchange = new Exchange((signal) => write(server, known, job, signal), turn.answers, places,
      this.#hooks(turn));
    turn.record = exchange.record;
    this.#add(turn);
    turn.element.scrollIntoView({ block: "nearest" });
    this.#exchange = exchange;
    this.#steering = new Steering(exchange, feelings);
    this.#page.changed();
    try {
      await exchange.run();
      this.#page.say(whole(turn.answers) ? "Both answers have ended." : "The answers are not whole.");
    } catch (error) {
      this.#drop(turn);
      throw error;
    } finally {
      if (this.#exchange === exchange) this.#exchange = null;
      this.#open();
      if (document.hidden) this.#keep();
      this.#page.changed();
    }
  }

  /** The last message once more, with the mood and the settings as they are now. */
  repeat() {
    const turn = this.#turns.at(-1);
    this.#drop(turn);
    return this.run(turn.said).catch((error) => {
      this.#add(turn);
      this.#open();
      this.#page.changed();
      throw error;
    });
  }

  stop() {
    this.#exchange?.stop();
  }

  anew() {
    this.stop();
    this.#turns = [];
    byId("turns").replaceChildren();
    byId("empty").hidden = false;
    this.#forget();
    this.#keep();
    this.#page.changed();
  }

  /** Shows the turns that this tab has kept, as they were when its page was left; from now on keeps them. */
  async restore() {
    addEventListener("pagehide", () => {
      this.stop(); // or its end would look like that of the server
      this.#keep();
    });
    // A browser that needs room ends pages that are not seen, and does not tell them.
    document.addEventListener("visibilitychange", () => this.#keep());
    const past = keptTurns(this.#page.known.model);
    try {
      for (const [index, { said, model, chosen, ...record }] of past.entries()) {
        const turn = { ...this.#turnOf(said), model, chosen, record };
        this.#add(turn);
        const hooks = index === past.length - 1 ? this.#hooks(turn, true) : {};
        await new Exchange(() => replayed(record), turn.answers, record.places, hooks).run();
      }
    } catch {
      this.anew(); // what was kept is no talk
    }
    this.#open();
    if (this.hasText) this.#page.follow(this.#turns.at(-1).element);
  }

  /** The mood is another one now, which what is being written takes on; `isSettled`: to stay. */
  moved(isSettled) {
    if (!this.#exchange?.canChange || !this.isSteered) return;
    this.#steering.change([this.#page.settings.feeling(), null], isSettled)
      .then(() => tell(byId("mood-error"), null))
      .catch((error) => tell(byId("mood-error"), error.message));
  }

  /** Whether the point has no effect on the text that is being written. */
  get isFixed() {
    return this.#exchange !== null && !this.#exchange.canChange;
  }

  /** Whether the steered answer is written still. */
  get isSteered() {
    return this.#exchange !== null && (this.#turns.at(-1)?.answers[0].isOpen ?? false);
  }

  /** What was asked last; "" if nothing was. */
  get lastSaid() {
    return this.#turns.at(-1)?.said ?? "";
  }

  get hasText() {
    return this.#turns.length > 0;
  }

  /** What was read belongs to the turn before. */
  #forget() {
    this.marks = { read: [], trail: [] };
    this.judge.forget();
    this.#page.line.clear();
    this.#page.unlist();
  }

  /** `isPast`: what comes was seen and heard before. */
  #hooks(turn, isPast = false) {
    const { line } = this.#page;
    const counts = [0, 0];
    return {
      began: () => this.#forget(),
      ended: (side) => { if (side === 0) line.end(); },
      asked: (side, step, place) => {
        if (side !== 0) return;
        line.ask(step, place);
        if (place && !place.isNowhere) this.marks.trail.push(place);
        this.#page.showMarks(this);
      },
      wrote: (side, step) => {
        line.reach(step);
        if (isPast) return;
        const [steered] = turn.answers;
        if (side === 0 || !steered.isOpen) this.#page.follow(steered.isOpen ? steered.element : turn.element);
      },
      sentence: (side, { text, step, place }) => {
        const number = ++counts[side];
        if (side === 0 && !isPast) this.#page.say(text);
        if (this.#page.known.abilities.judge === null) return;
        this.judge.read(text, ({ label, place: read }) => {
          if (this.#turns.at(-1) !== turn) return;
          this.#page.list(`${SIDES[side]} ${number}: ${label}`
            + (read ? ` (valence ${signed(read.valence)}, arousal ${signed(read.arousal)})` : ""), text);
          if (!read) return;
          const asked = side === 0 ? place : null;
          const meant = asked ? `, asked for ${word(asked)}` : "";
          const title = `${SIDES[side]}, sentence ${number} reads as ${label}${meant}: ${text}`;
          this.marks.read.push({ side: SIDES[side], place: read, asked, number, title });
          line.read(SIDES[side], step, read);
          this.#page.showMarks(this);
        });
      },
    };
  }

  #turnOf(said) {
    const answers = SIDES.map((side) => new Answer(side, side));
    const pair = make("div", { class: "pair" }, ...answers.map(({ element }) => element));
    const element = make("article", { class: "turn" }, make("p", { class: "said" }, said), pair);
    return { said, answers, element, model: this.#page.known.model, chosen: 0, choice: null, record: null };
  }

  #add(turn) {
    this.#close();
    this.#turns.push(turn);
    byId("turns").append(turn.element);
    byId("empty").hidden = true;
  }

  #keep() {
    keepTurns(this.#turns.map(({ said, model, chosen, record }) => ({ said, model, chosen, ...record })));
  }

  /** Of the last turn a person says from which answer the talk goes on. */
  #open() {
    const turn = this.#turns.at(-1);
    if (!turn || !this.#page.known.abilities.chat) return;
    turn.choice?.remove();
    for (const { element } of turn.answers) element.removeAttribute("data-left");
    turn.choice = make("fieldset", { class: "goes-on" }, make("legend", {}, "The talk goes on from"),
      ...SIDES.map((side, index) => make("label", {}, make("input", {
        type: "radio", name: "goes-on", checked: index === turn.chosen,
        onchange: () => { turn.chosen = index; },
      }), ` ${side}`)));
    turn.element.append(turn.choice);
  }

  #close() {
    const turn = this.#turns.at(-1);
    if (!turn) return;
    turn.choice?.remove();
    if (!this.#page.known.abilities.chat) return;
    turn.answers.forEach(({ element }, index) => element.toggleAttribute("data-left", index !== turn.chosen));
  }

  #past() {
    const past = this.#turns.map(({ said, answers, chosen }) => ({ said, answer: answers[chosen].text }));
    return past.filter(({ answer }) => answer);
  }

  #drop(turn) {
    this.#turns = this.#turns.filter((each) => each !== turn);
    turn.element.remove();
    byId("empty").hidden = this.#turns.length > 0;
    this.#open();
  }
}
