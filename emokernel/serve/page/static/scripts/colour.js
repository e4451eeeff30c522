/** The colours of moods: the direction gives the hue and some of the lightness, the radius how much. */

import { angle, radius } from "./affect.js";

// By degrees on the circle: hue and lift of lightness in OKLCH. Neighbours of like hue under the
// common kinds of colour blindness differ in lightness.
const STOPS = [
  [0, 92, 0.1], [45, 62, 0.04], [90, 38, -0.02], [135, 8, -0.08],
  [180, -45, -0.1], [225, -95, -0.08], [270, -135, 0], [315, -185, 0.06], [360, -268, 0.1],
];

function hueOf(degrees) {
  const after = STOPS.findIndex(([stop]) => stop >= degrees) || 1;
  const [[from, hue, lift], [to, nextHue, nextLift]] = [STOPS[after - 1], STOPS[after]];
  const share = (degrees - from) / (to - from);
  return [hue + share * (nextHue - hue), lift + share * (nextLift - lift)];
}

/** Gives an element of the class "mood" the colour of a place; grey where there is none. */
export function paint(element, place) {
  const [hue, lift] = place ? hueOf(angle(place)) : [0, 0];
  element.style.setProperty("--hue", hue.toFixed(1));
  element.style.setProperty("--lift", lift.toFixed(3));
  element.style.setProperty("--much", (place ? Math.min(1, radius(place)) : 0).toFixed(3));
}

/** The colours around the disc, for a conic gradient that begins at the top and goes clockwise. */
export function wheel() {
  const steps = Array.from({ length: 37 }, (_, step) => {
    const [hue, lift] = hueOf((450 - 10 * step) % 360);
    return `oklch(calc(var(--mood-light) + ${lift.toFixed(3)}) var(--mood-chroma) ${hue.toFixed(1)})`;
  });
  return `conic-gradient(${steps.join(", ")})`;
}
