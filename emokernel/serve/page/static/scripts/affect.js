/** Points of the circumplex: {valence, arousal}, within the unit circle. */

/** Words for the directions, every 30 degrees from pleasure towards arousal: Russell's adjectives. */
const WORDS = [
  "pleased", "delighted", "astonished", "tense", "annoyed", "frustrated",
  "miserable", "gloomy", "bored", "sleepy", "calm", "serene",
];
/** Of a mix of which a part has no place. */
export const NOWHERE = { valence: 0, arousal: 0, isNowhere: true };
const NEUTRAL = 0.08; // the radius below which no direction is meant

export const radius = ({ valence, arousal }) => Math.hypot(valence, arousal);

/** Degrees, 0 to 360: 0 is pleasure, 90 arousal. */
export const angle = ({ valence, arousal }) =>
  ((Math.atan2(arousal, valence) * 180) / Math.PI + 360) % 360;

export const isNeutral = (place) => radius(place) < NEUTRAL;

export function word(place) {
  if (place.isNowhere) return "a mix";
  return isNeutral(place) ? "neutral" : WORDS[Math.round(angle(place) / 30) % 12];
}

/** The point itself, or the one on the circle in its direction; two digits. */
export function within({ valence, arousal }) {
  const outside = Math.max(1, Math.hypot(valence, arousal));
  // Cut, not rounded: a point on the circle must not come to lie outside.
  const cut = (value) => Math.trunc((value / outside) * 100 + Math.sign(value) * 1e-6) / 100 + 0;
  return { valence: cut(valence), arousal: cut(arousal) };
}

/** Where a mix {name: weight} lies, as the server says it; null where a name has no place. */
export function placeOf(mix, places) {
  let [valence, arousal] = [0, 0];
  for (const [name, weight] of Object.entries(mix)) {
    const place = places.get(name);
    if (!place) return null;
    valence += weight * place.valence;
    arousal += weight * place.arousal;
  }
  return within({ valence, arousal });
}

export const mean = (places) => ({
  valence: places.reduce((sum, each) => sum + each.valence, 0) / places.length,
  arousal: places.reduce((sum, each) => sum + each.arousal, 0) / places.length,
});

export const signed = (value) =>
  `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
