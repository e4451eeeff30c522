/** The disc of valence and arousal: the point that a person moves, emotions, and what was read. */

import { isNeutral, signed, within, word } from "./affect.js";
import { paint, wheel } from "./colour.js";
import { draw, make } from "./dom.js";
import { roomFor, shortened, spread } from "./labels.js";

const STEP = 0.05;
const LARGE_STEP = 0.2;
const ARROWS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const HANDLE = 13; // pixels
const GRASP = 24; // around the disc, within which a press still moves the point
const MARGIN = 16; // between the disc and what is around it
const NARROW = 320; // below which the names have no room
const MOST_NAMES = 40; // beside the disc
const FAN = 8; // pixels between marks of one place
const MARKS = 40; // the most that are shown

export class Disc extends EventTarget {
  #root;
  #ground = make("div", { class: "ground" });
  #svg = draw("svg", { role: "group", "aria-label": "Disc of valence (across) and arousal (up)" });
  #layers = {};
  #handle;
  #arrow;
  #place = { valence: 0, arousal: 0 };
  #emotions = [];
  #marks = { read: [], trail: [] };
  #isHeld = false;
  #size = { width: 0, centre: [0, 0], radius: 0 };

  /** Dispatches "move" when a person moves the point, "settle" when they let go of it. */
  constructor(root) {
    super();
    this.#root = root;
    for (const name of ["frame", "names", "trail", "arrow", "marks", "handle"]) {
      this.#layers[name] = draw("g", { class: name });
    }
    this.#arrow = draw("line", { class: "mood" });
    this.#layers.arrow.append(this.#arrow);
    this.#handle = draw("circle", {
      class: "point mood", r: HANDLE, tabindex: 0, role: "slider", "aria-label": "Mood",
      "aria-valuemin": -1, "aria-valuemax": 1, "aria-roledescription": "point on a disc",
      onkeydown: (event) => this.#key(event),
      onkeyup: (event) => this.#keyUp(event),
      onblur: () => this.#handle.classList.remove("pressed"),
    });
    this.#layers.handle.append(this.#handle);
    this.#svg.append(...Object.values(this.#layers));
    this.#ground.style.setProperty("--wheel", wheel());
    root.append(this.#ground, this.#svg);
    this.#listen();
    new ResizeObserver(() => this.#resize()).observe(root);
    this.#resize();
  }

  get place() {
    return this.#place;
  }

  /** Whether a person can move the point; it is not seen where they cannot. */
  hold(isHeld) {
    this.#isHeld = isHeld;
    this.#root.toggleAttribute("data-fixed", isHeld);
  }

  /** Puts the point there. */
  put(place) {
    this.#place = within(place);
    const { valence, arousal } = this.#place;
    paint(this.#handle, this.#place);
    paint(this.#arrow, this.#place);
    this.#handle.setAttribute("aria-valuenow", valence);
    this.#handle.setAttribute("aria-valuetext",
      `${word(this.#place)}, valence ${signed(valence)}, arousal ${signed(arousal)}`);
    const [x, y] = this.#at(this.#place);
    this.#handle.setAttribute("cx", x);
    this.#handle.setAttribute("cy", y);
    const [cx, cy] = this.#size.centre;
    for (const [name, value] of Object.entries({ x1: cx, y1: cy, x2: x, y2: y })) {
      this.#arrow.setAttribute(name, value);
    }
  }

  /** `emotions`: {id, valence, arousal, steered, why_not}, those with a place are shown. */
  name(emotions) {
    this.#emotions = emotions.filter(({ valence }) => valence !== null);
    this.#resize();
  }

  /**
   * What is to be seen of a text. `read`: {side, place, asked, title, number} of each sentence, with
   * `asked` where it was meant to be, or null; `trail`: the places that the point has been at.
   */
  show(marks) {
    this.#marks = marks;
    this.#drawMarks();
    this.#drawTrail();
  }

  #listen() {
    this.#svg.addEventListener("pointerdown", (event) => {
      const { radius } = this.#size;
      if (this.#isHeld || event.button !== 0 || !event.isPrimary) return;
      if (this.#distance(event) > radius + GRASP) return;
      if (event.target.closest(".names text")) return;
      event.preventDefault();
      this.#svg.setPointerCapture(event.pointerId);
      this.#root.dataset.held = "";
      // Who moves it with a pointer sees where it is without a ring around it.
      this.#handle.classList.add("pressed");
      this.#handle.focus({ preventScroll: true });
      this.#moved(this.#placeOf(event));
    });
    this.#svg.addEventListener("pointermove", (event) => {
      if (this.#svg.hasPointerCapture(event.pointerId)) this.#moved(this.#placeOf(event));
    });
    this.#svg.addEventListener("lostpointercapture", () => {
      delete this.#root.dataset.held;
      this.#settle();
    });
  }

  #moved(place) {
    this.put(place);
    this.dispatchEvent(new Event("move"));
  }

  #keyUp({ key }) {
    if (key in ARROWS || key === "Home") this.#settle();
  }

  #settle() {
    this.dispatchEvent(new Event("settle"));
  }

  #choose(emotion) {
    if (this.#isHeld || !emotion.steered) return;
    this.#moved(emotion);
    this.#settle();
  }

  #key(event) {
    this.#handle.classList.remove("pressed");
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const [right, up] = ARROWS[event.key] ?? [];
    const step = event.shiftKey ? LARGE_STEP : STEP;
    const { valence, arousal } = this.#place;
    if (event.key === "Home") this.#moved({ valence: 0, arousal: 0 });
    else if (right !== undefined) {
      this.#moved({ valence: valence + step * right, arousal: arousal + step * up });
    } else return;
    event.preventDefault();
  }

  #resize() {
    const width = Math.round(this.#root.clientWidth);
    if (!width) return;
    const isNamed = width >= NARROW && this.#emotions.length <= MOST_NAMES;
    const radius = isNamed ? roomFor(this.#emotions, width / 2) : width / 2 - MARGIN;
    const height = 2 * radius + (isNamed ? 3.5 : 2) * MARGIN;
    this.#size = { width, centre: [width / 2, height / 2], radius, isNamed };
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.#root.style.setProperty("--height", `${height}px`);
    this.#root.style.setProperty("--radius", `${radius}px`);
    this.#drawFrame();
    this.#drawNames();
    this.#drawMarks();
    this.#drawTrail();
    this.put(this.#place);
  }

  #drawFrame() {
    const { centre: [cx, cy], radius } = this.#size;
    const text = (x, y, anchor, said) => draw("text", { x, y, "text-anchor": anchor }, said);
    this.#layers.frame.replaceChildren(
      draw("line", { x1: cx - radius, y1: cy, x2: cx + radius, y2: cy }),
      draw("line", { x1: cx, y1: cy - radius, x2: cx, y2: cy + radius }),
      draw("circle", { cx, cy, r: radius / 2 }),
      draw("circle", { class: "rim", cx, cy, r: radius }),
      text(cx + radius - 8, cy - 5, "end", "pleasant"),
      text(cx - radius + 8, cy - 5, "start", "unpleasant"),
      text(cx, cy - radius + 17, "middle", "high arousal"),
      text(cx, cy + radius - 9, "middle", "low arousal"),
    );
  }

  #drawNames() {
    const { centre: [cx, cy], radius, isNamed } = this.#size;
    const dots = this.#emotions.map((each) => {
      const [x, y] = this.#at(each);
      return draw("circle", { class: each.steered ? "dot" : "dot none", cx: x, cy: y, r: 3 },
        draw("title", {}, each.id));
    });
    const names = !isNamed ? [] : spread(this.#emotions, radius).map(({ emotion, x, y, isRight }) =>
      draw("text", {
        x: cx + x, y: cy + y, "text-anchor": isRight ? "start" : "end",
        class: emotion.steered ? null : "none",
        onclick: () => this.#choose(emotion),
      }, shortened(emotion.id), draw("title", {}, emotion.why_not ?? `Put the point on ${emotion.id}`)));
    this.#layers.names.replaceChildren(...dots, ...names);
  }

  #drawMarks() {
    // The steered ones last, so that they are on top.
    const marks = this.#marks.read.slice(-MARKS).sort((a, b) => (b.side === "plain") - (a.side === "plain"));
    const taken = [];
    this.#layers.marks.replaceChildren(...marks.flatMap((mark) => {
      const [x, y] = fanned(this.#at(mark.place), taken);
      const parts = [];
      if (mark.asked && !isNeutral(mark.asked)) {
        const [ax, ay] = this.#at(mark.asked);
        const ring = draw("circle", { class: "asked mood", cx: ax, cy: ay, r: 4 });
        const way = draw("line", { class: "asked mood", x1: ax, y1: ay, x2: x, y2: y });
        paint(ring, mark.asked);
        paint(way, mark.asked);
        parts.push(way, ring);
      }
      const shape = mark.side === "plain"
        ? draw("rect", { x: x - 5, y: y - 5, width: 10, height: 10, transform: `rotate(45 ${x} ${y})` })
        : draw("circle", { cx: x, cy: y, r: 7 });
      const group = draw("g", { class: "mark mood", role: "img", "aria-label": mark.title, "data-side": mark.side }, shape,
        mark.number && draw("text", { x, y: y + 3.5, "text-anchor": "middle", "aria-hidden": "true" },
          String(mark.number)),
        draw("title", {}, mark.title));
      paint(group, mark.asked);
      return [...parts, group];
    }));
  }

  #drawTrail() {
    const points = this.#marks.trail.map((place) => this.#at(place).join());
    this.#layers.trail.replaceChildren(draw("polyline", { points: points.join(" ") }));
  }

  #at({ valence, arousal }) {
    const { centre: [cx, cy], radius } = this.#size;
    return [cx + radius * valence, cy - radius * arousal];
  }

  #offset(event) {
    const box = this.#svg.getBoundingClientRect();
    const scale = this.#size.width / box.width;
    const { centre: [cx, cy] } = this.#size;
    return [(event.clientX - box.left) * scale - cx, (event.clientY - box.top) * scale - cy];
  }

  #placeOf(event) {
    const [x, y] = this.#offset(event);
    return { valence: x / this.#size.radius, arousal: -y / this.#size.radius };
  }

  #distance(event) {
    return Math.hypot(...this.#offset(event));
  }
}

/** The place itself, or one beside it where another mark lies already. */
function fanned([x, y], taken) {
  const there = taken.filter(([a, b]) => Math.hypot(a - x, b - y) < FAN).length;
  taken.push([x, y]);
  const turn = 2.4 * there; // the golden angle, nearly
  return [x + FAN * Math.sqrt(there) * Math.cos(turn), y + FAN * Math.sqrt(there) * Math.sin(turn)];
}
