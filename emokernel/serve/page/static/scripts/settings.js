/** What a person has chosen, kept for this tab, and as the fragment of a link. */

import { placeOf, within } from "./affect.js";

const KEPT = "emokernel-settings";
const LARGEST_SEED = 2 ** 32 - 1;
const LAWS = ["preserve", "add"];
const POSITIONS = ["all", "prompt", "generated", "last"];
export const MOST_PARTS = 8; // of a mix

/** "" is what the server does unless told. */
export const CHOICES = { law: ["", ...LAWS], positions: ["", ...POSITIONS] };
export const VIEWS = ["talk", "twelve", "cost"];

const START = {
  view: "talk", way: "point", valence: 0.7, arousal: 0.5, mix: {}, strength: null,
  law: "", positions: "", seed: 1, temperature: 0.8, topP: 0.9, length: 120,
  system: "", message: "",
};
// [the setting, its name in a link, the least, the most]
const NUMBERS = [
  ["strength", "strength", 0, 2], ["seed", "seed", 0, LARGEST_SEED],
  ["temperature", "temperature", 0, 2], ["topP", "top_p", 0.05, 1], ["length", "length", 1, 1e6],
];
const WHOLE = ["seed", "length"];
const WORDS = [["law", CHOICES.law], ["positions", CHOICES.positions], ["view", VIEWS]];
const TEXTS = ["system", "message"];

export class Settings extends EventTarget {
  #values;

  constructor() {
    super();
    const seed = crypto.getRandomValues(new Uint16Array(1))[0];
    this.#values = { ...START, seed, ...JSON.parse(sessionStorage.getItem(KEPT) ?? "{}") };
  }

  /** How strong it is to begin with is the server's to know. */
  begin(strength) {
    START.strength = strength;
    if (this.#values.strength === null) this.set({ strength });
  }

  get values() {
    return this.#values;
  }

  set(changes) {
    this.#values = { ...this.#values, ...changes };
    sessionStorage.setItem(KEPT, JSON.stringify(this.#values));
    this.dispatchEvent(new Event("change"));
  }

  /** All but what stands in the message and where one is. */
  reset() {
    const { view, message } = this.#values;
    this.set({ ...START, view, message });
  }

  /** What is asked of the server: the fields of an emotion, or null for none. */
  feeling() {
    const { way, mix, valence, arousal, strength } = this.#values;
    if (way === "point") return this.feelingAt({ valence, arousal });
    const parts = Object.entries(mix).filter(([, weight]) => weight !== 0);
    return parts.length && strength ? { emotion: Object.fromEntries(parts), ...this.#how() } : null;
  }

  /** The same of any point. */
  feelingAt({ valence, arousal }) {
    const none = (valence === 0 && arousal === 0) || !this.#values.strength;
    return none ? null : { emotion: { valence, arousal }, ...this.#how() };
  }

  /** Where the mood lies on the disc; null for a mix of which a part has no place. */
  place(known) {
    const { way, mix, valence, arousal } = this.#values;
    if (way === "point") return { valence, arousal };
    const places = known.data.filter((each) => each.valence !== null).map((each) => [each.id, each]);
    return placeOf(Object.fromEntries(Object.entries(mix).filter(([, weight]) => weight)), new Map(places));
  }

  /** The fields of a request that say how tokens are drawn. */
  sampling() {
    const { seed, temperature, topP, length } = this.#values;
    return { seed, temperature, top_p: topP, max_tokens: length };
  }

  #how() {
    const { strength, law, positions } = this.#values;
    return { strength, ...(law && { law }), ...(positions && { positions }) };
  }

  /** Everything as the fragment of a link. */
  toFragment() {
    const { way, valence, arousal, mix, ...others } = this.#values;
    const said = new URLSearchParams();
    if (way === "point") said.set("mood", `${valence},${arousal}`);
    else {
      const parts = Object.entries(mix).filter(([, weight]) => weight !== 0);
      said.set("mix", parts.map(([name, weight]) => `${encodeURIComponent(name)}:${weight}`).join());
    }
    for (const [name, short] of NUMBERS) said.set(short, others[name]);
    for (const name of [...WORDS.map(([each]) => each), ...TEXTS]) {
      if (others[name]) said.set(name, others[name]);
    }
    return `#${said}`;
  }

  /** Takes a link's settings; what it cannot take, in sentences. `names`: the emotions there are. */
  fromFragment(fragment, names) {
    const complaints = [];
    const changes = read(new URLSearchParams(fragment.replace(/^#/, "")), names, complaints);
    if (Object.keys(changes).length) this.set(changes);
    return complaints;
  }
}

function read(said, names, complaints) {
  const changes = {};
  const number = (text) => (text?.trim() ? Number(text) : NaN);
  for (const [key, value] of said) {
    const ofNumber = NUMBERS.find(([, short]) => short === key);
    const ofWord = WORDS.find(([name]) => name === key);
    if (key === "mood") {
      const [valence, arousal, ...more] = value.split(",").map(number);
      if (Number.isFinite(valence + arousal) && !more.length) {
        Object.assign(changes, { way: "point", ...within({ valence, arousal }) });
      } else complaints.push(`“${shown(value)}” is no point of the disc.`);
    } else if (key === "mix") {
      Object.assign(changes, { way: "mix", mix: readMix(value, names, complaints) });
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
    const given = weight?.trim() ? Number(weight) : NaN;
    if (!names.includes(name)) complaints.push(`This model has no emotion “${shown(name)}”.`);
    else if (more.length || !(given >= 0 && given <= 1)) {
      complaints.push(`“${shown(weight ?? "")}” is no weight of ${name}: 0 to 1.`);
    } else if (Object.keys(mix).length === MOST_PARTS) {
      complaints.push(`A mix has ${MOST_PARTS} emotions at most: ${name} is left out.`);
    } else mix[name] = given;
  }
  return mix;
}

const shown = (text) => (text.length > 40 ? `${text.slice(0, 40)}…` : text);
