/** What a person has chosen, kept for this tab, and as the fragment of a link. */

import { placeOf, within } from "./affect.js";
import { keep, kept } from "./kept.js";

const KEPT = "emokernel-settings";
const LAWS = ["preserve", "add"];
const POSITIONS = ["all", "prompt", "generated", "last"];
export const MOST_PARTS = 8; // of a mix

/** "" is what the server does unless told. */
export const CHOICES = { law: ["", ...LAWS], positions: ["", ...POSITIONS] };
export const VIEWS = ["talk", "twelve", "cost"];

// Strengths to begin with: 1 is what a calibration means by strong and fluent. Vectors as they are
// break most models from 0.3 on.
const CALIBRATED = 1;
const UNCALIBRATED = 0.2;
const START = {
  view: "talk", way: "point", valence: 0.7, arousal: 0.5, mix: {}, strength: CALIBRATED,
  law: "", positions: "", seed: crypto.getRandomValues(new Uint16Array(1))[0],
  temperature: 0.8, topP: 0.9, length: 120, system: "", message: "",
};
// [the setting, its name in a link, the least, the most]
const NUMBERS = [
  ["strength", "strength", 0, 2], ["seed", "seed", 0, Number.MAX_SAFE_INTEGER],
  ["temperature", "temperature", 0, 2], ["topP", "top_p", 0.05, 1], ["length", "length", 1, 1e6],
];
const WHOLE = ["seed", "length"];
const WORDS = [["law", CHOICES.law], ["positions", CHOICES.positions], ["view", VIEWS]];
const TEXTS = ["system", "message"];

export class Settings extends EventTarget {
  #values = START;
  #known = null;

  get values() {
    return this.#values;
  }

