/** Names around the disc, moved apart so that none covers another. */

const LINE = 15; // pixels from name to name
const GAP = 12; // from the circle
const LETTER = 6.4; // the mean width of one
const LEAST = 70; // radius
const LONGEST = 16; // letters of a name

export function shortened(name) {
  const letters = [...name];
  return letters.length > LONGEST ? `${letters.slice(0, LONGEST - 1).join("")}…` : name;
}

/** The largest radius with which all names end within `half` of the centre. */
export function roomFor(emotions, half) {
  const fits = (radius) => spread(emotions, radius).every(({ emotion, x }) =>
    Math.abs(x) + LETTER * shortened(emotion.id).length <= half);
  let radius = half - LINE;
  while (radius > LEAST && !fits(radius)) radius -= 2;
  return radius;
}

/** {emotion, x, y, isRight} from the centre, y downwards; of each half from the top. */
export function spread(emotions, radius) {
  const right = emotions.filter(({ valence }) => valence >= 0);
  const left = emotions.filter(({ valence }) => valence < 0);
  return [...half(right, radius, true), ...half(left, radius, false)];
}

function half(emotions, radius, isRight) {
  const sorted = [...emotions].sort((a, b) => b.arousal - a.arousal);
  const heights = apart(sorted.map(({ arousal }) => -(radius + GAP) * arousal), radius + GAP);
  return sorted.map((emotion, index) => {
    const y = heights[index];
    const x = Math.sqrt(Math.max(0, (radius + GAP) ** 2 - y ** 2));
    return { emotion, x: isRight ? x : -x, y: y + 4, isRight };
  });
}

/** Ascending heights at least a line apart, near to those wanted, within the bound where they fit. */
function apart(wanted, bound) {
  const heights = [...wanted];
  for (let index = 1; index < heights.length; index++) {
    heights[index] = Math.max(heights[index], heights[index - 1] + LINE);
  }
  let limit = bound;
  for (let index = heights.length - 1; index >= 0; index--) {
    heights[index] = Math.min(heights[index], limit);
    limit = heights[index] - LINE;
  }
  return heights;
}
