/** The colours of moods: the direction gives the hue and some of the lightness, the radius how much. */

import { angle, radius } from "./affect.js";

// By degrees on the circle: hue and lift of lightness in OKLCH, found by a search: states that are
// two steps of 30 degrees apart or more differ by 0.11 in OKLab and more, to people with all kinds
// of colour vision (simulated after Machado, Oliveira and Fernandes, 2009), in both schemes.
const STOPS = [
  [0, 89, 0.16], [45, 67, 0.01], [90, 25, -0.04], [135, 10, -0.17],
  [180, -55, -0.17], [225, -111, -0.07], [270, -131, 0.01], [315, -176, 0.16], [360, -271, 0.16],
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