  set(changes) {
    this.#values = { ...this.#values, ...changes };
    if (this.#known) keep(KEPT, JSON.stringify([this.#known.model, this.toFragment()]));
    this.dispatchEvent(new Event("change"));
  }

  /** What the server can is known now, or again: what it cannot goes. */
  know(known) {
    const isFirst = this.#known === null;
    let [model, fragment] = [this.#known?.model, this.toFragment()];
    if (isFirst) [model, fragment] = remembered();
    this.#known = known;
    const changes = this.#read(fragment, []);
    // What is strong for one model is not for another.
    if (model !== known.model) changes.strength = this.#start().strength;
    const most = known.abilities.max_tokens ?? Infinity;
    const { length } = { ...this.#values, ...changes };
    this.set({ ...changes, length: Math.min(length, most) });
  }

  /** All but what stands in the message and where one is. */
  reset() {
    const { view, message } = this.#values;
    this.set({ ...this.#start(), view, message });
  }

  /** What is asked of the server: the fields of an emotion, or null for none. */
  feeling() {
    const { way, valence, arousal, strength } = this.#values;
    if (way === "point") return this.feelingAt({ valence, arousal });
    const parts = this.parts();
    return parts.length && strength ? { emotion: Object.fromEntries(parts), ...this.#how() } : null;
  }

  /** The same of any point. */
  feelingAt({ valence, arousal }) {
    const none = (valence === 0 && arousal === 0) || !this.#values.strength;
    return none ? null : { emotion: { valence, arousal }, ...this.#how() };
  }

  /** [name, weight] of what the mix is made of. */
  parts() {
    return Object.entries(this.#values.mix).filter(([, weight]) => weight !== 0);
  }

  /** Where the mood lies on the disc; null for a mix of which a part has no place. */
  place() {
    const { way, valence, arousal } = this.#values;
    if (way === "point") return { valence, arousal };
    const places = this.#known.data.filter((each) => each.valence !== null);
    return placeOf(Object.fromEntries(this.parts()), new Map(places.map((each) => [each.id, each])));
  }

  /** The fields of a request that say how tokens are drawn. */
  sampling() {
    const { seed, temperature, topP, length } = this.#values;
    return { seed, temperature, top_p: topP, max_tokens: length };
  }

  /** Everything as the fragment of a link; `message`: in place of that which is being written. */
  toFragment(message = this.#values.message) {
    const { way, valence, arousal, ...others } = { ...this.#values, message };
    const said = new URLSearchParams({ mood: `${valence},${arousal}` });
    if (way === "mix") {
      const parts = this.parts().map(([name, weight]) => `${encodeURIComponent(name)}:${weight}`);
      said.set("mix", parts.join());
    }
    for (const [name, short] of NUMBERS) said.set(short, others[name]);
    for (const [name] of WORDS) said.set(name, others[name]);
    for (const name of TEXTS) said.set(name, others[name]);
    return `#${said}`;
  }

  /** Takes a link's settings, and the usual ones where it has none; what cannot be, in sentences. */
  fromFragment(fragment) {
    const complaints = [];
    const changes = this.#read(fragment, complaints);
    if (Object.keys(changes).length) {
      this.set({ ...this.#start(), message: this.#values.message, ...changes });
    }
    return complaints;
  }

  #start() {
    return { ...START, strength: this.#known.calibration ? CALIBRATED : UNCALIBRATED };
  }

  #read(fragment, complaints) {
    const names = this.#known.data.filter(({ steered }) => steered).map(({ id }) => id);
    const changes = read(new URLSearchParams(fragment.replace(/^#/, "")), names, complaints);
    const most = this.#known.abilities.max_tokens ?? Infinity;
    if (changes.length > most) {
      complaints.push(`An answer has ${most} tokens at most here, not ${changes.length}.`);
      changes.length = most;
    }
    return changes;
  }

  #how() {
    const { strength, law, positions } = this.#values;
    return { strength, ...(law && { law }), ...(positions && { positions }) };
  }
}

/** [The model, the fragment] of what this tab kept, or of nothing. */
function remembered() {
  try {
    const [model, fragment] = JSON.parse(kept(KEPT));
    return [model, String(fragment)];
  } catch {
    return [null, ""]; // nothing, or what another release kept
  }
}

function read(said, names, complaints) {
  const changes = {};
  for (const [key, value] of said) {
    const ofNumber = NUMBERS.find(([, short]) => short === key);
    const ofWord = WORDS.find(([name]) => name === key);
    if (key === "mood") {
      const [valence, arousal, ...more] = value.split(",").map(number);
      if (Number.isFinite(valence + arousal) && !more.length) {
        Object.assign(changes, { way: "point", ...within({ valence, arousal }) });
      } else complaints.push(`“${shown(value)}” is no point of the disc.`);
    } else if (key === "mix") {
      const mix = readMix(value, names, complaints);
      const isMeant = !value || Object.keys(mix).length > 0;
      Object.assign(changes, isMeant && { way: "mix", mix });
    } else if (ofNumber) {
      const [name, short, least, most] = ofNumber;
      const given = number(value);
      const isWell = given >= least && given <= most;
      if (isWell && (!WHOLE.includes(name) || Number.isInteger(given))) changes[name] = given;
      else complaints.push(`“${shown(value)}” cannot be the ${short}.`);
    } else if (ofWord) {
      const [name, known] = ofWord;
      if (known.includes(value)) changes[name] = value;
      else complaints.push(`There is no ${name} “${shown(value)}”.`);
    } else if (TEXTS.includes(key)) changes[key] = value;
    else complaints.push(`This page knows no setting “${shown(key)}”.`);
  }
  return changes;
}

function readMix(value, names, complaints) {
  const mix = {};
  for (const part of value.split(",").filter(Boolean)) {
    const [coded, weight, ...more] = part.split(":");
    let name = coded;
    try {
      name = decodeURIComponent(coded);
    } catch { /* then that is its name */ }
    const given = number(weight);
    if (!names.includes(name)) complaints.push(`This model has no emotion “${shown(name)}”.`);
    else if (more.length || !(given >= 0 && given <= 1)) {
      complaints.push(`“${shown(weight ?? "")}” is no weight of ${name}: 0 to 1.`);
    } else if (Object.keys(mix).length === MOST_PARTS) {
      complaints.push(`A mix has ${MOST_PARTS} emotions at most: ${name} is left out.`);
    } else mix[name] = given;
  }
  return mix;
}

const number = (text) => (text?.trim() ? Number(text) : NaN);
const shown = (text) => (text.length > 40 ? `${text.slice(0, 40)}…` : text);
