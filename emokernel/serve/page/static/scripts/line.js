/** Valence and arousal over the text: what was asked for, and what the judge read. */

import { signed } from "./affect.js";
import { byId, draw } from "./dom.js";

const NEUTRAL = { valence: 0, arousal: 0 };
const HEIGHT = 56; // pixels of a lane
const LEFT = 58; // for its name
const LEAST = 40; // steps that the line is wide

export class Line {
  #asked = []; // {step, place}
  #read = []; // {side, step, place}
  #last = 0;
  #end = null; // the step at which the steered text ended
  #frame = null;

  clear() {
    [this.#asked, this.#read, this.#last, this.#end] = [[], [], 0, null];
    this.show();
  }

  /** Nothing is asked for any more: the steered text has ended. */
  end() {
    this.#end ??= this.#last; // the plain text may go on
    this.show();
  }

  /** From this step on `place` is asked for, null for none. */
  ask(step, place) {
    this.#asked.push({ step, place: place ?? NEUTRAL });
    this.reach(step);
  }

  read(side, step, place) {
    this.#read.push({ side, step, place });
    this.show();
  }

  /** The text has come so far. */
  reach(step) {
    this.#last = Math.max(this.#last, step);
    this.show();
  }

  /** Draws it with the next frame: many tokens may come within one. */
  show() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#draw();
    });
  }

  #draw() {
    const root = byId("lanes");
    const width = root.clientWidth || 380;
    const end = Math.max(LEAST, this.#last);
    const across = (step) => LEFT + ((width - LEFT - 8) * step) / end;
    root.replaceChildren(...["valence", "arousal"].map((name) => this.#lane(name, width, across)));
  }

  #lane(name, width, across) {
    const up = (place) => HEIGHT / 2 - (HEIGHT / 2 - 7) * place[name];
    const lane = draw("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: "img",
      "aria-label": this.#inWords(name) });
    lane.append(
      draw("text", { x: 0, y: HEIGHT / 2 + 4 }, name),
      draw("text", { class: "end", x: LEFT - 6, y: 11, "text-anchor": "end" }, "+1"),
      draw("text", { class: "end", x: LEFT - 6, y: HEIGHT - 3, "text-anchor": "end" }, "−1"),
      draw("line", { class: "zero", x1: LEFT, x2: width - 8, y1: HEIGHT / 2, y2: HEIGHT / 2 }),
    );
    this.#asked.forEach(({ step, place }, index) => {
      if (place.isNowhere) return;
      const next = this.#asked[index + 1]?.step ?? Math.max(this.#end ?? this.#last, step);
      const before = this.#asked[index - 1]?.place ?? place;
      const corners = [[across(step), up(before.isNowhere ? place : before)],
        [across(step), up(place)], [across(next), up(place)]];
      lane.append(draw("polyline", { class: "asked", points: corners.map(String).join(" ") }));
    });
    for (const side of ["plain", "steered"]) {
      const read = this.#read.filter((each) => each.side === side);
      const points = read.map(({ step, place }) => [across(step), up(place)]);
      lane.append(draw("polyline", { class: side, points: points.map(String).join(" ") }));
      for (const [x, y] of points) {
        lane.append(side === "plain"
          ? draw("rect", { class: side, x: x - 3.5, y: y - 3.5, width: 7, height: 7,
              transform: `rotate(45 ${x} ${y})` })
          : draw("circle", { class: side, cx: x, cy: y, r: 4.5 }));
      }
    }
    return lane;
  }

  #inWords(name) {
    const last = (list) => (list.length ? signed(list.at(-1).place[name]) : "nothing");
    const of = (side) => last(this.#read.filter((each) => each.side === side));
    return `${name}: asked for ${last(this.#asked)}, last read ${of("steered")} steered and `
      + `${of("plain")} plain`;
  }
}
