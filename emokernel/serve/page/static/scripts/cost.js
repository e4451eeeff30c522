/** What steering costs here: seconds per token, steered and plain in turn, as ratios. */

import { byId, draw, make } from "./dom.js";
import { isAbort } from "./server.js";
import { interval, median } from "./spread.js";
import { contextOf, write } from "./writer.js";

const ROUNDS = 12;
const TOKENS = 24; // of each answer
const LEAST = 8; // tokens that are enough for a pace
const ENOUGH = 3; // rounds, for an interval
const VARIANTS = ["plain", "steered", "again"];

export class Cost {
  label = "Measure";
  canRepeat = false;
  isFixed = false;
  hasText = false;
  marks = { read: [], trail: [] };
  #page;
  #abort = null;

  constructor(page) {
    this.#page = page;
  }

  get isBusy() {
    return this.#abort !== null;
  }

  async run(said) {
    const { server, settings, known } = this.#page;
    if (this.#page.isWriting()) {
      throw new Error("A text is being written or read, which would be measured too: stop it, or wait for its end.");
    }
    const feelings = { plain: null, steered: settings.feeling(), again: null };
    if (!feelings.steered) throw new Error("Nothing is asked for: move the point away from the centre.");
    this.#abort = new AbortController();
    this.#page.changed();
    const context = contextOf(known, settings.values.system, [], said);
    const sampling = { ...settings.sampling(), max_tokens: TOKENS };
    if (known.abilities.sides === null) sampling.ignore_eos = true; // which only vLLM takes
    const pace = (feeling) =>
      paceOf(write(server, known, { context, feelings: [feeling], sampling }, this.#abort.signal));
    const [rounds, progress] = [[], byId("measured")];
    progress.hidden = false;
    try {
      await pace(null); // what is only slow the first time
      for (let round = 0; round < ROUNDS; round++) {
        progress.value = round / ROUNDS;
        const paces = {};
        for (const name of shuffled(VARIANTS)) paces[name] = await pace(feelings[name]);
        rounds.push(paces);
        show(said, rounds);
      }
      this.#page.say("The cost is measured.");
    } catch (error) {
      if (!isAbort(error)) throw error;
    } finally {
      progress.hidden = true;
      this.#abort = null;
      this.#page.changed();
    }
  }

  stop() {
    this.#abort?.abort();
  }

  moved() {}
}

/** Seconds per token behind the first. */
async function paceOf({ events }) {
  let [first, last, tokens] = [null, 0, 0];
  for await (const event of events) {
    if (event.type === "text") [first, last] = [first ?? event.at, event.at];
    if (event.type === "end") tokens = event.tokens;
  }
  if (tokens < LEAST) {
    throw new Error("The answers to this message are too short to time: send one that asks for more.");
  }
  return (last - first) / (tokens - 1);
}

function show(said, rounds) {
  const ratios = (name) => rounds.map((paces) => paces[name] / paces.plain);
  const rows = [["steered / plain", ratios("steered")], ["plain again / plain", ratios("again")]];
  const pace = 1000 * median(rounds.map(({ plain }) => plain));
  byId("ratios").replaceChildren(
    ...rows.map(([name, values]) => row(name, values, rows.flatMap(([, each]) => each))),
    make("p", { class: "note" }, `${rounds.length} of ${ROUNDS} rounds of ${TOKENS} tokens, one text `
      + `at a time; the median plain token took ${pace.toFixed(1)} ms. The interval is that of the median, `
      + "95 %; each dot is a round. “Plain” is this server asked for nothing. "
      + `Message: “${said.slice(0, 80)}”`),
  );
}

function row(name, values, all) {
  const middle = median(values);
  const bounds = values.length >= ENOUGH ? interval(values) : null;
  const figure = bounds ? `${middle.toFixed(3)} (${bounds.map((each) => each.toFixed(3)).join(" to ")})` : "…";
  return make("div", { class: "ratio-row" }, make("h3", {}, name),
    make("output", { class: "ratio" }, figure), plot(values, middle, bounds, all));
}

/** Dots of all rounds, the median and its interval, on a logarithmic line around 1. */
function plot(values, middle, bounds, all) {
  const reach = Math.max(1.1, ...all.map((value) => Math.max(value, 1 / value)));
  const across = (ratio) => 200 + (180 * Math.log(ratio)) / Math.log(reach);
  const text = (x, said) => draw("text", { x, y: 52, "text-anchor": "middle" }, said);
  const at = bounds && { x1: across(bounds[0]), x2: across(bounds[1]), y1: 20, y2: 20 };
  return draw("svg", { viewBox: "0 0 400 56", class: "spread", "aria-hidden": "true" },
    draw("line", { class: "axis", x1: 20, x2: 380, y1: 38, y2: 38 }),
    draw("line", { class: "one", x1: 200, x2: 200, y1: 4, y2: 38 }),
    text(200, "1"), text(20, (1 / reach).toFixed(2)), text(380, reach.toFixed(2)),
    at && draw("line", { class: "interval", ...at }),
    ...values.map((value) => draw("circle", { class: "round", cx: across(value), cy: 20, r: 3 })),
    draw("line", { class: "median", x1: across(middle), x2: across(middle), y1: 9, y2: 31 }));
}

function shuffled(names) {
  const left = [...names];
  return names.map(() => left.splice(Math.floor(Math.random() * left.length), 1)[0]);
}
