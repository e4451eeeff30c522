/** The panel: the mood as a point or a mix, its strength, and the settings. */

import { NOWHERE, radius, word } from "./affect.js";
import { paint } from "./colour.js";
import { byId, make, tell } from "./dom.js";
import { CHOICES, MOST_PARTS } from "./settings.js";
import { tabs } from "./tabs.js";

const NUMBERS = { seed: "seed", temperature: "temperature", topP: "top-p", length: "length" };

export class Panel {
  #settings;
  #disc;
  #showWay;
  #way = null; // that is shown because it holds

  /** `moved(isSettled)` is called when a person changes the mood: held still, or let go of. */
  constructor(settings, disc, moved) {
    [this.#settings, this.#disc] = [settings, disc];
    const set = (changes, isSettled = true) => {
      settings.set(changes);
      moved(isSettled);
    };
    // To look at a mix that is empty changes nothing.
    this.#showWay = tabs(["point", "mix"], (way) => {
      this.#showWay(way);
      if (way === "point" || settings.parts().length) set({ way });
    });
    disc.addEventListener("move", () => set({ way: "point", ...disc.place }, false));
    disc.addEventListener("settle", () => moved(true));
    for (const type of ["input", "change"]) {
      const isSettled = type === "change";
      byId("strength").addEventListener(type, ({ target }) =>
        set({ strength: Number(target.value) }, isSettled));
      byId("mixers").addEventListener(type, ({ target }) =>
        set({ way: "mix", mix: { ...settings.values.mix, [target.dataset.name]: Number(target.value) } },
          isSettled));
    }
    for (const name of ["valence", "arousal"]) {
      byId(name).addEventListener("change", (event) => {
        const { valence, arousal } = settings.values;
        disc.put({ valence, arousal, [name]: event.target.valueAsNumber || 0 });
        set({ way: "point", ...disc.place });
      });
    }
    byId("mix-clear").addEventListener("click", () => set({ mix: {} }));
    for (const [name, id] of Object.entries(NUMBERS)) this.#number(name, byId(id));
    for (const name of ["law", "positions"]) {
      byId(name).addEventListener("change", ({ target }) => set({ [name]: target.value }));
    }
    byId("system").addEventListener("input", (event) => settings.set({ system: event.target.value }));
    byId("reset").addEventListener("click", () => {
      settings.reset();
      moved(true);
    });
    settings.addEventListener("change", () => this.show());
  }

  /** What the server can: emotions and what holds where nothing is said. */
  know(known) {
    this.#disc.name(known.data);
    const usual = { law: known.defaults.law, positions: known.defaults.positions };
    for (const [name, words] of Object.entries(CHOICES)) {
      byId(name).replaceChildren(...words.map((value) =>
        make("option", { value }, value || `as served (${usual[name]})`)));
    }
    byId("mixers").replaceChildren(...known.data.map(mixer));
    byId("system-row").hidden = !known.abilities.chat;
    byId("tab-mix").disabled = !known.data.some(({ steered }) => steered);
    byId("length").max = known.abilities.max_tokens ?? "";
    byId("strength-note").hidden = known.calibration !== null;
    this.#settings.know(known);
  }

  show() {
    const { values } = this.#settings;
    const place = this.#settings.place() ?? NOWHERE;
    this.#disc.put(place);
    paint(byId("readout").querySelector(".swatch"), place);
    byId("word").textContent = place.isNowhere ? "a mix without a place" : word(place);
    byId("amount").textContent = place.isNowhere ? "" : `${Math.round(100 * radius(place))} %`;
    byId("strength").value = values.strength;
    byId("strength-said").textContent = values.strength.toFixed(2);
    if (values.way !== this.#way) this.#showWay(values.way);
    this.#way = values.way;
    for (const name of ["valence", "arousal"]) byId(name).value = values[name];
    for (const [name, id] of Object.entries(NUMBERS)) byId(id).value = values[name];
    for (const name of ["law", "positions", "system"]) {
      if (byId(name).value !== values[name]) byId(name).value = values[name];
    }
    this.#showMix(values.mix);
  }

  #showMix(mix) {
    const isFull = Object.values(mix).filter(Boolean).length >= MOST_PARTS;
    for (const input of byId("mixers").querySelectorAll("input")) {
      const weight = mix[input.dataset.name] ?? 0;
      input.value = weight;
      input.disabled = "none" in input.dataset || (isFull && weight === 0);
      input.nextElementSibling.textContent = weight ? weight.toFixed(2) : "";
    }
  }

  #number(name, input) {
    input.addEventListener("change", () => {
      const value = input.valueAsNumber;
      const isWhole = input.step === "1";
      const { min, max } = input;
      const isWell = value >= min && !(max && value > max) && (!isWhole || Number.isInteger(value));
      const range = max ? `from ${min} to ${max}` : `${min} and more`;
      const label = input.labels[0].firstChild.data.trim();
      tell(byId("settings-error"), isWell ? null : `${label}: a ${isWhole ? "whole " : ""}number, ${range}`);
      if (isWell) this.#settings.set({ [name]: value });
      else input.value = this.#settings.values[name];
    });
  }
}

function mixer({ id, steered, why_not, valence, arousal }) {
  const input = make("input", { type: "range", min: 0, max: 1, step: 0.05, "data-name": id,
    "data-none": !steered, "aria-label": id });
  const row = make("label", { class: "range mood", title: why_not }, make("span", {}, id), input, make("span", {}));
  paint(row, valence === null ? null : { valence, arousal });
  return row;
}
